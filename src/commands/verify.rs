//! `verify`: checks that every object is there and has the content that its name says.

use std::io::Write;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::values::{default_db, path, share};
use crate::db::Db;
use crate::error::{Result, exit};
use crate::hint;
use crate::maintain::{self, Depth, Finding, Verified};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::{counted, size};

use super::Command;
use super::answer::{self, Answer};

/// Look for damage: missing objects, changed bytes, a broken database.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "verify")]
#[argh(
    note = "The exit code is 65 if anything is wrong; `task-pipeline repair` repairs what it can."
)]
pub struct VerifyArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// also read and hash the objects: all of them (--data), or a random part (--data=5%)
    #[argh(option, arg_name = "SHARE", from_str_fn(share))]
    pub data: Option<f64>,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

impl Command for VerifyArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let store = Store::open_to_verify(&self.db)?;
        let depth = self.data.map_or(Depth::Sizes, Depth::Data);
        let verification = Verification::of(maintain::verify(&db, &store, depth)?);
        answer::give(&verification, self.json)?;
        Ok(if verification.findings.is_empty() { exit::OK } else { exit::DAMAGED })
    }
}

/// The answer.
#[derive(Serialize)]
struct Verification {
    /// Objects that were checked.
    objects: u64,
    /// Of these objects.
    bytes: u64,
    /// How many of them were hashed.
    hashed: u64,
    findings: Vec<Damage>,
}

/// Something that is wrong.
#[derive(Serialize)]
struct Damage {
    /// `None`: the database itself.
    object: Option<ObjectHash>,
    why: String,
}

impl Verification {
    fn of(verified: Verified) -> Verification {
        let damage = |Finding { object, why, .. }| Damage { object, why };
        Verification {
            objects: verified.objects,
            bytes: verified.bytes,
            hashed: verified.hashed,
            findings: verified.findings.into_iter().map(damage).collect(),
        }
    }
}

impl Answer for Verification {
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for Damage { object, why } in &self.findings {
            writeln!(
                out,
                "{}: {why}",
                object.map_or_else(|| "database".to_owned(), |object| format!("object {object}"))
            )?;
        }
        writeln!(
            out,
            "{}, {}; {} hashed; {} damaged{}",
            counted(self.objects, "object"),
            size(self.bytes),
            self.hashed,
            self.findings.len(),
            match self.findings.is_empty() {
                true => String::new(),
                false => format!(": `{}` repairs what it can", hint::command("repair")),
            }
        )
    }
}
