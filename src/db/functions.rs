//! SQL functions that let a plan stay set-based: the identity of a step, and the globs of a task.

use std::sync::Arc;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, Error, Result};

use crate::error::OrDb;
use crate::ids::TaskId;
use crate::object::{FieldHasher, ObjectHash};

/// The whole STEP_KEY of a step. The task's name is not in it, so that renaming a task keeps it; and the executable bit
/// of its input only where it is set, because keys are older than that field.
pub fn step_key(
    recipe: &ObjectHash,
    object: &ObjectHash,
    name: &[u8],
    executable: bool,
) -> ObjectHash {
    let mut hasher = FieldHasher::new("task-pipeline step 1");
    hasher
        .field("recipe", recipe.as_bytes())
        .field("object", object.as_bytes())
        .field("name", name);
    if executable {
        hasher.field("executable", &[1]);
    }
    hasher.finish()
}

/// The column `step.key`: the first 8 bytes of STEP_KEY.
pub(crate) fn short_key(key: &ObjectHash) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.as_bytes()[..8]);
    i64::from_be_bytes(first)
}

fn hash_argument(context: &Context<'_>, n: usize) -> Result<ObjectHash> {
    context.get::<ObjectHash>(n)
}

/// `step_key(recipe_hash, object, name, executable)`, as [`short_key`] of [`step_key()`].
pub(in crate::db) fn register_step_key(conn: &Connection) -> crate::error::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("step_key", 4, flags, |context| {
        let recipe = hash_argument(context, 0)?;
        let object = hash_argument(context, 1)?;
        let name =
            context.get_raw(2).as_bytes().map_err(|err| Error::UserFunctionError(err.into()))?;
        Ok(short_key(&step_key(&recipe, &object, name, context.get(3)?)))
    })
    .or_db("register a function")
}

/// Whether a task takes an output of this producer and name.
pub type Accepts = Arc<dyn Fn(TaskId, &[u8]) -> bool + Send + Sync>;

/// `accepts(place, producer, name)`: the globs of the task at that place of the flow.
pub(in crate::db) fn register_accepts(
    conn: &Connection,
    accepts: Vec<Option<Accepts>>,
) -> crate::error::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("accepts", 3, flags, move |context| {
        let place: usize = context.get::<i64>(0)?.try_into().unwrap_or(usize::MAX);
        let name =
            context.get_raw(2).as_bytes().map_err(|err| Error::UserFunctionError(err.into()))?;
        Ok(match accepts.get(place) {
            Some(Some(accepts)) => accepts(TaskId(context.get(1)?), name),
            _ => true,
        })
    })
    .or_db("register a function")
}
