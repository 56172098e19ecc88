//! How a worker is called.

use std::ffi::OsString;
use std::time::Duration;

use crate::error::{Error, OrIo as _, Result};
use crate::text::shown;

/// What the command lines of a run's workers have in common.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// What workers connect to.
    pub(super) address: String,
    /// Name of the run.
    pub(super) run: String,
    /// Of each worker.
    pub(super) slots: Vec<usize>,
    /// Bytes.
    pub(super) cache: u64,
    /// After so long it is ended from outside.
    pub(super) walltime: Option<Duration>,
    /// For so long it tries to connect anew.
    pub(super) reconnect: Duration,
}

impl Orders {
    /// The program, at the same place as here, and its arguments.
    ///
    /// # Errors
    /// If nobody knows where this program is.
    pub(super) fn words(&self, number: usize) -> Result<Vec<OsString>> {
        let program = std::env::current_exe().or_system("find out where this program is")?;
        let slots = self.slots.get(number - 1).copied().unwrap_or(1);
        let mut words: Vec<OsString> = vec![program.into(), "worker".into()];
        let mut add = |name: &str, value: String| words.extend([name.into(), value.into()]);
        add("--connect", self.address.clone());
        add("--run", self.run.clone());
        add("--number", number.to_string());
        add("--slots", slots.to_string());
        add("--worker-cache", self.cache.to_string());
        if let Some(walltime) = self.walltime {
            add("--walltime", format!("{}s", walltime.as_secs()));
        }
        if !self.reconnect.is_zero() {
            add("--reconnect", format!("{}s", self.reconnect.as_secs()));
        }
        Ok(words)
    }

    /// These words as a line of shell.
    ///
    /// # Errors
    /// [`Error::Usage`] for a path that is not UTF-8, which a shell elsewhere may take for another one.
    pub(super) fn line(words: &[OsString]) -> Result<String> {
        let quoted = words.iter().map(|word| {
            word.to_str().and_then(|word| shlex::try_quote(word).ok()).ok_or_else(|| {
                let word = shown(word.as_ref());
                Error::Usage(format!("`{word}` can't be a word of a shell on another machine"))
            })
        });
        Ok(quoted.collect::<Result<Vec<_>>>()?.join(" "))
    }
}
