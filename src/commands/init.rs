//! `init`: a manifest to start from.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::path;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::manifest;
use crate::progress::{Event, Lines, Loudness, Paint, Progress as _};
use crate::text::{path_bytes, printable};

use super::Command;
use super::run::DEFAULT_MANIFEST;

/// Runs as it is, and shows what a manifest can say.
const STARTER: &str = include_str!("starter.toml");

/// What editors read of a manifest's keys, beside it; its first line names this.
const SCHEMA: &str = ".task-pipeline.schema.json";

/// The starter, without what needs bash where there is none.
fn starter() -> Cow<'static, str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join("bash").is_file()) {
        return Cow::Borrowed(STARTER);
    }
    let needs_bash = |part: &&str| part.contains("bash -euo");
    let parts: Vec<&str> = STARTER.split("\n\n").filter(|part| !needs_bash(part)).collect();
    Cow::Owned(parts.join("\n\n"))
}

/// Writes the schema. One that is there already may be of another build, and stays.
fn write_schema(dir: &Path) -> Result<()> {
    let path = dir.join(SCHEMA);
    let mut file = match File::create_new(&path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => return Ok(()),
        file => file.or_io("make", &path)?,
    };
    let written = file.write_all(format!("{:#}\n", manifest::schema()).as_bytes());
    if written.is_err() {
        let _ = fs::remove_file(&path);
    }
    written.or_io("write", &path)
}

/// Write a small pipeline.toml to start from; it runs as it is.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "init")]
#[argh(
    note = "Beside it .task-pipeline.schema.json tells editors (taplo, Even Better TOML) the keys of a manifest. A new \
    build may know more of them: task-pipeline help manifest --json > .task-pipeline.schema.json"
)]
pub struct InitArgs {
    /// the folder, created if missing; default: this folder
    #[argh(positional, arg_name = "DIR", from_str_fn(path))]
    pub dir: Option<PathBuf>,
}

impl Command for InitArgs {
    fn execute(&self) -> Result<u8> {
        let dir = self.dir.as_deref().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).or_io("make the folder", dir)?;
        let path = match &self.dir {
            Some(dir) => dir.join(DEFAULT_MANIFEST),
            None => DEFAULT_MANIFEST.into(),
        };
        let shown = printable(path_bytes(&path)).into_owned();
        let mut file = match File::create_new(&path) {
            Err(err) if err.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Usage(format!(
                    "`{shown}` is there already and is not overwritten; remove it first, or name another folder: \
                     task-pipeline init DIR"
                )));
            }
            file => file.or_io("make", &path)?,
        };
        let written = file.write_all(starter().as_bytes()).or_io("write", &path);
        if let Err(err) = written.and_then(|()| write_schema(dir)) {
            // Half a manifest would be in the way of the next attempt.
            let _ = fs::remove_file(&path);
            return Err(err);
        }
        let how = match &self.dir {
            Some(dir) => {
                let dir = printable(path_bytes(dir));
                let dir = shlex::try_quote(&dir).unwrap_or(Cow::Borrowed(&dir));
                format!("cd {dir} && task-pipeline")
            }
            None => "task-pipeline".to_owned(),
        };
        let said = format!("wrote {shown}; run it with: {how}");
        Lines::new(std::io::stderr(), Loudness::Normal, Paint::Plain).tell(&Event::Note(&said));
        Ok(exit::OK)
    }
}
