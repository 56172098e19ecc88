//! Labels: `key = value` pairs that tell where in a pipeline a step stands, such as `sample = "A"`. An output has
//! those of the step that left it; a step has those of its input and those that its task adds.
//!
//! Unaware of patterns, tables and groups: this is their common word.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::order;
use crate::text::{self, printable, unescaped};

/// Longest key, in bytes.
pub const LONGEST_KEY: usize = 64;

/// Longest value, in bytes.
pub const LONGEST_VALUE: usize = 4096;

/// A set of labels, sorted by key. A label is written once: nothing gives a key another value.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// True if there are none, as with most steps.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Adds a label. False, and nothing changed, if the key has another value already.
    pub fn add(&mut self, key: &str, value: &str) -> bool {
        match self.0.get(key) {
            Some(known) => known == value,
            None => {
                self.0.insert(key.to_owned(), value.to_owned());
                true
            }
        }
    }

    /// These and those together; `None` if they disagree on a key.
    pub fn joined(&self, other: &Labels) -> Option<Labels> {
        let mut all = self.clone();
        other.iter().all(|(key, value)| all.add(key, value)).then_some(all)
    }

    /// True unless the two have different values for a key that both have.
    pub fn agree(&self, other: &Labels) -> bool {
        self.iter().all(|(key, value)| other.get(key).is_none_or(|theirs| theirs == value))
    }

    /// True if these have all of those, and maybe others.
    pub fn has(&self, those: &Labels) -> bool {
        those.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Only these keys; those that it has not are left out.
    pub fn only<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Labels {
        let pairs = keys.into_iter().filter_map(|key| self.0.get_key_value(key));
        Labels(order::map(pairs.map(|(key, value)| (key.clone(), value.clone()))))
    }

    /// As the database keeps them: a JSON object with sorted keys.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Reads `sample=A,lr=0.1`, with the values as they are printed. A value may have anything but a comma in it. `None`
    /// for anything else.
    fn from_words(words: &str) -> Option<Labels> {
        let mut labels = Labels::default();
        for word in words.split(',') {
            let (key, value) = word.split_once('=')?;
            let printed =
                unescaped(value.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
            let value = printed.as_deref().unwrap_or(value);
            if key_mistake(key).is_some() || !labels.add(key, value) {
                return None;
            }
        }
        Some(labels)
    }

    /// The other way round. `None` for a text that is no such object.
    pub fn from_json(text: &str) -> Option<Labels> {
        serde_json::from_str(text).ok()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Labels {
        Labels(order::map(pairs.into_iter().map(|(key, value)| (key.into(), value.into()))))
    }
}

/// `sample=A,lr=0.1`, as they are named on a command line. Escaped for the screen.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{key}={}", printable(value.as_bytes()))?;
        }
        Ok(())
    }
}

/// A task as it is named on a command line, with the labels of the steps that are meant: `TASK` or
/// `TASK[sample=A,lr=0.1]`. The error says how it is written.
pub fn task_word(word: &str) -> Result<(&str, Labels), String> {
    let Some((task, words)) = word.split_once('[') else { return Ok((word, Labels::default())) };
    let labels = words.strip_suffix(']').and_then(Labels::from_words);
    let labels = labels.ok_or_else(|| {
        let word = printable(word.as_bytes());
        format!("`{word}` names no labels; write them as in TASK[sample=A,lr=0.1]")
    })?;
    Ok((task, labels))
}

/// A step as users are told of it: `step 3 fit (x) [lr=0.1]`.
pub fn step_text(id: i64, task: &str, input: &[u8], labels: &Labels) -> String {
    let step = text::step(id, task, input);
    if labels.is_empty() { step } else { format!("{step} [{labels}]") }
}

/// Why a text can't be the key of a label; `None` if it can: `[a-z][a-z0-9_]*`, at most [`LONGEST_KEY`] bytes. Lower
/// case, because a script sees each label as a variable of that name, and none must hide PATH or HOME.
pub fn key_mistake(key: &str) -> Option<&'static str> {
    let mut bytes = key.bytes();
    match () {
        () if key.len() > LONGEST_KEY => Some("it is longer than 64 bytes"),
        () if !bytes.next().is_some_and(|byte| byte.is_ascii_lowercase()) => {
            Some("it has to begin with a lower-case letter")
        }
        () if !bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') => {
            Some("it may have only lower-case letters, digits and `_`")
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_label_is_written_once() {
        let mut a = labels(&[("sample", "A")]);
        assert!(a.add("lane", "1") && a.add("lane", "1") && !a.add("lane", "2"));
        assert_eq!(a.to_string(), "lane=1,sample=A");
        assert_eq!(a.joined(&labels(&[("lane", "2")])), None);
        assert!(a.agree(&labels(&[("lr", "3"), ("sample", "A")])));
        assert!(!a.agree(&labels(&[("sample", "B")])));
        assert_eq!(a.only(["sample", "lr"]), labels(&[("sample", "A")]));
    }

    #[test]
    fn what_the_database_keeps_reads_back_whatever_the_values_are() {
        let a = labels(&[("a", "\"\n\\ü"), ("b", "")]);
        assert_eq!(Labels::from_json(&a.to_json()), Some(a));
        assert_eq!(Labels::from_json("[1]"), None);
    }

    #[test]
    fn a_key_can_not_hide_a_variable_that_programs_need() {
        for key in ["sample", "a1_b", &"x".repeat(64)] {
            assert_eq!(key_mistake(key), None, "{key}");
        }
        for key in ["", "PATH", "Sample", "1a", "_a", "a-b", "ä", &"x".repeat(65)] {
            assert!(key_mistake(key).is_some(), "{key}");
        }
    }
}
