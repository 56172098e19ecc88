//! Which row of `task` and `recipe` each task of the manifest has, or will have. A task that only
//! changed its name keeps its row, and with it all results.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, params};

use crate::error::{OrDb, Result};
use crate::ids::{RecipeId, TaskId};
use crate::object::ObjectHash;

use crate::db::{Reader, Writer};

/// A task of the manifest as it is to be registered.
#[derive(Debug, Clone)]
pub struct Registration {
    pub name: String,
    pub script: String,
    pub gather: bool,
    pub recipe_hash: ObjectHash,
    /// The recipe's fields as JSON.
    pub recipe_json: String,
    pub cache: bool,
    /// Where its inputs come from, as JSON: `from`, `match`, `inputs`; and its `params`.
    pub feeds: String,
    /// What each step takes, as JSON; `None`: one of `-j` and nothing else.
    pub resources: Option<String>,
}

/// A row of `task`.
#[derive(Debug, Clone)]
pub struct KnownTask {
    pub id: TaskId,
    pub name: String,
    pub recipe: RecipeId,
    pub recipe_hash: ObjectHash,
    /// In the manifest of the last run.
    pub present: bool,
    pub wiring: Option<ObjectHash>,
    pub scan: Option<ObjectHash>,
}

/// The rows that a task of the manifest has or gets.
#[derive(Debug, Clone)]
pub struct TaskRow {
    pub id: TaskId,
    pub recipe: RecipeId,
    /// What the row holds now; `None`: there is no row yet.
    pub known: Option<KnownTask>,
    /// The recipe has no row yet.
    pub recipe_is_new: bool,
}

/// Reads every row of `task`.
///
/// # Errors
/// If the database can't be read.
pub fn known_tasks(reader: &Reader) -> Result<Vec<KnownTask>> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT t.id, t.name, t.recipe, r.hash, t.position, t.wiring, t.scan
             FROM task t JOIN recipe r ON r.id = t.recipe ORDER BY t.id",
        )
        .or_db("read tasks")?;
    let rows = statement.query_map([], |row| {
        Ok(KnownTask {
            id: row.get(0)?,
            name: row.get(1)?,
            recipe: row.get(2)?,
            recipe_hash: row.get(3)?,
            present: row.get::<_, Option<i64>>(4)?.is_some(),
            wiring: row.get(5)?,
            scan: row.get(6)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db("read tasks")
}

/// Finds the rows of the manifest's tasks, in its order; changes nothing. Ids of rows yet to be made
/// are those that `register` will give them.
///
/// # Errors
/// If the database can't be read.
pub fn task_rows(reader: &Reader, wanted: &[Registration]) -> Result<Vec<TaskRow>> {
    let known = known_tasks(reader)?;
    let rows_of = match_rows(&known, wanted);
    let mut next_task = next_id(reader, "task")?;
    let mut next_recipe = next_id(reader, "recipe")?;
    let mut new_recipes: HashMap<ObjectHash, RecipeId> = HashMap::new();
    let mut rows = Vec::with_capacity(wanted.len());
    for (task, row) in wanted.iter().zip(rows_of) {
        let id = match row {
            Some(row) => row.id,
            None => {
                next_task += 1;
                TaskId(next_task)
            }
        };
        let (recipe, recipe_is_new) = match recipe_id(reader, &task.recipe_hash)? {
            Some(recipe) => (recipe, false),
            None => match new_recipes.get(&task.recipe_hash) {
                Some(&recipe) => (recipe, false),
                None => {
                    next_recipe += 1;
                    new_recipes.insert(task.recipe_hash, RecipeId(next_recipe));
                    (RecipeId(next_recipe), true)
                }
            },
        };
        rows.push(TaskRow { id, recipe, known: row.cloned(), recipe_is_new });
    }
    Ok(rows)
}

/// Finds the row of each task: the one of its name if the last manifest had it with the same recipe; else
/// one that the last manifest had under another name with this recipe (the task was renamed); else the
/// one of its name, whose recipe changed or which was away.
fn match_rows<'k>(known: &'k [KnownTask], wanted: &[Registration]) -> Vec<Option<&'k KnownTask>> {
    let by_name: HashMap<&str, &KnownTask> =
        known.iter().map(|task| (task.name.as_str(), task)).collect();
    let mut taken: HashSet<TaskId> = HashSet::new();
    let mut rows: Vec<Option<&KnownTask>> = vec![None; wanted.len()];
    for (task, row) in wanted.iter().zip(&mut rows) {
        *row = by_name
            .get(task.name.as_str())
            .copied()
            .filter(|known| known.present && known.recipe_hash == task.recipe_hash);
        taken.extend(row.map(|row| row.id));
    }
    let mut renamed: HashMap<ObjectHash, Vec<&KnownTask>> = HashMap::new();
    for task in known.iter().rev().filter(|task| task.present && !taken.contains(&task.id)) {
        renamed.entry(task.recipe_hash).or_default().push(task);
    }
    for (task, row) in wanted.iter().zip(&mut rows) {
        if row.is_none() {
            *row = renamed.get_mut(&task.recipe_hash).and_then(Vec::pop);
            taken.extend(row.map(|row| row.id));
        }
    }
    for (task, row) in wanted.iter().zip(&mut rows) {
        if row.is_none() {
            *row = by_name.get(task.name.as_str()).copied().filter(|known| taken.insert(known.id));
        }
    }
    rows
}

fn recipe_id(reader: &Reader, hash: &ObjectHash) -> Result<Option<RecipeId>> {
    reader
        .conn
        .query_row("SELECT id FROM recipe WHERE hash = ?1", [hash], |row| row.get(0))
        .optional()
        .or_db("look for a recipe")
}

fn next_id(reader: &Reader, table: &str) -> Result<i64> {
    reader
        .conn
        .query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))
        .or_db("count rows")
}

