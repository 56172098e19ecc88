//! One key with its value, from TOML's types to ours; a value of the wrong type becomes a mistake that
//! shows how to write it. Knows types, and no key in particular.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::Findings;
use crate::diagnostic::quoted;
use crate::duration;
use crate::labels::LONGEST_VALUE;
use crate::size;

/// A value, and where it is in the text.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A key with its value. The readers return `None`, or what could be read, after a mistake.
#[derive(Clone, Copy)]
pub(super) struct Setting<'v, 'i> {
    pub(super) key: &'v str,
    pub(super) value: &'v Value<'i>,
}

impl<'v, 'i> Setting<'v, 'i> {
    /// Where the value is.
    pub(super) fn span(self) -> Range<usize> {
        self.value.span()
    }

    fn wrong_type(self, found: &mut Findings<'_>, wanted: &str, help: impl Into<String>) {
        found.wrong_type(&self.span(), self.key, wanted, type_name(self.value.get_ref()), help);
    }

    /// A string without NUL: no script, path or variable of a process can hold one.
    pub(super) fn string(self, found: &mut Findings<'_>) -> Option<&'v str> {
        let DeValue::String(text) = self.value.get_ref() else {
            let help = match self.value.get_ref() {
                DeValue::Integer(number) => format!("write \"{number}\""),
                DeValue::Float(number) => format!("write \"{number}\""),
                DeValue::Boolean(switch) => format!("write \"{switch}\""),
                _ => format!("write {} = \"…\"", self.key),
            };
            self.wrong_type(found, "a string", help);
            return None;
        };
        if text.contains('\0') {
            let message = format!("{} contains a NUL byte", quoted(self.key));
            found.add(&self.span(), message, "remove the `\\u0000`: no process can be given it");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(super) fn boolean(self, found: &mut Findings<'_>) -> Option<bool> {
        if let DeValue::Boolean(switch) = self.value.get_ref() {
            return Some(*switch);
        }
        let key = self.key;
        let help = format!("write {key} = true or {key} = false, without quotes");
        self.wrong_type(found, "true or false", help);
        None
    }

    /// A whole number within bounds; `help` is for one out of bounds.
    pub(super) fn number(
        self,
        found: &mut Findings<'_>,
        bounds: RangeInclusive<usize>,
        help: &str,
    ) -> Option<usize> {
        let key = self.key;
        let DeValue::Integer(number) = self.value.get_ref() else {
            let help = format!("write {key} = 2, without quotes");
            self.wrong_type(found, "a whole number", help);
            return None;
        };
        let read = usize::from_str_radix(number.as_str(), number.radix()).ok();
        let within = read.filter(|number| bounds.contains(number));
        if within.is_none() {
            let bounds = match bounds.into_inner() {
                (least, usize::MAX) => format!("at least {least}"),
                (least, most) => format!("from {least} to {most}"),
            };
            let message = format!("`{key}` is {number}, but must be {bounds}");
            found.add(&self.span(), message, help);
        }
        within
    }

    /// A duration such as `"1h30m"`.
    pub(super) fn duration(self, found: &mut Findings<'_>) -> Option<Duration> {
        self.with_unit(found, ("duration", duration::HELP), ("s", "seconds"), duration::parse)
    }

    /// A size such as `"8G"`, in bytes.
    pub(super) fn size(self, found: &mut Findings<'_>) -> Option<u64> {
        self.with_unit(found, ("size", size::HELP), ("M", "megabytes"), size::parse)
    }

    /// A string that holds a number with its unit. `what` it is, and what to write instead of another; `unit` is what a bare
    /// number probably means.
    fn with_unit<T>(
        self,
        found: &mut Findings<'_>,
        (what, help): (&str, &str),
        (unit, units): (&str, &str),
        parse: fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let text = match self.value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Integer(number) => {
                let key = self.key;
                let help = format!("write {key} = \"{number}{unit}\" if {units} are meant");
                found.wrong_type(&self.span(), key, "a string with a unit", "a bare number", help);
                return None;
            }
            _ => {
                self.wrong_type(found, "a string", help);
                return None;
            }
        };
        let read = parse(text);
        if let Err(why) = read {
            found.add(&self.span(), format!("the {what} {} {why}", quoted(text)), help);
            return None;
        }
        read.ok()
    }

    /// A list of strings, none of them empty or with a NUL, each with its place. A bare string is a
    /// mistake, but is read as a list of one, so that the rest of the task makes sense.
    pub(super) fn strings(self, found: &mut Findings<'_>) -> Vec<(String, Range<usize>)> {
        let key = self.key;
        let items = match self.value.get_ref() {
            DeValue::Array(items) => items,
            DeValue::String(text) => {
                // As the user wrote it, so that the suggestion can be copied.
                let written = found.source.text().get(self.span()).unwrap_or_default();
                let is_short = written.len() <= 80 && !written.contains('\n');
                let written = if is_short { written } else { "\"…\"" };
                self.wrong_type(found, "a list of strings", format!("write {key} = [{written}]"));
                return vec![(text.to_string(), self.span())];
            }
            _ => {
                self.wrong_type(found, "a list of strings", format!("write {key} = [\"…\"]"));
                return Vec::new();
            }
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) if text.contains('\0') => {
                    let message = format!("an item of `{key}` contains a NUL byte");
                    found.add(&item.span(), message, "remove the `\\u0000`: no name can hold it");
                }
                DeValue::String(text) if text.is_empty() => {
                    let message = format!("an item of `{key}` is empty");
                    found.add(&item.span(), message, "remove it");
                }
                DeValue::String(text) => list.push((text.to_string(), item.span())),
                other => {
                    let what = format!("an item of {key}");
                    let help = format!("write {key} = [\"…\"]");
                    found.wrong_type(&item.span(), &what, "a string", type_name(other), help);
                }
            }
        }
        list
    }

