//! The schemas of all JSON that the program writes, and whether a value is as one of them wants it.

use std::path::{Path, PathBuf};

use argh::ArgsInfo as _;
use serde_json::Value;
use task_pipeline::commands::Invocation;

/// Where they lie, `NAME.json` each.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schemas")
}

/// The schema of what a command line writes with `--json`: it has the command's name; `run -n` plans.
pub(crate) fn of_command(args: &[String]) -> &str {
    match args.first().map(String::as_str) {
        Some(first) if first != "run" && commands().contains(&first) => first,
        _ => "plan",
    }
}

/// The commands that have `--json`.
pub(crate) fn commands() -> Vec<&'static str> {
    let has_json = |flags: &[argh::FlagInfo<'_>]| flags.iter().any(|flag| flag.long == "--json");
    let commands = Invocation::get_args_info().commands;
    let with_json = commands.iter().filter(|command| has_json(command.command.flags));
    with_json.map(|command| command.name).collect()
}

pub(crate) fn read(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|err| panic!("no schema for `{name}`: {}: {err}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Whether a value is what the schema of this name describes; else all that is wrong with it.
pub(crate) fn check(name: &str, value: &Value) -> Result<(), String> {
    let schema = jsonschema::draft202012::new(&read(name))
        .unwrap_or_else(|err| panic!("{name}.json is no schema: {err}"));
    let wrong: Vec<String> = schema
        .iter_errors(value)
        .map(|err| format!("{name}.json: at `{}`: {err}", err.instance_path()))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
