//! What a run had to say of results that are well and yet may not be what was meant: kept, so that a run with nothing to
//! do and the report say it too. In the table `meta`, as JSON, for the last run that came to its end.

use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use crate::error::{Error, OrDb, Result};

use crate::db::{Reader, Writer};

/// The remarks of a run, and what they are about, by the names of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remarks {
    /// A sentence each.
    pub sentences: Vec<String>,
    /// Tasks with inputs on which there are no steps, because there is nothing that they could see, and how many.
    pub unseeing: Vec<(String, u64)>,
    /// Tasks with steps that left nothing.
    pub empty: Vec<String>,
    /// A producer, a consumer whose `match` takes nothing of it, and an output.
    pub untaken: Vec<(String, String, String)>,
}

impl Remarks {
    /// Those of the last run.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn read(reader: &Reader) -> Result<Remarks> {
        let sql = "SELECT value FROM meta WHERE key = 'remarks'";
        let json: Option<String> = reader
            .conn
            .query_row(sql, [], |row| row.get(0))
            .optional()
            .or_db("read what the last run had to say")?;
        Ok(json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
    }

    /// Keeps them in place of those of the run before.
    ///
    /// # Errors
    /// If the row can't be written.
    pub fn note(&self, writer: &mut Writer) -> Result<()> {
        let what = "close the run";
        if *self == Remarks::default() {
            let sql = "DELETE FROM meta WHERE key = 'remarks'";
            return writer.conn.execute(sql, []).map(drop).or_db(what);
        }
        let json = serde_json::to_string(self).map_err(|err| Error::Internal(err.to_string()))?;
        let sql = "INSERT OR REPLACE INTO meta(key, value) VALUES ('remarks', ?1)";
        writer.conn.execute(sql, [json]).map(drop).or_db(what)
    }

    /// All of them, a sentence each.
    pub fn all(&self) -> Vec<String> {
        let unseeing = self.unseeing.iter().map(|(task, count)| unseeing_sentence(task, *count));
        self.sentences.iter().cloned().chain(unseeing).collect()
    }
}

/// What to say of inputs on which there are no steps.
pub fn unseeing_sentence(task: &str, count: u64) -> String {
    let (inputs, have) = if count == 1 { ("input", "has") } else { ("inputs", "have") };
    format!("task {task}: {count} {inputs} {have} no step, since its `with` gives nothing to see")
}
