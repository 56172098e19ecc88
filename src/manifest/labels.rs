//! Which labels the steps of each task have, as far as that is known without running: what a `gather` can go by, and
//! what an `env` would hide.

use std::collections::BTreeSet;

use super::capture;
use super::findings::Findings;
use super::mentions;
use super::task::Draft;
use crate::attempt::var;
use crate::diagnostic::quoted;
use crate::ids::TaskIndex;
use crate::order;

type Keys = BTreeSet<String>;

/// The labels that the outputs of a task have.
#[derive(Clone, Default)]
struct Known {
    /// All of them have these.
    always: Keys,
    /// Some may have these.
    sometimes: Keys,
    /// There is a table somewhere that can't be read: they may have any.
    is_unknown: bool,
}

/// Checks `gather` and `env` against the labels that the steps have, and notes their keys. Expects `from` to be resolved and free of cycles.
pub(super) fn check(found: &mut Findings<'_>, drafts: &mut [Draft]) {
    let mut known: Vec<Option<Known>> = vec![None; drafts.len()];
    for n in 0..drafts.len() {
        // A list, not recursion: a chain may have 10,000 tasks.
        let mut waiting = vec![n];
        while let Some(&task) = waiting.last() {
            let from = &drafts[task].task.from;
            let missing = from.iter().filter(|from| known[from.0].is_none()).map(|from| from.0);
            let before = waiting.len();
            waiting.extend(missing.collect::<Vec<_>>());
            if waiting.len() == before {
                waiting.pop();
                if known[task].is_none() {
                    let own = check_task(found, drafts, task, &known);
                    drafts[task].task.label_keys = own.sometimes.iter().cloned().collect();
                    known[task] = Some(own);
                }
            }
        }
    }
}

/// Everything that a task gathers has the labels that it gathers by. `which` says what that is.
fn check_gathered(found: &mut Findings<'_>, draft: &Draft, always: &Keys, which: &str) {
    for (key, place) in draft.gather_places.iter().filter(|(key, _)| !always.contains(key)) {
        let message = format!("{which} have no label {} to gather by", quoted(key));
        let labels: Vec<&str> = always.iter().map(String::as_str).collect();
        let help = if labels.is_empty() {
            format!(
                "give them one, as in inputs = [\"…/{{{key}}}.txt\"] or match = [\"{{{key}}}.*\"]"
            )
        } else {
            format!("every one of them has {}", labels.join(", "))
        };
        found.add(place, message, help);
    }
}

fn check_task(
    found: &mut Findings<'_>,
    drafts: &[Draft],
    n: usize,
    known: &[Option<Known>],
) -> Known {
    let draft = &drafts[n];
    let task = &draft.task;
    // What a task's own patterns add to the outputs of a producer; for a root, to its files.
    let patterns = |from: Option<&TaskIndex>| match from {
        None => &task.inputs,
        Some(from) => {
            let own = task.matches_of.iter().find(|(of, _)| of == from);
            own.map_or(&task.matches, |(_, patterns)| patterns)
        }
    };
    let mut own = Known::default();
    if draft.place("table").is_some() {
        own.is_unknown = task.table.is_none();
        own.always =
            task.table.iter().flat_map(|table| table.labels()).map(str::to_owned).collect();
    } else if task.is_root() {
        own.always = capture::common_keys(patterns(None));
        own.sometimes = capture::all_keys(patterns(None));
        check_gathered(found, draft, &own.always, "the `inputs`");
    }
    let mut inherited: Option<Keys> = None;
    for from in &task.from {
        let Some(theirs) = &known[from.0] else { continue };
        own.is_unknown |= theirs.is_unknown;
        own.sometimes.extend(theirs.sometimes.iter().cloned());
        own.sometimes.extend(capture::all_keys(patterns(Some(from))));
        let captured = capture::common_keys(patterns(Some(from)));
        let all: Keys = order::set(theirs.always.union(&captured).cloned());
        let producer = quoted(&drafts[from.0].task.name);
        if !theirs.is_unknown {
            check_gathered(found, draft, &all, &format!("the outputs of {producer}"));
        }
        inherited = Some(match inherited {
            None => all,
            Some(common) => order::set(common.intersection(&all).cloned()),
        });
    }
    own.always.extend(inherited.unwrap_or_default());
    for labels in task.matrix.iter().take(1) {
        own.always.extend(labels.iter().map(|(key, _)| key.to_owned()));
    }
    if task.gather {
        own.always = order::set(task.gather_keys.iter().cloned());
        own.sometimes.clear();
        own.is_unknown = false;
    }
    own.sometimes.extend(own.always.iter().cloned());
    if let (Some(export), Some(place)) = (&task.export, draft.place("export")) {
        for key in export.keys().filter(|key| !own.always.contains(*key)) {
            let message = format!("not every output has the label {} of `export`", quoted(key));
            let help = match own.always.len() {
                0 => "its outputs have no labels in common: export into a folder without one"
                    .to_owned(),
                _ => {
                    let labels: Vec<&str> = own.always.iter().map(String::as_str).collect();
                    format!("every one of them has {}", labels.join(", "))
                }
            };
            found.add(place, message, help);
        }
    }
    for (name, place) in draft.params.iter().filter(|(name, _)| own.sometimes.contains(name)) {
        let message = format!("{} is a param and a label of its steps", quoted(name));
        found.add(
            place,
            message,
            "both would be the variable of that name: give one of the two another name",
        );
    }
    check_paths(found, draft, &own);
    check_batch(found, draft, &own);
    check_env(found, draft, &own);
    own
}

