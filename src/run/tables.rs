//! The rows of a task's table, compared with those of the last plan. Two passes as for files (see `scan`); the first one
//! over the rows is the search for mistakes (see `preflight`). In the second one a row is known by its labels, its files
//! and their content: those that are new or changed get the object that their step works on, and only these cost more
//! than being read.

use crate::attempt::NamedObject;
use crate::db::{self, Inputs, Stat};
use crate::error::Result;
use crate::ids::TaskId;
use crate::labels::Labels;
use crate::names;
use crate::object::ObjectHash;
use crate::table::{Row, Table};
use crate::text::path_bytes;

use super::fingerprint::{Digest, Fingerprint};
use super::scan::{Changed, Content, Ingest, ScanSummary, Scanner, Source};

/// The rows of one task.
pub(super) struct TableScan<'a> {
    pub(super) scanner: &'a Scanner<'a>,
    pub(super) task: TaskId,
    pub(super) table: &'a Table,
}

/// What the second pass found.
pub(super) struct ScannedTable {
    /// `None` if a file was too fresh to be trusted.
    pub(super) fingerprint: Option<ObjectHash>,
    /// The labels of rows with a file that can't be read.
    pub(super) unread: Vec<Labels>,
}

impl TableScan<'_> {
    /// Second pass: leaves in the temporary tables which rows and files are new, changed or gone.
    pub(super) fn hash_pass(
        &self,
        sources: &[Source],
        summary: ScanSummary,
    ) -> Result<ScannedTable> {
        let files = self.scanner.hash_pass(db::files_of_rows(self.task), sources, &summary)?;
        let known = self.known()?;
        let mut is_seen = vec![false; known.len()];
        let (mut sum, mut unread) = (Fingerprint::default(), Vec::new());
        let mut ingest = Ingest::new(self.scanner, self.task);
        self.table.each(&mut |row| {
            let (labels, files) = (row.labels.as_bytes(), row.files.as_bytes());
            let digest = sum.add(labels, files, &Stat::NONE);
            let Some(content) = self.content(&row)? else {
                unread.extend(Labels::from_json(row.labels));
                return Ok(());
            };
            let digest = digest.with(&ObjectHash::of(&content));
            if let Some(place) = digest.place_in(&known) {
                is_seen[place] = true;
                return Ok(());
            }
            let (path, name, content) = (labels.to_vec(), files.to_vec(), Content::Bytes(content));
            ingest.add(Changed { path, name, was_known: false, content })
        })?;
        ingest.finish()?;
        self.forget(&is_seen)?;
        let fingerprint = files.map(|files| ScanSummary::total(&files, Some(&sum.finish())));
        Ok(ScannedTable { fingerprint, unread })
    }

    /// The rows that the last plan knew, with their places among them.
    fn known(&self) -> Result<Vec<Digest>> {
        let mut known = Vec::new();
        self.scanner.db.read(|reader| {
            Inputs::each(reader, self.task, &mut |labels, row| {
                let digest = Digest::of(labels, &row.name, &Stat::NONE).with(&row.object);
                known.push(digest.at(known.len()));
            })
        })?;
        known.sort_unstable();
        Ok(known)
    }

    /// Notes that those of the known rows are gone which were not seen.
    fn forget(&self, is_seen: &[bool]) -> Result<()> {
        if !is_seen.contains(&false) {
            return Ok(());
        }
        let (mut gone, mut is_seen) = (Vec::new(), is_seen.iter());
        self.scanner.db.read(|reader| {
            Inputs::each_path(reader, self.task, &mut |labels| {
                if is_seen.next() == Some(&false) {
                    gone.push(labels.to_vec());
                }
            })?;
            gone.iter().try_for_each(|labels| Inputs::gone(reader, self.task, labels))
        })
    }

    /// What the step of a row works on: the row as JSON, or a listing of its files, each in a folder that is called like
    /// its column. `None` if one of them can't be read.
    fn content(&self, row: &Row<'_>) -> Result<Option<Vec<u8>>> {
        if !self.table.has_paths() {
            return Ok(Some(Row::object(row.labels)));
        }
        let task = db::files_of_rows(self.task);
        let mut listing = Vec::new();
        for (column, path) in row.each_file() {
            let path = path_bytes(&path);
            let file = self.scanner.db.read(|reader| Inputs::present(reader, task, path))?;
            let Some((object, executable)) = file else { return Ok(None) };
            let name = names::in_column(column, path);
            db::listing_line(&mut listing, &NamedObject { name, object, executable });
        }
        Ok(Some(listing))
    }
}
