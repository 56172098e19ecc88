//! A project in a folder of its own, and the real binary run in it. Scripts given to
//! [`Project::task`] first note themselves in a ledger beside the manifest, so that what ran is told
//! by what ran, not by the program under test.

mod files;
mod process;
pub(crate) mod schema;
mod tokens;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tempfile::TempDir;

pub(crate) use files::{Dice, chmod, contents, files, hex, is_alive, sha256, tree, wait_for};
pub(crate) use process::{Call, Ran, Running};
pub(crate) use tokens::Tokens;

/// A script's way to wait until the test calls `p.file("go", "")`.
pub(crate) const WAIT_FOR_GO: &str =
    "n=0; until [ -e go ]; do sleep 0.01; n=$((n+1)); [ $n -lt 6000 ]; done";

/// A folder with a manifest. A clone is the same folder, which goes with the last of them.
#[derive(Clone)]
pub(crate) struct Project(Rc<Inner>);

struct Inner {
    dir: RefCell<TempDir>,
    top: RefCell<String>,
    tasks: RefCell<Vec<Task>>,
}

struct Task {
    name: String,
    keys: String,
    script: String,
}

impl Project {
    pub(crate) fn new() -> Project {
        Project::named("task-pipeline-")
    }

    /// A project in a folder whose name begins with this.
    pub(crate) fn named(prefix: &str) -> Project {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let project = Project(Rc::new(Inner {
            dir: RefCell::new(dir),
            top: RefCell::default(),
            tasks: RefCell::default(),
        }));
        if std::env::var_os("TASK_PIPELINE_KEEP").is_some() { project.eject() } else { project }
    }

    /// Keeps the folder and says where it is: for whoever wants to look around in it.
    pub(crate) fn eject(&self) -> Project {
        self.0.dir.borrow_mut().disable_cleanup(true);
        eprintln!("kept {}", self.root().display());
        self.clone()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.dir.borrow().path().to_owned()
    }

    /// Where the object of this hash, in hex, has to lie.
    pub(crate) fn object(&self, hash: &str) -> PathBuf {
        self.path("db/objects").join(&hash[..2]).join(&hash[2..4]).join(&hash[4..])
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file, making its folders.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Project {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.clone()
    }

    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        let bytes = fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn remove(&self, name: impl AsRef<Path>) -> Project {
        fs::remove_file(self.path(name)).unwrap();
        self.clone()
    }

    /// A program of this name, on the PATH of everything that the project runs.
    pub(crate) fn program(&self, name: &str, script: &str) -> Project {
        self.file(Path::new("bin").join(name), script);
        chmod(&self.path("bin").join(name), 0o755);
        self.clone()
    }

    /// The manifest, letter by letter.
    pub(crate) fn manifest(&self, text: &str) -> Project {
        self.file("pipeline.toml", text)
    }

    /// Adds a task to the manifest, or gives the task of that name another script.
    pub(crate) fn task(&self, name: &str, script: &str) -> Project {
        self.task_with(name, "", script)
    }

    /// The same, with further keys as TOML.
    pub(crate) fn task_with(&self, name: &str, keys: &str, script: &str) -> Project {
        let task = Task { name: name.to_owned(), keys: keys.to_owned(), script: script.to_owned() };
        self.change(|tasks| match tasks.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = task,
            None => tasks.push(task),
        })
    }

    /// What the manifest has before its tasks, `[defaults]` say; instead of what it had.
    pub(crate) fn top(&self, text: &str) -> Project {
        *self.0.top.borrow_mut() = format!("{text}\n");
        self.change(|_| ())
    }

    pub(crate) fn rename(&self, old: &str, new: &str) -> Project {
        self.change(|tasks| {
            tasks.iter_mut().find(|task| task.name == old).unwrap().name = new.to_owned()
        })
    }

    pub(crate) fn drop_task(&self, name: &str) -> Project {
        self.change(|tasks| tasks.retain(|task| task.name != name))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Task>)) -> Project {
        let mut tasks = self.0.tasks.borrow_mut();
        change(&mut tasks);
        let mut text = self.0.top.borrow().clone();
        for Task { name, keys, script } in tasks.iter() {
            text += &format!(
                "[[task]]\nname = \"{name}\"\n{keys}\nscript = '''\n{LEDGER}\n{script}\n'''\n\n"
            );
        }
        self.manifest(&text)
    }

    /// A command line, yet to be run.
    pub(crate) fn cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-pipeline"));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.args(&args).current_dir(self.root()).env_clear();
        command.env("PATH", path).env("HOME", self.root()).stdin(Stdio::null());
        Call::new(self, command)
    }

    pub(crate) fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.cmd(args).go()
    }

    /// `task-pipeline -manifest pipeline.toml -db db`
    pub(crate) fn run(&self) -> Ran {
        self.run_with([""; 0])
    }

    /// The same, with further arguments.
    pub(crate) fn run_with<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.run_cmd(args).go()
    }

    pub(crate) fn run_cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let first = ["-manifest", "pipeline.toml", "-db", "db"].map(OsString::from);
        let mut args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        if let Some(launch) = std::env::var_os("TASK_PIPELINE_LAUNCH")
            && !args.iter().any(|arg| arg == "--launch")
        {
            args.splice(0..0, ["--launch".into(), launch]);
        }
        self.cmd(first.into_iter().chain(args))
    }

    /// What `export` gives of a task, in a fresh folder.
    #[track_caller]
    pub(crate) fn exported(&self, task: &str) -> BTreeMap<String, String> {
        self.export(task, &[])
    }

    /// The same of a pipeline that is not complete.
    #[track_caller]
    pub(crate) fn exported_partially(&self, task: &str) -> BTreeMap<String, String> {
        self.call(["export", task, "--to", "incomplete"]).fails(1);
        self.export(task, &["--partial"])
    }

    #[track_caller]
    fn export(&self, task: &str, options: &[&str]) -> BTreeMap<String, String> {
        let to = tempfile::tempdir().unwrap();
        self.call(["export", task, "--to", to.path().to_str().unwrap()].iter().chain(options)).ok();
        contents(to.path())
    }

    /// Rows of the database, columns joined by `|`, as the `sqlite3` shell shows them; blobs as hex.
    pub(crate) fn sql(&self, query: &str) -> Vec<String> {
        self.sql_in("db", query)
    }

    /// The same of another database folder.
    pub(crate) fn sql_in(&self, db: &str, query: &str) -> Vec<String> {
        use rusqlite::{Connection, OpenFlags, types::ValueRef};
        let conn =
            Connection::open_with_flags(self.path(db).join("db"), OpenFlags::SQLITE_OPEN_READ_ONLY)
                .unwrap();
        conn.busy_timeout(Duration::from_secs(10)).unwrap();
        let mut statement = conn.prepare(query).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let cell = |n| {
                Ok(match row.get_ref(n)? {
                    ValueRef::Null => String::new(),
                    ValueRef::Integer(value) => value.to_string(),
                    ValueRef::Real(value) => value.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    ValueRef::Blob(bytes) => hex(bytes),
                })
            };
            Ok((0..columns).map(cell).collect::<rusqlite::Result<Vec<String>>>()?.join("|"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// What the scripts noted so far: `task` or `task input`, a line each.
    pub(crate) fn ledger(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("ledger")).unwrap_or_default();
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

const LEDGER: &str = r#"printf '%s %s\n' "$TASK_NAME" "$INPUT_NAME" >>ledger"#;
