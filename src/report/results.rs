//! Results on the page: the outputs of tasks with `report = true`. Pictures are pictures, and nothing else of what an
//! output holds is more than text: an SVG is drawn as an image, in which nothing runs and nothing is loaded.

use std::io::Read as _;

use csv_core::{ReadRecordResult, ReaderBuilder};

use crate::db::ReportResult;
use crate::error::{OrIo as _, Result};
use crate::hint;
use crate::store::Store;
use crate::text::{as_path, size};

use super::facts::Facts;
use super::html::{Base64, count, html, name, text};
use super::{open, scroll};

/// At most this many outputs of a task are on the page.
pub(super) const SHOWN: usize = 100;

/// Bytes of a picture, and of all pictures together. Base64 makes a third more of them.
const PICTURE: u64 = 2 << 20;
const PICTURES: u64 = 8 << 20;

/// Bytes of a text or a table that are read, and of all of them together.
const TEXT: u64 = 64 << 10;
const TEXTS: u64 = 1 << 20;

/// Lines of a text, rows and columns of a table.
const LINES: usize = 400;
const ROWS: usize = 200;
const COLUMNS: usize = 40;

/// The outputs of a task that are shown, and how many it has.
pub(super) struct TaskResults {
    pub(super) task: String,
    pub(super) outputs: Vec<ReportResult>,
    pub(super) all: u64,
}

/// What an output is, by its first bytes and the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With its media type, as a `data:` address begins.
    Picture(&'static str),
    /// With what is between two fields.
    Table(u8),
    Json,
    Text,
    Other,
}

impl Kind {
    fn of(name: &[u8], head: &[u8]) -> Kind {
        let extension = as_path(name).extension().unwrap_or_default().to_ascii_lowercase();
        let is_text = match std::str::from_utf8(head) {
            Ok(_) => true,
            // Cut within a character.
            Err(err) => err.error_len().is_none(),
        } && !head.contains(&0);
        let has = |part: &str| head.windows(part.len()).any(|found| found == part.as_bytes());
        match extension.to_str() {
            _ if head.starts_with(b"\x89PNG\r\n\x1a\n") => Kind::Picture("data:image/png;base64,"),
            _ if head.starts_with(b"\xff\xd8\xff") => Kind::Picture("data:image/jpeg;base64,"),
            _ if !is_text => Kind::Other,
            Some("svg") if has("<svg") => Kind::Picture("data:image/svg+xml;base64,"),
            Some("csv") => Kind::Table(b','),
            Some("tsv" | "tab") => Kind::Table(b'\t'),
            Some("json") => Kind::Json,
            _ => Kind::Text,
        }
    }
}

/// What is left of the room on the page.
struct Room {
    pictures: u64,
    texts: u64,
}

/// The section; nothing if no task has anything to show.
pub(super) fn section(out: &mut String, facts: &Facts, results: &[TaskResults], store: &Store) {
    if results.is_empty() {
        return;
    }
    open(out, "results");
    let mut room = Room { pictures: PICTURES, texts: TEXTS };
    for TaskResults { task, outputs, all } in results {
        html!(out, "<h3>", text(task), "</h3>\n");
        if outputs.is_empty() {
            let (_, _, pending) = facts.steps();
            let why = if pending > 0 { "No result yet." } else { "No result." };
            html!(out, "<p class=\"muted\">", why, "</p>\n");
        }
        for output in outputs {
            one(out, output, store, &mut room);
        }
        let more = all.saturating_sub(outputs.len() as u64);
        if more > 0 {
            let export = hint::command(&format!("export {task} --to DIR"));
            html!(out, "<p>", count(more), " more are left out: <code>", text(export));
            html!(out, "</code> writes all.</p>\n");
        }
    }
    html!(out, "</section>\n");
}

fn one(out: &mut String, output: &ReportResult, store: &Store, room: &mut Room) {
    html!(
        out,
        "<figure class=\"result\">\n<figcaption><b class=\"path\">",
        name(&output.name),
        "</b>"
    );
    if !output.labels.is_empty() {
        html!(out, " [", text(output.labels.to_string()), "]");
    }
    html!(out, " <small>");
    if let Some(bytes) = output.bytes {
        html!(out, text(size(bytes)), ", ");
    }
    html!(
        out,
        "<a href=\"#step-",
        output.step.0,
        "\">step ",
        output.step.0,
        "</a></small></figcaption>\n"
    );
    if let Err(error) = content(out, output, store, room) {
        // A report is needed most when things are broken.
        html!(out, "<p>", text(error.to_string()), "</p>\n");
    }
    html!(out, "</figure>\n");
}

