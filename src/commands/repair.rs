//! `repair`: gets damaged objects back.

use serde_json::json;

use crate::cli;
use crate::error::{OrIo as _, Result, exit};
use crate::maintain::{self, Depth, Repair};
use crate::text::printable;

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
                    "object": object.hex(), "why": why, "repaired": repair.is_good(), "how": sentence(repair),
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
            writeln!(out, "object {object}: {why}: {}", sentence(repair))?;
        }
        let good = report.objects.len() - lost;
        writeln!(out, "{} damaged, {good} repaired, {lost} left", report.objects.len())
    })?;
    Ok(code)
}

fn sentence(repair: &Repair) -> String {
    match repair {
        Repair::Remade { step } => format!("made again by step {step}"),
        Repair::Reimported { path } => format!("read again from {}", printable(path)),
        Repair::ListedNextRun => "the next run makes it again".to_owned(),
        Repair::LogLost => "it was a log, which is lost; its attempt says so now".to_owned(),
        Repair::NonDeterministic { step } => format!(
            "not repaired: step {step} is not deterministic, it made something else this time; \
             `-B --step` its task runs it and all after it anew"
        ),
        Repair::Failed { step, why } => {
            format!("not repaired: step {step} can't make it again: {why}")
        }
        Repair::NoProducer => {
            "not repaired: no step makes it; put the input file back and run again".to_owned()
        }
    }
}
