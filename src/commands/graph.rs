//! `graph`: the graph of the tasks with the state of their steps, as text of 80 columns, for Graphviz, for
//! Mermaid, and as JSON.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgValue, FromArgs};
use serde::{Deserialize, Serialize};

use crate::cli::Color;
use crate::cli::values::{default_db, path};
use crate::db::{self, Db, TaskStatus};
use crate::error::{Error, Result, exit};
use crate::manifest::Manifest;
use crate::text::dot as quoted;

use super::style::Style;
use super::{Command, answer, complain};

const COLUMNS: usize = 80;
/// Columns of a name in the text form; a longer one is cut.
const NAME: usize = 30;
/// Columns that the deepest task is indented by, at most.
const DEEPEST_INDENT: usize = 30;

/// Draw the graph of the tasks, with the state of their steps.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "graph")]
#[argh(
    note = "The tasks are those of the last run, or, with --manifest, those of a manifest, which needs no database."
)]
pub struct GraphArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// draw the tasks of this manifest; default: those of the last run
    #[argh(option, short = 'f', arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// text, dot (Graphviz), mermaid or json; default: text
    #[argh(option, arg_name = "FORMAT", default = "GraphFormat::Text")]
    pub format: GraphFormat,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// the same as --format json
    #[argh(switch)]
    pub json: bool,
}

/// How a graph is written.
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// For a terminal of 80 columns.
    Text,
    /// Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
    /// For programs.
    Json,
}

impl Command for GraphArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        let nodes = match &self.manifest {
            Some(path) => {
                let mut nodes = of_manifest(&Manifest::read(path)?);
                // No database is needed; if there is one, it says how far things are.
                if Db::file(&self.db).exists() {
                    let mut known = status(&Db::open_read_only(&self.db)?)?;
                    for node in &mut nodes {
                        node.status = known.remove(&node.name);
                    }
                }
                nodes
            }
            None => of_database(&Db::open_read_only(&self.db)?)?,
        };
        let format = if self.json { GraphFormat::Json } else { self.format };
        match format {
            GraphFormat::Text => answer::write(|out| text(&nodes, out, Style::of(self.color)))?,
            GraphFormat::Dot => answer::write(|out| dot(&nodes, out))?,
            GraphFormat::Mermaid => answer::write(|out| mermaid(&nodes, out))?,
            GraphFormat::Json => answer::json(&Graph::of(&nodes))?,
        }
        Ok(exit::OK)
    }
}

/// A task as it is drawn.
struct TaskNode {
    name: String,
    /// Indices of the tasks whose outputs it consumes.
    from: Vec<usize>,
    /// Of those whose outputs its steps see besides their input.
    with: Vec<usize>,
    matches: Vec<String>,
    /// The globs for single producers, by name.
    matches_of: BTreeMap<String, Vec<String>>,
    inputs: Vec<String>,
    /// The table whose rows are its inputs.
    table: Option<String>,
    /// Names of the params that its script is given.
    params: Vec<String>,
    /// Names of the caller's variables that it is given.
    env_from: Vec<String>,
    /// Globs on what each step has to leave; `None`: nothing is said.
    outputs: Option<Vec<String>>,
    gather: bool,
    /// Keys that it gathers by.
    gather_by: Vec<String>,
    /// Keys of the labels that its steps may have.
    labels: Vec<String>,
    /// `None`: no run knows the task.
    status: Option<TaskStatus>,
}

impl TaskNode {
    /// `$seed`: what its script is given besides its input.
    fn variables(&self) -> impl Iterator<Item = String> {
        self.params.iter().chain(&self.env_from).map(|name| format!("${name}"))
    }
}

/// Where the inputs of a task come from, as recorded in the database.
#[derive(Deserialize, Default)]
struct Feeds {
    from: Vec<String>,
    #[serde(default)]
    with: Vec<String>,
    #[serde(rename = "match")]
    matches: Vec<String>,
    #[serde(default, rename = "match_of")]
    matches_of: BTreeMap<String, Vec<String>>,
    inputs: Vec<String>,
    /// Older builds did not record these.
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    params: Vec<String>,
    #[serde(default)]
    env_from: Vec<String>,
    #[serde(default)]
    outputs: Option<Vec<String>>,
    #[serde(default)]
    gather_by: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
}

