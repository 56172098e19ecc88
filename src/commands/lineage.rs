//! `lineage`: where something came from and what was made from it, as a tree, as JSON, and for Graphviz.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::attempt::{NamedObject, StepState};
use crate::cli::Color;
use crate::cli::values::{bytes, default_db, path};
use crate::db::{self, Db, Direction, Meant, Reader, StepRow};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::ids::StepId;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::order;
use crate::text::{self, as_path, printable, shown, unescaped};

use super::answer::SizedObject;
use super::columns::folded;
use super::style::Style;
use super::{Command, answer, gathered_files};

/// How many producers, consumers and outputs of one step are shown.
const WIDTH: usize = 10;
/// How many steps are shown in either direction.
const MOST: usize = 200;
/// A tree is not drawn deeper than this; the JSON has the rest.
const DEEPEST: usize = 200;

/// Show where something came from and what was made from it, as a tree.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "lineage")]
#[argh(
    note = "A FILE is recognised by its content, wherever it was exported to. If there are many producers or \
    consumers, only the first ones are shown, and the number of the others."
)]
pub struct LineageArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// show all producers and consumers, however many there are
    #[argh(switch)]
    pub all: bool,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// print a graph for Graphviz
    #[argh(switch)]
    pub dot: bool,

    /// a step (its id, TASK/INPUT_NAME or `TASK[sample=A]`), the HASH of an object, or a FILE
    #[argh(positional, arg_name = "WHAT", from_str_fn(bytes))]
    pub what: OsString,
}

impl Command for LineageArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match self.json && self.dot {
            true => Err("--json and --dot contradict each other: drop one of them"),
            false => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let listing = |object: &ObjectHash| gathered_files(&self.db, object);
        let lineage = db.read(|reader| {
            Lineage::collect(reader, find(reader, &self.what)?, self.all, &listing)
        })?;
        match () {
            () if self.json => answer::json(&LineageAnswer::of(&lineage))?,
            () if self.dot => answer::write(|out| lineage.dot(out))?,
            () => {
                let style = Style::of(self.color);
                answer::write(|out| lineage.text(out, style))?;
            }
        }
        Ok(exit::OK)
    }
}

/// A step that is shown.
struct Node {
    row: StepRow,
    /// Its first outputs, and how many it has.
    outputs: (Vec<NamedObject>, usize),
    /// For a root: the files that it read.
    files: Vec<Vec<u8>>,
    /// The first files that it has said it read, and how many it has.
    dependencies: (Vec<Vec<u8>>, usize),
}

/// The part of the graph of steps that is shown.
struct Lineage {
    /// The object that was asked for, with its size.
    object: Option<(ObjectHash, Option<u64>)>,
    /// Where the walk up starts: the step, or the steps that made the object.
    up_from: Vec<StepId>,
    /// Where the walk down starts: the step, or the steps that work on the object.
    down_from: Vec<StepId>,
    nodes: BTreeMap<StepId, Node>,
    /// The producers of each step that are shown, and its consumers.
    up: HashMap<StepId, Vec<StepId>>,
    down: HashMap<StepId, Vec<StepId>>,
    /// How many producers and consumers of each step are not shown.
    more_up: BTreeMap<StepId, usize>,
    more_down: BTreeMap<StepId, usize>,
}

/// What a word names.
enum What {
    Step(StepRow),
    Object(ObjectHash),
}

/// The answer as JSON.
#[derive(Serialize)]
struct LineageAnswer<'a> {
    /// `None`: a step was asked for.
    object: Option<SizedObject>,
    made_by: &'a [StepId],
    used_by: &'a [StepId],
    steps: Vec<LineageStep<'a>>,
    links: Vec<Link>,
    more_producers: Vec<LeftOut>,
    more_consumers: Vec<LeftOut>,
}

#[derive(Serialize)]
struct LineageStep<'a> {
    step: StepId,
    task: &'a str,
    #[serde(rename = "input", serialize_with = "answer::escaped")]
    name: &'a [u8],
    object: ObjectHash,
    live: bool,
    state: StepState,
    labels: &'a Labels,
    outputs: Vec<LineageOutput<'a>>,
    /// Including those that are left out of `outputs`.
    output_count: usize,
    /// Input files that a root read.
    #[serde(serialize_with = "answer::all_escaped")]
    files: &'a [Vec<u8>],
    /// Files that it has said it read.
    #[serde(serialize_with = "answer::all_escaped")]
    dependencies: &'a [Vec<u8>],
    /// Including those that are left out of `dependencies`.
    dependency_count: usize,
}

