//! What a task *does*, as a hash: results stay valid for as long as it is the same. Its fields tell what
//! changed. Unaware of steps and of the database.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::manifest::Task;
use crate::object::{FieldHasher, ObjectHash};
use crate::order;
use crate::text::{counted, printable};

/// The fields of a recipe. The database keeps them as JSON, so that `explain` can compare two recipes
/// field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Program and arguments that precede the script's file: `["sh", "-eu"]`.
    pub interpreter: Arc<[String]>,
    /// The script's text.
    pub script: String,
    /// The manifest's `env`, sorted by name.
    pub env: Vec<(String, String)>,
    /// `files`, sorted by path: (path as written, or below the manifest's folder for what a glob or a folder stands
    /// for; hex hash of the content).
    pub files: Vec<(String, String)>,
    /// One step over all inputs together, or over those of each group.
    pub gather: bool,
    /// The task's `params`, sorted by name. Recipes of older builds have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
    /// The columns of the table that are files, sorted: they are variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The labels that the groups go by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gather_keys: Vec<String>,
    /// The file in which the script says what it has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depfile: Option<String>,
    /// Its script finds its steps in BATCH_DIR; how many at once is no part of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
    /// The caller's variables that the script is given, sorted by name; `None`: it was not set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<(String, Option<String>)>,
    /// It gets few of the caller's other variables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean_env: bool,
}

impl Recipe {
    /// The recipe of a task. `files` are (name, hex hash), sorted by name: all that its `files` stand for.
    pub fn of(task: &Task, files: Vec<(String, String)>) -> Recipe {
        Recipe {
            interpreter: task.interpreter(),
            script: task.script.clone(),
            env: task.env.clone().into_iter().collect(),
            files,
            gather: task.gather,
            params: task.params.clone().into_iter().collect(),
            paths: task.table.iter().flat_map(|table| table.paths()).map(str::to_owned).collect(),
            gather_keys: task.gather_keys.clone(),
            depfile: task.depfile.clone(),
            batch: task.batch.is_some(),
            env_from: task.env_from.clone().into_iter().collect(),
            clean_env: task.clean_env,
        }
    }

    /// SHA-256 over tagged, length-prefixed fields.
    pub fn hash(&self) -> ObjectHash {
        let mut hasher = FieldHasher::new("task-pipeline recipe 1");
        // Each list is preceded by its length, so that no field after it can pass for one of its items.
        let count = |hasher: &mut FieldHasher, tag: &str, len: usize| {
            hasher.field(tag, &(len as u64).to_le_bytes());
        };
        count(&mut hasher, "interpreter", self.interpreter.len());
        for word in &*self.interpreter {
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
        // Recipes are older than this field.
        for key in &self.gather_keys {
            hasher.field("gather key", key.as_bytes());
        }
        for column in &self.paths {
            hasher.field("path", column.as_bytes());
        }
        if let Some(depfile) = &self.depfile {
            hasher.field("depfile", depfile.as_bytes());
        }
        if self.batch {
            hasher.field("batch", &[1]);
        }
        for (name, value) in &self.env_from {
            hasher.field("env from", name.as_bytes());
            // Unset is not the same as empty.
            match value {
                Some(value) => hasher.field("value", value.as_bytes()),
                None => hasher.field("unset", &[]),
            };
        }
        if self.clean_env {
            hasher.field("clean env", &[1]);
        }
        hasher.finish()
    }

    /// The variables that the recipe gives its script.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.env.iter().chain(&self.params);
        let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(
            self.env_from.iter().filter_map(|(name, value)| Some((&**name, &**value.as_ref()?))),
        )
    }

    /// The variables that its script must not have.
    pub fn unset(&self) -> impl Iterator<Item = &str> {
        let unset = self.env_from.iter().filter(|(_, value)| value.is_none());
        unset.map(|(name, _)| name.as_str())
    }

    /// What changed since the recipe `before`, a phrase for each field: `script changed`, `env LC_ALL
    /// added`, `param seed was 42 and is 7`. Empty if they are the same.
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
        // Not to what: it may be a secret of the caller's.
        let is_set =
            |value: &Option<String>| Some(if value.is_some() { "set" } else { "unset" }.to_owned());
        compare("env_from", &self.env_from, &before.env_from, &is_set, &mut changes);
        let short = |value: &String| {
            (value.chars().count() <= SHOWN).then(|| printable(value.as_bytes()).into_owned())
        };
        compare("param", &self.params, &before.params, &short, &mut changes);
        let mut files = Vec::new();
        compare("file", &self.files, &before.files, &|_| None, &mut files);
        if files.len() > MOST_FILES {
            let more = files.split_off(MOST_FILES - 1).len();
            files.push(format!("{} changed", counted(more, "more file")));
        }
        changes.append(&mut files);
        if self.gather != before.gather {
            let switch = if self.gather { "on" } else { "off" };
            changes.push(format!("gather turned {switch}"));
        } else if self.gather_keys != before.gather_keys {
            changes.push("gather goes by other labels".to_owned());
        }
        if self.paths != before.paths {
            changes.push("other columns of the table are files".to_owned());
        }
        match (&before.depfile, &self.depfile) {
            (before, now) if before == now => {}
            (None, Some(now)) => {
                changes.push(format!("depfile {} added", printable(now.as_bytes())))
            }
            (Some(before), None) => {
                changes.push(format!("depfile {} removed", printable(before.as_bytes())));
            }
            _ => changes.push("depfile changed".to_owned()),
        }
        if self.clean_env != before.clean_env {
            let switch = if self.clean_env { "on" } else { "off" };
            changes.push(format!("clean_env turned {switch}"));
        }
        if self.batch != before.batch {
            let switch = if self.batch { "on" } else { "off" };
            changes.push(format!("batch turned {switch}"));
        }
        changes
    }
}

/// Words as one would type them in a shell.
fn command(words: &[String]) -> String {
    let typed = shlex::try_join(words.iter().map(String::as_str));
    printable(typed.unwrap_or_else(|_| words.join(" ")).as_bytes()).into_owned()
}

/// Characters of a param's value that are shown where it changed.
const SHOWN: usize = 40;

/// Changed files that are told by name: a folder may have thousands.
const MOST_FILES: usize = 8;

/// Adds which entries of two lists were added, removed or changed, and from what to what as far as `show` tells that apart.
fn compare<V: Clone + PartialEq>(
    what: &str,
    now: &[(String, V)],
    before: &[(String, V)],
    show: &dyn Fn(&V) -> Option<String>,
    changes: &mut Vec<String>,
) {
    let index = |pairs: &[(String, V)]| order::map(pairs.iter().cloned());
    let (now, before) = (index(now), index(before));
    for name in order::set(now.keys().chain(before.keys())) {
        let verb = match (now.get(name), before.get(name)) {
            (Some(now), Some(before)) if now == before => continue,
            (Some(now), Some(before)) => match (show(before), show(now)) {
                (Some(before), Some(now)) if before != now => format!(" was {before} and is {now}"),
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
