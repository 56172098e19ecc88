//! `lineage`: what something came from, and what came of it.

mod show;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::attempt::NamedObject;
use crate::cli::Lineage as Args;
use crate::db::{self, Db, StepRow, Way};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::ids::StepId;
use crate::object::{ObjectHash, ObjectHasher};
use crate::text::printable;

use super::answer;

/// Shown of the producers, consumers and outputs of one step.
const WIDTH: usize = 10;
/// Steps that are shown in either direction.
const MOST: usize = 200;
/// Shortest beginning of a hash that is taken for one.
const SHORTEST: usize = 6;

/// A step that is shown.
struct Node {
    row: StepRow,
    /// Its first outputs, and how many it has.
    outputs: (Vec<NamedObject>, usize),
    /// For a root: the files that it read.
    files: Vec<Vec<u8>>,
}

/// All that is shown.
struct Lineage {
    /// The object that was asked for, with its size.
    object: Option<(ObjectHash, Option<u64>)>,
    /// Where the way up begins: the step, or what made the object.
    up_from: Vec<StepId>,
    /// Where the way down begins: the step, or what works on the object.
    down_from: Vec<StepId>,
    nodes: BTreeMap<StepId, Node>,
    /// Producers of each step that are shown, and consumers.
    up: HashMap<StepId, Vec<StepId>>,
    down: HashMap<StepId, Vec<StepId>>,
    /// Producers and consumers that are not.
    more_up: BTreeMap<StepId, usize>,
    more_down: BTreeMap<StepId, usize>,
}

/// What a word names.
enum What {
    Step(StepRow),
    Object(ObjectHash),
}

/// Prints the lineage of a step, an object or a file.
pub(super) fn lineage(args: &Args) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let lineage = {
        let conn = db.lock();
        // One moment, though a run may go on.
        let tx = conn.unchecked_transaction().map_err(|source| Error::Db {
            what: "read the database",
            path: Db::file(&args.db),
            source,
        })?;
        Lineage::collect(&tx, find(&tx, &args.what)?, args.all)?
    };
    match () {
        () if args.json => answer::json(&lineage.json())?,
        () if args.dot => answer::write(|out| lineage.dot(out))?,
        () => answer::write(|out| lineage.text(out))?,
    }
    Ok(exit::OK)
}

fn find(conn: &Connection, what: &OsStr) -> Result<What> {
    let word = what.as_bytes();
    let text = std::str::from_utf8(word).unwrap_or_default();
    let is_hex = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_number = text.parse::<i64>().is_ok();
    if is_hex && text.len() >= SHORTEST {
        match db::objects_by_prefix(conn, text)?.as_slice() {
            [object] => return Ok(What::Object(*object)),
            [] => {}
            _ => {
                return Err(Error::Usage(format!(
                    "several objects begin with `{text}`; write more digits of the one that is meant"
                )));
            }
        }
    }
    if !is_number && Path::new(what).is_file() {
        return of_file(conn, Path::new(what));
    }
    let steps = db::find_steps(conn, word).map_err(|error| match error {
        Error::Usage(why) if !is_number => Error::Usage(format!(
            "{why}\n`{}` is no file and no hash of an object either",
            printable(word)
        )),
        other => other,
    })?;
    let is_task = !is_number && !word.contains(&b'/');
    match steps.as_slice() {
        [_, _, ..] if is_task => Err(Error::Usage(format!(
            "task `{text}` has {} steps: name one by its id ({} …) or as {text}/INPUT_NAME",
            steps.len(),
            steps[0].id
        ))),
        steps => Ok(What::Step(steps[0].clone())),
    }
}

fn of_file(conn: &Connection, path: &Path) -> Result<What> {
    let mut file = File::open(path).or_io("read", path)?;
    let mut hasher = ObjectHasher::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).or_io("read", path)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let object = hasher.finish();
    if db::known_object(conn, &object)?.is_some() {
        return Ok(What::Object(object));
    }
    Err(Error::Usage(format!(
        "nothing that is kept has the bytes of `{}` ({object}): it was changed since, or comes from elsewhere",
        path.display()
    )))
}

impl Lineage {
    fn collect(conn: &Connection, what: What, all: bool) -> Result<Lineage> {
        let (width, most) = if all { (usize::MAX, usize::MAX) } else { (WIDTH, MOST) };
        let mut lineage = Lineage {
            object: None,
            up_from: Vec::new(),
            down_from: Vec::new(),
            nodes: BTreeMap::new(),
            up: HashMap::new(),
            down: HashMap::new(),
            more_up: BTreeMap::new(),
            more_down: BTreeMap::new(),
        };
        let (up_from, down_from) = match what {
            What::Step(step) => (vec![step.clone()], vec![step]),
            What::Object(object) => {
                lineage.object = Some((object, db::known_object(conn, &object)?));
                db::around_object(conn, &object, width)?
            }
        };
        lineage.up_from = up_from.iter().map(|step| step.id).collect();
        lineage.down_from = down_from.iter().map(|step| step.id).collect();
        lineage.walk(conn, Way::Up, up_from, width, most)?;
        lineage.walk(conn, Way::Down, down_from, width, most)?;
        for node in lineage.nodes.values_mut() {
            node.outputs = db::first_outputs(conn, node.row.id, width)?;
        }
        lineage.find_files(conn)?;
        Ok(lineage)
    }

    /// Breadth first, so that what is near is shown.
    fn walk(
        &mut self,
        conn: &Connection,
        way: Way,
        from: Vec<StepRow>,
        width: usize,
        most: usize,
    ) -> Result<()> {
        let mut seen: HashSet<StepId> = from.iter().map(|step| step.id).collect();
        let mut open: VecDeque<StepId> = from.iter().map(|step| step.id).collect();
        self.add(from);
        while let Some(step) = open.pop_front() {
            // Past the limit only their number is told.
            let width = if seen.len() >= most { 0 } else { width };
            let (found, count) = db::neighbours(conn, step, way, width)?;
            let (shown, more) = match way {
                Way::Up => (&mut self.up, &mut self.more_up),
                Way::Down => (&mut self.down, &mut self.more_down),
            };
            if count > found.len() {
                more.insert(step, count - found.len());
            }
            shown.insert(step, found.iter().map(|step| step.id).collect());
            open.extend(found.iter().map(|step| step.id).filter(|step| seen.insert(*step)));
            self.add(found);
        }
        Ok(())
    }

    fn add(&mut self, steps: Vec<StepRow>) {
        for row in steps {
            let id = row.id;
            self.nodes.entry(id).or_insert(Node {
                row,
                outputs: (Vec::new(), 0),
                files: Vec::new(),
            });
        }
    }

    /// The files that the roots read.
    fn find_files(&mut self, conn: &Connection) -> Result<()> {
        let is_root = |step: &StepId| {
            self.up.get(step).is_some_and(Vec::is_empty) && !self.more_up.contains_key(step)
        };
        let mut roots: Vec<StepId> = self.nodes.keys().copied().filter(is_root).collect();
        // Each one is a look through all input files of its task.
        roots.truncate(WIDTH);
        for root in roots {
            let facts = db::step_facts(conn, root)?;
            if let Some(node) = self.nodes.get_mut(&root) {
                node.files = db::files_of(conn, facts.task, &facts.object)?;
            }
        }
        Ok(())
    }
}