/// The answer as JSON.
#[derive(Serialize)]
struct Graph<'a> {
    tasks: Vec<GraphTask<'a>>,
}

#[derive(Serialize)]
struct GraphTask<'a> {
    task: &'a str,
    /// Names of the tasks whose outputs it consumes.
    from: Vec<&'a str>,
    /// Of those whose outputs its steps see besides their input.
    with: Vec<&'a str>,
    #[serde(rename = "match")]
    matches: &'a [String],
    #[serde(rename = "match_of")]
    matches_of: Vec<MatchOf<'a>>,
    inputs: &'a [String],
    table: Option<&'a str>,
    params: &'a [String],
    env_from: &'a [String],
    /// `None`: nothing is said.
    outputs: Option<&'a [String]>,
    gather: bool,
    gather_by: &'a [String],
    labels: &'a [String],
    /// `None`: no run knows the task.
    steps: Option<StepNumbers>,
}

/// What is taken of one producer.
#[derive(Serialize)]
struct MatchOf<'a> {
    from: &'a str,
    #[serde(rename = "match")]
    matches: &'a [String],
}

/// Steps of a task, and their outputs.
#[derive(Serialize)]
struct StepNumbers {
    done: u64,
    pending: u64,
    failed: u64,
    retired: u64,
    outputs: u64,
}

impl Graph<'_> {
    fn of(nodes: &[TaskNode]) -> Graph<'_> {
        let numbers = |status: &TaskStatus| StepNumbers {
            done: status.done,
            pending: status.pending,
            failed: status.failed,
            retired: status.retired,
            outputs: status.outputs,
        };
        let tasks = nodes.iter().map(|node| GraphTask {
            task: &node.name,
            from: node.from.iter().map(|from| nodes[*from].name.as_str()).collect(),
            with: node.with.iter().map(|with| nodes[*with].name.as_str()).collect(),
            matches: &node.matches,
            matches_of: node
                .matches_of
                .iter()
                .map(|(from, matches)| MatchOf { from, matches })
                .collect(),
            inputs: &node.inputs,
            table: node.table.as_deref(),
            params: &node.params,
            env_from: &node.env_from,
            outputs: node.outputs.as_deref(),
            gather: node.gather,
            gather_by: &node.gather_by,
            labels: &node.labels,
            steps: node.status.as_ref().map(numbers),
        });
        Graph { tasks: tasks.collect() }
    }
}

fn of_manifest(manifest: &Manifest) -> Vec<TaskNode> {
    let node = |task: &crate::manifest::Task| TaskNode {
        name: task.name.clone(),
        from: task.from.iter().map(|from| from.0).collect(),
        with: task.with.iter().map(|with| with.0).collect(),
        matches: task.matches.clone(),
        matches_of: task
            .matches_of
            .iter()
            .map(|(from, globs)| (manifest.task(*from).name.clone(), globs.clone()))
            .collect(),
        inputs: task.written_inputs(),
        table: task.table.as_ref().map(|table| table.file.clone()),
        params: task.params.keys().cloned().collect(),
        env_from: task.env_from.keys().cloned().collect(),
        outputs: task.outputs.clone(),
        gather: task.gather,
        gather_by: task.gather_keys.clone(),
        labels: task.label_keys.clone(),
        status: None,
    };
    manifest.tasks.iter().map(node).collect()
}

fn status(db: &Db) -> Result<HashMap<String, TaskStatus>> {
    let tasks = db.read(db::status)?;
    Ok(tasks.into_iter().map(|task| (task.name.clone(), task)).collect())
}

