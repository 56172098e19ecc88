//! Confines a script to its sandbox: what it may reach is what its task declares, and the kernel refuses the rest
//! (Landlock). Here: what that comes to as rules, and what to tell of a failure in it.
//!
//! Rules are made in this process and taken on by the script's, by descriptor, between its start and its program.
//!
//! A rule allows a folder with all that is below it, and nothing below can be taken out again. So a folder
//! that has the database in it is never allowed itself: all in it that doesn't lead to the database is.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::rules::{Identity, KeptRules};
use super::sandbox::Sandbox;
use super::scratch::Workspace;
use super::script::Script;
use super::stage::StagedInput;
use crate::error::{OrIo, Result};
use crate::sys::landlock::{Allowed, Rules};
use crate::text::{counted, path_bytes, printable, shown};

/// Programs, libraries and what they are told by the system. Each is in one distribution or another; links among them
/// count once.
const SYSTEM: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/proc",
    "/sys",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
];

/// Where /etc leads to for names and certificates, for scripts that have a network.
const NETWORK: [&str; 4] =
    ["/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/var/lib/ca-certificates"];

/// Devices that are harmless. No terminal: whoever may control it can type into the user's shell.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Refused paths that are told by name.
const TOLD: usize = 5;

/// Lines of a log that are searched for refused paths.
pub(super) const SEARCHED: usize = 200;

/// One attempt's surroundings, for rules and for sentences.
pub(super) struct Surroundings<'a> {
    pub(super) script: &'a Arc<Script>,
    pub(super) sandbox: &'a Sandbox,
    pub(super) workspace: &'a Workspace,
    /// The script's file.
    pub(super) file: &'a Path,
    /// `None`: its steps are in BATCH_DIR.
    pub(super) staged: Option<&'a StagedInput>,
    /// It sees something by `with`.
    pub(super) has_side: bool,
    /// A FIFO of tokens.
    pub(super) tokens: Option<&'a Path>,
    /// What no script may reach, absolute and without links.
    pub(super) database: &'a Path,
}

