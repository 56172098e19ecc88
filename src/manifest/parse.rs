//! From the bytes of a manifest to its tasks: encoding, TOML, the list of tasks.

use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use toml::de::{DeTable, DeValue};

use super::findings::Findings;
use super::task::{Draft, Task};
use super::value::{Value, type_name};
use super::wiring;
use crate::diagnostic::{Diagnostic, SourceText, quoted};
use crate::suggest;

/// Stack of the parser's thread. The parser limits the nesting of brackets and the parts of a dotted key
/// but not their product: 80 nested inline tables with keys of 80 parts make a tree 6,400 deep, and
/// dropping that takes over 4 MiB of stack in a debug build. Pages that aren't touched cost nothing.
const STACK: usize = 64 << 20;

/// The tasks, or all mistakes in the order of the text.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Task>, Vec<Diagnostic>> {
    let text = std::str::from_utf8(bytes).map_err(|err| vec![not_utf8(path, bytes, err)])?;
    // Windows editors begin a file with a byte order mark, which no editor counts as a column.
    let source = SourceText::new(path, text.strip_prefix('\u{feff}').unwrap_or(text));
    thread::scope(|scope| {
        let parser = thread::Builder::new().stack_size(STACK);
        match parser.spawn_scoped(scope, || tasks(&source)) {
            Ok(parser) => parser.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // No thread to be had: ordinary manifests need little stack.
            Err(_) => tasks(&source),
        }
    })
}

fn tasks(source: &SourceText<'_>) -> Result<Vec<Task>, Vec<Diagnostic>> {
    let mut found = Findings::new(source);
    let (root, errors) = DeTable::parse_recoverable(source.text());
    for error in &errors {
        found.syntax(error.span(), error.message());
    }
    let root = root.into_inner();
    let entries = entries(&mut found, &root);
    if found.is_damaged() {
        find_swallowed(&mut found, &entries);
    }
    let mut drafts = Vec::with_capacity(entries.len());
    for (n, (header, table)) in entries.iter().enumerate() {
        let end = entries.get(n + 1).map_or(source.text().len(), |(next, _)| next.start);
        drafts.push(Draft::read(&mut found, table, header, &(header.start..end)));
    }
    let tasks = wiring::wire(&mut found, drafts);
    let diagnostics = found.into_diagnostics();
    if diagnostics.is_empty() { Ok(tasks) } else { Err(diagnostics) }
}

/// The table of each task and the place of its header, in the order of the text.
fn entries<'r, 'i>(
    found: &mut Findings<'_>,
    root: &'r DeTable<'i>,
) -> Vec<(Range<usize>, &'r DeTable<'i>)> {
    let mut entries = Vec::new();
    for (key, value) in root {
        match key.get_ref().as_ref() {
            "task" => of_key_task(found, key.span(), value, &mut entries),
            name => unknown_key(found, name, &key.span()),
        }
    }
    if root.is_empty() && !found.is_damaged() {
        let help = "begin with [[task]], name = \"…\" and script = \"…\"";
        found.add_whole("the manifest has no tasks", help);
    }
    entries
}

fn unknown_key(found: &mut Findings<'_>, name: &str, place: &Range<usize>) {
    const ALIASES: [&str; 6] = ["step", "steps", "stage", "job", "jobs", "rule"];
    let help = if ALIASES.contains(&name) || suggest::nearest(name, ["task"]).is_some() {
        "did you mean `task`?"
    } else if found.is_damaged() {
        // Probably a key of a task whose header has the syntax error.
        return;
    } else {
        "a manifest consists of [[task]] tables and nothing else"
    };
    found.add(place, format!("unknown key {}", quoted(name)), help);
}

fn of_key_task<'r, 'i>(
    found: &mut Findings<'_>,
    key: Range<usize>,
    value: &'r Value<'i>,
    entries: &mut Vec<(Range<usize>, &'r DeTable<'i>)>,
) {
    const HELP: &str = "begin each task with [[task]] on a line of its own";
    match value.get_ref() {
        DeValue::Array(items) => {
            for item in items {
                match item.get_ref() {
                    DeValue::Table(table) => entries.push((item.span(), table)),
                    other => {
                        found.wrong_type(&item.span(), "task", "a table", type_name(other), HELP);
                    }
                }
            }
            if items.is_empty() {
                found.add(&key, "the manifest has no tasks", HELP);
            }
        }
        DeValue::Table(table) => {
            found.add(&key, "`task` must be a list of tables, not one table", "write [[task]]");
            // Report its own mistakes too, unless it is [task.NAME].
            if table.contains_key("script") {
                entries.push((value.span(), table));
            }
        }
        other => found.wrong_type(&key, "task", "a list of tables", type_name(other), HELP),
    }
}

/// Looks for a `"""` that is never closed: everything up to the next `"""` or to the end of the file is
/// in its string, headers included, and the parser complains only there.
fn find_swallowed(found: &mut Findings<'_>, entries: &[(Range<usize>, &DeTable<'_>)]) {
    for value in entries.iter().flat_map(|(_, table)| table.values()) {
        let DeValue::String(text) = value.get_ref() else {
            continue;
        };
        if text.lines().skip(1).any(|line| line.trim_end() == "[[task]]") {
            found.runs_on(value.span().start, "a `[[task]]`");
        } else if value.span().end == found.source.text().len() && text.contains('\n') {
            found.runs_on(value.span().start, "the rest of the file");
        }
    }
}

fn not_utf8(path: &Path, bytes: &[u8], err: std::str::Utf8Error) -> Diagnostic {
    let at = err.valid_up_to();
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let message = "the manifest is UTF-16, not UTF-8";
        return Diagnostic::of_file(path, message, "save it as UTF-8: iconv -f UTF-16 -t UTF-8");
    }
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("the manifest is not UTF-8: byte 0x{byte:02x} at offset {at}");
    let help = "save it as UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8".to_owned();
    // The text before the bad byte is the same, so the offset is right in the repaired text too.
    let text = String::from_utf8_lossy(bytes);
    SourceText::new(path, &text).diagnostic(&(at..at + 1), message, Some(help))
}
