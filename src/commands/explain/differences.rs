//! Compares two recipes field by field.

use std::path::Path;

use similar::DiffTag;
use similar::algorithms::{Capture, Compact, Replace, myers};

use crate::db::Reader;
use crate::error::Result;
use crate::explain::recipe;
use crate::ids::RecipeId;
use crate::manifest::{Manifest, ParamOverrides};
use crate::object::ObjectHash;
use crate::order;
use crate::recipe::Recipe;
use crate::run::recipe_of;
use crate::text::shown;

/// Lines that are shown around what differs.
const CONTEXT: usize = 3;

/// A field of a recipe, before and now; `None` where the recipe does not have it.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) before: Option<String>,
    pub(super) now: Option<String>,
}

impl Field {
    pub(super) fn is_changed(&self) -> bool {
        self.before != self.now
    }
}

/// A recorded recipe compared with the manifest as it is now.
pub(super) struct Present {
    pub(super) manifest: String,
    /// False: the manifest has no such task.
    pub(super) has_task: bool,
    pub(super) changes: Vec<String>,
    pub(super) script_diff: String,
}

impl Present {
    /// Compares a recorded recipe with the one that the task of this name has in a manifest.
    pub(super) fn read(
        db: &Path,
        path: &Path,
        params: &ParamOverrides,
        task: &str,
        recorded: Option<&Recipe>,
    ) -> Result<Present> {
        let manifest = Manifest::read_with(path, params)?;
        let mut present = Present {
            manifest: shown(path).into_owned(),
            has_task: false,
            changes: Vec::new(),
            script_diff: String::new(),
        };
        if let Some(index) = manifest.find(task) {
            present.has_task = true;
            let now = recipe_of(&manifest, index, db)?;
            if let Some(recorded) = recorded {
                present.changes = now.changes(recorded);
                present.script_diff = unified(&recorded.script, &now.script);
            }
        }
        Ok(present)
    }
}

/// Every field of a recipe but its script, beside that of an earlier one, and the diff of the scripts.
pub(super) fn fields(
    reader: &Reader,
    before: Option<RecipeId>,
    now: RecipeId,
) -> Result<(Vec<Field>, String)> {
    let Some(now) = recipe(reader, now)? else { return Ok((Vec::new(), String::new())) };
    let before = match before {
        Some(before) => recipe(reader, before)?,
        None => None,
    };
    let mut fields = Vec::new();
    let mut field = |name: String, get: &dyn Fn(&Recipe) -> Option<String>| {
        let was = before.as_ref().map_or_else(|| get(&now), get);
        fields.push(Field { name, before: was, now: get(&now) });
    };
    let words = |recipe: &Recipe| {
        let typed = shlex::try_join(recipe.interpreter.iter().map(String::as_str));
        Some(typed.unwrap_or_else(|_| recipe.interpreter.join(" ")))
    };
    field("interpreter".to_owned(), &words);
    type List = fn(&Recipe) -> &[(String, String)];
    let lists: [(&str, List); 3] = [
        ("env", |recipe| &recipe.env),
        ("param", |recipe| &recipe.params),
        ("file", |recipe| &recipe.files),
    ];
    for (kind, list) in lists {
        let all = [Some(&now), before.as_ref()].into_iter().flatten().flat_map(list);
        let names = order::set(all.map(|(name, _)| name));
        for name in names {
            field(format!("{kind} {name}"), &|recipe| {
                let found = list(recipe).iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            });
        }
    }
    let all = [Some(&now), before.as_ref()].into_iter().flatten();
    let names = order::set(all.flat_map(|recipe| recipe.env_from.iter().map(|(name, _)| name)));
    for name in names {
        // Not its value, which may be a secret of the caller's, but whether it is the same.
        field(format!("env_from {name}"), &|recipe| {
            let (_, value) = recipe.env_from.iter().find(|(known, _)| known == name)?;
            Some(match value {
                Some(value) => {
                    format!("set, SHA-256 {}…", &ObjectHash::of(value.as_bytes()).hex()[..8])
                }
                None => "unset".to_owned(),
            })
        });
    }
    if now.clean_env || before.as_ref().is_some_and(|before| before.clean_env) {
        field("clean_env".to_owned(), &|recipe| Some(recipe.clean_env.to_string()));
    }
    field("gather".to_owned(), &|recipe| Some(recipe.gather.to_string()));
    field("batch".to_owned(), &|recipe| recipe.batch.then(|| recipe.batch.to_string()));
    let paths = |recipe: &Recipe| (!recipe.paths.is_empty()).then(|| recipe.paths.join(", "));
    if paths(&now).is_some() || before.as_ref().and_then(paths).is_some() {
        field("paths".to_owned(), &paths);
    }
    if now.depfile.is_some() || before.as_ref().is_some_and(|before| before.depfile.is_some()) {
        field("depfile".to_owned(), &|recipe| recipe.depfile.clone());
    }
    let diff = before.map_or_else(String::new, |before| unified(&before.script, &now.script));
    Ok((fields, diff))
}

/// The unified diff of two scripts, without the lines that name them; empty if they are the same. Through one
/// algorithm of the crate, because its `TextDiff` brings all of them: 0.6 MB of code.
fn unified(before: &str, now: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = now.split_inclusive('\n').collect();
    let mut capture = Compact::new(Replace::new(Capture::new()), &old[..], &new[..]);
    // Capturing can't fail.
    let Ok(()) = myers::diff(&mut capture, &old[..], 0..old.len(), &new[..], 0..new.len());
    let ops = capture.into_inner().into_inner().into_ops();
    let mut text = String::new();
    for hunk in similar::group_diff_ops(ops, CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let side = |start: usize, end: usize| match end - start {
            // As diff(1) counts: an empty side is named by the line before it.
            0 => format!("{start},0"),
            1 => (start + 1).to_string(),
            length => format!("{},{length}", start + 1),
        };
        let was = side(first.old_range().start, last.old_range().end);
        let is = side(first.new_range().start, last.new_range().end);
        text.push_str(&format!("@@ -{was} +{is} @@\n"));
        for op in &hunk {
            let (tag, was, is) = op.as_tag_tuple();
            let mut write = |sign: char, lines: &[&str]| {
                for line in lines {
                    text.push(sign);
                    text.push_str(line);
                    if !line.ends_with('\n') {
                        text.push_str("\n\\ No newline at end of file\n");
                    }
                }
            };
            if tag == DiffTag::Equal {
                write(' ', &old[was]);
            } else {
                write('-', &old[was]);
                write('+', &new[is]);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown_with_what_is_around_it() {
        assert_eq!(unified("a\n", "a\n"), "");
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(unified("", "x\n"), "@@ -0,0 +1 @@\n+x\n");
        let no_end = "\\ No newline at end of file\n";
        assert_eq!(unified("a", "a\n"), format!("@@ -1 +1 @@\n-a\n{no_end}+a\n"));
    }

    #[test]
    fn far_apart_changes_are_two_hunks() {
        let text = |a: &str, b: &str| format!("{a}\n1\n2\n3\n4\n5\n6\n7\n8\n{b}\n");
        assert_eq!(
            unified(&text("a", "b"), &text("A", "B")),
            "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-b\n+B\n"
        );
    }

    #[test]
    fn long_texts_cost_little() {
        let (a, b) = ("a\n".repeat(10_000), "b\n".repeat(10_000));
        assert_eq!(unified(&a, &b).lines().count(), 20_001);
    }
}