impl Surroundings<'_> {
    /// The rules for an attempt, or a sentence that says why there are none.
    ///
    /// # Errors
    /// Our own trouble: no memory, no descriptors.
    pub(super) fn rules(&self, kept: &mut KeptRules) -> Result<Result<Arc<OwnedFd>, String>> {
        if self.list_file().is_some() {
            // The list of inputs is a new file each time.
            return Ok(self.make()?.map(Arc::new));
        }
        let identities = self.identities();
        if let Some(rules) = kept.find(self.script, &identities) {
            return Ok(Ok(rules));
        }
        Ok(self.make()?.map(|rules| kept.keep(self.script, identities, rules)))
    }

    /// The files and folders of rules that may be replaced while the workspace stays.
    fn identities(&self) -> Vec<Identity> {
        let declared = self.sandbox.read.iter().chain(&self.sandbox.list).map(Path::new);
        let own = [Some(self.file), self.tokens].into_iter().flatten();
        let identity = |path: &Path| {
            let found = rustix::fs::stat(path).ok()?;
            Some((found.st_dev, found.st_ino, found.st_ctime, found.st_ctime_nsec as i64))
        };
        let side = self.has_side.then_some((0, 0, 0, 0));
        own.chain(declared).map(identity).chain([side]).collect()
    }

    /// INPUT_FILE where it is a list.
    fn list_file(&self) -> Option<&Path> {
        self.staged.filter(|staged| staged.has_dir).map(|staged| Path::new(&staged.file))
    }

    /// Inputs can be written only where they are private copies by the task's own word.
    fn inputs_allowed(&self) -> Allowed {
        if self.script.copies_input { Allowed::Write } else { Allowed::Read }
    }

    /// The folders that the script was given, but for WITH_DIR. All of BATCH_DIR can be written, since the outputs are
    /// there, beside the inputs: these are private copies then.
    fn own_folders(&self) -> Vec<(&Folder, Allowed)> {
        let Workspace { input, output, tmp, batch, .. } = self.workspace;
        let mut folders = vec![(tmp, Allowed::Write)];
        match (self.staged, batch) {
            (None, Some(batch)) => folders.push((&batch.folder, Allowed::Write)),
            _ => folders.extend([(input, self.inputs_allowed()), (output, Allowed::Write)]),
        }
        folders
    }

    fn make(&self) -> Result<Result<OwnedFd, String>> {
        if let Some(why) = self.sandbox.obstacle() {
            return Ok(Err(why));
        }
        let workspace = self.workspace;
        let made = (|| {
            let mut rules = Rules::new(!self.sandbox.network)?;
            for path in system(self.sandbox.network) {
                rules = self.allow(rules, path, Allowed::Read)?;
            }
            for path in DEVICES {
                rules = allow_one(rules, Path::new(path), Allowed::Use)?;
            }
            for path in [Some(self.file), self.list_file()].into_iter().flatten() {
                rules = allow_one(rules, path, Allowed::Read)?;
            }
            if let Some(tokens) = self.tokens {
                rules = allow_one(rules, tokens, Allowed::Use)?;
            }
            for (folder, allowed) in self.own_folders() {
                rules = rules.allow(folder.fd(), allowed)?;
            }
            if let Some(side) = workspace.side.as_ref().filter(|_| self.has_side) {
                rules = rules.allow(side.fd(), self.inputs_allowed())?;
            }
            for path in &self.sandbox.list {
                rules = self.allow(rules, Path::new(path), Allowed::List)?;
            }
            Ok::<Rules, io::Error>(rules)
        })();
        let mut rules = made.or_io("make the sandbox of", &workspace.path)?;
        for path in self.sandbox.read.iter().map(Path::new) {
            let real = match path.canonicalize() {
                Ok(real) => real,
                Err(err) => {
                    let path = shown(path);
                    return Ok(Err(format!(
                        "`{path}`, which its sandbox lets it read, can't be looked at: {err}"
                    )));
                }
            };
            if real.starts_with(self.database) {
                let path = shown(path);
                return Ok(Err(format!(
                    "`{path}` lies in the run's own database, which no sandbox opens; export what it is to read"
                )));
            }
            rules = self.allow(rules, &real, Allowed::Read).or_io("make a sandbox with", path)?;
        }
        Ok(Ok(rules.finish().or_io("make the sandbox of", &workspace.path)?))
    }

    /// Allows a file or folder whose path has no links; of a folder that has the database in it, everything else.
    fn allow(&self, mut rules: Rules, path: &Path, allowed: Allowed) -> io::Result<Rules> {
        if path.starts_with(self.database) {
            return Ok(rules);
        }
        if !self.database.starts_with(path) {
            return allow_one(rules, path, allowed);
        }
        if allowed == Allowed::List {
            return Ok(rules);
        }
        let Ok(entries) = std::fs::read_dir(path) else { return Ok(rules) };
        for entry in entries.flatten() {
            // A link allows nothing by itself; what it leads to is declared, or refused.
            if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                rules = self.allow(rules, &entry.path(), allowed)?;
            }
        }
        Ok(rules)
    }

    /// What an attempt that failed in its sandbox is told: what a sandbox is, and what its log says was refused and
    /// could have been declared.
    pub(super) fn explain(&self, log: &[Vec<u8>]) -> Vec<String> {
        let network = if self.sandbox.network { "" } else { "; it has no network" };
        let mut sentences = vec![format!(
            "it ran in a sandbox (`sandbox = true`): it can read the system's folders, its inputs, its `files` and what \
             `read` names, and write {} and TMPDIR{network}",
            self.kept()
        )];
        let mut told: Vec<String> = Vec::new();
        for line in log {
            let found = candidates(line);
            let refusal = found.iter().find_map(|candidate| self.refusal(candidate));
            if let Some(refusal) = refusal.filter(|refusal| !told.contains(refusal)) {
                told.push(refusal);
            }
        }
        let more = told.len().saturating_sub(TOLD);
        told.truncate(TOLD);
        sentences.append(&mut told);
        if more > 0 {
            sentences.push(format!(
                "the sandbox refused {} that its log names",
                counted(more, "more path")
            ));
        }
        sentences
    }

    /// What to do about a path, if it is the sandbox that refused it.
    fn refusal(&self, candidate: &Candidate) -> Option<String> {
        let name = Path::new(OsStr::from_bytes(&candidate.name));
        let dir = self.script.dir();
        let mut full = dir.join(name);
        let mut is_program = false;
        if !full.exists() && !candidate.name.contains(&b'/') {
            let path = self.script.search_path();
            let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>());
            let programs = folders.into_iter().flatten().map(|folder| dir.join(folder).join(name));
            if let Some(program) = programs.into_iter().find(|program| program.is_file()) {
                (full, is_program) = (program, true);
            }
        }
        let named = shown(&full);
        let Ok(real) = full.canonicalize() else {
            // To be made: its folder says.
            let parent = full.parent()?.canonicalize().ok()?;
            let is_free = self.reach(&parent) == Some(Allowed::Write);
            return (candidate.is_sure && !is_free).then(|| {
                format!(
                    "`{named}` was not made: write below ${} what is to be kept, and anything else below $TMPDIR",
                    self.kept()
                )
            });
        };
        if real.starts_with(self.database) && self.reach(&real).is_none() {
            return Some(format!(
                "`{named}` was refused: it lies in the run's own database, which no sandbox opens; take results from \
                 other tasks by `from` or `with`"
            ));
        }
        let may = |access| rustix::fs::accessat(CWD, &real, access, AtFlags::EACCESS).is_ok();
        match self.reach(&real) {
            None | Some(Allowed::List) if may(Access::READ_OK) => {
                Some(format!("`{named}` was refused: {}", self.cure(&full, is_program)))
            }
            Some(Allowed::Read) if self.is_input(&real) => Some(format!(
                "`{named}` can only be read in a sandbox: copy it into $TMPDIR, or set input = \"copy\" in its task"
            )),
            // Programs are meant to be run, and folders to be listed; /proc has rules of its own.
            Some(Allowed::Read)
                if candidate.is_sure
                    && may(Access::WRITE_OK)
                    && !may(Access::EXEC_OK)
                    && !real.starts_with("/proc") =>
            {
                Some(format!(
                    "`{named}` can only be read in a sandbox: write below ${} what is to be kept, and anything \
                     else below $TMPDIR",
                    self.kept()
                ))
            }
            _ => None,
        }
    }

    /// The variable of the folder whose files are kept.
    fn kept(&self) -> &'static str {
        if self.script.batch { "BATCH_DIR" } else { "OUTPUT_DIR" }
    }

    fn is_input(&self, real: &Path) -> bool {
        let input = self.workspace.input.path.canonicalize();
        input.is_ok_and(|input| real.starts_with(input))
    }

    /// What to add to the task, so that it may read a path.
    fn cure(&self, full: &Path, is_program: bool) -> String {
        let home = program_home(full).filter(|_| is_program || full.is_file());
        let written = |path: &Path| {
            let path = match path.strip_prefix(self.script.dir()) {
                Ok(below) if path_bytes(below).is_empty() => Path::new("."),
                Ok(below) => below,
                Err(_) => path,
            };
            printable(path_bytes(path)).replace('"', "\\\"")
        };
        let is_own = full.starts_with(self.script.dir());
        match home {
            Some(home) => format!("add read = [\"{}\"] to the task", written(home)),
            None if is_own && full.is_file() => {
                let path = written(full);
                format!(
                    "add files = [\"{path}\"] to the task, or read = [\"{path}\"] if a change of it is to run nothing"
                )
            }
            None => format!("add read = [\"{}\"] to the task", written(full)),
        }
    }

    /// What is allowed with a path without links; `None`: nothing.
    fn reach(&self, real: &Path) -> Option<Allowed> {
        let is_below =
            |folder: &Path| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
        let workspace = self.workspace;
        let own = self.own_folders().into_iter().find(|(folder, _)| is_below(&folder.path));
        if let Some((_, allowed)) = own {
            return Some(allowed);
        }
        if workspace
            .side
            .as_ref()
            .filter(|_| self.has_side)
            .is_some_and(|side| is_below(&side.path))
        {
            return Some(self.inputs_allowed());
        }
        if DEVICES.iter().any(|device| real == Path::new(device)) {
            return Some(Allowed::Use);
        }
        let own = [Some(self.file), self.list_file()].into_iter().flatten();
        let declared = self.sandbox.read.iter().map(Path::new);
        let is_read = own.chain(declared).any(is_below)
            || system(self.sandbox.network).any(|folder| real.starts_with(folder));
        if is_read && !real.starts_with(self.database) && !self.database.starts_with(real)
            || own_file(self, real)
        {
            return Some(Allowed::Read);
        }
        self.sandbox.list.iter().any(|folder| is_below(Path::new(folder))).then_some(Allowed::List)
    }

    /// Why a program can't be executed in the sandbox, if that is it.
    pub(super) fn outside(&self, program: &Path) -> Option<String> {
        let real = program.canonicalize().ok()?;
        if self.reach(&real).is_some() {
            return None;
        }
        Some(format!(
            "the sandbox doesn't let it execute `{}`: {}",
            shown(program),
            self.cure(program, true)
        ))
    }
}

