//! Tables of samples: CSV files whose rows are steps. What their columns are, what each row says, and what is wrong with
//! them. Unaware of tasks and of the database.
//!
//! Rows are read one at a time, as often as they are needed, and never kept: a table may have a million. A row is known
//! by its labels, as the JSON that the database has of them.

mod records;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, SourceText, quoted};
use crate::error::{Error, OrIo as _, Result};
use crate::labels::{LONGEST_VALUE, key_mistake};
use crate::object::ObjectHash;
use crate::order;
use crate::suggest;
use crate::text::{path_bytes, plural, printable};

use records::{FieldPlace, Mark, Records};

/// Mistakes of one table that are told, and rows that are told to be there twice: a table with the wrong delimiter has
/// one in each row.
const MOST: usize = 100;

/// A table, as its header says.
#[derive(Debug, Clone)]
pub struct Table {
    /// As the manifest names it, below the manifest's folder.
    pub file: String,
    /// The manifest's folder.
    dir: PathBuf,
    /// As users know it: below the manifest's folder as that was named on the command line.
    shown: PathBuf,
    /// In the order of the table.
    columns: Vec<Column>,
    /// Places of the columns, sorted by name.
    sorted: Vec<usize>,
}

/// A column, and what it is.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// Its fields are paths of files; otherwise it is a label.
    is_path: bool,
}

/// Why a table can't be used.
pub enum BadTable {
    /// It can't be read: what is wrong, and what to do about it.
    Unreadable(String, &'static str),
    /// Mistakes in its header.
    Header(Vec<Diagnostic>),
    /// These of the columns that are to be paths are not there; what to do about each.
    NoColumn(Vec<(usize, String)>),
}

/// What a look at all rows has shown.
#[derive(Default)]
pub struct TableCheck {
    pub mistakes: Vec<Diagnostic>,
    /// Rows that say what an earlier one says, by their lines: (this one, the earlier one). Only the first ones.
    pub repeated: Vec<(u64, u64)>,
    /// How many such rows there are.
    pub repeated_count: u64,
    pub rows: u64,
}

/// A row without mistakes.
pub struct Row<'a> {
    /// Its labels as JSON, sorted by key.
    pub labels: &'a str,
    /// Its files as JSON: their paths, by column.
    pub files: &'a str,
    table: &'a Table,
    fields: &'a Records,
}

impl Table {
    /// Reads the header of the table `file`, named relative to the manifest's folder: `dir`, or `shown_dir` as it was
    /// named on the command line. `paths` are the columns whose fields are paths.
    ///
    /// # Errors
    /// [`BadTable`]
    pub fn read(
        dir: &Path,
        shown_dir: &Path,
        file: &str,
        paths: &[&str],
    ) -> std::result::Result<Table, BadTable> {
        let mut table = Table {
            file: file.to_owned(),
            dir: dir.to_owned(),
            shown: shown_dir.join(file),
            columns: Vec::new(),
            sorted: Vec::new(),
        };
        let mut records = match table.open() {
            Ok(records) => records,
            Err(err) => return Err(unreadable(&err)),
        };
        match records.advance() {
            Ok(true) => {}
            Ok(false) => {
                let help = "begin it with a line of column names: sample,lane";
                return Err(BadTable::Unreadable("the table is empty".to_owned(), help));
            }
            Err(err) => return Err(unreadable(&err)),
        }
        let mut mistakes = Mistakes::default();
        for (n, field) in records.fields().enumerate() {
            let name = String::from_utf8_lossy(field).into_owned();
            let earlier = table.columns.iter().any(|column| column.name == name);
            if let Some(why) = key_mistake(&name) {
                let message = format!("{} can't be the name of a column: {why}", quoted(&name));
                let help = match cleaned(&name) {
                    Some(clean) => format!("scripts see it as a variable; call it `{clean}`"),
                    None => {
                        "scripts see it as a variable; give it a name such as `sample`".to_owned()
                    }
                };
                mistakes.add(&records, n, message, help);
            } else if earlier {
                let message = format!("column {} is there twice", quoted(&name));
                mistakes.add(
                    &records,
                    n,
                    message,
                    "give it another name, or take it out".to_owned(),
                );
            }
            let is_path = paths.contains(&name.as_str());
            table.columns.push(Column { name, is_path });
        }
        if !mistakes.told.is_empty() {
            return Err(BadTable::Header(mistakes.finish(&table)));
        }
        let names = || table.columns.iter().map(|column| column.name.as_str());
        let cure = |path: &str| match suggest::nearest(path, names()) {
            Some(meant) => format!("did you mean {}?", quoted(meant)),
            None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
        };
        let missing =
            paths.iter().enumerate().filter(|(_, path)| !names().any(|name| name == **path));
        let missing: Vec<_> = missing.map(|(n, path)| (n, cure(path))).collect();
        if !missing.is_empty() {
            return Err(BadTable::NoColumn(missing));
        }
        table.sorted = (0..table.columns.len()).collect();
        order::sort_by_key(&mut table.sorted, |n| &table.columns[*n].name);
        Ok(table)
    }

