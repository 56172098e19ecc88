//! Where a step's input comes from, and nothing of what is in it: what makes two steps on equal bytes two steps.

use crate::ids::TaskId;
use crate::labels::Labels;
use crate::object::FieldHasher;

/// A place in the dataflow: the first 8 bytes of a hash over the way that leads there. Tasks count by their row, so
/// that renaming one keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub i64);

impl Origin {
    /// An input file, by the path that the table `input_file` has.
    pub fn file(path: &[u8]) -> Origin {
        Origin::of(&[("file", path)])
    }

    /// A row of a table, by its labels as JSON: where in the table it stands makes no difference.
    pub fn row(labels: &[u8]) -> Origin {
        Origin::of(&[("row", labels)])
    }

    /// An output, by its name, of the step of a task that has this origin.
    pub fn output(task: TaskId, step: Origin, name: &[u8]) -> Origin {
        let (task, step) = (task.0.to_le_bytes(), step.0.to_le_bytes());
        Origin::of(&[("task", &task), ("step", &step), ("output", name)])
    }

    /// Everything that is gathered under these labels.
    pub fn group(labels: &Labels) -> Origin {
        Origin::of(&[("group", labels.to_json().as_bytes())])
    }

    fn of(fields: &[(&str, &[u8])]) -> Origin {
        let mut hasher = FieldHasher::new("task-pipeline origin 1");
        for (tag, value) in fields {
            hasher.field(tag, value);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finish().as_bytes()[..8]);
        Origin(i64::from_be_bytes(first))
    }
}
