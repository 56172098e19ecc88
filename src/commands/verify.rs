//! `verify`: is everything there, and is it what its name says?

use serde_json::json;

use crate::cli::Verify;
use crate::db::Db;
use crate::error::{OrIo as _, Result, exit};
use crate::maintain::{self, Depth, Finding};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::size;

use super::answer;

/// Prints what is wrong, and how much was looked at.
pub(super) fn verify(args: &Verify) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let objects = args.db.join("objects");
    if !objects.try_exists().or_io("look for", &objects)? {
        // So that each object of it is reported, instead of the folder that is missing.
        std::fs::create_dir(&objects).or_io("make the object store", &objects)?;
    }
    let store = Store::open_read_only(&args.db)?;
    let depth = args.data.map_or(Depth::Sizes, Depth::Data);
    let verified = maintain::verify(&db, &store, depth)?;
    let code = if verified.findings.is_empty() { exit::OK } else { exit::DAMAGED };
    if args.json {
        let findings: Vec<_> = verified
            .findings
            .iter()
            .map(|Finding { object, why, .. }| json!({ "object": object.map(|o| o.hex()), "why": why }))
            .collect();
        answer::json(&json!({
            "objects": verified.objects, "bytes": verified.bytes, "hashed": verified.hashed,
            "findings": findings,
        }))?;
        return Ok(code);
    }
    answer::write(|out| {
        for Finding { object, why, .. } in &verified.findings {
            writeln!(out, "{}: {why}", object.map_or_else(|| "database".to_owned(), name))?;
        }
        writeln!(
            out,
            "{} objects, {}; {} hashed; {} damaged{}",
            verified.objects,
            size(verified.bytes),
            verified.hashed,
            verified.findings.len(),
            if verified.findings.is_empty() {
                ""
            } else {
                ": `task-pipeline repair` undoes what it can"
            }
        )
    })?;
    Ok(code)
}

fn name(object: ObjectHash) -> String {
    format!("object {object}")
}
