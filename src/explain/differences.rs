//! What differs between two steps: between their recipes, their labels, and what they see by `with`. In words.

use std::collections::HashSet;

use crate::attempt::NamedObject;
use crate::db::{self, Reader};
use crate::diagnostic::quoted;
use crate::error::{Error, Result};
use crate::ids::RecipeId;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::order;
use crate::recipe::Recipe;
use crate::text::printable;

/// Reads a recorded recipe.
pub(crate) fn recipe(reader: &Reader, id: RecipeId) -> Result<Option<Recipe>> {
    let Some(fields) = db::recipe_fields(reader, id)? else { return Ok(None) };
    let recipe = serde_json::from_str(&fields)
        .map_err(|err| Error::Internal(format!("recipe {id} can't be read: {err}")))?;
    Ok(Some(recipe))
}

/// What differs between two recorded recipes, in words.
pub(crate) fn changes(reader: &Reader, before: RecipeId, now: RecipeId) -> Result<Vec<String>> {
    if before == now {
        return Ok(Vec::new());
    }
    match (recipe(reader, before)?, recipe(reader, now)?) {
        (Some(before), Some(now)) => Ok(now.changes(&before)),
        _ => Ok(Vec::new()),
    }
}

/// What differs between two sets of labels, in words.
pub(super) fn labels(before: &Labels, now: &Labels) -> Vec<String> {
    let keys = order::set(before.iter().chain(now.iter()).map(|(key, _)| key));
    let phrase = |key: &str| match (before.get(key), now.get(key)) {
        (Some(was), Some(is)) if was == is => None,
        (Some(was), Some(is)) => Some(format!("{key} was {} and is {}", quoted(was), quoted(is))),
        (None, Some(is)) => Some(format!("label {key} is new: {}", quoted(is))),
        _ => Some(format!("label {key} is gone")),
    };
    keys.into_iter().filter_map(phrase).collect()
}

/// Changed files of `with` that are told by name.
const MOST_SEEN: usize = 5;

/// What differs between what two steps see by `with`, in words.
pub(super) fn of_sides(
    reader: &Reader,
    before: Option<ObjectHash>,
    now: Option<ObjectHash>,
) -> Result<Vec<String>> {
    if before == now {
        return Ok(Vec::new());
    }
    let listed = |side: Option<ObjectHash>| {
        side.map_or(Ok(Vec::new()), |side| db::side_listing(reader, &side))
    };
    let (before, now) = (listed(before)?, listed(now)?);
    let (was, is): (HashSet<&NamedObject>, HashSet<&NamedObject>) =
        (before.iter().collect(), now.iter().collect());
    let names = |list: &[NamedObject]| -> HashSet<Vec<u8>> {
        list.iter().map(|item| item.name.clone()).collect()
    };
    let (was_named, is_named) = (names(&before), names(&now));
    let mut changes: Vec<String> = Vec::new();
    for item in before.iter().filter(|item| !is.contains(item)) {
        let verb = if is_named.contains(&item.name) { "sees, changed" } else { "saw, is gone" };
        changes.push(format!("{}, which it {verb}", printable(&item.name)));
    }
    for item in now.iter().filter(|item| !was.contains(item) && !was_named.contains(&item.name)) {
        changes.push(format!("{}, which it sees, is new", printable(&item.name)));
    }
    changes.dedup();
    if changes.len() > MOST_SEEN {
        let more = changes.split_off(MOST_SEEN - 1).len();
        changes.push(format!("{more} more of what it sees changed"));
    }
    Ok(changes)
}
