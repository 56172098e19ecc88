//! `init`, `completions` and `man`: what helps to begin.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::cli::{self, Completions, Init, Shell};
use crate::db::{self, Db};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::manifest::Manifest;
use crate::progress::{Event, Lines, Loudness, Paint, Progress as _};
use crate::text::{path_bytes, printable};

use super::answer;
use super::run::DEFAULT_MANIFEST;

/// Runs as it is, and shows what there is.
const STARTER: &str = include_str!("start/pipeline.toml");

/// Writes a manifest to begin with.
pub(super) fn init(args: &Init) -> Result<u8> {
    let dir = args.dir.as_deref().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).or_io("make the folder", dir)?;
    let path = match &args.dir {
        Some(dir) => dir.join(DEFAULT_MANIFEST),
        None => DEFAULT_MANIFEST.into(),
    };
    let shown = printable(path_bytes(&path)).into_owned();
    let mut file = match File::create_new(&path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::Usage(format!(
                "`{shown}` is there already and stays as it is; remove it first, or name another folder: \
                 task-pipeline init DIR"
            )));
        }
        file => file.or_io("make", &path)?,
    };
    if let Err(err) = file.write_all(STARTER.as_bytes()) {
        // Half a manifest would be in the way of the next try.
        let _ = fs::remove_file(&path);
        return Err(err).or_io("write", &path);
    }
    let how = match &args.dir {
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

/// Prints a shell's completions, or what their script asks for.
pub(super) fn completions(args: &Completions) -> Result<u8> {
    let text = match args.shell {
        Shell::Tasks => tasks(args).join("\n"),
        shell => cli::completions(shell),
    };
    answer::write(|out| out.write_all(text.as_bytes()))?;
    Ok(exit::OK)
}

/// Names of tasks, as far as they can be had: somebody is typing, and no error would help.
fn tasks(args: &Completions) -> Vec<String> {
    let manifest = args.manifest.as_deref().unwrap_or(Path::new(DEFAULT_MANIFEST));
    if let Ok(manifest) = Manifest::read(manifest) {
        return manifest.tasks.into_iter().map(|task| task.name).collect();
    }
    let known = Db::open_read_only(&args.db).and_then(|db| db::known_tasks(&db.lock()));
    let present = known.unwrap_or_default().into_iter().filter(|task| task.present);
    present.map(|task| task.name).collect()
}

/// Prints the manual page.
pub(super) fn man() -> Result<u8> {
    answer::write(|out| out.write_all(cli::manual().as_bytes()))?;
    Ok(exit::OK)
}