    /// The table that it is, if it is one: for a key that may be something else too.
    pub(super) fn as_table(self) -> Option<&'v DeTable<'i>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// A list of values as texts, none of them twice: strings, and numbers and switches as they are written.
    pub(super) fn texts(self, found: &mut Findings<'_>) -> Vec<String> {
        let key = self.key;
        let DeValue::Array(items) = self.value.get_ref() else {
            self.wrong_type(found, "a list of values", format!("write {key} = [\"…\", \"…\"]"));
            return Vec::new();
        };
        let mut texts: Vec<String> = Vec::with_capacity(items.len());
        for item in items {
            let text = match item.get_ref() {
                DeValue::String(text) if text.contains('\0') => {
                    let message = format!("a value of `{key}` contains a NUL byte");
                    found.add(
                        &item.span(),
                        message,
                        "remove the `\\u0000`: no variable can hold it",
                    );
                    continue;
                }
                DeValue::String(text) if text.len() > LONGEST_VALUE => {
                    let message =
                        format!("a value of `{key}` is longer than {LONGEST_VALUE} bytes");
                    found.add(&item.span(), message, "put it into a file, and name that");
                    continue;
                }
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                    found.source.text().get(item.span()).unwrap_or_default().to_owned()
                }
                other => {
                    let what = format!("a value of {key}");
                    let help = format!("write {key} = [\"…\", \"…\"]");
                    found.wrong_type(
                        &item.span(),
                        &what,
                        "a string or a number",
                        type_name(other),
                        help,
                    );
                    continue;
                }
            };
            if texts.contains(&text) {
                found.add(
                    &item.span(),
                    format!("{} is there twice", quoted(&text)),
                    "take one of them out",
                );
            } else {
                texts.push(text);
            }
        }
        texts
    }

    /// True for a list.
    pub(super) fn is_list(self) -> bool {
        matches!(self.value.get_ref(), DeValue::Array(_))
    }

    /// True for `[]`.
    pub(super) fn is_empty_list(self) -> bool {
        matches!(self.value.get_ref(), DeValue::Array(items) if items.is_empty())
    }

    /// A table of further settings; `example` shows how to write it.
    pub(super) fn table(self, found: &mut Findings<'_>, example: &str) -> Option<&'v DeTable<'i>> {
        if let DeValue::Table(table) = self.value.get_ref() {
            return Some(table);
        }
        self.wrong_type(found, "a table", format!("write {} = {example}", self.key));
        None
    }
}

/// A TOML type in a sentence.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