fn of_database(db: &Db) -> Result<Vec<TaskNode>> {
    let mut known = status(db)?;
    let wiring = db.read(db::wiring)?;
    let places: HashMap<String, usize> =
        wiring.iter().enumerate().map(|(place, task)| (task.name.clone(), place)).collect();
    if wiring.iter().any(|task| task.feeds.is_none()) {
        complain(
            "this database was made by an older version, which did not record how the tasks are connected; \
             the next run that has anything to do records it; until then, name the manifest with -manifest",
        );
    }
    let mut nodes = Vec::with_capacity(wiring.len());
    for task in wiring {
        let feeds = match &task.feeds {
            Some(json) => serde_json::from_str(json)
                .map_err(|err| Error::Internal(format!("feeds of `{}`: {err}", task.name)))?,
            None => Feeds::default(),
        };
        let places = |names: &[String]| {
            names.iter().filter_map(|name| places.get(name).copied()).collect::<Vec<usize>>()
        };
        nodes.push(TaskNode {
            from: places(&feeds.from),
            with: places(&feeds.with),
            matches: feeds.matches,
            matches_of: feeds.matches_of,
            inputs: feeds.inputs,
            table: feeds.table,
            params: feeds.params,
            env_from: feeds.env_from,
            outputs: feeds.outputs,
            gather: task.gather,
            gather_by: feeds.gather_by,
            labels: feeds.labels,
            status: known.remove(&task.name),
            name: task.name,
        });
    }
    Ok(nodes)
}

/// `12 done, 1 failed`
fn states(node: &TaskNode) -> String {
    let Some(TaskStatus { done, pending, failed, .. }) = &node.status else {
        return "not run yet".to_owned();
    };
    let counts = [(done, "done"), (pending, "pending"), (failed, "failed")];
    let words: Vec<String> = counts
        .iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if words.is_empty() { "no steps".to_owned() } else { words.join(", ") }
}

/// Indices with producers before consumers, each with the length of the longest path from a root.
fn ordered(nodes: &[TaskNode]) -> Vec<(usize, usize)> {
    let mut depth: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    // A manifest may name a later task in `from`; each round places at least one.
    while order.len() < nodes.len() {
        let before = order.len();
        for (place, node) in nodes.iter().enumerate() {
            if depth[place].is_some() {
                continue;
            }
            let above = node.from.iter().chain(&node.with).map(|above| depth[*above]);
            let above: Option<Vec<usize>> = above.collect();
            if let Some(above) = above {
                let deep = above.into_iter().max().map_or(0, |above| above + 1);
                depth[place] = Some(deep);
                order.push((place, deep));
            }
        }
        if order.len() == before {
            break;
        }
    }
    order
}

fn cut(name: &str, width: usize) -> String {
    match name.char_indices().nth(width.saturating_sub(1)) {
        Some((at, _)) if name.chars().count() > width => format!("{}…", &name[..at]),
        _ => name.to_owned(),
    }
}

