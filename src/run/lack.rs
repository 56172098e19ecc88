//! What to say of a step that has not left what its task's `outputs` asks for: what it left instead, and what may be the
//! reason.

use crate::db::Wanted;
use crate::diagnostic::quoted;
use crate::manifest::Task;
use crate::names;
use crate::text::printable;

/// Names of outputs that are told.
const TOLD: usize = 5;

/// `lacking` are places in `patterns` and `wanted`; `left` are the names of what is there.
pub(super) fn sentence<'n>(
    lacking: &[usize],
    patterns: &[String],
    wanted: &[Wanted],
    left: impl Iterator<Item = &'n [u8]> + Clone,
    task: &Task,
) -> String {
    let lacks: Vec<String> = lacking.iter().map(|n| quoted(&patterns[*n])).collect();
    let told: Vec<String> =
        left.clone().take(TOLD).map(|name| format!("`{}`", printable(name))).collect();
    let instead = match (told.as_slice(), left.clone().count()) {
        ([], _) => format!("OUTPUT_DIR is empty{}", unmentioned(task)),
        (_, count) if count > TOLD => {
            format!("there is {} and {} more", told.join(", "), count - TOLD)
        }
        _ => format!("there is {}", told.join(", ")),
    };
    let hint = lacking.iter().find_map(|n| hint(&wanted[*n], left.clone())).unwrap_or_default();
    format!(
        "the script has left no {} (of `outputs`) in OUTPUT_DIR; {instead}{hint}",
        lacks.join(", ")
    )
}

/// What beginners forget: a file in the working folder is no output.
pub(super) fn unmentioned(task: &Task) -> &'static str {
    let (folder, sentence) = match task.batch {
        None => ("OUTPUT_DIR", ", and its script doesn't mention it"),
        Some(_) => ("BATCH_DIR", ", and its script doesn't mention BATCH_DIR"),
    };
    if task.script.contains(folder) { "" } else { sentence }
}

/// Why what was probably meant is not what the glob is for.
fn hint<'n>(wanted: &Wanted, mut left: impl Iterator<Item = &'n [u8]>) -> Option<String> {
    left.find_map(|name| {
        let base = names::split(name).1;
        if base != name && wanted(base) {
            return Some("; `*` doesn't match `/`, `**/*` does".to_owned());
        }
        let other_case = wanted(&name.to_ascii_lowercase()) || wanted(&name.to_ascii_uppercase());
        other_case.then(|| "; upper and lower case are different here".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::manifest::{Globs, Manifest};

    fn of(patterns: &[&str], left: &[&str]) -> String {
        let wanted = |pattern: &&str| {
            let globs = Globs::new([*pattern]).expect("a glob");
            Arc::new(move |name: &[u8]| globs.is_match(name)) as Wanted
        };
        let wanted: Vec<Wanted> = patterns.iter().map(wanted).collect();
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        let lacking: Vec<usize> = (0..patterns.len()).collect();
        let text = b"[[task]]\nname = 't'\nscript = 'cd $OUTPUT_DIR'\n";
        let manifest = Manifest::from_text(Path::new("m.toml"), Path::new("/"), text);
        let task = &manifest.expect("a manifest").tasks[0];
        sentence(&lacking, &patterns, &wanted, left.iter().map(|name| name.as_bytes()), task)
    }

    #[test]
    fn what_is_there_instead_is_told_and_why_it_is_not_what_was_meant() {
        let no = "the script has left no `*.jpg` (of `outputs`) in OUTPUT_DIR; ";
        assert_eq!(of(&["*.jpg"], &[]), format!("{no}OUTPUT_DIR is empty"));
        assert_eq!(of(&["*.jpg"], &["a.png", "b"]), format!("{no}there is `a.png`, `b`"));
        assert_eq!(
            of(&["*.jpg"], &["1", "2", "3", "4", "5", "6", "7"]),
            format!("{no}there is `1`, `2`, `3`, `4`, `5` and 2 more")
        );
        assert_eq!(
            of(&["*.jpg"], &["x/a.jpg"]),
            format!("{no}there is `x/a.jpg`; `*` doesn't match `/`, `**/*` does")
        );
        assert_eq!(
            of(&["*.jpg"], &["A.JPG"]),
            format!("{no}there is `A.JPG`; upper and lower case are different here")
        );
        assert!(of(&["*.jpg", "*.txt"], &[]).contains("no `*.jpg`, `*.txt` (of"));
    }
}
