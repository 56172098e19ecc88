//! `log --follow`: what a step prints while it runs. Unaware of how it ends.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::db::{self, Db, StepRow};
use crate::error::{Error, OrIo as _, Result};
use crate::ids::StepId;
use crate::step::{self, Running};
use crate::store::Store;
use crate::text::printable_line;

use super::answer;

/// Between two looks. Costs a run nothing that could be measured, and a reader doesn't notice it.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// What became of it.
pub(super) enum Followed {
    /// Printed to its end.
    ToTheEnd,
    /// No step that was named runs.
    NotRunning,
}

/// Prints the log of the one of `steps` that runs, as it grows, until the step ends.
///
/// # Errors
/// [`Error::Usage`] if several of them run.
pub(super) fn follow(db: &Db, store: &Store, dir: &Path, steps: &[StepRow]) -> Result<Followed> {
    let Some(runner) = crate::run::runner(dir) else { return Ok(Followed::NotRunning) };
    let mut running = step::running(runner, &dir.join("scratch"));
    running.retain(|running| steps.iter().any(|step| step.id.0 == running.step));
    let running = match running.as_slice() {
        [] => return Ok(Followed::NotRunning),
        [running] => running,
        several => {
            let ids: Vec<String> = several.iter().map(|running| running.step.to_string()).collect();
            return Err(Error::Usage(format!(
                "--follow shows one step, and several of these run: name one of {}",
                ids.join(", ")
            )));
        }
    };
    let mut screen = Screen { is_terminal: answer::is_terminal(), line: Vec::new() };
    let mut shown = 0;
    let Ok(mut log) = File::open(&running.log) else { return Ok(Followed::NotRunning) };
    loop {
        let mut bytes = Vec::new();
        log.seek(SeekFrom::Start(shown)).or_io("read", &running.log)?;
        std::io::Read::take(&log, CHUNK).read_to_end(&mut bytes).or_io("read", &running.log)?;
        // The worker empties the log for its next step only when this one is gone, so what was read
        // while it still ran is its own.
        if !running.is_alive() {
            break;
        }
        shown += bytes.len() as u64;
        if !screen.show(&bytes)? {
            return Ok(Followed::ToTheEnd);
        }
        if bytes.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    if let Some(rest) = rest(db, store, dir, running, runner, shown)? {
        screen.show(&rest)?;
    }
    screen.end()?;
    Ok(Followed::ToTheEnd)
}

/// What a step that has ended printed beyond `shown`: it is in the store once the attempt is
/// committed. `None` if the run ended without that.
fn rest(
    db: &Db,
    store: &Store,
    dir: &Path,
    running: &Running,
    runner: u32,
    shown: u64,
) -> Result<Option<Vec<u8>>> {
    loop {
        // In this order: what a run committed last is seen though it has ended meanwhile.
        let is_running = crate::run::runner(dir) == Some(runner);
        let attempts = db::attempts(&db.lock(), StepId(running.step))?;
        let attempt = attempts
            .into_iter()
            .map(|attempt| attempt.record)
            .find(|attempt| attempt.number == running.attempt);
        if let Some(attempt) = attempt {
            let Some(log) = attempt.log else { return Ok(None) };
            let (path, mut file) = (store.path(&log), store.open_object(&log)?);
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(shown)).or_io("read the log", &path)?;
            file.read_to_end(&mut bytes).or_io("read the log", &path)?;
            return Ok(Some(bytes));
        }
        if !is_running {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Standard output, in pieces.
struct Screen {
    is_terminal: bool,
    /// The beginning of a line: on a terminal only whole ones are shown, made harmless.
    line: Vec<u8>,
}

impl Screen {
    /// False if nobody reads any more.
    fn show(&mut self, bytes: &[u8]) -> Result<bool> {
        if !self.is_terminal {
            return self.write(bytes);
        }
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') else { return Ok(true) };
        let rest = self.line.split_off(end + 1);
        let whole = std::mem::replace(&mut self.line, rest);
        let mut text = String::new();
        for line in whole.strip_suffix(b"\n").unwrap_or(&whole).split(|&byte| byte == b'\n') {
            text.push_str(&printable_line(line));
            text.push('\n');
        }
        self.write(text.as_bytes())
    }

    fn end(&mut self) -> Result<()> {
        if !self.line.is_empty() {
            let line = printable_line(&std::mem::take(&mut self.line));
            self.write(format!("{line}\n").as_bytes())?;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<bool> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            written => written.or_io("write to", "standard output").map(|()| true),
        }
    }
}
