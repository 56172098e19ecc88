//! `watch`, which is `run --watch`: runs, and runs again whenever something that a run reads changes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::cli::Alias;
use crate::error::{Error, OrIo as _, Result};
use crate::progress::{Event, Lines, Loudness, Paint, Progress as _, QuietUntilWork};
use crate::run;
use crate::watch::Watcher;

use super::RunArgs;

pub(in crate::commands) const WATCH: Alias = Alias {
    name: "watch",
    of: "run",
    switch: "--watch",
    // They tell of one run, or show what one would do.
    unfit: &["--dry-run", "--redo", "--json", "--events", "--trace", "--force"],
    description: "Run, and run again whenever an input, one of `files` or the manifest changes.",
    notes: &[
        "A round that finds nothing to do prints nothing. If the manifest has mistakes, they are shown, and \
         the next change to it is tried. Ctrl-C ends it.",
    ],
};

/// Runs until a signal, or an error that no change of a file can cure.
pub(super) fn watch(args: &RunArgs) -> Result<u8> {
    crate::sys::ignore_tty_stops().or_system("set up signals")?;
    run::die_when_idle()?;
    args.check_report()?;
    let mut options = args.options().map_err(|err| super::hint(err, args))?;
    let mut cause = None;
    let mut was_trouble = false;
    // It is to be said that we wait.
    let mut is_owed = false;
    loop {
        let is_first = cause.is_none();
        // Before anything is read, so that no change made during the run is missed.
        let reads = run::reads(&options);
        let files: BTreeSet<PathBuf> = reads.files.iter().cloned().collect();
        let mut watcher = Watcher::new(reads)?;
        let mut progress = QuietUntilWork::new(Box::new(args.audience()?), cause.take());
        if std::mem::take(&mut was_trouble) {
            // Recovery is worth reporting, even if there is nothing to do.
            progress.speak();
        }
        let end = run::run(&options, &mut progress);
        if let Ok(summary) = &end {
            super::publish(&options.db, summary, &mut progress);
        }
        if let Err(error) = args.write_report(&end) {
            super::super::complain(&error.to_string());
        }
        let mut has_spoken = progress.has_spoken();
        if end.is_err() && !has_spoken {
            progress.speak();
            has_spoken = true;
        }
        // Ends the progress bar: what follows is printed below it.
        drop(progress);
        match end {
            Ok(summary) => {
                if let Some(signal) = summary.interrupted.or_else(run::late_signal) {
                    return Ok(run::die_of(signal));
                }
                // `--always` means the first round only.
                options.always = false;
            }
            Err(error) if is_final(&error, is_first) => {
                return Err(super::hint(error, args));
            }
            Err(error) => {
                was_trouble = true;
                super::super::complain(&error.to_string());
            }
        }
        is_owed |= has_spoken;
        // From now on, wait for another run rather than miss a change.
        options.wait = true;
        // What scripts have said they read is known only now, and may have been changed since.
        if !was_trouble && run::reads(&options).files.iter().any(|file| !files.contains(file)) {
            cause = Some("a file was changed while it was read".to_owned());
            continue;
        }
        if std::mem::take(&mut is_owed) {
            let loudness = if args.quiet { Loudness::Quiet } else { Loudness::Normal };
            let mut lines = Lines::new(std::io::stderr(), loudness, Paint::Plain);
            lines.tell(&Event::Note("waiting for changes; Ctrl-C ends"));
        }
        cause = Some(watcher.wait()?.to_string());
    }
}

/// Whether waiting for a change is pointless. A mistake can be corrected while we wait, and a file that
/// vanished while it was read is probably being replaced.
fn is_final(error: &Error, is_first: bool) -> bool {
    match error {
        Error::Manifest(_) | Error::Usage(_) => false,
        Error::Internal(_) | Error::Damaged { .. } | Error::Foreign { .. } => true,
        _ => is_first,
    }
}
