//! What a task *does*, as a hash: results stay valid for as long as it is the same. Its fields tell what
//! changed. Unaware of steps and of the database.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::manifest::Task;
use crate::object::{FieldHasher, ObjectHash};
use crate::text::{printable, shown};

/// The fields of a recipe. The database keeps them as JSON, so that `explain` can compare two recipes
/// field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Program and arguments that precede the script's file: `["sh", "-e"]`.
    pub interpreter: Vec<String>,
    /// The script's text.
    pub script: String,
    /// The manifest's `env`, sorted by name.
    pub env: Vec<(String, String)>,
    /// `files`, sorted by path: (path as written, hex hash of the content).
    pub files: Vec<(String, String)>,
    /// One step over all inputs together.
    pub gather: bool,
    /// The task's `params`, sorted by name. Recipes of older builds have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
}

impl Recipe {
    /// The recipe of a task. `hash_file` returns the hash of the content of one of its `files`, given as an
    /// absolute path; the caller may keep a cache.
    ///
    /// # Errors
    /// [`Error::Usage`] with the task and the file if one of `files` is missing or a folder; any other
    /// error of `hash_file`.
    pub fn of(
        task: &Task,
        dir: &Path,
        hash_file: &mut dyn FnMut(&Path) -> Result<ObjectHash>,
    ) -> Result<Recipe> {
        let mut files = Vec::with_capacity(task.files.len());
        // Sorted and without duplicates: neither changes what the script does.
        for file in BTreeSet::from_iter(&task.files) {
            let hash = hash_file(&dir.join(file)).map_err(|err| unusable(err, task, file))?;
            files.push((file.clone(), hash.hex()));
        }
        Ok(Recipe {
            interpreter: task.interpreter(),
            script: task.script.clone(),
            env: task.env.clone().into_iter().collect(),
            files,
            gather: task.gather,
            params: task.params.clone().into_iter().collect(),
        })
    }

    /// SHA-256 over tagged, length-prefixed fields.
    pub fn hash(&self) -> ObjectHash {
        let mut hasher = FieldHasher::new("task-pipeline recipe 1");
        // Each list is preceded by its length, so that no field after it can pass for one of its items.
        let count = |hasher: &mut FieldHasher, tag: &str, len: usize| {
            hasher.field(tag, &(len as u64).to_le_bytes());
        };
        count(&mut hasher, "interpreter", self.interpreter.len());
        for word in &self.interpreter {
            hasher.field("word", word.as_bytes());
        }
        hasher.field("script", self.script.as_bytes());
        for (tag, pairs) in [("env", &self.env), ("files", &self.files)] {
            count(&mut hasher, tag, pairs.len());
            for (name, value) in pairs {
                hasher.field("name", name.as_bytes()).field("value", value.as_bytes());
            }
        }
        hasher.field("gather", &[u8::from(self.gather)]);
        // Only where there are any, so that a recipe without them keeps the hash that it always had.
        if !self.params.is_empty() {
            count(&mut hasher, "params", self.params.len());
            for (name, value) in &self.params {
                hasher.field("name", name.as_bytes()).field("value", value.as_bytes());
            }
        }
        hasher.finish()
    }

    /// The variables that the recipe gives its script.
    pub fn variables(&self) -> impl Iterator<Item = &(String, String)> {
        self.env.iter().chain(&self.params)
    }

    /// What changed since the recipe `before`, a phrase for each field: `script changed`, `env LC_ALL
    /// added`, `param seed: 42 → 7`. Empty if they are the same.
    pub fn changes(&self, before: &Recipe) -> Vec<String> {
        let mut changes = Vec::new();
        if self.interpreter != before.interpreter {
            let (then, now) = (command(&before.interpreter), command(&self.interpreter));
            changes.push(format!("interpreter changed from `{then}` to `{now}`"));
        }
        if self.script != before.script {
            changes.push("script changed".to_owned());
        }
        compare("env", &self.env, &before.env, &|_| None, &mut changes);
        let short = |value: &String| {
            (value.chars().count() <= SHOWN).then(|| printable(value.as_bytes()).into_owned())
        };
        compare("param", &self.params, &before.params, &short, &mut changes);
        compare("file", &self.files, &before.files, &|_| None, &mut changes);
        if self.gather != before.gather {
            let switch = if self.gather { "on" } else { "off" };
            changes.push(format!("gather turned {switch}"));
        }
        changes
    }
}

/// A missing file is a mistake in the manifest; a failing disk is not.
fn unusable(err: Error, task: &Task, file: &str) -> Error {
    let Error::Io { source, path, .. } = &err else {
        return err;
    };
    let file = printable(file.as_bytes());
    let what = match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "does not exist",
        ErrorKind::IsADirectory => "is a folder",
        _ => return err,
    };
    Error::Usage(format!(
        "file `{file}` of task `{}` {what} (`{}`); put it there, or correct `files` in the manifest",
        task.name,
        shown(path)
    ))
}

/// Words as one would type them in a shell.
fn command(words: &[String]) -> String {
    let typed = shlex::try_join(words.iter().map(String::as_str));
    printable(typed.unwrap_or_else(|_| words.join(" ")).as_bytes()).into_owned()
}

/// Characters of a param's value that are shown where it changed.
const SHOWN: usize = 40;

/// Adds which entries of two lists were added, removed or changed, and from what to what as far as `show` tells.
fn compare(
    what: &str,
    now: &[(String, String)],
    before: &[(String, String)],
    show: &dyn Fn(&String) -> Option<String>,
    changes: &mut Vec<String>,
) {
    let index = |pairs: &[(String, String)]| BTreeMap::from_iter(pairs.iter().cloned());
    let (now, before) = (index(now), index(before));
    for name in BTreeSet::from_iter(now.keys().chain(before.keys())) {
        let verb = match (now.get(name), before.get(name)) {
            (Some(now), Some(before)) if now == before => continue,
            (Some(now), Some(before)) => match (show(before), show(now)) {
                (Some(before), Some(now)) => format!(": {before} → {now}"),
                _ => " changed".to_owned(),
            },
            (Some(_), None) => " added".to_owned(),
            (None, _) => " removed".to_owned(),
        };
        changes.push(format!("{what} {}{verb}", printable(name.as_bytes())));
    }
}

#[cfg(test)]
mod tests;
