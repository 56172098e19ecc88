//! `gc`: frees what nothing needs.

use serde_json::json;

use crate::cli::Gc;
use crate::db::History;
use crate::error::{Result, exit};
use crate::maintain::{self, GcOptions};
use crate::text::path_bytes;
use crate::text::{printable, size};

use super::answer;

/// Removes garbage, or says what it would remove.
pub(super) fn gc(args: &Gc) -> Result<u8> {
    let (_lock, db, store) = super::open_to_change(&args.db, args.wait)?;
    let history = if args.keep_history { History::All } else { History::Runs(args.history) };
    let options = GcOptions { dry_run: args.dry_run, grace: args.grace, history };
    let freed = maintain::gc(&db, &store, options)?;
    if args.json {
        let objects: Vec<String> = freed.objects.iter().map(|(hash, _)| hash.hex()).collect();
        let strays: Vec<_> =
            freed.strays.iter().map(|(path, _)| printable(path_bytes(path)).into_owned()).collect();
        answer::json(&json!({
            "objects": objects, "strays": strays, "bytes": freed.bytes(), "removed": !args.dry_run,
        }))?;
        return Ok(exit::OK);
    }
    answer::write(|out| {
        if args.dry_run {
            for (hash, bytes) in &freed.objects {
                writeln!(out, "object {hash}, {}", size(*bytes))?;
            }
            for (path, bytes) in &freed.strays {
                writeln!(out, "stray {}, {}", printable(path_bytes(path)), size(*bytes))?;
            }
        }
        writeln!(
            out,
            "{} {} objects and {} strays, {}",
            if args.dry_run { "would remove" } else { "removed" },
            freed.objects.len(),
            freed.strays.len(),
            size(freed.bytes())
        )
    })?;
    Ok(exit::OK)
}
