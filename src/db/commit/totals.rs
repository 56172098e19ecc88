//! Sums that are kept, because `status` must not add up a million rows while a run writes them: none of
//! this costs a byte per live step. Which outputs live is changed in many places (commit, plan, gather,
//! gc, repair), so triggers keep their sums; what a run did only grows, and is added per group commit.

use rusqlite::params;

use crate::attempt::Verdict;
use crate::error::{OrDb, Result};
use crate::ids::{RunId, TaskId};

use crate::db::Writer;
use crate::db::commit::completion::Completion;
use crate::db::flow::Flow;
use crate::db::types::micros;

/// What schema 4 adds.
pub(in crate::db) const MIGRATION: &str = "
ALTER TABLE run ADD COLUMN always INTEGER NOT NULL DEFAULT 0;   -- 1: everything anew, -B
ALTER TABLE task ADD COLUMN cache INTEGER NOT NULL DEFAULT 1;   -- 0: runs anew in every run
ALTER TABLE task ADD COLUMN feeds TEXT;                         -- JSON: from, match, inputs

CREATE INDEX idx_step_retired ON step(task) WHERE live = 0;

CREATE TABLE total(
  task    INTEGER PRIMARY KEY,
  outputs INTEGER NOT NULL,            -- of live steps that are done
  bytes   INTEGER NOT NULL             -- theirs
) STRICT;

CREATE TABLE run_task(
  task      INTEGER NOT NULL,
  run       INTEGER NOT NULL,
  done      INTEGER NOT NULL,          -- attempts that succeeded
  failed    INTEGER NOT NULL,          -- attempts that did not
  outputs   INTEGER NOT NULL,
  bytes     INTEGER NOT NULL,          -- of the outputs
  wall_us   INTEGER NOT NULL,
  user_us   INTEGER NOT NULL,
  system_us INTEGER NOT NULL,
  peak_kib  INTEGER NOT NULL,          -- highest of them
  PRIMARY KEY(task, run)
) STRICT, WITHOUT ROWID;

INSERT INTO total
  SELECT t.id, count(o.step), coalesce(sum(b.size), 0) FROM task t
  LEFT JOIN step s ON s.task = t.id AND s.live = 1 AND s.state = 1
  LEFT JOIN output o ON o.step = s.id LEFT JOIN object b ON b.hash = o.object GROUP BY t.id;
INSERT INTO run_task
  SELECT s.task, a.run, sum(a.outcome = 'ok'), sum(a.outcome <> 'ok'), 0, 0, sum(a.wall_us), sum(a.user_us),
    sum(a.system_us), max(a.peak_kib) FROM attempt a JOIN step s ON s.id = a.step GROUP BY 1, 2;

CREATE TRIGGER task_added AFTER INSERT ON task BEGIN
  INSERT OR IGNORE INTO total VALUES (new.id, 0, 0);
END;
CREATE TRIGGER output_added AFTER INSERT ON output
WHEN EXISTS (SELECT 1 FROM step WHERE id = new.step AND live = 1 AND state = 1) BEGIN
  UPDATE total SET outputs = outputs + 1,
    bytes = bytes + coalesce((SELECT size FROM object WHERE hash = new.object), 0)
  WHERE task = (SELECT task FROM step WHERE id = new.step);
END;
CREATE TRIGGER output_removed AFTER DELETE ON output
WHEN EXISTS (SELECT 1 FROM step WHERE id = old.step AND live = 1 AND state = 1) BEGIN
  UPDATE total SET outputs = outputs - 1,
    bytes = bytes - coalesce((SELECT size FROM object WHERE hash = old.object), 0)
  WHERE task = (SELECT task FROM step WHERE id = old.step);
END;
CREATE TRIGGER step_moved AFTER UPDATE OF live, state ON step
WHEN (old.live = 1 AND old.state = 1) <> (new.live = 1 AND new.state = 1) BEGIN
  UPDATE total SET (outputs, bytes) = (
    SELECT total.outputs + count(*) * (CASE WHEN new.live = 1 AND new.state = 1 THEN 1 ELSE -1 END),
      total.bytes + coalesce(sum(b.size), 0) * (CASE WHEN new.live = 1 AND new.state = 1 THEN 1 ELSE -1 END)
    FROM output o LEFT JOIN object b ON b.hash = o.object WHERE o.step = new.id)
  WHERE task = new.task;
END;
";

/// Adds up anew what the triggers keep. For whoever took rows of objects away: a step that stops being
/// live later can't say any more how long its outputs were.
///
/// # Errors
/// If the rows can't be written.
pub fn recount(writer: &mut Writer) -> Result<()> {
    writer
        .conn
        .execute_batch(
            "UPDATE total SET (outputs, bytes) = (
           SELECT count(o.step), coalesce(sum(b.size), 0)
           FROM step s JOIN output o ON o.step = s.id LEFT JOIN object b ON b.hash = o.object
           WHERE s.task = total.task AND s.live = 1 AND s.state = 1);",
        )
        .or_db("add up the outputs")
}

/// What a run has done of one task, to be added to what is known of it.
#[derive(Default)]
struct Sum {
    done: i64,
    failed: i64,
    outputs: i64,
    bytes: i64,
    wall_us: i64,
    user_us: i64,
    system_us: i64,
    peak_kib: i64,
}

impl Sum {
    fn add(&mut self, completion: &Completion) {
        match completion.verdict {
            Verdict::Done => self.done += 1,
            Verdict::Failed | Verdict::TryAgain | Verdict::Alone => self.failed += 1,
        }
        self.outputs += completion.outputs.len() as i64;
        let bytes: u64 = completion.outputs.iter().map(|output| output.size).sum();
        self.bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        let usage = completion.attempt.share();
        self.wall_us += micros(usage.wall);
        self.user_us += micros(usage.user);
        self.system_us += micros(usage.system);
        self.peak_kib = self.peak_kib.max(i64::try_from(usage.peak_memory).unwrap_or(i64::MAX));
    }
}

/// Adds a group of attempts to the sums of the run.
pub(in crate::db) fn add_to_run(
    writer: &mut Writer,
    flow: &Flow,
    run: RunId,
    completions: &[Completion],
) -> Result<()> {
    // A group holds few tasks; a list is quicker than a map.
    let mut sums: Vec<(TaskId, Sum)> = Vec::new();
    for completion in completions {
        let task = flow.task(completion.task).id;
        let at = sums.iter().position(|(known, _)| *known == task).unwrap_or_else(|| {
            sums.push((task, Sum::default()));
            sums.len() - 1
        });
        sums[at].1.add(completion);
    }
    for (task, sum) in sums {
        let Sum { done, failed, outputs, bytes, wall_us, user_us, system_us, peak_kib } = sum;
        writer
            .conn
            .prepare_cached(
                "INSERT INTO run_task VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT(task, run) DO UPDATE SET done = done + ?3, failed = failed + ?4,
               outputs = outputs + ?5, bytes = bytes + ?6, wall_us = wall_us + ?7,
               user_us = user_us + ?8, system_us = system_us + ?9, peak_kib = max(peak_kib, ?10)",
            )
            .and_then(|mut s| {
                s.execute(params![
                    task, run, done, failed, outputs, bytes, wall_us, user_us, system_us, peak_kib
                ])
            })
            .or_db("add to the sums of the run")?;
    }
    Ok(())
}
