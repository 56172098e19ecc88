//! `export`: the folder, below the manifest's, that the results of a task are to lie in.

use crate::labels::{Labels, key_mistake};
use crate::names;

/// A folder with `{label}` in its name: `results/{sample}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPath {
    /// The leading part without labels, which the record of the export lies in. Not empty.
    folder: String,
    /// The rest, if there is any.
    below: Vec<Piece>,
}

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The value of this label.
    Label(String),
}

impl ExportPath {
    /// Reads one; the error says what is wrong with it, and what to write.
    pub(crate) fn parse(text: &str) -> Result<ExportPath, (String, &'static str)> {
        let example = "write a folder such as \"results/{sample}\"";
        if text.starts_with('/') {
            return Err((
                "`export` is an absolute path".to_owned(),
                "it is relative to the manifest's folder; `export TASK --to DIR` writes elsewhere",
            ));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err((
                "`export` leads out of the manifest's folder".to_owned(),
                "take the `..` out; `export TASK --to DIR` writes elsewhere",
            ));
        }
        let fixed = parts.iter().take_while(|part| !part.contains(['{', '}'])).count();
        if fixed == 0 {
            let why = match parts.is_empty() {
                true => "`export` names the manifest's own folder",
                false => "`export` begins with a label",
            };
            return Err((
                why.to_owned(),
                "begin with a folder for results alone, such as \"results/{sample}\"",
            ));
        }
        let mut below = Vec::new();
        let mut rest = parts[fixed..].join("/");
        while let Some(open) = rest.find(['{', '}']) {
            let braced = rest[open..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((key, after)) = braced else {
                return Err(("a brace in `export` has no other half".to_owned(), example));
            };
            if let Some(why) = key_mistake(key) {
                return Err((format!("`{{{key}}}` in `export` can't be a label: {why}"), example));
            }
            let pieces = [Piece::Text(rest[..open].to_owned()), Piece::Label(key.to_owned())];
            below.extend(pieces);
            rest = after.to_owned();
        }
        below.push(Piece::Text(rest));
        Ok(ExportPath { folder: parts[..fixed].join("/"), below })
    }

    /// The leading part without labels.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The labels in it.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.below.iter().filter_map(|piece| match piece {
            Piece::Label(key) => Some(key.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Where below that folder an output of these labels lies; empty: in it. Every value makes names of folders.
    pub fn below(&self, labels: &Labels) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Label(key) => names::of_values(&[labels.get(key).unwrap_or_default()]),
        };
        self.below.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_without_labels_is_the_folder_and_values_are_folders_below_it() {
        let labels = Labels::from_iter([("a", "1"), ("b", "../x")]);
        let at = |text: &str| {
            let path = ExportPath::parse(text).unwrap();
            format!("{}|{}", path.folder(), path.below(&labels))
        };
        assert_eq!(at("results"), "results|");
        assert_eq!(at("./results//{a}/"), "results|1");
        assert_eq!(at("r/s/x_{a}_{b}/y"), "r/s|x_1_%2E%2E/x/y");
        assert_eq!(ExportPath::parse("r/{a}/{b}").unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        for wrong in
            ["", ".", "/r", "../r", "r/../..", "{a}", "{a}/r", "r/{a", "r/a}", "r/{A}", "r/{}"]
        {
            assert!(ExportPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