fn content(out: &mut String, output: &ReportResult, store: &Store, room: &mut Room) -> Result<()> {
    let mut head = Vec::new();
    let file = store.open_object(&output.object)?;
    let path = store.path(&output.object);
    file.take(TEXT).read_to_end(&mut head).or_io("read a result", &path)?;
    let is_whole = (head.len() as u64) < TEXT;
    if is_whole {
        // Its hash is checked as well.
        head = store.read_small(&output.object, TEXT)?.unwrap_or_default();
    }
    let kind = Kind::of(&output.name, &head);
    if let Kind::Picture(media) = kind {
        let bytes = store.read_small(&output.object, PICTURE.min(room.pictures))?;
        let Some(bytes) = bytes else {
            left_out(out, output, "The picture is too large for the page");
            return Ok(());
        };
        room.pictures -= bytes.len() as u64;
        html!(out, "<img alt=\"", name(&output.name), "\" src=\"", media, Base64(&bytes), "\">\n");
        return Ok(());
    }
    if head.is_empty() {
        html!(out, "<p class=\"muted\">It is empty.</p>\n");
        return Ok(());
    }
    if kind == Kind::Other {
        left_out(out, output, "It is neither a picture that the page can show nor text");
        return Ok(());
    }
    if room.texts < head.len() as u64 {
        left_out(out, output, "There is no more room for it on the page");
        return Ok(());
    }
    room.texts -= head.len() as u64;
    let is_cut = match kind {
        Kind::Table(delimiter) => table(out, &head, delimiter, is_whole),
        Kind::Json if is_whole => lines(out, &indented(&head)),
        _ => lines(out, &head),
    };
    if is_cut || !is_whole {
        left_out(out, output, "The rest is left out");
    }
    Ok(())
}

/// Says what is not on the page, and where it is.
fn left_out(out: &mut String, output: &ReportResult, why: &'static str) {
    let hash = output.object.hex();
    let cat = hint::command(&format!("cat {}", hash.get(..16).unwrap_or(&hash)));
    html!(out, "<p class=\"muted\">", why, ": <code>", text(cat), "</code> prints all.</p>\n");
}

/// True if there are more lines.
fn lines(out: &mut String, bytes: &[u8]) -> bool {
    html!(out, "<pre tabindex=\"0\" role=\"region\" aria-label=\"Content\">");
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut lines = bytes.split(|&byte| byte == b'\n');
    for line in lines.by_ref().take(LINES) {
        html!(out, text(line.strip_suffix(b"\r").unwrap_or(line)), "\n");
    }
    html!(out, "</pre>\n");
    lines.next().is_some()
}

