//! A jobserver made by hand, whose tokens can be told apart.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::{Call, Project};

/// A FIFO with tokens, handed down by its path or as two descriptors.
pub(crate) struct Tokens {
    fifo: File,
    auth: String,
    redirections: &'static str,
}

impl Tokens {
    /// As make 4.4 does it.
    pub(crate) fn fifo(p: &Project, tokens: &[u8]) -> Tokens {
        let path = p.path("tokens");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let mut fifo = options.open(&path).unwrap();
        fifo.write_all(tokens).unwrap();
        Tokens { fifo, auth: format!("fifo:{}", path.display()), redirections: "" }
    }

    /// As an older make does it.
    pub(crate) fn pipe(p: &Project, tokens: &[u8]) -> Tokens {
        let auth = "8,9".to_owned();
        Tokens { auth, redirections: "8<tokens 9>tokens", ..Tokens::fifo(p, tokens) }
    }

    /// The command, with this for a jobserver.
    pub(crate) fn lend(&self, call: Call) -> Call {
        call.redirected(self.redirections)
            .env("MAKEFLAGS", &format!(" -j9 --jobserver-auth={}", self.auth))
    }

    pub(crate) fn give(&self, tokens: &[u8]) {
        (&self.fifo).write_all(tokens).unwrap();
    }

    /// The tokens that nobody has, in the order of their names.
    pub(crate) fn left(&self) -> Vec<u8> {
        let mut left = vec![0; 100];
        let count = (&self.fifo).read(&mut left).unwrap_or(0);
        left.truncate(count);
        left.sort_unstable();
        left
    }
}
