//! How our types lie in SQLite's columns.

use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Result, ToSql};

use crate::attempt::StepState;
use crate::ids::{DependencyFileId, RecipeId, ResultId, RunId, StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::origin::Origin;

macro_rules! as_integer {
    ($($id:ident),*) => {$(
        impl ToSql for $id {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                Ok(self.0.into())
            }
        }
        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_i64().map($id)
            }
        }
    )*};
}
as_integer!(StepId, TaskId, RecipeId, RunId, ResultId, DependencyFileId);

impl ToSql for ObjectHash {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.as_bytes())))
    }
}

/// A BLOB of 32 bytes, or 64 hex digits as in `step.object_hash`.
impl FromSql for ObjectHash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Blob(bytes) => {
                bytes.try_into().map(ObjectHash::from_bytes).map_err(|_| FromSqlError::InvalidType)
            }
            ValueRef::Text(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| ObjectHash::parse(text).ok())
                .ok_or(FromSqlError::InvalidType),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl ToSql for Origin {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Origin {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Origin)
    }
}

/// NULL if there are none, so that most steps pay nothing for them.
impl ToSql for Labels {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(match self.is_empty() {
            true => ToSqlOutput::Borrowed(ValueRef::Null),
            false => ToSqlOutput::from(self.to_json()),
        })
    }
}

impl FromSql for Labels {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Null => Ok(Labels::default()),
            _ => Labels::from_json(value.as_str()?).ok_or(FromSqlError::InvalidType),
        }
    }
}

/// The name of a file: TEXT if it is UTF-8, BLOB otherwise, so that every name is kept exactly and
/// equal names are equal values.
pub(crate) struct Name<'a>(pub(crate) &'a [u8]);

impl ToSql for Name<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(if std::str::from_utf8(self.0).is_ok() {
            ValueRef::Text(self.0)
        } else {
            ValueRef::Blob(self.0)
        }))
    }
}

/// The bytes of a name, whichever way it lies there.
pub(crate) struct NameBytes(pub(crate) Vec<u8>);

impl FromSql for NameBytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_bytes().map(|bytes| NameBytes(bytes.to_vec()))
    }
}

/// The digits stand in many statements, and in the partial index `idx_step_todo`: 0 pending, 1 done, 2 failed.
impl ToSql for StepState {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        let digit: i64 = match self {
            StepState::Pending => 0,
            StepState::Done => 1,
            StepState::Failed => 2,
        };
        Ok(digit.into())
    }
}

impl FromSql for StepState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_i64()? {
            0 => Ok(StepState::Pending),
            1 => Ok(StepState::Done),
            2 => Ok(StepState::Failed),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}

/// A duration as the columns `…_us` have it.
pub(in crate::db) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