/// The script's file or its list of inputs, which lie in the database as everything of a run does.
fn own_file(of: &Surroundings<'_>, real: &Path) -> bool {
    [Some(of.file), of.list_file()]
        .into_iter()
        .flatten()
        .any(|path| path.canonicalize().is_ok_and(|path| path == real))
}

/// The system's folders that this machine has, without links, none below another; with those of the network or not.
fn system(network: bool) -> impl Iterator<Item = &'static Path> {
    static FOUND: OnceLock<[Vec<PathBuf>; 2]> = OnceLock::new();
    let [always, with_network] = FOUND.get_or_init(|| {
        let real = |paths: &[&str]| {
            let mut real: Vec<PathBuf> =
                paths.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
            real.sort();
            real.dedup_by(|below, folder| below.starts_with(&*folder));
            real
        };
        [real(&SYSTEM), real(&NETWORK)]
    });
    let network = with_network.iter().filter(move |_| network);
    always.iter().chain(network).map(PathBuf::as_path)
}

/// Allows a file or folder, if it is there and anybody may reach it.
fn allow_one(rules: Rules, path: &Path, allowed: Allowed) -> io::Result<Rules> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(place) => rules.allow(place.as_fd(), allowed),
        Err(err @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(err.into()),
        Err(_) => Ok(rules),
    }
}

