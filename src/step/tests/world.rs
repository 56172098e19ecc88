//! A store, a supervisor and one worker's scratch in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::attempt::{NamedObject, Outcome};
use crate::error::Result;
use crate::ids::StepId;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::proof::{Proof, Rows};
use crate::step::{
    Attempt, Input, Item, Launch, Report, Sandbox, Scratch, Script, Supervisor, execute,
};
use crate::stop::StopSwitch;
use crate::store::Store;

/// Short, since many tests wait for it.
const GRACE: Duration = Duration::from_millis(300);

pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) store: Store,
    pub(super) stop: Arc<StopSwitch>,
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) scratch: Scratch,
    pub(super) committed: Arc<Rows>,
    pub(super) input: Input,
    /// What is seen by `with`.
    pub(super) side: Vec<NamedObject>,
    pub(super) timeout: Option<Duration>,
    pub(super) env: Vec<(String, String)>,
    pub(super) interpreter: Vec<String>,
    pub(super) copies_input: bool,
    pub(super) sandbox: Option<Sandbox>,
}

impl World {
    pub(super) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let stop = Arc::new(StopSwitch::default());
        let committed = Arc::new(Rows::default());
        let store = Store::open(dir.path(), Arc::clone(&committed) as Arc<dyn Proof>).unwrap();
        let scratch = Scratch::create(&dir.path().join("scratch/run"), 0, Launch::Auto).unwrap();
        World {
            store,
            scratch,
            supervisor: Arc::new(Supervisor::new(GRACE, Arc::clone(&stop)).unwrap()),
            stop,
            committed,
            input: Input::One(NamedObject {
                name: Vec::new(),
                object: ObjectHash::EMPTY,
                executable: false,
            }),
            side: Vec::new(),
            timeout: None,
            env: Vec::new(),
            interpreter: vec!["sh".to_owned(), "-e".to_owned()],
            copies_input: false,
            sandbox: None,
            dir,
        }
    }

    /// Scripts that have to end get as long as this between TERM and KILL.
    pub(super) fn grace(&mut self, grace: Duration) {
        self.supervisor = Arc::new(Supervisor::new(grace, Arc::clone(&self.stop)).unwrap());
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Commits bytes as an object.
    pub(super) fn object(&self, bytes: &[u8]) -> ObjectHash {
        let placed = self.store.put(bytes).unwrap();
        self.committed.insert(placed.hash, placed.size);
        placed.hash
    }

    pub(super) fn input(&mut self, name: &[u8], bytes: &[u8]) -> &mut World {
        let object = self.object(bytes);
        self.input = Input::One(NamedObject { name: name.to_owned(), object, executable: false });
        self
    }

    pub(super) fn gather(&mut self, inputs: &[(&[u8], &[u8])]) -> &mut World {
        self.input = Input::Many { name: Vec::new(), items: self.objects(inputs) };
        self
    }

    /// Commits objects under these names.
    pub(super) fn objects(&self, inputs: &[(&[u8], &[u8])]) -> Vec<NamedObject> {
        let item = |(name, bytes): &(&[u8], &[u8])| NamedObject {
            name: name.to_vec(),
            object: self.object(bytes),
            executable: false,
        };
        inputs.iter().map(item).collect()
    }

    pub(super) fn attempt(&self, script: &str) -> Attempt {
        let script = Script {
            interpreter: self.interpreter.clone().into(),
            env: self.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            timeout: self.timeout,
            copies_input: self.copies_input,
            sandbox: self.sandbox.clone().map(Box::new),
            ..Script::new("t", &[], script.as_bytes(), self.dir.path())
        };
        let item = Item {
            step: StepId(1),
            number: 1,
            key: ObjectHash::EMPTY,
            input: self.input.clone(),
            labels: Labels::default(),
        };
        let side = self.side.clone();
        Attempt { items: vec![item], cpus: 1, side, script: Arc::new(script) }
    }

    pub(super) fn try_run(&mut self, script: &str) -> Result<Report> {
        let attempt = self.attempt(script);
        let mut exits = 0;
        let World { scratch, store, supervisor, committed, .. } = self;
        let ran = execute(scratch, store, supervisor, None, &attempt, &mut |_| exits += 1);
        assert_eq!(exits, 1, "on_exit is called once, whatever happens");
        let (report, placed) = ran?.remove(0);
        let named = report.outputs.iter().map(|output| output.object).chain(report.record.log);
        for object in named {
            assert!(placed.iter().any(|placed| placed.hash == object), "{object} is not kept");
        }
        for placed in placed {
            committed.insert(placed.hash, placed.size);
        }
        Ok(report)
    }

    /// Runs a step and commits what it left.
    pub(super) fn run(&mut self, script: &str) -> Report {
        self.try_run(script).unwrap()
    }

    /// Runs a step that must succeed, and gives names and contents of its outputs.
    pub(super) fn succeed(&mut self, script: &str) -> Vec<(String, String)> {
        let report = self.run(script);
        assert_eq!(report.record.outcome, Outcome::Succeeded, "log: {}", self.log(&report));
        self.contents(&report)
    }

    /// Runs a step whose output must be refused, and gives the sentence.
    pub(super) fn refused(&mut self, script: &str) -> String {
        let report = self.run(script);
        assert!(report.outputs.is_empty());
        match &report.record.outcome {
            Outcome::Refused(sentence) => sentence.clone(),
            other => panic!("{other:?}, log: {}", self.log(&report)),
        }
    }

    pub(super) fn contents(&self, report: &Report) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| crate::text::printable(bytes).into_owned();
        report
            .outputs
            .iter()
            .map(|output| {
                let bytes = fs::read(self.store.path(&output.object)).unwrap();
                assert_eq!(ObjectHash::of(&bytes), output.object);
                assert_eq!(bytes.len() as u64, output.size);
                (text(&output.name), String::from_utf8_lossy(&bytes).into_owned())
            })
            .collect()
    }

    pub(super) fn log(&self, report: &Report) -> String {
        let read = |log: &ObjectHash| fs::read(self.store.path(log)).unwrap();
        let log = report.record.log.as_ref().map(read).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The next step must find everything as a first one does.
    pub(super) fn assert_clean(&mut self) {
        self.input(b"probe", b"probe\n");
        let found = self.succeed(
            r#"find "$OUTPUT_DIR" "$TMPDIR" "${INPUT_FILE%/*}" -mindepth 1 -printf '%f %M %n\n' >"$TMPDIR/x"
               cat "$INPUT_FILE" >>"$TMPDIR/x"; mv "$TMPDIR/x" "$OUTPUT_DIR/found""#,
        );
        let expected = "x -rw-r--r-- 1\nprobe -rw-r--r-- 1\nprobe\n";
        assert_eq!(found, [("found".to_owned(), expected.to_owned())]);
    }
}

pub(super) fn pair(name: &str, content: &str) -> (String, String) {
    (name.to_owned(), content.to_owned())
}

/// Waits for a condition; the limit is for a broken test only.
pub(super) fn wait_until(mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process is there and no zombie.
pub(super) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
