//! Who made what, and who consumes it: steps around a step. Each question reads an index, and no more of
//! it than is asked for.

use rusqlite::params;

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::StepId;
use crate::object::ObjectHash;

use super::Reader;
use super::commit::outputs_of;
use super::query::{STEP, StepRow, step_row};
use super::value::NameBytes;

const WHAT: &str = "look up the lineage";

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the steps that made what this one works on.
    Up,
    /// To the steps that work on what this one made.
    Down,
}

impl Way {
    /// Both are covered: the one by the primary key, the other by `idx_step_link_to`.
    fn links(self) -> (&'static str, &'static str) {
        match self {
            Way::Up => ("from_step_id", "to_step_id"),
            Way::Down => ("to_step_id", "from_step_id"),
        }
    }
}

/// At most `limit` steps next to a step, and how many there are in all.
pub fn neighbours(
    reader: &Reader,
    step: StepId,
    way: Way,
    limit: usize,
) -> Result<(Vec<StepRow>, usize)> {
    let (wanted, known) = way.links();
    let mut statement = reader.conn
        .prepare_cached(&format!(
            "{STEP} JOIN (SELECT {wanted} AS id FROM step_link WHERE {known} = ?1 ORDER BY 1 LIMIT ?2) l
             ON l.id = s.id ORDER BY s.id"
        ))
        .or_db(WHAT)?;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![step, most], step_row);
    let steps: Vec<StepRow> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    let count = if steps.len() < limit { steps.len() } else { count(reader, step, way)? };
    Ok((steps, count))
}

fn count(reader: &Reader, step: StepId, way: Way) -> Result<usize> {
    let (_, known) = way.links();
    reader
        .conn
        .prepare_cached(&format!("SELECT count(*) FROM step_link WHERE {known} = ?1"))
        .and_then(|mut s| s.query_row([step], |row| row.get::<_, i64>(0)))
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
        .or_db(WHAT)
}

/// At most `limit` outputs of a step, and how many there are in all.
pub fn first_outputs(
    reader: &Reader,
    step: StepId,
    limit: usize,
) -> Result<(Vec<NamedObject>, usize)> {
    if limit == usize::MAX {
        let all = outputs_of(reader, step)?;
        let count = all.len();
        return Ok((all, count));
    }
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT name, object, executable FROM output WHERE step = ?1 ORDER BY name LIMIT ?2",
        )
        .or_db(WHAT)?;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![step, most], |row| {
        Ok(NamedObject {
            name: row.get::<_, NameBytes>(0)?.0,
            object: row.get(1)?,
            executable: row.get(2)?,
        })
    });
    let outputs: Vec<NamedObject> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    if outputs.len() < limit {
        let count = outputs.len();
        return Ok((outputs, count));
    }
    let count = reader
        .conn
        .prepare_cached("SELECT count(*) FROM output WHERE step = ?1")
        .and_then(|mut s| s.query_row([step], |row| row.get::<_, i64>(0)))
        .or_db(WHAT)?;
    Ok((outputs, usize::try_from(count).unwrap_or(usize::MAX)))
}

/// The steps that made an object, and those that work on it: live ones first, at most `limit` of each.
/// No index leads there: it would cost more bytes a step than are left, and looking through a million
/// rows takes a fifth of a second.
pub fn around_object(
    reader: &Reader,
    object: &ObjectHash,
    limit: usize,
) -> Result<(Vec<StepRow>, Vec<StepRow>)> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut made = reader
        .conn
        .prepare_cached(&format!(
            "{STEP} WHERE s.id IN (SELECT step FROM output WHERE object = ?1)
             ORDER BY s.live DESC, s.id LIMIT ?2"
        ))
        .or_db(WHAT)?;
    let makers = made.query_map(params![object, most], step_row).and_then(|rows| rows.collect());
    let makers: Vec<StepRow> = makers.or_db(WHAT)?;
    // What was made is consumed over links; only for an input file all steps are looked through.
    let condition = match makers.is_empty() {
        true => "s.object = ?1".to_owned(),
        false => {
            let ids: Vec<String> = makers.iter().map(|maker| maker.id.to_string()).collect();
            format!(
                "s.object = ?1 AND s.id IN (SELECT to_step_id FROM step_link WHERE from_step_id IN ({}))",
                ids.join(",")
            )
        }
    };
    let mut used = reader
        .conn
        .prepare(&format!("{STEP} WHERE {condition} ORDER BY s.live DESC, s.id LIMIT ?2"))
        .or_db(WHAT)?;
    let users = used.query_map(params![object, most], step_row).and_then(|rows| rows.collect());
    Ok((makers, users.or_db(WHAT)?))
}
