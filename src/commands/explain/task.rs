//! `explain TASK`: all its steps together.

use rusqlite::Connection;

use super::{Explanation, Verdict, differences};
use crate::db;
use crate::error::Result;

pub(super) fn explain(conn: &Connection, name: &str) -> Result<Explanation> {
    let task = db::find_task(conn, name)?;
    let facts = db::task_facts(conn, task)?;
    let counts = db::step_counts(conn)?.get(&task).copied().unwrap_or_default();
    let last = db::last_run(conn)?.unwrap_or_default();
    let changes = match facts.before {
        Some(before) => differences::changes(conn, before, facts.recipe)?,
        None => Vec::new(),
    };
    let to_run = counts.pending + counts.failed;
    let (ok, failed) = facts.last;
    let verdict = match () {
        () if !facts.present => Verdict::IsHistory,
        () if to_run > 0 => Verdict::WillRun,
        () if ok + failed > 0 => Verdict::Ran(last),
        () => Verdict::DidNotRun(last),
    };
    let is_first = facts.since.is_none() || facts.since == Some(last);
    let mut because = match verdict {
        Verdict::IsHistory => vec!["it is no longer in the manifest".to_owned()],
        Verdict::DidNotRun(_) if counts.live() == 0 => vec!["it has no inputs".to_owned()],
        Verdict::DidNotRun(_) => vec!["neither its recipe nor its inputs changed".to_owned()],
        _ if is_first && !changes.is_empty() => changes,
        _ if is_first && facts.before.is_none() => vec!["the task is new".to_owned()],
        _ => vec!["some of its inputs are new or changed, or steps of it had failed".to_owned()],
    };
    if counts.failed > 0 {
        because.push(format!("{} of its steps failed last time", counts.failed));
    }
    let (fields, script_diff) = differences::fields(conn, facts.before, facts.recipe)?;
    Ok(Explanation {
        task: name.to_owned(),
        step: None,
        verdict,
        because,
        fields,
        script_diff,
        present: None,
    })
}
