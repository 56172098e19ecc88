//! An export that the manifest asks for, of a task that is complete.

use std::path::PathBuf;

use crate::export_path::ExportPath;

/// The results of a task are to lie in a folder.
#[derive(Debug, Clone)]
pub struct DueExport {
    pub task: String,
    /// The manifest's folder.
    pub dir: PathBuf,
    pub path: Box<ExportPath>,
}
