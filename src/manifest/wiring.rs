//! Resolves `from` (explicit, or the task above) and `with` to indices, and rejects cycles.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::findings::Findings;
use super::labels;
use super::task::{Draft, Task};
use crate::diagnostic::quoted;
use crate::ids::TaskIndex;
use crate::suggest;

/// Suggestions stop after this many comparisons of an unknown name with a known one: with 10,000 tasks and as many
/// misspelled names they would take minutes.
const MOST_COMPARISONS: usize = 200_000;

/// At most this many tasks of a cycle are shown; the middle of a longer one is left out.
const SHOWN: usize = 50;

/// Checks the names and fills in each task's `from`.
pub(super) fn wire(found: &mut Findings<'_>, mut drafts: Vec<Draft>) -> Vec<Task> {
    let by_name = names(found, &drafts);
    let known: Vec<&str> = drafts.iter().map(|draft| draft.task.name.as_str()).collect();
    let mut comparisons_left = MOST_COMPARISONS;
    let mut wired = Vec::with_capacity(drafts.len());
    for (n, draft) in drafts.iter().enumerate() {
        let is_default_root =
            n == 0 || draft.place("inputs").is_some() || draft.place("table").is_some();
        let mut guess = |name: &str| {
            comparisons_left = comparisons_left.saturating_sub(known.len());
            if comparisons_left == 0 { None } else { suggest::nearest(name, known.iter().copied()) }
        };
        let with = resolve(found, "with", &draft.with, &by_name, &mut guess);
        let from = match &draft.from {
            Some(from) => resolve(found, "from", from, &by_name, &mut guess),
            None if is_default_root => Vec::new(),
            None => vec![TaskIndex(n - 1)],
        };
        let is_root = draft.from.as_ref().map_or(is_default_root, Vec::is_empty);
        if is_root {
            check_root(found, draft);
        }
        let matches_of = if is_root { Vec::new() } else { matches(found, draft, &from, &known) };
        wired.push((from, with, matches_of));
    }
    for (draft, (from, ..)) in drafts.iter().zip(&wired) {
        check_depfiles(found, draft, from, &drafts);
    }
    for (draft, (from, with, matches_of)) in drafts.iter_mut().zip(wired) {
        (draft.task.from, draft.task.with) = (from, with);
        draft.task.matches_of = matches_of;
    }
    // A name lost to a syntax error would make cycles appear that aren't there.
    if !found.is_damaged() {
        let cycles = cycles(&drafts);
        for cycle in &cycles {
            cycle.report(found, &drafts);
        }
        if cycles.is_empty() {
            labels::check(found, &mut drafts);
        }
    }
    drafts.into_iter().map(|draft| draft.task).collect()
}

/// The index of each name; for a name that is used twice, the first task's.
fn names<'d>(found: &mut Findings<'_>, drafts: &'d [Draft]) -> HashMap<&'d str, usize> {
    let mut by_name: HashMap<&str, usize> = HashMap::with_capacity(drafts.len());
    for (n, draft) in drafts.iter().enumerate() {
        let name = &draft.task.name;
        let Some(place) = draft.name_place.as_ref().filter(|_| !name.is_empty()) else {
            continue;
        };
        match by_name.get(name.as_str()) {
            None => {
                by_name.insert(name, n);
            }
            Some(first) => {
                let first = drafts[*first].name_place.as_ref().map_or(0, |place| place.start);
                let line = found.source.line(first);
                let message = format!("task {} is already defined on line {line}", quoted(name));
                found.add(place, message, "give it another name");
            }
        }
    }
    by_name
}

fn resolve<'k>(
    found: &mut Findings<'_>,
    key: &str,
    names: &[(String, Range<usize>)],
    by_name: &HashMap<&str, usize>,
    mut guess: impl FnMut(&str) -> Option<&'k str>,
) -> Vec<TaskIndex> {
    let mut seen = HashSet::new();
    let mut indices = Vec::with_capacity(names.len());
    for (name, place) in names {
        if !seen.insert(name) {
            let message = format!("task {} is already in this `{key}`", quoted(name));
            found.add(place, message, "remove it: a task's outputs are consumed only once");
        } else if let Some(n) = by_name.get(name.as_str()) {
            indices.push(TaskIndex(*n));
        } else if !found.is_damaged() {
            let help = match guess(name) {
                Some(meant) => format!("did you mean {}?", quoted(meant)),
                None => "name a task of this manifest".to_owned(),
            };
            found.add(place, format!("no task is called {}", quoted(name)), help);
        }
    }
    indices
}

/// The globs for each producer that `match` names.
fn matches(
    found: &mut Findings<'_>,
    draft: &Draft,
    from: &[TaskIndex],
    known: &[&str],
) -> Vec<(TaskIndex, Vec<String>)> {
    let mut matches = Vec::with_capacity(draft.matches_of.len());
    for (name, place, globs) in &draft.matches_of {
        let producers = || from.iter().map(|from| known[from.0]);
        match from.iter().find(|from| known[from.0] == name) {
            Some(from) => matches.push((*from, globs.clone())),
            None if found.is_damaged() => {}
            None => {
                let help = match suggest::nearest(name, producers()) {
                    Some(meant) => format!("did you mean {}?", quoted(meant)),
                    None => {
                        format!("its `from` has {}", producers().collect::<Vec<_>>().join(", "))
                    }
                };
                let message = format!("{} is not in the `from` of the task", quoted(name));
                found.add(place, message, help);
            }
        }
    }
    matches
}

