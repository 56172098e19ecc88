//! The manifest as a JSON schema, for editors: made of the same keys as the parser, the help and the manual. It says less
//! than the parser knows: nothing of what goes together, and nothing of files. Draft 4, which is the newest that taplo,
//! the language server of most editors of TOML, is sure of.

use serde_json::{Map, Value, json};

use super::task::{KEYS, Key};

/// A table of a manifest besides its tasks.
pub struct TopTable {
    /// As it is written, without brackets.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The same in lines of a manifest.
    pub example: &'static [&'static str],
}

/// Every one of them.
pub const TABLES: &[TopTable] = &[
    TopTable {
        name: "params",
        about: "Values that the command line can change: seed = 42 here, and -P seed=7 or a file for --params there. A task \
                that names one in its params gets it as a variable, $seed; only its steps depend on the value.",
        example: &["[params]", "seed = 42"],
    },
    TopTable {
        name: "defaults",
        about: "Keys of tasks, for all tasks that don't have them. What a task says itself replaces the default; of env, \
                each variable by itself.",
        example: &["[defaults]", "shell = \"bash -euo pipefail\"", "retries = 1"],
    },
];

/// The one key above all tables.
pub const TITLE: TopTable = TopTable {
    name: "title",
    about: "What the pipeline is called in its report. Value: a string. Default: the name of the manifest's folder.",
    example: &["title = \"Words by sample\""],
};

/// The schema.
pub fn schema() -> Value {
    let mut properties = Map::new();
    let title = json!({ "type": "string", "minLength": 1, "description": TITLE.about });
    properties.insert(TITLE.name.to_owned(), title);
    for TopTable { name, about, .. } in TABLES {
        let mut table = match *name {
            "defaults" => object(&Key::may_be_default),
            _ => json!({
                "type": "object",
                "patternProperties": {
                    "^[a-z][a-z0-9_]{0,63}$": { "type": ["string", "number", "boolean"] },
                },
                "additionalProperties": false,
            }),
        };
        table["description"] = json!(about);
        properties.insert((*name).to_owned(), table);
    }
    let mut task = object(&|_| true);
    task["required"] = json!(["name", "script"]);
    properties.insert(
        "task".to_owned(),
        json!({
            "type": "array",
            "minItems": 1,
            "items": task,
            "description": "The tasks: a [[task]] for each of them.",
        }),
    );
    json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "A manifest of task-pipeline",
        "type": "object",
        "properties": properties,
        "required": ["task"],
        "additionalProperties": false,
    })
}

/// A table with these keys of a task.
fn object(has: &dyn Fn(&Key) -> bool) -> Value {
    let mut properties = Map::new();
    for key in KEYS.iter().filter(|key| has(key)) {
        let mut value = key.kind.schema();
        value["description"] = json!(format!("{}\n\n{}", key.told(), key.example));
        properties.insert(key.name.to_owned(), value);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}
