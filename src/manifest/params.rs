//! `[params]`: values that a command line may override, and which tasks use them. A task that doesn't say so in its
//! `params` isn't given one: whoever changes a value must be able to tell what runs again.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::document;
use super::findings::Findings;
use super::mentions;
use super::task::Draft;
use super::value::{Setting, Value, type_name};
use super::{WhatFile, read_text};
use crate::diagnostic::quoted;
use crate::error::{Error, Result};
use crate::suggest;
use crate::text::printable;

/// Bytes of a name.
const LONGEST: usize = 64;

/// What a command line says of `[params]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamOverrides {
    /// `--params`: TOML files of values; of two values of one name, the later one counts.
    pub files: Vec<PathBuf>,
    /// `-P`: wins over the files; of two of one name, the later one.
    pub values: Vec<(String, String)>,
}

impl ParamOverrides {
    /// Puts these values in place of the defaults.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake in the file, [`Error::Usage`] with every name that is not one of
    /// `params`.
    pub(super) fn apply(&self, params: &mut BTreeMap<String, String>) -> Result<()> {
        for path in &self.files {
            let text = read_text(path, &WhatFile::PARAMS)?;
            let values = document::read(path, &text, |found, root| of_file(found, root, params));
            params.extend(values.map_err(Error::Manifest)?);
        }
        let mut unknown = Vec::new();
        for (name, value) in &self.values {
            match params.get_mut(name) {
                Some(known) => known.clone_from(value),
                None => {
                    let name = printable(name.as_bytes());
                    unknown
                        .push(format!("-P: no param is called `{name}`; {}", cure(&name, params)));
                }
            }
        }
        if unknown.is_empty() { Ok(()) } else { Err(Error::Usage(unknown.join("\n"))) }
    }
}

/// What may have been meant by a name that is none.
fn cure(name: &str, params: &BTreeMap<String, String>) -> String {
    match suggest::nearest(name, params.keys().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if params.is_empty() => {
            format!("add its default at the top of the manifest: [params] and {name} = …")
        }
        None => {
            let names: Vec<&str> = params.keys().map(String::as_str).collect();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// The values of a `--params` file.
fn of_file(
    found: &mut Findings<'_>,
    root: &DeTable<'_>,
    params: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (key, item) in root {
        let name = key.get_ref().as_ref();
        if name == "params" && matches!(item.get_ref(), DeValue::Table(_)) {
            let help = "take the header out: the file has the values and nothing else";
            found.add(&key.span(), "`[params]` in a file of params", help);
        } else if !params.contains_key(name) {
            let message = format!("no param of the manifest is called {}", quoted(name));
            found.add(&key.span(), message, cure(&printable(name.as_bytes()), params));
        } else if let Some(text) = text_of(found, name, item) {
            values.insert(name.to_owned(), text);
        }
    }
    values
}

/// Reads the table `[params]`. A name that can't be one is kept, so that what refers to it is no further mistake.
pub(super) fn read(found: &mut Findings<'_>, setting: Setting<'_, '_>) -> BTreeMap<String, String> {
    let mut params = BTreeMap::new();
    for (key, item) in setting.table(found, "{ name = \"value\" }").into_iter().flatten() {
        let name = key.get_ref().as_ref();
        if !is_name(name) {
            let message = format!("{} can't be the name of a param", quoted(name));
            let help = "a name is a lower-case letter, and then up to 63 of a-z 0-9 _: scripts see it as a variable";
            found.add(&key.span(), message, help);
        }
        let text = text_of(found, name, item).unwrap_or_default();
        params.insert(name.to_owned(), text);
    }
    params
}

fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(rest)
}

/// A value as scripts get it: a number as TOML writes it, less the `_` between its digits.
fn text_of(found: &mut Findings<'_>, name: &str, item: &Value<'_>) -> Option<String> {
    match item.get_ref() {
        DeValue::String(_) => Setting { key: name, value: item }.string(found).map(str::to_owned),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        other => {
            let wanted = "a string, a number, true or false";
            let help = format!("write {name} = \"…\"");
            found.wrong_type(&item.span(), name, wanted, type_name(other), help);
            None
        }
    }
}

/// Gives each task the values of the params that it names, and reports those that its script uses all the same.
pub(super) fn resolve(
    found: &mut Findings<'_>,
    params: &BTreeMap<String, String>,
    drafts: &mut [Draft],
) {
    for draft in drafts {
        let mut named: HashSet<&str> = HashSet::new();
        for (name, place) in &draft.params {
            if !named.insert(name) {
                let message = format!("param {} is already in this `params`", quoted(name));
                found.add(place, message, "take it out");
            } else if let Some(key) = draft.variable_of(name) {
                let message = format!("`{name}` is a param and in `{key}` too");
                found.add(place, message, "drop one of the two: a variable has one value");
            } else if let Some(value) = params.get(name) {
                draft.task.params.insert(name.clone(), value.clone());
            } else if !found.is_damaged() {
                let message = format!("no param is called {}", quoted(name));
                found.add(place, message, cure(&printable(name.as_bytes()), params));
            }
        }
        if !params.is_empty() {
            check_script(found, params, &named, draft);
        }
    }
}

/// Reports each param that a script uses although its task doesn't name it: it would be empty, or what the caller's
/// environment happens to hold.
fn check_script(
    found: &mut Findings<'_>,
    params: &BTreeMap<String, String>,
    named: &HashSet<&str>,
    draft: &Draft,
) {
    let is_meant = |name: &str| {
        params.contains_key(name) && !named.contains(name) && draft.variable_of(name).is_none()
    };
    for (name, place) in mentions::expanded(found.source.text(), draft, is_meant) {
        let message = format!("the script uses the param `{name}`, which the task doesn't name");
        let help = match named.is_empty() {
            true => format!("add params = [\"{name}\"] to the task"),
            false => format!("add \"{name}\" to the `params` of the task"),
        };
        found.add(&place, message, format!("{help}; a variable of its own needs another name"));
    }
}