    /// The columns that are labels, sorted.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.named(false)
    }

    /// The columns whose fields are paths of files, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.named(true)
    }

    fn named(&self, is_path: bool) -> impl Iterator<Item = &str> {
        let columns = self.sorted.iter().map(|n| &self.columns[*n]);
        columns.filter(move |column| column.is_path == is_path).map(|column| column.name.as_str())
    }

    /// True if its rows name files.
    pub fn has_paths(&self) -> bool {
        self.columns.iter().any(|column| column.is_path)
    }

    /// INPUT_NAME of the steps of its rows.
    pub fn row_name(&self) -> &'static str {
        if self.has_paths() { "" } else { "row.json" }
    }

    /// The table itself.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.file)
    }

    /// As users know it.
    pub fn name(&self) -> Cow<'_, str> {
        printable(path_bytes(&self.shown))
    }

    /// Looks for mistakes in all rows, and calls `see` with each row that has none. `unusable` says why a file can't be an
    /// input, and after `; ` what to do about it.
    ///
    /// # Errors
    /// If the table can't be read.
    pub fn check(
        &self,
        unusable: &dyn Fn(&Path) -> Option<String>,
        see: &mut dyn FnMut(&Row<'_>),
    ) -> Result<TableCheck> {
        let mut records = self.open().or_io("read the table", self.path())?;
        let mut check = TableCheck::default();
        let mut mistakes = Mistakes::default();
        // By labels: where the row is, and what its files are.
        let mut seen: HashMap<u128, (Mark, u128)> = HashMap::new();
        let (mut labels, mut files) = (String::new(), String::new());
        let (has_paths, mut is_header) = (self.has_paths(), true);
        while records.advance().or_io("read the table", self.path())? {
            if std::mem::take(&mut is_header) {
                continue;
            }
            check.rows += 1;
            let before = mistakes.count;
            self.check_row(&records, &mut mistakes);
            if mistakes.count > before {
                continue;
            }
            for (n, column) in self.columns.iter().enumerate() {
                let field = records.field(n);
                if column.is_path
                    && !field.is_empty()
                    && let Ok(path) = std::str::from_utf8(field)
                    && let Some(why) = unusable(&self.dir.join(self.below(path)))
                {
                    let (what, cure) = why.split_once("; ").unwrap_or((&why, "correct the path"));
                    let folder = match Path::new(&self.file).parent() {
                        Some(folder)
                            if !folder.as_os_str().is_empty() && !path.starts_with('/') =>
                        {
                            format!("; paths are relative to `{}`", printable(path_bytes(folder)))
                        }
                        _ => String::new(),
                    };
                    mistakes.add(
                        &records,
                        n,
                        format!("{} {what}", quoted(path)),
                        format!("{cure}{folder}"),
                    );
                }
            }
            self.render(&records, &mut labels, &mut files);
            see(&Row { labels: &labels, files: &files, table: self, fields: &records });
            let (mark, has) = (records.mark(), if has_paths { digest(&files) } else { 0 });
            match seen.entry(digest(&labels)) {
                Entry::Vacant(entry) => {
                    entry.insert((mark, has));
                }
                Entry::Occupied(earlier) if earlier.get().1 == has => {
                    check.repeated_count += 1;
                    if check.repeated.len() < MOST {
                        let lines = (records.line(mark), records.line(earlier.get().0));
                        check.repeated.push(lines);
                    }
                }
                Entry::Occupied(earlier) => {
                    let first = records.line(earlier.get().0);
                    let at = self.columns.iter().position(|column| column.is_path).unwrap_or(0);
                    let message =
                        format!("the labels are those of line {first}, but the files are others");
                    let help = "add a column that tells the two rows apart, such as `lane`";
                    mistakes.add(&records, at, message, help.to_owned());
                }
            }
        }
        check.mistakes = mistakes.finish(self);
        Ok(check)
    }

    /// Mistakes that need no look at the disk.
    fn check_row(&self, records: &Records, mistakes: &mut Mistakes) {
        let (has, wanted) = (records.len(), self.columns.len());
        if records.is_too_long() {
            let message = format!("this row is longer than {} MiB", records::LONGEST >> 20);
            mistakes.add(
                records,
                0,
                message,
                "is the `\"` at the end of a field missing?".to_owned(),
            );
        } else if has < wanted {
            let missing = &self.columns[has].name;
            let message = format!(
                "this row has {has} field{}, but the header has {wanted}",
                plural(has as u64)
            );
            let help = format!("add what is missing, from {} on", quoted(missing));
            mistakes.add(records, has.saturating_sub(1), message, help);
        } else if has > wanted {
            let message = format!("this row has {has} fields, but the header has {wanted}");
            let help = match self.delimiter() {
                b'\t' => "take out what is too much",
                _ => "take out what is too much; a field with a comma in it needs quotes: \"a, b\"",
            };
            mistakes.add(records, wanted, message, help.to_owned());
        } else {
            for (n, column) in self.columns.iter().enumerate() {
                let help = match column.is_path {
                    true => "name the file otherwise",
                    false => {
                        "a label is a short text; put what is long into a file, and name that in `paths`"
                    }
                };
                if let Some(why) = unfit(records.field(n)) {
                    let message = format!("the field of column {} {why}", quoted(&column.name));
                    mistakes.add(records, n, message, help.to_owned());
                }
            }
        }
    }

    /// Calls `see` with each row, in the order of the table; a row that is there twice comes twice.
    ///
    /// # Errors
    /// Those of `see`; [`Error::Usage`] if there is a mistake that [`Table::check`] has not found before.
    pub fn each(&self, see: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        let mut records = self.open().or_io("read the table", self.path())?;
        let (mut labels, mut files) = (String::new(), String::new());
        let mut is_header = true;
        while records.advance().or_io("read the table", self.path())? {
            if std::mem::take(&mut is_header) {
                if records.len() != self.columns.len()
                    || !self
                        .columns
                        .iter()
                        .zip(records.fields())
                        .all(|(column, name)| column.name.as_bytes() == name)
                {
                    return Err(self.changed());
                }
                continue;
            }
            if records.len() != self.columns.len()
                || records.is_too_long()
                || records.fields().any(|field| unfit(field).is_some())
            {
                return Err(self.changed());
            }
            self.render(&records, &mut labels, &mut files);
            see(Row { labels: &labels, files: &files, table: self, fields: &records })?;
        }
        Ok(())
    }

    fn changed(&self) -> Error {
        Error::Usage(format!(
            "`{}` changes while it is read; run again when nobody writes to it",
            self.name()
        ))
    }

    fn open(&self) -> std::io::Result<Records> {
        let path = self.path();
        // A FIFO could be read only once.
        if std::fs::metadata(&path)?.is_file() {
            return Records::open(&path, self.delimiter());
        }
        let kind = if path.is_dir() {
            std::io::ErrorKind::IsADirectory
        } else {
            std::io::ErrorKind::InvalidInput
        };
        Err(kind.into())
    }

    fn delimiter(&self) -> u8 {
        let is_tsv = Path::new(&self.file)
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("tsv") || end.eq_ignore_ascii_case("tab"));
        if is_tsv { b'\t' } else { b',' }
    }

    /// A path in a field, below the manifest's folder.
    fn below(&self, path: &str) -> PathBuf {
        let folder = Path::new(&self.file).parent().unwrap_or(Path::new(""));
        folder.join(path).components().collect()
    }

    /// Writes the labels and the files of a row as JSON.
    fn render(&self, records: &Records, labels: &mut String, files: &mut String) {
        labels.clear();
        files.clear();
        labels.push('{');
        files.push('{');
        for &n in &self.sorted {
            let Column { name, is_path } = &self.columns[n];
            let field = String::from_utf8_lossy(records.field(n));
            let (into, value) = match is_path {
                true if field.is_empty() => continue,
                true => (&mut *files, self.below(&field).to_string_lossy().into_owned().into()),
                false => (&mut *labels, field),
            };
            if into.len() > 1 {
                into.push(',');
            }
            into.push('"');
            into.push_str(name);
            into.push_str("\":");
            push_json(into, &value);
        }
        labels.push('}');
        files.push('}');
    }
}

