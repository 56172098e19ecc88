//! `repair`: gets damaged objects back.

use serde_json::json;

use crate::cli;
use crate::error::{OrIo as _, Result, exit};
use crate::maintain::{self, Depth};

use super::answer;

/// Prints what became of each damaged object.
pub(super) fn repair(args: &cli::Repair) -> Result<u8> {
    crate::sys::ignore_tty_stops().or_io("set up", "signals")?;
    let (_lock, db, store) = super::open_to_change(&args.db, args.wait)?;
    let depth = if args.quick { Depth::Sizes } else { Depth::Data(1.0) };
    let db_dir = args.db.canonicalize().or_io("find the folder", &args.db)?;
    let report = maintain::repair(&db, &store, &db_dir, depth)?;
    let lost = report.objects.iter().filter(|(_, _, repair)| !repair.is_good()).count();
    let code = if lost == 0 && report.database.is_empty() { exit::OK } else { exit::DAMAGED };
    if args.json {
        let objects: Vec<_> = report
            .objects
            .iter()
            .map(|(object, why, repair)| {
                json!({
                    "object": object.hex(), "why": why, "repaired": repair.is_good(), "how": repair.to_string(),
                })
            })
            .collect();
        answer::json(&json!({ "objects": objects, "database": report.database }))?;
        return Ok(code);
    }
    answer::write(|out| {
        for why in &report.database {
            writeln!(
                out,
                "database: {why}; restore it from a backup, or start anew with another --db"
            )?;
        }
        for (object, why, repair) in &report.objects {
            writeln!(out, "object {object}: {why}: {repair}")?;
        }
        let good = report.objects.len() - lost;
        writeln!(out, "{} damaged, {good} repaired, {lost} left", report.objects.len())
    })?;
    Ok(code)
}
