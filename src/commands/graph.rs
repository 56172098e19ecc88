//! `graph`: the tasks, who feeds whom, and how far their steps are.

mod show;

use std::collections::HashMap;

use serde::Deserialize;

use crate::cli::{Graph as Args, GraphFormat};
use crate::db::{self, Db, TaskStatus};
use crate::error::{Error, Result, exit};
use crate::manifest::Manifest;

use super::{answer, complain};

/// A task as it is drawn.
struct Node {
    name: String,
    /// Places of the tasks whose outputs it consumes.
    from: Vec<usize>,
    matches: Vec<String>,
    inputs: Vec<String>,
    gather: bool,
    /// `None`: no run knows the task.
    status: Option<TaskStatus>,
}

/// Where the inputs of a task come from, as the database keeps it.
#[derive(Deserialize)]
struct Feeds {
    from: Vec<String>,
    #[serde(rename = "match")]
    matches: Vec<String>,
    inputs: Vec<String>,
}

/// Draws the tasks of the last run, or of a manifest.
pub(super) fn graph(args: &Args) -> Result<u8> {
    let nodes = match &args.manifest {
        Some(path) => {
            let mut nodes = of_manifest(&Manifest::read(path)?);
            // It needs no database; if there is one, it tells how far things are.
            if Db::file(&args.db).exists() {
                let mut known = status(&Db::open_read_only(&args.db)?)?;
                for node in &mut nodes {
                    node.status = known.remove(&node.name);
                }
            }
            nodes
        }
        None => of_database(&Db::open_read_only(&args.db)?)?,
    };
    let format = if args.json { GraphFormat::Json } else { args.format };
    match format {
        GraphFormat::Text => answer::write(|out| show::text(&nodes, out))?,
        GraphFormat::Dot => answer::write(|out| show::dot(&nodes, out))?,
        GraphFormat::Mermaid => answer::write(|out| show::mermaid(&nodes, out))?,
        GraphFormat::Json => answer::json(&show::json(&nodes))?,
    }
    Ok(exit::OK)
}

fn of_manifest(manifest: &Manifest) -> Vec<Node> {
    let node = |task: &crate::manifest::Task| Node {
        name: task.name.clone(),
        from: task.from.iter().map(|from| from.0).collect(),
        matches: task.matches.clone(),
        inputs: task.inputs.clone(),
        gather: task.gather,
        status: None,
    };
    manifest.tasks.iter().map(node).collect()
}

fn status(db: &Db) -> Result<HashMap<String, TaskStatus>> {
    let tasks = db::status(&db.lock())?;
    Ok(tasks.into_iter().map(|task| (task.name.clone(), task)).collect())
}

fn of_database(db: &Db) -> Result<Vec<Node>> {
    let mut known = status(db)?;
    let wiring = db::wiring(&db.lock())?;
    let places: HashMap<String, usize> =
        wiring.iter().enumerate().map(|(place, task)| (task.name.clone(), place)).collect();
    if wiring.iter().any(|task| task.feeds.is_none()) {
        complain(
            "an older build made this database, and the next run that has anything to do notes who feeds \
             whom; until then, name the manifest with -manifest",
        );
    }
    let mut nodes = Vec::with_capacity(wiring.len());
    for task in wiring {
        let feeds = match &task.feeds {
            Some(json) => serde_json::from_str(json)
                .map_err(|err| Error::Internal(format!("feeds of `{}`: {err}", task.name)))?,
            None => Feeds { from: Vec::new(), matches: Vec::new(), inputs: Vec::new() },
        };
        nodes.push(Node {
            from: feeds.from.iter().filter_map(|name| places.get(name).copied()).collect(),
            matches: feeds.matches,
            inputs: feeds.inputs,
            gather: task.gather,
            status: known.remove(&task.name),
            name: task.name,
        });
    }
    Ok(nodes)
}