impl Row<'_> {
    /// Its files: the column of each, and its path below the manifest's folder. A field that is empty names none.
    pub fn each_file(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let columns = self.table.sorted.iter().map(|n| (*n, &self.table.columns[*n]));
        columns.filter(|(_, column)| column.is_path).filter_map(|(n, column)| {
            let field = std::str::from_utf8(self.fields.field(n)).ok()?;
            (!field.is_empty()).then(|| (column.name.as_str(), self.table.below(field)))
        })
    }

    /// What the step of a row without files works on: the row as a JSON object, on a line.
    pub fn object(labels: &str) -> Vec<u8> {
        [labels.as_bytes(), b"\n"].concat()
    }
}

/// Mistakes in one table.
#[derive(Default)]
struct Mistakes {
    /// The first ones.
    told: Vec<Diagnostic>,
    count: u64,
}

impl Mistakes {
    /// Adds a mistake at the n-th field of the present record.
    fn add(&mut self, records: &Records, n: usize, message: String, help: String) {
        self.count += 1;
        if self.told.len() >= MOST {
            return;
        }
        let FieldPlace { text, span, line } = records.place(n);
        let source = SourceText::new(records.path(), &text);
        let mut diagnostic = source.diagnostic(&span, message, Some(help));
        if let Some(location) = &mut diagnostic.location {
            location.line += usize::try_from(line).unwrap_or_default().saturating_sub(1);
        }
        self.told.push(diagnostic);
    }