fn text(nodes: &[TaskNode], out: &mut dyn Write, style: Style) -> std::io::Result<()> {
    let order = ordered(nodes);
    // Names are indented by their depth. Where that would leave no room for the rest of the line, each level gets less,
    // but never less than the one above it.
    let deepest = order.iter().map(|(_, depth)| *depth).max().unwrap_or(0).max(1);
    let indent = |depth: usize| (2 * depth).min(depth * DEEPEST_INDENT / deepest);
    let width = order
        .iter()
        .map(|(place, depth)| indent(*depth) + nodes[*place].name.chars().count().min(NAME))
        .max()
        .unwrap_or(0);
    for (place, depth) in order {
        let node = &nodes[place];
        let name = format!("{:1$}{2}", "", indent(depth), cut(&node.name, NAME));
        let mut line = format!("{name:width$}  {}", states(node));
        let gather = if node.gather { "gathers " } else { "" };
        let sources: Vec<&str> = match node.from.is_empty() {
            true => node.inputs.iter().chain(&node.table).map(String::as_str).collect(),
            false => node.from.iter().map(|from| nodes[*from].name.as_str()).collect(),
        };
        if !sources.is_empty() {
            line += &format!("  <- {gather}{}{}", list(&sources), by(node));
        }
        if !node.labels.is_empty() {
            line += &format!("  [{}]", node.labels.join(", "));
        }
        if !node.with.is_empty() {
            let with: Vec<&str> = node.with.iter().map(|with| nodes[*with].name.as_str()).collect();
            line += &format!("  with {}", list(&with));
        }
        let variables: Vec<String> = node.variables().collect();
        if !variables.is_empty() {
            line +=
                &format!("  {}", list(&variables.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        let line = cut(&line, style.columns.unwrap_or(COLUMNS));
        let (failed, left) =
            node.status.as_ref().map_or((0, 0), |steps| (steps.failed, steps.pending));
        let states = states(node);
        let painted = match (failed, left) {
            _ if node.status.is_none() => style.paint.faint(&states),
            (0, 0) => style.paint.good(&states),
            (0, _) => style.paint.doubtful(&states),
            _ => style.paint.bad(&states),
        };
        // Only whole, and behind the name, which may hold the same words.
        match line
            .split_at_checked(name.len().max(width))
            .filter(|(_, rest)| rest.contains(&states))
        {
            Some((name, rest)) => writeln!(out, "{name}{}", rest.replacen(&states, &painted, 1))?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// ` by sample`
fn by(node: &TaskNode) -> String {
    let keys = node.gather_by.join(", ");
    if keys.is_empty() { keys } else { format!(" by {keys}") }
}

/// The first few names, and how many more there are.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| cut(name, NAME)).collect();
    if names.len() > SHOWN {
        text.push(format!("{} more", names.len() - SHOWN));
    }
    crate::text::printable(text.join(", ").as_bytes()).into_owned()
}

fn dot(nodes: &[TaskNode], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "digraph tasks {{\n  rankdir=LR;\n  node [shape=box, style=rounded];")?;
    for (place, node) in nodes.iter().enumerate() {
        let failed = node.status.as_ref().is_some_and(|status| status.failed > 0);
        let color = if failed { ", color=red" } else { "" };
        let shape = if node.gather { ", shape=house" } else { "" };
        let mut label = format!("{}\\n{}", quoted(&node.name), quoted(&states(node)));
        for variable in node.variables() {
            label += &format!("\\n{variable}");
        }
        if !node.labels.is_empty() {
            label += &format!("\\n[{}]", node.labels.join(", "));
        }
        writeln!(out, "  t{place} [label=\"{label}\"{shape}{color}];")?;
    }
    for (place, node) in nodes.iter().enumerate() {
        for from in &node.from {
            let globs = node.matches_of.get(&nodes[*from].name).unwrap_or(&node.matches);
            let by = by(node);
            match globs.is_empty() && by.is_empty() {
                true => writeln!(out, "  t{from} -> t{place};")?,
                false => {
                    let label = quoted(&(globs.join(" ") + &by));
                    writeln!(out, "  t{from} -> t{place} [label=\"{label}\"];")?;
                }
            }
        }
        for with in &node.with {
            writeln!(out, "  t{with} -> t{place} [style=dashed];")?;
        }
    }
    writeln!(out, "}}")
}

fn mermaid(nodes: &[TaskNode], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "flowchart LR")?;
    for (place, node) in nodes.iter().enumerate() {
        // A name has no character that is special to Mermaid.
        let mut params: String =
            node.variables().map(|variable| format!("<br/>{variable}")).collect();
        if !node.labels.is_empty() {
            params += &format!("<br/>[{}]", node.labels.join(", "));
        }
        writeln!(out, "  t{place}[\"{}<br/>{}{params}\"]", node.name, states(node))?;
    }
    for (place, node) in nodes.iter().enumerate() {
        for from in &node.from {
            writeln!(out, "  t{from} --> t{place}")?;
        }
        for with in &node.with {
            writeln!(out, "  t{with} -.-> t{place}")?;
        }
    }
    let failed = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.status.as_ref().is_some_and(|status| status.failed > 0));
    let mut failed = failed.peekable();
    if failed.peek().is_some() {
        writeln!(out, "  classDef failed stroke:#c00,stroke-width:2px")?;
    }
    failed.try_for_each(|(place, _)| writeln!(out, "  class t{place} failed"))
}
