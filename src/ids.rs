//! Row numbers of the database, each its own type, so that a step can't be taken for a task.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A row of `step`.
    StepId
);
id!(
    /// A row of `task`.
    TaskId
);
id!(
    /// A row of `recipe`.
    RecipeId
);
id!(
    /// A row of `run`.
    RunId
);
id!(
    /// A row of `result`.
    ResultId
);
id!(
    /// A row of `dependency_file`.
    DependencyFileId
);

/// Place of a task in the manifest, counted from 0. Not a [`TaskId`]: that one is kept for ever,
/// this one lasts as long as the manifest is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub usize);