#[derive(Serialize)]
struct LineageOutput<'a> {
    #[serde(serialize_with = "answer::escaped")]
    name: &'a [u8],
    object: ObjectHash,
}

/// `to` works on an output of `from`.
#[derive(Serialize)]
struct Link {
    from: StepId,
    to: StepId,
}

/// How many neighbours of a step are not shown.
#[derive(Serialize)]
struct LeftOut {
    step: StepId,
    count: usize,
}

impl LineageAnswer<'_> {
    fn of(lineage: &Lineage) -> LineageAnswer<'_> {
        let steps = lineage.nodes.values().map(|node| {
            let Node { row, outputs: (outputs, count), files, dependencies } = node;
            let outputs = outputs
                .iter()
                .map(|output| LineageOutput { name: &output.name, object: output.object });
            LineageStep {
                step: row.id,
                task: &row.task,
                name: &row.name,
                object: row.object,
                live: row.live,
                state: row.state,
                labels: &row.labels,
                outputs: outputs.collect(),
                output_count: *count,
                files,
                dependencies: &dependencies.0,
                dependency_count: dependencies.1,
            }
        });
        let left_out = |more: &BTreeMap<StepId, usize>| {
            more.iter().map(|(step, count)| LeftOut { step: *step, count: *count }).collect()
        };
        LineageAnswer {
            object: lineage.object.map(|(object, bytes)| SizedObject { object, bytes }),
            made_by: &lineage.up_from,
            used_by: &lineage.down_from,
            steps: steps.collect(),
            links: lineage.links().into_iter().map(|(from, to)| Link { from, to }).collect(),
            more_producers: left_out(&lineage.more_up),
            more_consumers: left_out(&lineage.more_down),
        }
    }
}

fn find(reader: &Reader, what: &OsStr) -> Result<What> {
    let word = what.as_bytes();
    if let Some(object) = db::find_object(reader, word)? {
        return Ok(What::Object(object));
    }
    let is_number = str::from_utf8(word).is_ok_and(|text| text.parse::<i64>().is_ok());
    // A name of a step or a task with a colon says of itself what it is.
    let is_explicit = word.starts_with(b"step:") || word.starts_with(b"task:");
    let printed = unescaped(word).filter(|path| path != word && as_path(path).is_file());
    if !is_number && !is_explicit && Path::new(what).is_file() {
        return match printed {
            None => of_file(reader, Path::new(what)),
            Some(path) => Err(Error::Usage(format!(
                "two files may be meant: the name of one is printed as `{}`, that of the other as `{}`; name the hash \
                 of its content: sha256sum FILE",
                printable(word),
                printable(&path)
            ))),
        };
    }
    let no_other = |error| match error {
        Error::Usage(why) if !is_number && !is_explicit => Error::Usage(format!(
            "{why}\n`{}` is no file and no hash of an object either",
            printable(word)
        )),
        other => other,
    };
    let found = db::meaning(reader, word).and_then(|meant| match meant {
        Meant::Task(..) => db::find_steps(reader, word).map(|steps| (meant, steps)),
        _ => db::find_one_step(reader, word).map(|step| (meant, vec![step])),
    });
    let (meant, steps) = match (found, printed) {
        (Ok(found), _) => found,
        (Err(Error::Usage(_)), Some(path)) => return of_file(reader, as_path(&path)),
        (Err(error), _) => return Err(no_other(error)),
    };
    match (meant, steps.as_slice()) {
        (Meant::Task(_, task), [_, _, ..]) => Err(Error::Usage(format!(
            "task `{task}` has {} steps: name one by its id ({} …) or as {task}/INPUT_NAME",
            steps.len(),
            steps[0].id
        ))),
        (_, steps) => Ok(What::Step(steps[0].clone())),
    }
}

fn of_file(reader: &Reader, path: &Path) -> Result<What> {
    let hashed = File::open(path).and_then(|mut file| ObjectHash::of_stream(&mut file));
    let object = hashed.or_io("read", path)?;
    if db::known_object(reader, &object)?.is_some() {
        return Ok(What::Object(object));
    }
    Err(Error::Usage(format!(
        "nothing that is kept has the bytes of `{}` ({object}): it was changed since, or comes from elsewhere",
        shown(path)
    )))
}

