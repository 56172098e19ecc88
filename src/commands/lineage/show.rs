//! A lineage as a tree, as JSON, and in the language of Graphviz.

use std::collections::HashSet;
use std::io::{Result, Write};

use serde_json::{Value, json};

use super::{Lineage, Node, WIDTH};
use crate::attempt::{NamedObject, StepState};
use crate::db::Way;
use crate::ids::StepId;
use crate::text::{self, printable, size};

/// Deeper than this a tree is told, not drawn: the rest is in the JSON.
const DEEPEST: usize = 200;

impl Lineage {
    /// Steps next to a step, and how many more there are.
    fn next(&self, step: StepId, way: Way) -> (&[StepId], usize) {
        let (shown, more) = match way {
            Way::Up => (&self.up, &self.more_up),
            Way::Down => (&self.down, &self.more_down),
        };
        (shown.get(&step).map_or(&[], Vec::as_slice), more.get(&step).copied().unwrap_or(0))
    }

    pub(super) fn text(&self, out: &mut dyn Write) -> Result<()> {
        if let Some((object, bytes)) = &self.object {
            let size = bytes.map_or_else(|| "no longer kept".to_owned(), size);
            writeln!(out, "object {object} ({size})")?;
        }
        let is_step = self.object.is_none();
        writeln!(out, "{}", if is_step { "came from" } else { "made by" })?;
        self.forest(&self.up_from, Way::Up, out)?;
        writeln!(out, "{}", if is_step { "and led to" } else { "used by" })?;
        self.forest(&self.down_from, Way::Down, out)
    }

    fn forest(&self, roots: &[StepId], way: Way, out: &mut dyn Write) -> Result<()> {
        if roots.is_empty() {
            writeln!(out, "  nothing")?;
        }
        let mut drawn = HashSet::new();
        roots.iter().try_for_each(|root| self.tree(*root, way, out, &mut drawn))
    }

    /// Draws a tree without recursion: a chain may be as long as it likes.
    fn tree(
        &self,
        root: StepId,
        way: Way,
        out: &mut dyn Write,
        drawn: &mut HashSet<StepId>,
    ) -> Result<()> {
        // (step, what stands before its line, what stands before those below it)
        let mut open = vec![(Row::Step(root), "  ".to_owned(), "  ".to_owned(), 0)];
        while let Some((row, before, below, depth)) = open.pop() {
            let step = match row {
                Row::Text(text) => {
                    writeln!(out, "{before}{text}")?;
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
                if rows.is_empty() {
                    rows.extend(ends(node, way));
                }
            }
            writeln!(out, "{before}{}{note}", title(node))?;
            let last = rows.len().saturating_sub(1);
            for (n, row) in rows.into_iter().enumerate().rev() {
                let (branch, trunk) =
                    if n == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                open.push((row, format!("{below}{branch}"), format!("{below}{trunk}"), depth + 1));
            }
        }
        Ok(())
    }

    pub(super) fn json(&self) -> Value {
        let output = |output: &NamedObject| json!({ "name": printable(&output.name), "object": output.object.hex() });
        let steps: Vec<_> = self
            .nodes
            .values()
            .map(|Node { row, outputs: (outputs, count), files }| {
                json!({
                    "step": row.id.0, "task": row.task, "input": printable(&row.name),
                    "object": row.object.hex(), "live": row.live, "state": row.state,
                    "outputs": outputs.iter().map(output).collect::<Vec<_>>(),
                    "output_count": count,
                    "files": files.iter().map(|file| printable(file)).collect::<Vec<_>>(),
                })
            })
            .collect();
        let links: Vec<_> =
            self.links().iter().map(|(from, to)| json!({ "from": from.0, "to": to.0 })).collect();
        let left_out = |(step, count): (&StepId, &usize)| json!({ "step": step.0, "count": count });
        let ids = |steps: &[StepId]| steps.iter().map(|step| step.0).collect::<Vec<_>>();
        json!({
            "object": self.object.map(|(object, bytes)| json!({ "object": object.hex(), "bytes": bytes })),
            "made_by": ids(&self.up_from), "used_by": ids(&self.down_from),
            "steps": steps, "links": links,
            "more_producers": self.more_up.iter().map(left_out).collect::<Vec<_>>(),
            "more_consumers": self.more_down.iter().map(left_out).collect::<Vec<_>>(),
        })
    }

    /// (producer, consumer) of all that are shown, each once.
    fn links(&self) -> Vec<(StepId, StepId)> {
        let up = self.up.iter().flat_map(|(to, from)| from.iter().map(|from| (*from, *to)));
        let down = self.down.iter().flat_map(|(from, to)| to.iter().map(|to| (*from, *to)));
        let mut links: Vec<_> = up.chain(down).collect();
        links.sort_unstable();
        links.dedup();
        links
    }

    pub(super) fn dot(&self, out: &mut dyn Write) -> Result<()> {
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

/// What stands on one line.
enum Row {
    Step(StepId),
    Text(String),
}

fn title(Node { row, outputs: (_, count), .. }: &Node) -> String {
    let name = text::step(row.id.0, &row.task, &row.name);
    let history = if row.live { "" } else { ", history" };
    let made = match (row.state, count) {
        (StepState::Done, 1) => ", 1 output".to_owned(),
        (StepState::Done, count) => format!(", {count} outputs"),
        _ => String::new(),
    };
    format!("{name}: {}{made}{history}", row.state)
}

/// What is beyond the last step: the files that it read, or its results.
fn ends(node: &Node, way: Way) -> Vec<Row> {
    let (outputs, count) = &node.outputs;
    match way {
        Way::Up => {
            let files =
                node.files.iter().map(|file| Row::Text(format!("file {}", printable(file))));
            files.collect()
        }
        Way::Down => {
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