/// JSON on one line on several, with its keys and numbers as they are; anything else as it is.
fn indented(json: &[u8]) -> Vec<u8> {
    let trimmed = json.trim_ascii();
    if trimmed.contains(&b'\n') || serde_json::from_slice::<serde::de::IgnoredAny>(trimmed).is_err()
    {
        return json.to_vec();
    }
    let (mut out, mut depth) = (Vec::with_capacity(trimmed.len() * 2), 0_usize);
    let mut bytes = trimmed.iter().copied().peekable();
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                out.push(byte);
                while let Some(byte) = bytes.next() {
                    out.push(byte);
                    match byte {
                        b'"' => break,
                        b'\\' => out.extend(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                if matches!(bytes.peek(), Some(b'}' | b']')) {
                    out.extend(bytes.next());
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend(b": "),
            byte if byte.is_ascii_whitespace() => {}
            byte => out.push(byte),
        }
    }
    out
}

/// The records of a CSV or TSV file, at most `limit`. The last one of a file that is cut is left out: it may be a part.
fn records(bytes: &[u8], delimiter: u8, is_whole: bool, limit: usize) -> Vec<Vec<Vec<u8>>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    // What it gives is never longer than what it gets; there are at most as many fields as bytes, and one.
    let (mut text, mut ends) = (vec![0; bytes.len()], vec![0; bytes.len() + 1]);
    let (mut rest, mut records) = (bytes, Vec::new());
    while records.len() < limit {
        let (mut written, mut fields) = (0, 0);
        let is_record = loop {
            let (result, read, more, ended) =
                reader.read_record(rest, &mut text[written..], &mut ends[fields..]);
            (written, fields, rest) = (written + more, fields + ended, &rest[read..]);
            match result {
                // No more input: asked once more, it gives what it has.
                ReadRecordResult::InputEmpty if is_whole => {}
                ReadRecordResult::Record => break true,
                _ => break false,
            }
        };
        if !is_record {
            break;
        }
        let begins = std::iter::once(&0).chain(&ends[..fields]);
        let field = |(begin, end): (&usize, &usize)| text[*begin..*end].to_vec();
        records.push(begins.zip(&ends[..fields]).map(field).collect());
    }
    records
}

/// A table whose first record is its head. True if there is more than is shown.
fn table(out: &mut String, bytes: &[u8], delimiter: u8, is_whole: bool) -> bool {
    let records = records(bytes, delimiter, is_whole, ROWS + 2);
    let Some((head, rows)) = records.split_first() else { return lines(out, bytes) };
    scroll(out, "Table");
    html!(out, "<table class=\"sortable\">\n<caption>");
    let (shown, columns) = (rows.len().min(ROWS), head.len().min(COLUMNS));
    if shown < rows.len() {
        html!(out, "The first ", count(shown as u64), " rows");
    } else {
        html!(out, count(shown as u64), if shown == 1 { " row" } else { " rows" });
    }
    if columns < head.len() {
        html!(
            out,
            ", the first ",
            count(columns as u64),
            " of ",
            count(head.len() as u64),
            " columns"
        );
    }
    html!(out, "</caption>\n<thead><tr>");
    let is_number = |column: usize| {
        let mut fields =
            rows.iter().filter_map(|row| row.get(column)).filter(|field| !field.is_empty());
        let mut any = false;
        fields.all(|field| {
            any = true;
            std::str::from_utf8(field).is_ok_and(|text| text.trim().parse::<f64>().is_ok())
        }) && any
    };
    let classes: Vec<&str> =
        (0..columns).map(|n| if is_number(n) { " class=\"n\"" } else { "" }).collect();
    for (field, class) in head.iter().zip(&classes) {
        html!(out, "<th scope=\"col\"", *class, ">", text(field), "</th>");
    }
    html!(out, "</tr></thead>\n<tbody>\n");
    for row in rows.iter().take(ROWS) {
        html!(out, "<tr>");
        for (field, class) in row.iter().zip(&classes) {
            html!(out, "<td", *class, ">", text(field), "</td>");
        }
        html!(out, "</tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n");
    shown < rows.len() || columns < head.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_what_its_bytes_say_and_then_its_name() {
        let kind = |name: &str, head: &[u8]| Kind::of(name.as_bytes(), head);
        assert_eq!(kind("x.txt", b"\x89PNG\r\n\x1a\n\0"), Kind::Picture("data:image/png;base64,"));
        assert_eq!(kind("x.png", b"<script>"), Kind::Text);
        assert_eq!(kind("x.JPG", b"\xff\xd8\xff\xe0"), Kind::Picture("data:image/jpeg;base64,"));
        let svg = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>";
        assert_eq!(kind("x.svg", svg), Kind::Picture("data:image/svg+xml;base64,"));
        assert_eq!(kind("x.svg", b"nothing"), Kind::Text);
        assert_eq!(kind("x.csv", b"a,b"), Kind::Table(b','));
        assert_eq!((kind("x.TSV", b"a"), kind("x.json", b"{}")), (Kind::Table(b'\t'), Kind::Json));
        assert_eq!((kind("x", b"\0"), kind("x", b"\xff")), (Kind::Other, Kind::Other));
        assert_eq!(kind("x", "é".as_bytes().get(..1).unwrap()), Kind::Text);
    }

    #[test]
    fn records_are_those_of_the_file_and_no_part_of_one() {
        let read = |text: &str, is_whole| {
            let fields = |fields: Vec<Vec<u8>>| -> Vec<String> {
                fields.into_iter().map(|field| String::from_utf8(field).unwrap()).collect()
            };
            let found = records(text.as_bytes(), b',', is_whole, 10);
            found.into_iter().map(fields).collect::<Vec<_>>()
        };
        assert_eq!(
            read("a,\"b\"\"\nc\"\r\n1,2\n3", true),
            [vec!["a", "b\"\nc"], vec!["1", "2"], vec!["3"]]
        );
        assert_eq!(read("a,b\n1,2\n3,", false), [vec!["a", "b"], vec!["1", "2"]]);
        assert_eq!(read("\u{feff}a", true), [vec!["a"]]);
        assert!(read("", true).is_empty());
    }

    #[test]
    fn json_on_one_line_is_written_on_several_and_says_the_same() {
        let json = br#"{"b":[1e400,"a,\"{",{}],"a": [] }"#;
        let shown = String::from_utf8(indented(json)).unwrap();
        assert_eq!(
            shown,
            "{\n  \"b\": [\n    1e400,\n    \"a,\\\"{\",\n    {}\n  ],\n  \"a\": []\n}"
        );
        for as_it_is in ["{\n}", "{no json", "1"] {
            assert_eq!(indented(as_it_is.as_bytes()), as_it_is.as_bytes());
        }
    }
}