impl Lineage {
    fn collect(
        reader: &Reader,
        what: What,
        all: bool,
        listing: &dyn Fn(&ObjectHash) -> Option<Vec<NamedObject>>,
    ) -> Result<Lineage> {
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
                lineage.object = Some((object, db::known_object(reader, &object)?));
                let (makers, mut users) = db::around_object(reader, &object, width)?;
                // A step over files of that content may be one of another group of files.
                users.retain(|user| {
                    let listed = (makers.is_empty() && user.object != object)
                        .then(|| listing(&user.object))
                        .flatten();
                    listed.is_none_or(|items| items.iter().any(|item| item.object == object))
                });
                (makers, users)
            }
        };
        lineage.up_from = up_from.iter().map(|step| step.id).collect();
        lineage.down_from = down_from.iter().map(|step| step.id).collect();
        lineage.walk(reader, Direction::Up, up_from, width, most)?;
        lineage.walk(reader, Direction::Down, down_from, width, most)?;
        for node in lineage.nodes.values_mut() {
            node.outputs = db::first_outputs(reader, node.row.id, width)?;
            let read = db::step_dependencies(reader, node.row.id)?.map(|read| read.files);
            let mut read = read.unwrap_or_default();
            let count = read.len();
            read.truncate(width);
            node.dependencies = (read, count);
        }
        lineage.find_files(reader, listing)?;
        Ok(lineage)
    }

    /// Walks breadth first, so that the nearest steps are the ones shown.
    fn walk(
        &mut self,
        reader: &Reader,
        way: Direction,
        from: Vec<StepRow>,
        width: usize,
        most: usize,
    ) -> Result<()> {
        let mut seen: HashSet<StepId> = from.iter().map(|step| step.id).collect();
        let mut open: VecDeque<StepId> = from.iter().map(|step| step.id).collect();
        self.add(from);
        while let Some(step) = open.pop_front() {
            // Past the limit, neighbours are only counted.
            let width = if seen.len() >= most { 0 } else { width };
            let (found, count) = db::neighbours(reader, step, way, width)?;
            let (shown, more) = match way {
                Direction::Up => (&mut self.up, &mut self.more_up),
                Direction::Down => (&mut self.down, &mut self.more_down),
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
                dependencies: (Vec::new(), 0),
            });
        }
    }

    /// Finds the files that the roots read.
    fn find_files(
        &mut self,
        reader: &Reader,
        listing: &dyn Fn(&ObjectHash) -> Option<Vec<NamedObject>>,
    ) -> Result<()> {
        // Each root costs a scan of all input files of its task; other tasks have none.
        let mut left = WIDTH;
        for (step, node) in &mut self.nodes {
            node.files = db::files_of(reader, *step, listing)?;
            left -= usize::from(!node.files.is_empty());
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The neighbours of a step that are shown, and how many more there are.
    fn next(&self, step: StepId, way: Direction) -> (&[StepId], usize) {
        let (shown, more) = match way {
            Direction::Up => (&self.up, &self.more_up),
            Direction::Down => (&self.down, &self.more_down),
        };
        (shown.get(&step).map_or(&[], Vec::as_slice), more.get(&step).copied().unwrap_or(0))
    }

    fn text(&self, out: &mut dyn Write, style: Style) -> std::io::Result<()> {
        if let Some((object, bytes)) = &self.object {
            let object = SizedObject { object: *object, bytes: *bytes };
            folded(out, &format!("object {}", style.object(&object)), style)?;
        }
        let is_step = self.object.is_none();
        writeln!(out, "{}", if is_step { "came from" } else { "made by" })?;
        self.forest(&self.up_from, Direction::Up, out, style)?;
        writeln!(out, "{}", if is_step { "and led to" } else { "used by" })?;
        self.forest(&self.down_from, Direction::Down, out, style)
    }

    fn forest(
        &self,
        roots: &[StepId],
        way: Direction,
        out: &mut dyn Write,
        style: Style,
    ) -> std::io::Result<()> {
        if roots.is_empty() {
            writeln!(out, "  nothing")?;
        }
        let mut drawn = HashSet::new();
        roots.iter().try_for_each(|root| self.tree(*root, way, (&mut *out, style), &mut drawn))
    }

    /// Draws a tree, without recursion because a chain may have any length.
    fn tree(
        &self,
        root: StepId,
        way: Direction,
        (out, style): (&mut dyn Write, Style),
        drawn: &mut HashSet<StepId>,
    ) -> std::io::Result<()> {
        // (row, prefix of its line, prefix of the lines below it, depth)
        let mut open = vec![(Row::Step(root), "  ".to_owned(), "  ".to_owned(), 0)];
        while let Some((row, before, below, depth)) = open.pop() {
            let step = match row {
                Row::Text(text) => {
                    writeln!(out, "{}", style.cut(&format!("{before}{text}")))?;
                    continue;
                }
                Row::Step(step) => step,
            };
            let Some(node) = self.nodes.get(&step) else { continue };
            let mut rows: Vec<Row> = Vec::new();
            let mut note = "";
            if !drawn.insert(step) {
                note = " (see above)";
            } else if depth >= DEEPEST {
                note = " (too deep to be drawn further: see --json)";
            } else {
                let (next, more) = self.next(step, way);
                rows.extend(next.iter().map(|step| Row::Step(*step)));
                if more > 0 {
                    let all = if rows.is_empty() { "" } else { "and " };
                    rows.push(Row::Text(format!("… {all}{more} more (--all)")));
                }
                // A root may see others' outputs too.
                if rows.is_empty() || way == Direction::Up {
                    rows.extend(ends(node, way));
                }
            }
            let line = style.cut(&format!("{before}{}{note}", title(node)));
            match (node.row.live, node.row.state) {
                (false, _) => writeln!(out, "{}", style.paint.faint(line))?,
                (true, StepState::Failed) => writeln!(out, "{}", style.paint.bad(line))?,
                (true, StepState::Pending) => writeln!(out, "{}", style.paint.doubtful(line))?,
                (true, StepState::Done) => writeln!(out, "{line}")?,
            }
            let last = rows.len().saturating_sub(1);
            for (n, row) in rows.into_iter().enumerate().rev() {
                let (branch, trunk) =
                    if n == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                open.push((row, format!("{below}{branch}"), format!("{below}{trunk}"), depth + 1));
            }
        }
        Ok(())
    }

    /// (producer, consumer) of every link that is shown, each once.
    fn links(&self) -> Vec<(StepId, StepId)> {
        let up = self.up.iter().flat_map(|(to, from)| from.iter().map(|from| (*from, *to)));
        let down = self.down.iter().flat_map(|(from, to)| to.iter().map(|to| (*from, *to)));
        let mut links: Vec<_> = up.chain(down).collect();
        order::sort_by(&mut links, Ord::cmp);
        links.dedup();
        links
    }

    fn dot(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "digraph lineage {{\n  rankdir=LR;\n  node [shape=box];")?;
        for (id, node) in &self.nodes {
            let asked = self.object.is_none() && self.up_from.contains(id);
            let bold = if asked { ", style=bold" } else { "" };
            writeln!(out, "  s{id} [label=\"{}\"{bold}];", text::dot(&title(node)))?;
        }
        for (from, to) in self.links() {
            writeln!(out, "  s{from} -> s{to};")?;
        }
        let more = [(&self.more_up, true), (&self.more_down, false)];
        for (step, count, is_up) in more
            .iter()
            .flat_map(|(more, is_up)| more.iter().map(move |(step, count)| (step, count, *is_up)))
        {
            let (name, way) = if is_up { ("u", "->") } else { ("d", "->") };
            writeln!(out, "  {name}{step} [label=\"… {count} more\", style=dashed];")?;
            match is_up {
                true => writeln!(out, "  {name}{step} {way} s{step};")?,
                false => writeln!(out, "  s{step} {way} {name}{step};")?,
            }
        }
        writeln!(out, "}}")
    }
}