    /// All of them, told by the name that users know the table by.
    fn finish(mut self, table: &Table) -> Vec<Diagnostic> {
        let more = self.count - self.told.len() as u64;
        if more > 0 {
            let message = format!("{more} more mistake{}", plural(more));
            self.told.push(Diagnostic::of_file(&table.shown, message, "correct those above first"));
        }
        for diagnostic in &mut self.told {
            diagnostic.path.clone_from(&table.shown);
        }
        self.told
    }
}

/// Why a field can be neither a label nor a path.
fn unfit(field: &[u8]) -> Option<&'static str> {
    match () {
        () if field.len() > LONGEST_VALUE => Some("is longer than 4096 bytes"),
        () if field.contains(&0) => Some("contains a NUL byte"),
        () if std::str::from_utf8(field).is_err() => Some("is not UTF-8"),
        () => None,
    }
}

/// What a column may have been meant to be called.
fn cleaned(name: &str) -> Option<String> {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let clean: String = name.trim().chars().map(fits).collect();
    key_mistake(&clean).is_none().then_some(clean)
}

/// Most texts are in JSON as they are, and a table has many.
fn push_json(into: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\')) {
        into.push('"');
        into.push_str(text);
        into.push('"');
    } else {
        // That can't fail for a text.
        into.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// Half of a hash: enough to tell a million texts apart.
fn digest(text: &str) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&ObjectHash::of(text.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(half)
}

fn unreadable(err: &std::io::Error) -> BadTable {
    use std::io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
    let (message, help) = match err.kind() {
        NotFound | NotADirectory => {
            ("there is no such file".to_owned(), "name a CSV or TSV file, relative to the manifest")
        }
        IsADirectory => ("this is a folder, not a table".to_owned(), "name the file in it"),
        InvalidInput => ("this is not a regular file".to_owned(), "copy it into one"),
        _ => (format!("the table can't be read: {err}"), "make it readable, or name another one"),
    };
    BadTable::Unreadable(message, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, text: impl AsRef<[u8]>, paths: &[&str]) -> (tempfile::TempDir, Table) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        let table = Table::read(dir.path(), Path::new(""), name, paths);
        let table = table.unwrap_or_else(|_| panic!("{name} has a mistake"));
        (dir, table)
    }

    fn rows(table: &Table) -> Vec<String> {
        let mut rows = Vec::new();
        table
            .each(&mut |row| {
                rows.push(format!("{}{}", row.labels, row.files));
                Ok(())
            })
            .unwrap();
        rows
    }

    #[test]
    fn the_labels_of_a_row_are_as_the_database_has_them() {
        let (_dir, table) = table("t.csv", "b,a\n\"x \"\"y\"\"\nz\",\u{1}ü\n,\n", &[]);
        let expected = [[("b", "x \"y\"\nz"), ("a", "\u{1}ü")], [("b", ""), ("a", "")]];
        let expected =
            expected.map(|pairs| crate::labels::Labels::from_iter(pairs).to_json() + "{}");
        assert_eq!(rows(&table), expected);
    }

    #[test]
    fn a_byte_order_mark_quotes_and_crlf_are_read_as_the_csv_crate_reads_them() {
        let (_dir, table) = table("t.csv", "\u{feff}a,b\r\n1,\"2,3\"\r\n\r\n4,5", &[]);
        assert_eq!(rows(&table), [r#"{"a":"1","b":"2,3"}{}"#, r#"{"a":"4","b":"5"}{}"#]);
    }

    #[test]
    fn a_tsv_has_tabs() {
        let (_dir, table) = table("t.tsv", "a\tb\n1,2\t3\n", &[]);
        assert_eq!(rows(&table), [r#"{"a":"1,2","b":"3"}{}"#]);
    }

    #[test]
    fn paths_are_below_the_manifests_folder_and_an_empty_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("s")).unwrap();
        std::fs::write(dir.path().join("s/t.csv"), "r1,s,r2\n./x/a,A,\n/b,B,../c\n").unwrap();
        let table = Table::read(dir.path(), Path::new(""), "s/t.csv", &["r1", "r2"]);
        let table = table.unwrap_or_else(|_| panic!("a mistake"));
        assert_eq!(
            rows(&table),
            [r#"{"s":"A"}{"r1":"s/x/a"}"#, r#"{"s":"B"}{"r1":"/b","r2":"s/../c"}"#]
        );
    }

    #[test]
    fn rows_longer_than_a_buffer_are_whole() {
        let long = "x".repeat(LONGEST_VALUE);
        let text: String = (0..100).map(|n| format!("{n},{long}\n")).collect();
        let (_dir, table) = table("t.csv", format!("a,b\n{text}"), &[]);
        assert_eq!(rows(&table).len(), 100);
        assert_eq!(rows(&table)[99], format!(r#"{{"a":"99","b":"{long}"}}{{}}"#));
    }

    #[test]
    fn the_place_of_a_mistake_is_its_line_and_column() {
        let text = "a,b\r\n1,2\r\n\r\n\"x\ny\",2,3\r\n4\r\n5,\u{0}\r\n";
        let (_dir, table) = table("t.csv", text, &[]);
        let found = table.check(&|_| None, &mut |_| {}).unwrap().mistakes;
        let places: Vec<_> = found.iter().map(|d| d.location.clone().unwrap()).collect();
        let places: Vec<_> = places.iter().map(|p| (p.line, p.column, p.source.as_str())).collect();
        assert_eq!(places, [(5, 6, "y\",2,3"), (6, 1, "4"), (7, 3, "5,\u{0}")]);
    }

    #[test]
    fn of_very_many_mistakes_the_first_are_told() {
        let (_dir, table) = table("t.csv", format!("a,b\n{}", "1\n".repeat(1000)), &[]);
        let found = table.check(&|_| None, &mut |_| {}).unwrap().mistakes;
        assert_eq!(found.len(), MOST + 1);
        assert_eq!(found[MOST].message, "900 more mistakes");
    }

    #[test]
    fn a_quote_that_is_never_closed_takes_no_memory() {
        let text = format!("a,b\n\"1,2\n{}", "3,4\n".repeat(1 << 20));
        let (_dir, table) = table("t.csv", text, &[]);
        let found = table.check(&|_| None, &mut |_| {}).unwrap().mistakes;
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("longer than 1 MiB"), "{}", found[0].message);
    }
}