/// Writes the rows found by [`task_rows`], inside the caller's transaction.
pub(in crate::db) fn register(
    writer: &mut Writer,
    wanted: &[Registration],
    rows: &[TaskRow],
) -> Result<()> {
    let what = "register tasks";
    writer
        .conn
        .execute("UPDATE task SET position = NULL WHERE position IS NOT NULL", [])
        .or_db(what)?;
    for (task, row) in wanted.iter().zip(rows) {
        if row.recipe_is_new {
            writer
                .conn
                .prepare_cached("INSERT INTO recipe(id, hash, fields) VALUES (?1, ?2, ?3)")
                .and_then(|mut s| {
                    s.execute(params![row.recipe, task.recipe_hash, task.recipe_json])
                })
                .or_db(what)?;
        }
        if let Some(known) = &row.known
            && known.name != task.name
        {
            rename(writer, known, &task.name)?;
        }
    }
    for (position, (task, row)) in wanted.iter().zip(rows).enumerate() {
        // A row of history may have got this name in exchange for its own.
        writer
            .conn
            .prepare_cached("UPDATE task SET name = name || '~' || id WHERE name = ?1 AND id <> ?2")
            .and_then(|mut s| s.execute(params![task.name, row.id]))
            .or_db(what)?;
        writer.conn.prepare_cached(
            "INSERT INTO task(id, name, script, position, recipe, gather, cache, feeds, resources)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT(id) DO UPDATE SET name = ?2, script = ?3, position = ?4, recipe = ?5, gather = ?6,
               cache = ?7, feeds = ?8, resources = ?9",
        )
        .and_then(|mut s| {
            let position = position as i64;
            let Registration { name, script, gather, cache, feeds, resources, .. } = task;
            s.execute(params![
                row.id, name, script, position, row.recipe, gather, cache, feeds, resources
            ])
        })
        .or_db(what)?;
    }
    Ok(())
}

/// Gives a row its new name. A row of history that bears it already gets the old one in exchange.
fn rename(writer: &mut Writer, known: &KnownTask, name: &str) -> Result<()> {
    let what = "rename a task";
    let holder: Option<TaskId> = writer
        .conn
        .query_row("SELECT id FROM task WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .or_db(what)?;
    let old: String = writer
        .conn
        .query_row("SELECT name FROM task WHERE id = ?1", [known.id], |row| row.get(0))
        .or_db(what)?;
    let set = "UPDATE task SET name = ?2 WHERE id = ?1";
    if let Some(holder) = holder {
        // No task of a manifest can have this name in between: `~` is not allowed in one.
        writer.conn.execute(set, params![holder, "~"]).or_db(what)?;
        writer.conn.execute(set, params![known.id, name]).or_db(what)?;
        writer.conn.execute(set, params![holder, old]).or_db(what)?;
    } else {
        writer.conn.execute(set, params![known.id, name]).or_db(what)?;
    }
    Ok(())
}