/// One line of the tree.
enum Row {
    Step(StepId),
    Text(String),
}

fn title(Node { row, outputs: (_, count), .. }: &Node) -> String {
    let name = row.text();
    let history = if row.live { "" } else { ", history" };
    let made = match (row.state, count) {
        (StepState::Done, 1) => ", 1 output".to_owned(),
        (StepState::Done, count) => format!(", {count} outputs"),
        _ => String::new(),
    };
    format!("{name}: {}{made}{history}", row.state)
}

/// What follows after the last step: the files that it read, or its results.
fn ends(node: &Node, way: Direction) -> Vec<Row> {
    let (outputs, count) = &node.outputs;
    match way {
        Direction::Up => {
            let files =
                node.files.iter().map(|file| Row::Text(format!("file {}", printable(file))));
            let (read, count) = &node.dependencies;
            let named = read.iter().map(|file| Row::Text(format!("read {}", printable(file))));
            let mut rows: Vec<Row> = files.chain(named).collect();
            if *count > read.len() {
                rows.push(Row::Text(format!("… and {} more read (--all)", count - read.len())));
            }
            rows
        }
        Direction::Down => {
            let shown = outputs.iter().map(|output| {
                Row::Text(format!("{} {}", printable(&output.name), &output.object.hex()))
            });
            let mut rows: Vec<Row> = shown.take(WIDTH.max(outputs.len())).collect();
            if *count > outputs.len() {
                rows.push(Row::Text(format!("… and {} more (--all)", count - outputs.len())));
            }
            rows
        }
    }
}