/// What an `env` or `env_from` would hide.
fn check_env(found: &mut Findings<'_>, draft: &Draft, own: &Known) {
    for name in &own.sometimes {
        let Some(key) = draft.variable_of(name) else { continue };
        let (place, which) = match (draft.place(key), draft.default_place(key)) {
            (Some(place), _) => (place, "its steps".to_owned()),
            (None, Some(place)) => (place, format!("the steps of {}", quoted(&draft.task.name))),
            (None, None) => continue,
        };
        let message = format!("`{key}` sets {name}, which is a label of {which}");
        found.add(place, message, "give one of the two another name");
    }
}

/// A column of paths is a variable of its own.
fn check_paths(found: &mut Findings<'_>, draft: &Draft, own: &Known) {
    for (name, place) in &draft.paths {
        let other = match () {
            () if own.sometimes.contains(name) => "a label of its steps",
            () if draft.params.iter().any(|(param, _)| param == name) => "a param",
            () if draft.variable_of(name) == Some("env") => "in `env`",
            () if draft.variable_of(name).is_some() => "in `env_from`",
            () => continue,
        };
        let message = format!("{} is a file of the table and {other} too", quoted(name));
        let help = "both would be the variable of that name: give one of the two another name";
        found.add(place, message, help);
    }
}

/// What differs from step to step is no variable of a script that works on several.
fn check_batch(found: &mut Findings<'_>, draft: &Draft, own: &Known) {
    if draft.place("batch").is_none() {
        return;
    }
    let is_own = |name: &str| var::OF_ONE_STEP.contains(&name);
    let is_column = |name: &str| draft.paths.iter().any(|(column, _)| column == name);
    let is_meant = |name: &str| is_own(name) || is_column(name) || own.sometimes.contains(name);
    let text = found.source.text();
    let mut names = mentions::expanded(text, draft, is_meant);
    names.extend(mentions::read(text, draft, is_meant));
    for (name, place) in names {
        let (what, where_to) = match () {
            () if is_own(name) => (
                format!("{name}, which the steps of a batch don't share"),
                "each has `input/`, `output/` and `step.json` in a folder of its own: $BATCH_DIR/1, $BATCH_DIR/2 …",
            ),
            () if is_column(name) => (
                format!("the file `{name}` of a row, which the steps of a batch don't share"),
                "each has its own, among the `paths` in $BATCH_DIR/1/step.json, $BATCH_DIR/2/step.json …",
            ),
            () => (
                format!("the label `{name}`, which the steps of a batch don't share"),
                "each has its own, among the `labels` in $BATCH_DIR/1/step.json, $BATCH_DIR/2/step.json …",
            ),
        };
        found.add(&place, format!("the script uses {what}"), where_to);
    }
}
