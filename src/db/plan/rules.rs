//! The statements of a plan, one task at a time. See `plan` for what they mean.

use rusqlite::params;

use crate::error::{OrDb, Result};
use crate::ids::{TaskId, TaskIndex};

use crate::db::Reader;
use crate::db::flow::{Flow, FlowTask};
use crate::db::plan::TaskPlan;

pub(in crate::db) const WHAT: &str = "plan";

/// `p` is live and done after all changes so far; `c` is its row of `change`, if any.
const SUPPORTS: &str = "coalesce(c.live, p.live) = 1 AND coalesce(c.state, p.state) = 1";

pub(in crate::db) struct Planner<'a> {
    pub(in crate::db) reader: &'a Reader,
    pub(in crate::db) flow: &'a Flow,
}

impl Planner<'_> {
    pub(in crate::db) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        self.reader.conn.prepare_cached(sql).and_then(|mut s| s.execute(params)).or_db(WHAT)
    }

    pub(in crate::db) fn count(&self, sql: &str, task: TaskId) -> Result<u64> {
        self.reader
            .conn
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row([task], |row| row.get::<_, i64>(0)))
            .map(i64::unsigned_abs)
            .or_db(WHAT)
    }

    /// A query for all that supports a task: (object, name, executable, producer).
    fn supports(&self, index: TaskIndex, task: &FlowTask) -> String {
        let id = task.id;
        if task.is_root() {
            return format!(
                "SELECT object, name, executable, NULL AS producer FROM input_file f WHERE task = {id}
                 AND NOT EXISTS (SELECT 1 FROM gone g WHERE g.task = {id} AND g.path = f.path)
                 UNION ALL SELECT object, name, executable, NULL FROM scan WHERE task = {id}"
            );
        }
        format!(
            "SELECT o.object, o.name, o.executable, p.id AS producer
             FROM step p LEFT JOIN change c ON c.step = p.id JOIN output o ON o.step = p.id
             WHERE p.task IN ({from}) AND {SUPPORTS} AND accepts({place}, p.task, o.name)",
            from = self.flow.ids(&task.from),
            place = index.0,
        )
    }

    /// Looks at every step of a task.
    pub(in crate::db) fn whole(&self, index: TaskIndex, task: &FlowTask) -> Result<()> {
        let supports = self.supports(index, task);
        self.run("DELETE FROM wanted", [])?;
        self.run(
            &format!(
                "INSERT OR IGNORE INTO wanted SELECT step_key(?1, object, name, executable) FROM ({supports})"
            ),
            params![task.recipe_hash],
        )?;
        self.run(
            "INSERT OR REPLACE INTO change SELECT id, task, 0, state, state = 1 FROM step
             WHERE task = ?1 AND live = 1 AND (recipe <> ?2 OR key NOT IN wanted)",
            params![task.id, task.recipe],
        )?;
        self.gain(task, &supports)
    }

    /// Looks at the steps whose support changed.
    pub(in crate::db) fn difference(&self, index: TaskIndex, task: &FlowTask) -> Result<()> {
        if task.is_root() {
            return self.difference_of_files(index, task);
        }
        let from = self.flow.ids(&task.from);
        let touched: bool = self
            .reader
            .conn
            .query_row(
                &format!("SELECT EXISTS (SELECT 1 FROM change WHERE task IN ({from}))"),
                [],
                |r| r.get(0),
            )
            .or_db(WHAT)?;
        if !touched {
            return Ok(());
        }
        // Steps that lost a support and have no other one.
        self.run(
            &format!(
                "INSERT OR REPLACE INTO change
                 SELECT s.id, s.task, 0, s.state, s.state = 1
                 FROM change lost JOIN step_link l ON l.from_step_id = lost.step
                 JOIN step s ON s.id = l.to_step_id
                 WHERE lost.task IN ({from}) AND lost.was = 1 AND NOT (lost.live = 1 AND lost.state = 1)
                 AND s.task = ?1 AND s.live = 1 AND NOT EXISTS (
                   SELECT 1 FROM step_link o2 JOIN step p ON p.id = o2.from_step_id
                   LEFT JOIN change c ON c.step = p.id
                   JOIN output o ON o.step = p.id AND o.name = s.name
                   WHERE o2.to_step_id = s.id AND p.task IN ({from}) AND {SUPPORTS}
                   AND o.object = s.object AND o.executable = s.executable)"
            ),
            params![task.id],
        )?;
        self.gain(
            task,
            &format!(
                "SELECT o.object, o.name, o.executable, won.step AS producer
                 FROM change won JOIN output o ON o.step = won.step
                 WHERE won.task IN ({from}) AND won.was = 0 AND won.live = 1 AND won.state = 1
                 AND accepts({place}, won.task, o.name)",
                place = index.0
            ),
        )
    }

    fn difference_of_files(&self, index: TaskIndex, task: &FlowTask) -> Result<()> {
        self.run("DELETE FROM wanted", [])?;
        // `wanted` holds the contrary here: keys whose file went, less those that another file supports.
        let lost = self.run(
            "INSERT OR IGNORE INTO wanted SELECT step_key(?1, f.object, f.name, f.executable)
             FROM gone g JOIN input_file f ON f.task = g.task AND f.path = g.path WHERE g.task = ?2",
            params![task.recipe_hash, task.id],
        )?;
        if lost > 0 {
            let others = if task.names_unique {
                format!("SELECT object, name, executable FROM scan WHERE task = {}", task.id)
            } else {
                self.supports(index, task)
            };
            self.run(
                &format!("DELETE FROM wanted WHERE key IN (SELECT step_key(?1, object, name, executable) FROM ({others}))"),
                params![task.recipe_hash],
            )?;
            self.run(
                "INSERT OR REPLACE INTO change SELECT s.id, s.task, 0, s.state, s.state = 1
                 FROM wanted w JOIN step s ON s.key = w.key
                 WHERE s.task = ?1 AND s.recipe = ?2 AND s.live = 1",
                params![task.id, task.recipe],
            )?;
        }
        self.gain(
            task,
            &format!(
                "SELECT object, name, executable, NULL AS producer FROM scan WHERE task = {}",
                task.id
            ),
        )
    }

    /// Steps that have a support: those known come alive again, the others are born.
    fn gain(&self, task: &FlowTask, supports: &str) -> Result<()> {
        let gained = self.run(
            &format!(
                "INSERT INTO gain(task, key, object, name, executable, producer)
                 SELECT {id}, step_key(?1, object, name, executable), object, name, executable, producer
                 FROM ({supports}) ORDER BY producer, name",
                id = task.id
            ),
            params![task.recipe_hash],
        )?;
        if gained == 0 {
            return Ok(());
        }
        self.run(
            "INSERT OR REPLACE INTO change
             SELECT s.id, s.task, 1, CASE s.state WHEN 2 THEN 0 ELSE s.state END, s.live = 1 AND s.state = 1
             FROM gain g CROSS JOIN step s ON s.key = g.key
             WHERE g.task = ?1 AND s.task = ?1 AND s.recipe = ?2 AND s.name = g.name
             AND s.object = g.object AND s.executable = g.executable
             AND (s.live = 0 OR EXISTS (SELECT 1 FROM change c WHERE c.step = s.id AND c.live = 0))",
            params![task.id, task.recipe],
        )?;
        self.run(
            "INSERT OR IGNORE INTO fresh(task, recipe, key, object, name, executable)
             SELECT g.task, ?2, g.key, g.object, g.name, g.executable FROM gain g
             WHERE g.task = ?1 AND NOT EXISTS (
               SELECT 1 FROM step s WHERE s.key = g.key AND s.task = ?1 AND s.recipe = ?2
               AND s.name = g.name AND s.object = g.object AND s.executable = g.executable)
             ORDER BY g.id",
            params![task.id, task.recipe],
        )?;
        Ok(())
    }

    /// The step of a gather task stands for all that is upstream: if anything there is to change, it
    /// is no longer known, and the dispatcher plans it when everything upstream is done.
    pub(in crate::db) fn gather(&self, task: &FlowTask, unsettled: bool) -> Result<()> {
        if unsettled {
            self.run(
                "INSERT OR REPLACE INTO change SELECT id, task, 0, state, state = 1 FROM step
                 WHERE task = ?1 AND live = 1",
                params![task.id],
            )?;
        }
        Ok(())
    }

    /// True if a step of a task is to change, to be made or to run.
    pub(in crate::db) fn is_unsettled(&self, task: &FlowTask) -> Result<bool> {
        self.reader
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM change WHERE task = ?1)
                 OR EXISTS (SELECT 1 FROM fresh WHERE task = ?1)
                 OR EXISTS (SELECT 1 FROM step WHERE live = 1 AND state <> 1 AND task = ?1)",
            )
            .and_then(|mut statement| statement.query_row([task.id], |row| row.get(0)))
            .or_db(WHAT)
    }

    /// What comes out of history in a run that makes it anew is pending; then drops the rows that change nothing.
    pub(in crate::db) fn rerun(&self, task: &FlowTask) -> Result<()> {
        if task.runs_anew() {
            self.run(
                "UPDATE change SET state = 0 WHERE task = ?1 AND live = 1
                 AND EXISTS (SELECT 1 FROM step s WHERE s.id = change.step AND s.live = 0)",
                params![task.id],
            )?;
        }
        self.run(
            "DELETE FROM change WHERE task = ?1 AND EXISTS (
               SELECT 1 FROM step s WHERE s.id = change.step AND s.live = change.live AND s.state = change.state)",
            params![task.id],
        )?;
        Ok(())
    }

    /// Notes what runs anew although it is done (`-B`, `cache = false`), and what waits because only such steps support
    /// it, or others that wait. True if there are any.
    pub(in crate::db) fn take_turns(
        &self,
        index: TaskIndex,
        task: &FlowTask,
        upstream_anew: bool,
    ) -> Result<bool> {
        if !upstream_anew && !task.runs_anew() {
            return Ok(false);
        }
        self.run("DELETE FROM wanted", [])?;
        let is_waiting = match () {
            () if !upstream_anew => "0",
            // Which step it is can't be known before everything upstream is through.
            () if task.gather => "1",
            () => {
                let supports = self.supports(index, task);
                self.run(
                    &format!(
                        "INSERT OR IGNORE INTO wanted SELECT step_key(?1, object, name, executable)
                         FROM ({supports}) WHERE producer NOT IN (SELECT step FROM turn)"
                    ),
                    params![task.recipe_hash],
                )?;
                self.run(
                    "UPDATE fresh SET held = 1 WHERE task = ?1 AND key NOT IN wanted",
                    params![task.id],
                )?;
                "s.key NOT IN wanted"
            }
        };
        let noted = self.run(
            &format!(
                "INSERT INTO turn SELECT id, ?1, CASE WHEN NOT waits THEN 2 ELSE is_anew END FROM (
                   SELECT s.id AS id, {is_waiting} AS waits,
                     ?2 AND coalesce(c.state, s.state) = 1 AS is_anew
                   FROM step s LEFT JOIN change c ON c.step = s.id
                   WHERE s.task = ?1 AND coalesce(c.live, s.live) = 1)
                 WHERE waits OR is_anew"
            ),
            params![task.id, task.runs_anew()],
        )?;
        Ok(noted > 0)
    }

    pub(in crate::db) fn summary(&self, task: &FlowTask) -> Result<TaskPlan> {
        let id = task.id;
        let fresh = self.count("SELECT count(*) FROM fresh WHERE task = ?1 AND held = 0", id)?;
        let retired = self.count(
            "SELECT count(*) FROM change c JOIN step s ON s.id = c.step
             WHERE c.task = ?1 AND c.live = 0 AND s.live = 1",
            id,
        )?;
        let todo_before = self.count(
            "SELECT count(*) FROM step WHERE task = ?1 AND live = 1 AND state <> 1
             AND NOT EXISTS (SELECT 1 FROM change c WHERE c.step = step.id)",
            id,
        )?;
        let todo_now = self
            .count("SELECT count(*) FROM change WHERE task = ?1 AND live = 1 AND state <> 1", id)?;
        // All, less history: two counts within indexes.
        let live_before = self.count(
            "SELECT (SELECT count(*) FROM step INDEXED BY idx_step_task WHERE task = ?1)
               - (SELECT count(*) FROM step INDEXED BY idx_step_retired WHERE task = ?1 AND live = 0)",
            id,
        )?;
        let revived = self.count(
            "SELECT count(*) FROM change c JOIN step s ON s.id = c.step
             WHERE c.task = ?1 AND c.live = 1 AND s.live = 0",
            id,
        )?;
        let anew = self.count("SELECT count(*) FROM turn WHERE task = ?1 AND turn = 2", id)?;
        let waiting = |is_done: &str| {
            let sql = format!(
                "SELECT count(*) FROM turn t JOIN step s ON s.id = t.step LEFT JOIN change c ON c.step = s.id
                 WHERE t.task = ?1 AND t.turn < 2 AND coalesce(c.state, s.state) {is_done} 1"
            );
            self.count(&sql, id)
        };
        let todo = todo_before + todo_now;
        let live = live_before + revived - retired;
        Ok(TaskPlan {
            fresh,
            again: todo + anew - waiting("<>")?,
            reused: live - todo - anew - waiting("=")?,
            retired,
            waits_for_inputs: task.gather && live == 0,
        })
    }
}
