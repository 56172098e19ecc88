//! `repair`: restores damaged or missing objects.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::values::{default_db, path};
use crate::db::{self, Db};
use crate::error::{OrIo as _, Result, exit};
use crate::hint;
use crate::maintain::{self, Depth};
use crate::manifest::Manifest;
use crate::object::ObjectHash;
use crate::run;
use crate::text::{as_path, path_bytes, plural, printable};

use super::answer::{self, Answer};
use super::{Command, complain};

/// Restore damaged or missing objects, from their input files or by running their steps again.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "repair")]
#[argh(
    note = "Damaged objects are moved to DB/quarantine. If a step makes something else this time, that is reported \
    and changes nothing. The exit code is 65 if anything could not be restored."
)]
pub struct RepairArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// look only for missing objects and wrong sizes, without reading all objects
    #[argh(switch)]
    pub quick: bool,

    /// if another run holds the database, wait until it ends
    #[argh(switch)]
    pub wait: bool,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

impl Command for RepairArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        crate::sys::ignore_tty_stops().or_system("set up signals")?;
        let (_lock, db, store) = super::open_to_change(&self.db, self.wait)?;
        let depth = if self.quick { Depth::Sizes } else { Depth::Data(1.0) };
        let dir = self.db.canonicalize().or_io("find the folder", &self.db)?;
        let manifest = last_manifest(&db)?;
        let (again, _signals) = run::run_again(&db, manifest.as_ref())?;
        let report = maintain::repair(&db, &Arc::new(store), &dir, depth, &again);
        if let Some(signal) = run::late_signal() {
            complain(&format!(
                "interrupted: what is repaired stays so; `{}` repairs the rest",
                hint::command("repair")
            ));
            return Ok(run::die_of(signal));
        }
        let report = report?;
        let objects = report.objects.iter().map(|(object, why, repair)| Damaged {
            object: *object,
            why: why.clone(),
            repaired: repair.is_good(),
            how: repair.to_string(),
        });
        let repairs = Repairs {
            objects: objects.collect(),
            database: report.database,
            runs_again: report.redone,
        };
        answer::give(&repairs, self.json)?;
        let is_whole = repairs.lost() == 0 && repairs.database.is_empty();
        Ok(if is_whole { exit::OK } else { exit::DAMAGED })
    }
}

/// The manifest of the last run, which says what scripts are given besides their recipe: `timeout`, above all.
fn last_manifest(db: &Db) -> Result<Option<Manifest>> {
    let (dir, last) = db.read(|reader| Ok((db::last_dir(reader)?, db::last_runs(reader, 1)?)))?;
    let (Some(dir), Some(last)) = (dir, last.into_iter().next()) else { return Ok(None) };
    let Some(name) = as_path(&last.manifest).file_name() else { return Ok(None) };
    let path = as_path(&dir).join(name);
    match Manifest::read(&path) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(_) => {
            let shown = printable(path_bytes(&path)).into_owned();
            complain(&format!(
                "`{shown}` can't be used any more, so scripts run again without their timeouts, and \
                 those of sandboxes not at all"
            ));
            Ok(None)
        }
    }
}

/// The answer.
#[derive(Serialize)]
struct Repairs {
    objects: Vec<Damaged>,
    /// What is wrong with the database itself, which can't be repaired.
    database: Vec<String>,
    /// Steps that may have worked on damaged objects.
    runs_again: usize,
}

/// An object that was damaged or missing.
#[derive(Serialize)]
struct Damaged {
    object: ObjectHash,
    /// What was wrong with it.
    why: String,
    repaired: bool,
    /// What was done, or why it could not be.
    how: String,
}

impl Repairs {
    /// Objects that could not be repaired.
    fn lost(&self) -> usize {
        self.objects.iter().filter(|object| !object.repaired).count()
    }
}

impl Answer for Repairs {
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for why in &self.database {
            writeln!(
                out,
                "database: {why}; restore it from a backup, or start anew with another --db"
            )?;
        }
        for Damaged { object, why, how, .. } in &self.objects {
            writeln!(out, "object {object}: {why}: {how}")?;
        }
        let (all, lost) = (self.objects.len(), self.lost());
        if self.runs_again > 0 {
            writeln!(
                out,
                "{} step{} may have worked on damaged bytes: the next run runs {} again",
                self.runs_again,
                plural(self.runs_again as u64),
                if self.runs_again == 1 { "it" } else { "them" }
            )?;
        }
        writeln!(out, "{all} damaged, {} repaired, {lost} left", all - lost)
    }
}
