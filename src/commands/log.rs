//! `log STEP`: what a script printed.

use std::io::{Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde_json::json;

use crate::attempt::{AttemptRecord, Outcome, micros};
use crate::cli::Log;
use crate::db::{self, Db, StepRow};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::{printable, printable_line};

use super::follow::{Followed, follow};
use super::{answer, complain};

/// Prints the logs of the steps that are named: of the last attempt, or of `--attempt N`.
pub(super) fn log(args: &Log) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let store = Store::open_read_only(&args.db)?;
    let steps = {
        let conn = db.lock();
        match (&args.step, args.failed) {
            (Some(step), false) => db::find_steps(&conn, step.as_bytes())?,
            (None, true) => db::failed_steps(&conn)?,
            _ => return Err(Error::Usage("log: name a STEP, or give --failed".to_owned())),
        }
    };
    // `TASK/INPUT_NAME` may name history as well; what lives comes first.
    let only_first = args.step.as_ref().is_some_and(|step| step.as_bytes().contains(&b'/'));
    let steps = if only_first { &steps[..1] } else { &steps[..] };
    if args.follow {
        match follow(&db, &store, &args.db, steps)? {
            Followed::ToTheEnd => return Ok(exit::OK),
            // Over already: its log is printed, as without --follow.
            Followed::NotRunning => {}
        }
    }
    let mut chosen = Vec::new();
    for step in steps {
        let mut attempts =
            db::attempts(&db.lock(), step.id)?.into_iter().map(|attempt| attempt.record);
        let attempt = match args.attempt {
            Some(number) => attempts.find(|attempt| attempt.number == i64::from(number.get())),
            None => attempts.next_back(),
        };
        chosen.push((step, attempt));
    }
    if let ([(step, None)], Some(number)) = (chosen.as_slice(), args.attempt) {
        return Err(Error::Usage(format!("step {} has no attempt {number}", step.id)));
    }
    if let ([(step, None)], None) = (chosen.as_slice(), args.attempt)
        && !args.json
    {
        complain(&format!("step {} has not run yet", step.id));
    }
    if args.json {
        let all: Result<Vec<_>> =
            chosen.iter().map(|(step, attempt)| as_json(&store, step, attempt.as_ref())).collect();
        answer::json(&json!(all?))?;
        return Ok(exit::OK);
    }
    for (step, attempt) in &chosen {
        let head = if chosen.len() > 1 { Some(head(step, attempt.as_ref())) } else { None };
        let log = match attempt.as_ref().and_then(|attempt| attempt.log) {
            Some(log) => read(&store, &log)?,
            None => Vec::new(),
        };
        answer::write(|out| {
            if let Some(head) = head {
                writeln!(out, "{head}")?;
            }
            show(out, &log)
        })?;
    }
    Ok(exit::OK)
}

fn head(step: &StepRow, attempt: Option<&AttemptRecord>) -> String {
    let name = crate::text::step(step.id.0, &step.task, &step.name);
    match attempt {
        Some(attempt) => {
            format!("== {name}: attempt {}, {}", attempt.number, words(&attempt.outcome))
        }
        None => format!("== {name}: not run yet"),
    }
}

fn words(outcome: &Outcome) -> String {
    match (outcome.code(), outcome.detail()) {
        (_, Some(detail)) => format!("{}: {detail}", outcome.word()),
        (Some(code), None) => format!("{} {code}", outcome.word()),
        (None, None) => outcome.word().to_owned(),
    }
}

fn read(store: &Store, hash: &ObjectHash) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.open_object(hash)?.read_to_end(&mut bytes).or_io("read the log", store.path(hash))?;
    Ok(bytes)
}

/// Raw in a pipe; on a terminal without what could steer it.
fn show(out: &mut dyn Write, log: &[u8]) -> std::io::Result<()> {
    if !answer::is_terminal() {
        return out.write_all(log);
    }
    for line in log.strip_suffix(b"\n").unwrap_or(log).split(|&byte| byte == b'\n') {
        writeln!(out, "{}", printable_line(line))?;
    }
    Ok(())
}

fn as_json(
    store: &Store,
    step: &StepRow,
    attempt: Option<&AttemptRecord>,
) -> Result<serde_json::Value> {
    let log = match attempt.and_then(|attempt| attempt.log) {
        Some(log) => String::from_utf8_lossy(&read(store, &log)?).into_owned(),
        None => String::new(),
    };
    Ok(json!({
        "step": step.id.0, "task": step.task, "input": printable(&step.name), "object": step.object.hex(),
        "live": step.live, "state": step.state,
        "attempt": attempt.map(|attempt| json!({
            "number": attempt.number, "outcome": attempt.outcome.word(), "code": attempt.outcome.code(),
            "detail": attempt.outcome.detail(), "started_ms": attempt.started_ms,
            "wall_us": micros(attempt.usage.wall), "user_us": micros(attempt.usage.user),
            "system_us": micros(attempt.usage.system), "peak_kib": attempt.usage.peak_memory,
        })),
        "log": log,
    }))
}
