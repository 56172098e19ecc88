//! Captures: `{sample}` in a glob stands for at least one character of a component, like `?*`, and gives its text to
//! the label `sample`. `{a,b}`, with a comma, stays a choice of alternatives. Unaware of what is matched.

use std::borrow::Cow;
use std::collections::BTreeSet;

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};

use crate::labels::{LONGEST_VALUE, Labels, key_mistake};
use crate::order;
use crate::text::printable;

/// What a capture is while its glob becomes a regular expression: a character that no pattern holds, private to
/// whoever uses it.
const STAND_IN: char = '\u{F0000}';

/// As the glob library writes that character in a regular expression.
const WRITTEN: &str = r"\xf3\xb0\x80\x80";

/// The largest automaton of a pattern, in bytes.
const MOST: usize = 1 << 20;

/// A pattern, and its captures.
pub(super) struct Captured {
    /// With `?*` in the place of each capture: what a walk looks for.
    pub(super) glob: String,
    /// With a stand-in in the place of each capture.
    marked: String,
    /// In the order in which they are written; a key may come twice, and then has to have one value.
    pub(super) keys: Vec<String>,
}

/// Takes a pattern apart.
///
/// # Errors
/// Why a capture in it can't be one.
pub(super) fn captured(pattern: &str) -> Result<Captured, String> {
    let mut found = Captured { glob: String::new(), marked: String::new(), keys: Vec::new() };
    let (mut rest, mut depth) = (pattern, 0_usize);
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '\\' => taken += rest[1..].chars().next().map_or(0, char::len_utf8),
            // In a class a brace stands for itself; a `]` that comes first does so too.
            '[' => {
                let first = 1 + usize::from(rest[1..].starts_with(['!', '^']));
                let skip = first + rest[first..].chars().next().map_or(0, char::len_utf8);
                taken = rest[skip..].find(']').map_or(taken, |end| skip + end + 1);
            }
            '{' => {
                let inner = rest[1..].find(['{', '}', ',']).map(|end| &rest[1..=end]);
                let is_capture = inner.is_some_and(|key| {
                    rest[1 + key.len()..].starts_with('}') && !key.is_empty() && !key.contains('/')
                });
                match inner {
                    Some(key) if is_capture && is_meant(key) => {
                        if let Some(why) = key_mistake(key) {
                            return Err(format!("`{{{key}}}` can't be a label: {why}"));
                        }
                        if depth > 0 {
                            return Err(format!(
                                "`{{{key}}}` is one of several alternatives, so that the label would \
                                 sometimes be missing"
                            ));
                        }
                        found.keys.push(key.to_owned());
                        found.glob.push_str("?*");
                        found.marked.push(STAND_IN);
                        rest = &rest[key.len() + 2..];
                        continue;
                    }
                    _ => depth += 1,
                }
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        found.glob.push_str(&rest[..taken]);
        found.marked.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(found)
}

/// True for what looks like a key, even a wrong one: `{*.c}` and `{é}` are alternatives of which there is one.
fn is_meant(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The captures of a list of patterns: which labels a path or a name gets.
pub struct Captures(Vec<Capture>);

struct Capture {
    regex: Regex,
    /// By group of the regular expression, from 1.
    keys: Vec<String>,
}

impl Captures {
    /// `None` if no pattern captures anything.
    ///
    /// # Errors
    /// Why the first invalid pattern is invalid. Those of a [`super::Task`] are all valid.
    pub fn of<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Option<Captures>, String> {
        let mut captures = Vec::new();
        for pattern in patterns {
            captures.push(Capture::of(pattern)?);
        }
        let has_keys = captures.iter().any(|capture| !capture.keys.is_empty());
        Ok(has_keys.then_some(Captures(captures)))
    }

    /// The labels of what has this path or name and inherits those: by the first pattern that it matches without
    /// giving an inherited label another value. `None`: there is no such pattern.
    pub fn labels(&self, text: &[u8], inherited: &Labels) -> Option<Labels> {
        self.0.iter().find_map(|capture| capture.labels(text, inherited))
    }
}

impl Capture {
    fn of(pattern: &str) -> Result<Capture, String> {
        let Captured { marked, keys, .. } = captured(pattern)?;
        let mut glob = GlobBuilder::new(marked.strip_prefix("./").unwrap_or(&marked));
        let glob = glob.literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|err| err.kind().to_string())?;
        let regex = glob.regex().replace(WRITTEN, "([^/]+)");
        let regex = RegexBuilder::new(&regex).size_limit(MOST).dfa_size_limit(MOST).build();
        let regex = regex.map_err(|_| "it is too complex".to_owned())?;
        Ok(Capture { regex, keys })
    }

    fn labels(&self, text: &[u8], inherited: &Labels) -> Option<Labels> {
        let groups = self.regex.captures(text)?;
        let mut labels = inherited.clone();
        for (n, key) in self.keys.iter().enumerate() {
            let value = groups.get(n + 1)?.as_bytes();
            // A label is text. What is none has the value that is printed of it, rather than to be left out.
            let value = match std::str::from_utf8(value) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => printable(value),
            };
            if value.len() > LONGEST_VALUE || !labels.add(key, &value) {
                return None;
            }
        }
        Some(labels)
    }
}

