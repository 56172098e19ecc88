//! The graph as text of 80 columns, for Graphviz, for Mermaid, and as JSON.

use std::io::{Result, Write};

use serde_json::{Value, json};

use super::Node;
use crate::db::TaskStatus;
use crate::text::dot as quoted;

const COLUMNS: usize = 80;
/// Columns of a name; a longer one is cut there in the text form.
const NAME: usize = 30;

/// `12 done, 1 failed`
fn states(node: &Node) -> String {
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

/// Producers before consumers, with the length of the longest way from a root.
fn ordered(nodes: &[Node]) -> Vec<(usize, usize)> {
    let mut depth: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    // A manifest may name a later task in `from`; each round places at least one.
    while order.len() < nodes.len() {
        let before = order.len();
        for (place, node) in nodes.iter().enumerate() {
            if depth[place].is_some() {
                continue;
            }
            let above: Option<Vec<usize>> = node.from.iter().map(|from| depth[*from]).collect();
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

pub(super) fn text(nodes: &[Node], out: &mut dyn Write) -> Result<()> {
    let order = ordered(nodes);
    // Names below their depth; deep chains don't run out of the page.
    let indent = |depth: usize| 2 * depth.min(6);
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
            true => node.inputs.iter().map(String::as_str).collect(),
            false => node.from.iter().map(|from| nodes[*from].name.as_str()).collect(),
        };
        if !sources.is_empty() {
            line += &format!("  <- {gather}{}", list(&sources));
        }
        writeln!(out, "{}", cut(&line, COLUMNS))?;
    }
    Ok(())
}

/// A few names, and how many more there are.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| cut(name, NAME)).collect();
    if names.len() > SHOWN {
        text.push(format!("{} more", names.len() - SHOWN));
    }
    crate::text::printable(text.join(", ").as_bytes()).into_owned()
}

pub(super) fn dot(nodes: &[Node], out: &mut dyn Write) -> Result<()> {
    writeln!(out, "digraph tasks {{\n  rankdir=LR;\n  node [shape=box, style=rounded];")?;
    for (place, node) in nodes.iter().enumerate() {
        let failed = node.status.as_ref().is_some_and(|status| status.failed > 0);
        let color = if failed { ", color=red" } else { "" };
        let shape = if node.gather { ", shape=house" } else { "" };
        let label = format!("{}\\n{}", quoted(&node.name), quoted(&states(node)));
        writeln!(out, "  t{place} [label=\"{label}\"{shape}{color}];")?;
    }
    for (place, node) in nodes.iter().enumerate() {
        for from in &node.from {
            match node.matches.is_empty() {
                true => writeln!(out, "  t{from} -> t{place};")?,
                false => writeln!(
                    out,
                    "  t{from} -> t{place} [label=\"{}\"];",
                    quoted(&node.matches.join(" "))
                )?,
            }
        }
    }
    writeln!(out, "}}")
}

pub(super) fn mermaid(nodes: &[Node], out: &mut dyn Write) -> Result<()> {
    writeln!(out, "flowchart LR")?;
    for (place, node) in nodes.iter().enumerate() {
        // Names have no character that Mermaid could take amiss.
        writeln!(out, "  t{place}[\"{}<br/>{}\"]", node.name, states(node))?;
    }
    for (place, node) in nodes.iter().enumerate() {
        for from in &node.from {
            writeln!(out, "  t{from} --> t{place}")?;
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

pub(super) fn json(nodes: &[Node]) -> Value {
    let task = |node: &Node| {
        let status = node.status.as_ref().map(|status| {
            json!({
                "done": status.done, "pending": status.pending, "failed": status.failed,
                "retired": status.retired, "outputs": status.outputs,
            })
        });
        let from: Vec<&str> = node.from.iter().map(|from| nodes[*from].name.as_str()).collect();
        json!({
            "task": node.name, "from": from, "match": node.matches, "inputs": node.inputs,
            "gather": node.gather, "steps": status,
        })
    };
    json!({ "tasks": nodes.iter().map(task).collect::<Vec<_>>() })
}