/// What `match` names by its name must be able to be an output.
fn check_depfiles(found: &mut Findings<'_>, draft: &Draft, from: &[TaskIndex], drafts: &[Draft]) {
    let Some(place) = draft.place("match") else { return };
    let producers: Vec<&Task> = from.iter().map(|from| &drafts[from.0].task).collect();
    let of_all = draft.task.matches.iter().map(|glob| (None, glob));
    let of_one = draft
        .matches_of
        .iter()
        .flat_map(|(name, _, globs)| globs.iter().map(move |glob| (Some(name), glob)));
    for (name, glob) in of_all.chain(of_one) {
        let mut meant =
            producers.iter().filter(|task| name.is_none_or(|name| *name == task.name)).peekable();
        let is_depfile = |task: &&Task| task.depfile.as_ref() == Some(glob);
        if meant.peek().is_some() && meant.all(is_depfile) {
            let message =
                format!("`match` would take {}, which is a depfile and no output", quoted(glob));
            let help = "take it out, or write what is to be passed on into another file too";
            found.add(place, message, help);
        }
    }
}

fn check_root(found: &mut Findings<'_>, draft: &Draft) {
    if let Some(place) = draft.place("gather")
        && draft.task.gather
        && draft.place("inputs").is_none()
        && draft.place("table").is_none()
    {
        let help =
            "there is nothing to gather: add from = [\"…\"] or inputs = [\"…\"], or drop `gather`";
        found.add(place, "`gather` on a root", help);
    }
    if let Some(place) = draft.place("match").filter(|_| draft.place("table").is_none()) {
        let help = "it chooses among other tasks' outputs: drop it, or add from = [\"…\"]";
        found.add(place, "`match` on a root", help);
    }
}

/// Tasks that consume each other's outputs, by `from` or by `with`: each is followed by its producer, and the last one's producer is the first.
struct Cycle {
    tasks: Vec<usize>,
    /// Tasks left out in the middle of `tasks`.
    left_out: usize,
}

/// A depth-first search: one cycle for each edge back to a task on the path. Not recursive, since a
/// chain may have 10,000 tasks.
fn cycles(drafts: &[Draft]) -> Vec<Cycle> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Unseen,
        /// On the path, at this index.
        Open(usize),
        Done,
    }
    let mut states = vec![Visit::Unseen; drafts.len()];
    let mut cycles = Vec::new();
    for start in 0..drafts.len() {
        if states[start] != Visit::Unseen {
            continue;
        }
        // Tasks on the path, each with the number of its producers already followed.
        let mut path = vec![(start, 0)];
        states[start] = Visit::Open(0);
        while let Some((task, followed)) = path.last_mut() {
            let Task { from, with, .. } = &drafts[*task].task;
            let next = from.get(*followed).or_else(|| with.get(*followed - from.len()));
            let Some(&TaskIndex(producer)) = next else {
                states[*task] = Visit::Done;
                path.pop();
                continue;
            };
            *followed += 1;
            match states[producer] {
                Visit::Unseen => {
                    states[producer] = Visit::Open(path.len());
                    path.push((producer, 0));
                }
                Visit::Open(at) => cycles.push(Cycle::of(&path[at..])),
                Visit::Done => {}
            }
        }
    }
    cycles
}

impl Cycle {
    fn of(path: &[(usize, usize)]) -> Cycle {
        let tasks = path.iter().map(|(task, _)| *task);
        if path.len() > SHOWN {
            let (head, tail) = (SHOWN / 2, path.len() - SHOWN / 2);
            let tasks = tasks.clone().take(head).chain(tasks.skip(tail)).collect();
            return Cycle { tasks, left_out: tail - head };
        }
        let mut tasks: Vec<usize> = tasks.collect();
        // Begin with the first in the manifest, wherever the search entered the cycle.
        let first = tasks.iter().enumerate().min_by_key(|(_, task)| **task).map_or(0, |(n, _)| n);
        tasks.rotate_left(first);
        Cycle { tasks, left_out: 0 }
    }

    fn report(&self, found: &mut Findings<'_>, drafts: &[Draft]) {
        let name = |task: &usize| drafts[*task].task.name.as_str();
        // Shown in the direction of the data, from producer to consumer.
        let mut names: Vec<String> = self.tasks.iter().map(|task| name(task).to_owned()).collect();
        names.extend(names.first().cloned());
        if self.left_out > 0 {
            names.insert(SHOWN / 2, format!("({} more)", self.left_out));
        }
        names.reverse();
        let names = names.join(" -> ");
        let message = match self.tasks.as_slice() {
            [task] => format!("task {} consumes its own outputs: {names}", quoted(name(task))),
            _ => format!("tasks consume each other's outputs in a cycle: {names}"),
        };
        let mut place = 0..0;
        let mut help = "remove one of them from a `from`".to_owned();
        // From last to first, so that the place is in the first task that names its producer.
        for (n, task) in self.tasks.iter().enumerate().rev() {
            let producer = &self.tasks[(n + 1) % self.tasks.len()];
            let Draft { from, with, .. } = &drafts[*task];
            let mut named = from.iter().flatten().chain(with);
            match named.find(|(named, _)| named == name(producer)) {
                Some((_, named)) => {
                    place = named.clone();
                    if with.iter().any(|(_, with)| *with == place) {
                        help = "remove one of them from a `from` or a `with`".to_owned();
                    }
                }
                None => {
                    help = format!(
                        "{} consumes {} only because that is the task above: \
                         write from = [] if it is a root",
                        quoted(name(task)),
                        quoted(name(producer))
                    );
                }
            }
        }
        found.add(&place, message, help);
    }
}
