//! The statements of a plan, one task at a time. See `plan` for what they mean.

use rusqlite::params;

use crate::error::{OrDb, Result};
use crate::ids::{TaskId, TaskIndex};

use crate::db::Reader;
use crate::db::dependencies::is_valid;
use crate::db::flow::{Flow, FlowTask};
use crate::db::plan::TaskPlan;

pub(in crate::db) const WHAT: &str = "plan";

/// `p` is live and done after all changes so far; `c` is its row of `change`, if any.
const SUPPORTS: &str = "coalesce(c.live, p.live) = 1 AND coalesce(c.state, p.state) = 1";

/// `s` is the step that the support `g` is for, if task and recipe are the same too.
pub(in crate::db) const SAME: &str = "s.key = g.key AND s.origin = g.origin AND s.name = g.name
  AND s.object = g.object AND s.executable = g.executable AND s.labels IS g.labels AND s.side IS g.side";

/// The row `f` of `input_file` is still true.
const NOT_GONE: &str =
    "NOT EXISTS (SELECT 1 FROM gone g WHERE g.task = f.task AND g.path = f.path)";

/// A query for the files of task ?1 as the scan found them: (path, name, object, executable).
pub(in crate::db) fn present_files() -> String {
    format!(
        "SELECT path, name, object, executable FROM input_file f WHERE task = ?1 AND {NOT_GONE}
         UNION ALL SELECT path, name, object, executable FROM scan WHERE task = ?1"
    )
}

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

    /// How a statement says what steps an input makes: (a join, a condition, the labels). `producer`, `name` and
    /// `labels` are those of the input.
    fn labelled(
        index: TaskIndex,
        task: &FlowTask,
        producer: &str,
        name: &str,
        labels: &str,
    ) -> (String, String, String) {
        if task.labeller.is_none() {
            return (String::new(), String::new(), labels.to_owned());
        }
        let place = index.0;
        (
            format!("JOIN variant v ON v.n < {}", task.variants),
            format!("AND has_step({place}, {producer}, {name}, {labels}, v.n)"),
            format!("labels({place}, {producer}, {name}, {labels}, v.n)"),
        )
    }

    /// A query for what a task's files support, as those of [`Self::supports`]: all of one table. For a table of samples
    /// there are its rows in the place of files, by their labels.
    fn files(index: TaskIndex, task: &FlowTask, table: &str, condition: &str) -> String {
        if let Some(name) = task.row_name {
            let (join, fits, labels) =
                Planner::labelled(index, task, "0", "''", "nullif(f.path, '{}')");
            return format!(
                "SELECT f.object, '{name}' AS name, 0 AS executable, {labels} AS labels,
                   row_origin(f.path) AS origin, NULL AS producer
                 FROM {table} f {join} WHERE f.task = {id} {condition} {fits}",
                id = task.id
            );
        }
        let (join, fits, labels) = Planner::labelled(index, task, "0", "f.path", "NULL");
        format!(
            "SELECT f.object, f.name, f.executable, {labels} AS labels, file_origin(f.path) AS origin,
               NULL AS producer FROM {table} f {join} WHERE f.task = {id} {condition} {fits}",
            id = task.id
        )
    }

    /// A query for what the outputs of steps support, as those of [`Self::supports`]. `p` is the step.
    fn outputs(index: TaskIndex, task: &FlowTask, from: &str, condition: &str) -> String {
        let (join, fits, labels) = Planner::labelled(index, task, "p.task", "o.name", "p.labels");
        format!(
            "SELECT o.object, o.name, o.executable, {labels} AS labels,
               output_origin(p.task, p.origin, o.name) AS origin, p.id AS producer
             FROM {from} JOIN output o ON o.step = p.id {join}
             WHERE {condition} AND accepts({place}, p.task, o.name) {fits}",
            place = index.0,
        )
    }

    /// A query for all that supports a task: (object, name, executable, labels, origin, producer, side).
    fn supports(&self, index: TaskIndex, task: &FlowTask) -> String {
        Planner::seen(index, task, &self.inputs(index, task))
    }

    /// Adds to a query for inputs what the steps on them see by `with`: one that sees nothing is none.
    fn seen(index: TaskIndex, task: &FlowTask, inputs: &str) -> String {
        let (side, condition) = match task.with.is_empty() {
            true => ("NULL".to_owned(), ""),
            false => (format!("side({}, labels)", index.0), "WHERE side IS NOT NULL"),
        };
        format!("SELECT * FROM (SELECT *, {side} AS side FROM ({inputs})) {condition}")
    }

    /// As [`Self::supports`], whatever there is to see.
    pub(in crate::db) fn inputs(&self, index: TaskIndex, task: &FlowTask) -> String {
        if task.gathers_files() {
            return format!(
                "SELECT object, name, 0 AS executable, labels, origin, NULL AS producer FROM listing WHERE task = {}",
                task.id
            );
        }
        if task.is_root() {
            let known = Planner::files(index, task, "input_file", &format!("AND {NOT_GONE}"));
            return format!("{known} UNION ALL {}", Planner::files(index, task, "scan", ""));
        }
        let from = self.flow.ids(&task.from);
        Planner::outputs(
            index,
            task,
            "step p LEFT JOIN change c ON c.step = p.id",
            &format!("p.task IN ({from}) AND {SUPPORTS}"),
        )
    }

    /// Looks at every step of a task.
    pub(in crate::db) fn whole(&self, index: TaskIndex, task: &FlowTask) -> Result<()> {
        self.flow.read_sides(self.reader, index)?;
        let supports = self.supports(index, task);
        if task.is_root()
            && task.with.is_empty()
            && self.count("SELECT EXISTS (SELECT 1 FROM step WHERE task = ?1)", task.id)? == 0
        {
            return self.bear(task, &supports);
        }
        self.want(task, &supports)?;
        self.run(
            "INSERT OR REPLACE INTO change SELECT id, task, 0, state, state = 1 FROM step s
             WHERE task = ?1 AND live = 1 AND (recipe <> ?2 OR NOT EXISTS (
               SELECT 1 FROM wanted w WHERE w.key = s.key AND w.origin = s.origin))",
            params![task.id, task.recipe],
        )?;
        self.gain(task, &supports)
    }

    /// Notes which steps these supports are for.
    fn want(&self, task: &FlowTask, supports: &str) -> Result<usize> {
        self.run("DELETE FROM wanted", [])?;
        self.run(
            &format!(
                "INSERT OR IGNORE INTO wanted
                 SELECT step_key(?1, object, name, executable, labels, side), origin FROM ({supports})"
            ),
            params![task.recipe_hash],
        )
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
        // Steps that lost their support. A link may be older than the origin; and a step of another recipe may have
        // made the same output of the same origin, which supports it just as well.
        self.run(
            &format!(
                "INSERT OR REPLACE INTO change
                 SELECT s.id, s.task, 0, s.state, s.state = 1
                 FROM change lost JOIN step_link l ON l.from_step_id = lost.step
                 JOIN step s ON s.id = l.to_step_id JOIN step q ON q.id = lost.step
                 WHERE lost.task IN ({from}) AND lost.was = 1 AND NOT (lost.live = 1 AND lost.state = 1)
                 AND s.task = ?1 AND s.live = 1 AND s.origin = output_origin(q.task, q.origin, s.name)
                 AND NOT EXISTS (
                   SELECT 1 FROM step_link o2 JOIN step p ON p.id = o2.from_step_id
                   LEFT JOIN change c ON c.step = p.id
                   JOIN output o ON o.step = p.id AND o.name = s.name
                   WHERE o2.to_step_id = s.id AND p.task = q.task AND p.origin = q.origin
                   AND p.labels IS q.labels AND {SUPPORTS}
                   AND o.object = s.object AND o.executable = s.executable)"
            ),
            params![task.id],
        )?;
        self.flow.read_sides(self.reader, index)?;
        let gained = Planner::outputs(
            index,
            task,
            "change won JOIN step p ON p.id = won.step",
            &format!("won.task IN ({from}) AND won.was = 0 AND won.live = 1 AND won.state = 1"),
        );
        self.gain(task, &Planner::seen(index, task, &gained))
    }

    fn difference_of_files(&self, index: TaskIndex, task: &FlowTask) -> Result<()> {
        if self.count("SELECT count(*) FROM (SELECT 1 FROM scan WHERE task = ?1 UNION ALL SELECT 1 FROM gone WHERE task = ?1 LIMIT 1)", task.id)? == 0 {
            return Ok(());
        }
        self.flow.read_sides(self.reader, index)?;
        // `wanted` holds the contrary here: steps whose file went, less those whose file is as it was.
        let gone = "gone g JOIN input_file";
        let was = Planner::files(index, task, gone, "AND g.task = f.task AND g.path = f.path");
        let lost = self.want(task, &Planner::seen(index, task, &was))?;
        let found = Planner::seen(index, task, &Planner::files(index, task, "scan", ""));
        if lost > 0 {
            self.run(
                &format!(
                    "DELETE FROM wanted WHERE (key, origin) IN (
                       SELECT step_key(?1, object, name, executable, labels, side), origin FROM ({found}))"
                ),
                params![task.recipe_hash],
            )?;
            self.run(
                "INSERT OR REPLACE INTO change SELECT s.id, s.task, 0, s.state, s.state = 1
                 FROM wanted w CROSS JOIN step s ON s.key = w.key AND s.origin = w.origin
                 WHERE s.task = ?1 AND s.recipe = ?2 AND s.live = 1",
                params![task.id, task.recipe],
            )?;
        }
        self.gain(task, &found)
    }

    /// Every support of a root that never had a step bears one. As [`Self::gain`], without a look at what there was.
    fn bear(&self, task: &FlowTask, supports: &str) -> Result<()> {
        // The steps of rows are all of one name.
        let order = if task.row_name.is_some() { "" } else { "ORDER BY name" };
        self.run(
            &format!(
                "INSERT OR IGNORE INTO fresh(task, recipe, key, object, name, executable, labels, origin)
                 SELECT {id}, ?2, step_key(?1, object, name, executable, labels), object, name, executable, labels,
                   origin
                 FROM ({supports}) {order}",
                id = task.id
            ),
            params![task.recipe_hash, task.recipe],
        )?;
        Ok(())
    }

    /// Steps that have a support: those known come alive again, the others are born.
    fn gain(&self, task: &FlowTask, supports: &str) -> Result<()> {
        let gained = self.run(
            &format!(
                "INSERT INTO gain(task, key, object, name, executable, labels, origin, producer, side)
                 SELECT {id}, step_key(?1, object, name, executable, labels, side), object, name, executable, labels,
                   origin, producer, side
                 FROM ({supports}) ORDER BY producer, name",
                id = task.id
            ),
            params![task.recipe_hash],
        )?;
        if gained == 0 {
            return Ok(());
        }
        self.run(
            &format!(
                "INSERT OR REPLACE INTO change
                 SELECT s.id, s.task, 1, CASE s.state WHEN 2 THEN 0 ELSE s.state END, s.live = 1 AND s.state = 1
                 FROM gain g CROSS JOIN step s ON {SAME}
                 WHERE g.task = ?1 AND s.task = ?1 AND s.recipe = ?2
                 AND (s.live = 0 OR EXISTS (SELECT 1 FROM change c WHERE c.step = s.id AND c.live = 0))"
            ),
            params![task.id, task.recipe],
        )?;
        self.run(
            &format!(
                "INSERT OR IGNORE INTO fresh(task, recipe, key, object, name, executable, labels, origin, side)
                 SELECT g.task, ?2, g.key, g.object, g.name, g.executable, g.labels, g.origin, g.side FROM gain g
                 WHERE g.task = ?1 AND NOT EXISTS (
                   SELECT 1 FROM step s WHERE {SAME} AND s.task = ?1 AND s.recipe = ?2)
                 ORDER BY g.id"
            ),
            params![task.id, task.recipe],
        )?;
        Ok(())
    }

    /// The step of a gather task stands for all that is upstream: if anything there is to change, it
    /// is no longer known, and the dispatcher plans it when everything upstream is done. One of several stands for
    /// what has its labels, or none yet.
    pub(in crate::db) fn gather(
        &self,
        index: TaskIndex,
        task: &FlowTask,
        whole: bool,
        unsettled: bool,
    ) -> Result<()> {
        let mut doubt = "1";
        if !whole && !unsettled {
            return Ok(());
        }
        if !whole && task.is_grouped() {
            self.find_unsettled_groups(index)?;
            doubt = "EXISTS (SELECT 1 FROM unsettled u WHERE u.labels IS s.labels)
               OR EXISTS (SELECT 1 FROM unsettled u WHERE u.is_part AND agree(u.labels, s.labels))";
        }
        self.run(
            &format!(
                "INSERT OR REPLACE INTO change SELECT id, task, 0, state, state = 1 FROM step s
                 WHERE task = ?1 AND live = 1 AND ({doubt})"
            ),
            params![task.id],
        )?;
        Ok(())
    }

    /// Leaves in a table the labels of the groups to which something upstream may still add, in whole or in part.
    fn find_unsettled_groups(&self, index: TaskIndex) -> Result<()> {
        let keys = self.flow.task(index).gather_keys.len();
        self.reader
            .conn
            .execute_batch(
                "DROP TABLE IF EXISTS temp.unsettled;
                 CREATE TEMP TABLE unsettled(labels TEXT UNIQUE, is_part INTEGER) STRICT;",
            )
            .or_db(WHAT)?;
        let upstream = self.flow.upstream(index);
        let ids = (0..upstream.len()).filter(|&n| upstream[n]).map(TaskIndex);
        let ids = self.flow.ids(&ids.collect::<Vec<_>>());
        let place = index.0;
        self.reader
            .conn
            .execute_batch(&format!(
                "INSERT OR IGNORE INTO unsettled SELECT l, label_count(l) < {keys} FROM (
                   SELECT group_of({place}, s.labels) AS l FROM change c JOIN step s ON s.id = c.step
                     WHERE c.task IN ({ids})
                   UNION SELECT group_of({place}, labels) FROM fresh WHERE task IN ({ids})
                   UNION SELECT group_of({place}, labels) FROM step INDEXED BY idx_step_todo
                     WHERE live = 1 AND state <> 1 AND task IN ({ids}));"
            ))
            .or_db(WHAT)
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

    /// Steps that are done, or come out of history as done, are pending if the files that they have read are not what
    /// they were. Only results that may be concerned are looked at.
    pub(in crate::db) fn check_results(&self, task: &FlowTask) -> Result<()> {
        self.run(
            &format!(
                "INSERT OR REPLACE INTO change
                 SELECT s.id, s.task, 1, 0, coalesce(c.was, 1)
                 FROM doubted q CROSS JOIN step_result x ON x.result = q.result CROSS JOIN step s ON s.id = x.step
                 LEFT JOIN change c ON c.step = s.id
                 WHERE s.task = ?1 AND coalesce(c.live, s.live) = 1 AND coalesce(c.state, s.state) = 1
                 AND NOT {}",
                is_valid("x.result")
            ),
            params![task.id],
        )?;
        self.run(
            &format!(
                "UPDATE change SET state = 0 WHERE task = ?1 AND live = 1 AND state = 1
                 AND (SELECT s.live = 0 FROM step s WHERE s.id = change.step)
                 AND NOT EXISTS (SELECT 1 FROM step_result x WHERE x.step = change.step AND {})",
                is_valid("x.result")
            ),
            params![task.id],
        )?;
        Ok(())
    }

    /// Steps that are done, of history too, and lack something that `outputs` asks for are pending: they were done when it
    /// didn't ask for that. A step that ends is looked at when it does, so that this is due only where a task is looked at
    /// as a whole.
    pub(in crate::db) fn judge_outputs(&self, task: &FlowTask) -> Result<()> {
        self.run(
            &format!(
                "INSERT OR REPLACE INTO change
                 SELECT s.id, s.task, coalesce(c.live, s.live), 0, coalesce(c.was, s.live = 1 AND s.state = 1)
                 FROM step s LEFT JOIN change c ON c.step = s.id
                 WHERE s.task = ?1 AND coalesce(c.state, s.state) = 1 AND NOT {}",
                task.lacks_nothing("output o WHERE o.step = s.id")
            ),
            params![task.id],
        )?;
        Ok(())
    }

    /// What comes out of history in a run that makes it anew is pending; then drops the rows that change nothing.
    pub(in crate::db) fn rerun(&self, index: TaskIndex, task: &FlowTask) -> Result<()> {
        if task.runs_anew() {
            self.run(
                &format!(
                    "UPDATE change SET state = 0 WHERE task = ?1 AND live = 1 AND EXISTS (
                       SELECT 1 FROM step s WHERE s.id = change.step AND s.live = 0 AND may_run({0}, s.labels)
                       AND runs_anew({0}, s.id, s.labels))",
                    index.0
                ),
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
            () if task.gathers_outputs() => "1",
            () if !task.is_ready() => {
                self.run("UPDATE fresh SET held = 1 WHERE task = ?1", [task.id])?;
                "1"
            }
            () => {
                self.flow.read_sides(self.reader, index)?;
                let supports = self.supports(index, task);
                self.run(
                    &format!(
                        "INSERT OR IGNORE INTO wanted
                         SELECT step_key(?1, object, name, executable, labels, side), origin
                         FROM ({supports}) WHERE producer NOT IN (SELECT step FROM turn)"
                    ),
                    params![task.recipe_hash],
                )?;
                self.run(
                    "UPDATE fresh SET held = 1 WHERE task = ?1 AND (key, origin) NOT IN wanted",
                    params![task.id],
                )?;
                "(s.key, s.origin) NOT IN wanted"
            }
        };
        let noted = self.run(
            &format!(
                "INSERT INTO turn SELECT id, ?1, CASE WHEN NOT waits THEN 2 ELSE is_anew END FROM (
                   SELECT s.id AS id, {is_waiting} AS waits,
                     ?2 AND coalesce(c.state, s.state) = 1 AND may_run({place}, s.labels)
                       AND runs_anew({place}, s.id, s.labels) AS is_anew
                   FROM step s LEFT JOIN change c ON c.step = s.id
                   WHERE s.task = ?1 AND coalesce(c.live, s.live) = 1)
                 WHERE waits OR is_anew",
                place = index.0
            ),
            params![task.id, task.runs_anew()],
        )?;
        Ok(noted > 0)
    }

    pub(in crate::db) fn summary(&self, index: TaskIndex, task: &FlowTask) -> Result<TaskPlan> {
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
        let held = match task.is_ready() || task.gathers_outputs() {
            true => 0,
            false => {
                let inputs = self.inputs(index, task);
                self.reader
                    .conn
                    .query_row(&format!("SELECT count(*) FROM ({inputs})"), [], |row| {
                        row.get::<_, i64>(0)
                    })
                    .or_db(WHAT)?
                    .unsigned_abs()
            }
        };
        let todo = todo_before + todo_now;
        let live = live_before + revived - retired;
        Ok(TaskPlan {
            fresh,
            again: todo + anew - waiting("<>")?,
            reused: live - todo - anew - waiting("=")?,
            retired,
            waits_for_inputs: task.gathers_outputs() && live == 0 || held > 0,
            held,
        })
    }
}