/// The folder that a program was installed into: `/opt/x` of `/opt/x/bin/y`.
fn program_home(program: &Path) -> Option<&Path> {
    let folder = program.parent()?;
    let is_programs = ["bin", "sbin", "libexec", "shims"].iter().any(|name| folder.ends_with(name));
    let home = folder.parent().filter(|home| is_programs && home.parent().is_some())?;
    Some(home)
}

/// A text of a log that may be a path which was refused.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    name: Vec<u8>,
    /// The line can hardly mean anything else: a file of that name need not be there.
    is_sure: bool,
}

/// What a line of a log may say was refused: what it quotes, what comes before "Permission denied", and what begins
/// with a `/`.
fn candidates(line: &[u8]) -> Vec<Candidate> {
    let text = String::from_utf8_lossy(line);
    let Some(at) = text.to_ascii_lowercase().find("permission denied") else { return Vec::new() };
    let mut found: Vec<Candidate> = Vec::new();
    let add = |found: &mut Vec<Candidate>, name: &str, is_sure| {
        if !name.is_empty() && !found.iter().any(|known| known.name == name.as_bytes()) {
            found.push(Candidate { name: name.into(), is_sure });
        }
    };
    for (open, close) in [('\'', '\''), ('"', '"'), ('`', '\''), ('\u{2018}', '\u{2019}')] {
        let mut rest = &*text;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((quoted, after)) = after.split_once(close) else { break };
            // An apostrophe opens nothing.
            if !quoted.contains(": ") {
                add(&mut found, quoted, true);
            }
            rest = after;
        }
    }
    let is_quoted = !found.is_empty();
    let before = text.get(..at).unwrap_or_default().trim_end_matches([' ', ':', '(']);
    let last = before.rsplit(": ").next().unwrap_or_default();
    add(&mut found, last, false);
    for word in text.split_whitespace() {
        let word = word.trim_matches(|c| ":,;'\"()`\u{2018}\u{2019}".contains(c));
        if word.starts_with('/') {
            add(&mut found, word, false);
        }
    }
    let word = last.split_whitespace().next_back().unwrap_or_default();
    add(&mut found, word, !is_quoted && !last.contains('['));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_names_what_was_refused_in_many_ways() {
        for (line, wanted) in [
            ("cat: /data/ref: Permission denied", "/data/ref"),
            ("cat: a b: Permission denied", "a b"),
            ("/x/t: 2: cannot create out.txt: Permission denied", "out.txt"),
            ("/x/t: 3: cannot open /etc/shadow: Permission denied", "/etc/shadow"),
            ("bash: line 1: words.txt: Permission denied", "words.txt"),
            ("PermissionError: [Errno 13] Permission denied: '/x y/z'", "/x y/z"),
            ("mkdir: cannot create directory \u{2018}new\u{2019}: Permission denied", "new"),
            ("Can't open /x/y: Permission denied at t line 1.", "/x/y"),
            ("t: 4: tool: Permission denied", "tool"),
            ("error: permission denied (/opt/x/bin/tool)", "/opt/x/bin/tool"),
        ] {
            let found = candidates(line.as_bytes());
            assert!(
                found.iter().any(|candidate| candidate.name == wanted.as_bytes()),
                "{line}: {found:?}"
            );
        }
        assert_eq!(candidates(b"cat: /x: No such file or directory"), []);
    }

    #[test]
    fn a_program_is_declared_by_the_folder_that_it_is_installed_in() {
        let home = |path: &'static str| program_home(Path::new(path)).and_then(Path::to_str);
        assert_eq!(home("/opt/tool/bin/x"), Some("/opt/tool"));
        assert_eq!(home("/root/.pyenv/shims/python3"), Some("/root/.pyenv"));
        assert_eq!(home("/srv/x"), None);
        assert_eq!(home("/bin/x"), None, "that would be everything");
    }
}
