//! SQL functions that let a plan stay set-based: the identity of a step, the globs and labels of a task.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, Error, Result};

use crate::db::flow::{Accepts, Flow, Labeller, Wanted, may_run};
use crate::db::forced::Forced;
use crate::error::OrDb;
use crate::ids::TaskId;
use crate::labels::Labels;
use crate::object::{FieldHasher, ObjectHash};
use crate::origin::Origin;

use crate::db::sides::Sides;

/// The whole STEP_KEY of a step: the name of its *work*. The task's name is not in it, so that renaming a task keeps
/// it; the executable bit of its input, its labels and the listing of what it sees by `with` are only where they are set,
/// because keys are older than those fields. Where the input comes from is not in it either: two steps with one key do the same.
pub fn step_key(
    recipe: &ObjectHash,
    object: &ObjectHash,
    name: &[u8],
    executable: bool,
    labels: &Labels,
    side: Option<&ObjectHash>,
) -> ObjectHash {
    let mut hasher = FieldHasher::new("task-pipeline step 1");
    hasher
        .field("recipe", recipe.as_bytes())
        .field("object", object.as_bytes())
        .field("name", name);
    if executable {
        hasher.field("executable", &[1]);
    }
    for (key, value) in labels.iter() {
        hasher.field("label", key.as_bytes()).field("value", value.as_bytes());
    }
    if let Some(side) = side {
        hasher.field("with", side.as_bytes());
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

fn bytes_argument<'c>(context: &'c Context<'_>, n: usize) -> Result<&'c [u8]> {
    context.get_raw(n).as_bytes().map_err(|err| Error::UserFunctionError(err.into()))
}

fn place_argument(context: &Context<'_>, n: usize) -> Result<usize> {
    Ok(context.get::<i64>(n)?.try_into().unwrap_or(usize::MAX))
}

/// What decides nothing but its result by its arguments.
const PURE: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_INNOCUOUS);

/// What a statement needs to know of the identity of steps:
///
/// - `step_key(recipe_hash, object, name, executable [, labels, side])`, as [`short_key`] of [`step_key()`];
/// - `file_origin(path)`, `row_origin(labels)` and `output_origin(task, origin, name)`, see [`Origin`];
/// - `common_labels(labels, labels)`: how many they have in common;
/// - `names_file(files, path)`: whether a row of a table, by its files, names this one.
pub(in crate::db) fn register_identity(conn: &Connection) -> crate::error::Result<()> {
    let what = "register a function";
    conn.create_scalar_function("step_key", -1, PURE, |context| {
        let recipe = hash_argument(context, 0)?;
        let object = hash_argument(context, 1)?;
        let name = bytes_argument(context, 2)?;
        let labels = if context.len() > 4 { context.get(4)? } else { Labels::default() };
        let side: Option<ObjectHash> = if context.len() > 5 { context.get(5)? } else { None };
        Ok(short_key(&step_key(&recipe, &object, name, context.get(3)?, &labels, side.as_ref())))
    })
    .or_db(what)?;
    conn.create_scalar_function("file_origin", 1, PURE, |context| {
        Ok(Origin::file(bytes_argument(context, 0)?))
    })
    .or_db(what)?;
    conn.create_scalar_function("row_origin", 1, PURE, |context| {
        Ok(Origin::row(bytes_argument(context, 0)?))
    })
    .or_db(what)?;
    conn.create_scalar_function("common_labels", 2, PURE, |context| {
        let (a, b): (Labels, Labels) = (context.get(0)?, context.get(1)?);
        Ok(a.iter().filter(|(key, value)| b.get(key) == Some(value)).count() as i64)
    })
    .or_db(what)?;
    conn.create_scalar_function("names_file", 2, PURE, |context| {
        let files =
            std::str::from_utf8(bytes_argument(context, 0)?).ok().and_then(Labels::from_json);
        let path = bytes_argument(context, 1)?;
        Ok(files.is_some_and(|files| files.iter().any(|(_, file)| file.as_bytes() == path)))
    })
    .or_db(what)?;
    conn.create_scalar_function("output_origin", 3, PURE, |context| {
        Ok(Origin::output(context.get(0)?, context.get(1)?, bytes_argument(context, 2)?))
    })
    .or_db(what)
}

/// What a statement needs to know of the tasks of this manifest, each by its place in the flow:
///
/// - `accepts(place, producer, name)`: its globs;
/// - `is_wanted(id, n, name)`: whether an output of this name is one of those that each step has to leave, of the n-th
///   kind; by the task's id instead of its place;
/// - `has_step(place, producer, name, labels, variant)` and `labels(…)` of the same: its [`Labeller`];
/// - `group_of(place, labels)`: the labels that its groups go by; '' if these have none of them;
/// - `label_count(labels)`: how many labels these are;
/// - `may_run(place, labels)`: see [`may_run()`];
/// - `runs_anew(place, step, labels)`: see [`FlowTask::runs_step_anew`](crate::db::FlowTask::runs_step_anew);
/// - `agree(labels, labels)`: see [`Labels::agree`];
/// - `side(place, labels)`: see [`Sides::of`].
pub(in crate::db) fn register_flow(conn: &Connection, flow: &Flow) -> crate::error::Result<()> {
    let what = "register a function";
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    let accepts: Vec<Option<Accepts>> = flow.tasks.iter().map(|t| t.accepts.clone()).collect();
    conn.create_scalar_function("accepts", 3, flags, move |context| {
        let (producer, name) = (context.get(1)?, bytes_argument(context, 2)?);
        Ok(match accepts.get(place_argument(context, 0)?) {
            Some(Some(accepts)) => accepts(producer, name),
            _ => true,
        })
    })
    .or_db(what)?;
    let wanted = flow.tasks.iter().filter(|task| !task.wanted.is_empty());
    let wanted: HashMap<TaskId, Vec<Wanted>> =
        wanted.map(|task| (task.id, task.wanted.clone())).collect();
    conn.create_scalar_function("is_wanted", 3, flags, move |context| {
        let of_task = wanted.get(&context.get(0)?);
        let kind = of_task.and_then(|kinds| kinds.get(place_argument(context, 1).ok()?));
        let name = bytes_argument(context, 2)?;
        Ok(kind.is_none_or(|wanted| wanted(name)))
    })
    .or_db(what)?;
    let labellers: Arc<Vec<Option<Labeller>>> =
        Arc::new(flow.tasks.iter().map(|t| t.labeller.clone()).collect());
    let label = move |context: &Context<'_>| -> Result<Option<Labels>> {
        let labels: Labels = context.get(3)?;
        Ok(match labellers.get(place_argument(context, 0)?) {
            Some(Some(labeller)) => labeller(
                context.get(1)?,
                bytes_argument(context, 2)?,
                &labels,
                place_argument(context, 4)?,
            ),
            _ => Some(labels),
        })
    };
    let has = label.clone();
    conn.create_scalar_function("has_step", 5, flags, move |context| Ok(has(context)?.is_some()))
        .or_db(what)?;
    conn.create_scalar_function("labels", 5, flags, move |context| {
        Ok(label(context)?.unwrap_or_default())
    })
    .or_db(what)?;
    let keys: Vec<Vec<String>> = flow.tasks.iter().map(|t| t.gather_keys.clone()).collect();
    conn.create_scalar_function("group_of", 2, flags, move |context| {
        let labels: Labels = context.get(1)?;
        let keys = keys.get(place_argument(context, 0)?).map(Vec::as_slice).unwrap_or_default();
        Ok(labels.only(keys.iter().map(String::as_str)))
    })
    .or_db(what)?;
    conn.create_scalar_function("label_count", 1, PURE, |context| {
        Ok(i64::try_from(context.get::<Labels>(0)?.len()).unwrap_or(i64::MAX))
    })
    .or_db(what)?;
    let only: Vec<Option<Vec<Labels>>> = flow.tasks.iter().map(|t| t.only.clone()).collect();
    conn.create_scalar_function("may_run", 2, flags, move |context| {
        Ok(match only.get(place_argument(context, 0)?) {
            Some(Some(only)) => may_run(Some(only), &context.get(1)?),
            _ => true,
        })
    })
    .or_db(what)?;
    let anew: Vec<(bool, Forced)> =
        flow.tasks.iter().map(|task| (task.cache, task.forced.clone())).collect();
    conn.create_scalar_function("runs_anew", 3, flags, move |context| {
        Ok(match anew.get(place_argument(context, 0)?) {
            Some((true, forced)) if forced.is_all() => true,
            Some((true, forced)) => forced.is_forced(context.get(1)?, &context.get(2)?),
            _ => true,
        })
    })
    .or_db(what)?;
    let sides: Vec<Arc<Sides>> = flow.tasks.iter().map(|task| Arc::clone(&task.sides)).collect();
    conn.create_scalar_function("side", 2, flags, move |context| {
        let labels: Labels = context.get(1)?;
        Ok(sides.get(place_argument(context, 0)?).and_then(|sides| sides.of(&labels)))
    })
    .or_db(what)?;
    conn.create_scalar_function("agree", 2, PURE, |context| {
        Ok(context.get::<Labels>(0)?.agree(&context.get(1)?))
    })
    .or_db(what)
}