/// The pattern that a walk looks for. A pattern of a [`super::Task`] always has one.
pub fn without_captures(pattern: &str) -> String {
    captured(pattern).map_or_else(|_| pattern.to_owned(), |captured| captured.glob)
}

/// The keys that each of these patterns captures.
pub(super) fn common_keys(patterns: &[String]) -> BTreeSet<String> {
    let mut all = patterns.iter().map(|pattern| keys(pattern));
    let first = all.next().unwrap_or_default();
    all.fold(first, |common, keys| order::set(common.intersection(&keys).cloned()))
}

/// The keys that any of these patterns captures.
pub(super) fn all_keys(patterns: &[String]) -> BTreeSet<String> {
    order::set(patterns.iter().flat_map(|pattern| keys(pattern)))
}

fn keys(pattern: &str) -> BTreeSet<String> {
    captured(pattern).map(|captured| order::set(captured.keys)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pattern: &str, text: &str) -> Option<String> {
        let captures = Captures::of([pattern]).unwrap().expect(pattern);
        captures.labels(text.as_bytes(), &Labels::default()).map(|labels| labels.to_string())
    }

    #[test]
    fn a_capture_takes_at_least_one_character_and_no_slash() {
        let pattern = "reads/{sample}_{lane}.fastq";
        assert_eq!(labels(pattern, "reads/A_L1.fastq").as_deref(), Some("lane=L1,sample=A"));
        assert_eq!(labels(pattern, "reads/A_.fastq"), None);
        assert_eq!(labels(pattern, "reads/x/A_1.fastq"), None);
        assert_eq!(labels("./a/{s}.*", "a/ü.b.c").as_deref(), Some("s=ü.b"));
        assert_eq!(without_captures(pattern), "reads/?*_?*.fastq");
    }

    #[test]
    fn what_is_not_utf_8_has_the_value_that_is_printed_of_it() {
        let captures = Captures::of(["d/{s}.x"]).unwrap().expect("a capture");
        let labels = captures.labels(b"d/a\xff.x", &Labels::default()).expect("labels");
        assert_eq!(labels.get("s"), Some(r"a\xff"));
    }

    #[test]
    fn a_key_that_is_captured_twice_has_one_value() {
        assert_eq!(labels("{s}/{s}.txt", "a/a.txt").as_deref(), Some("s=a"));
        assert_eq!(labels("{s}/{s}.txt", "a/b.txt"), None);
    }

    #[test]
    fn alternatives_and_classes_and_escapes_are_no_captures() {
        for pattern in ["*.{csv,tsv}", r"\{a\}.txt", "[{}]a", "{*.c}", "{a,b}{,c}"] {
            assert!(Captures::of([pattern]).unwrap().is_none(), "{pattern}");
            assert_eq!(without_captures(pattern), pattern);
        }
        let captures = Captures::of(["{s}.{csv,tsv}"]).unwrap().unwrap();
        assert!(captures.labels(b"a.tsv", &Labels::default()).is_some());
    }

    #[test]
    fn a_capture_that_would_give_an_inherited_label_another_value_does_not_match() {
        let captures = Captures::of(["{sample}.*", "*.txt"]).unwrap().unwrap();
        let inherited: Labels = [("sample", "A")].into_iter().collect();
        assert_eq!(captures.labels(b"A.bam", &inherited), Some(inherited.clone()));
        assert_eq!(captures.labels(b"B.bam", &inherited), None);
        // Another pattern may.
        assert_eq!(captures.labels(b"B.txt", &inherited), Some(inherited.clone()));
    }

    #[test]
    fn what_can_be_no_label_is_a_mistake() {
        for pattern in ["{Sample}.txt", "{1}.x", "{a,{s}}.txt"] {
            assert!(captured(pattern).is_err(), "{pattern}");
        }
    }
}
