//! One SQL for two engines: SQLite, which is a file of this process's host, and PostgreSQL, which several hosts share.
//!
//! Promises: a transaction has the books to itself from its beginning, on either engine, so a rule that reads and then writes is
//! written once. Its changes are all made or none, and its end says which.
//!
//! Statements use what both engines know: `ON CONFLICT`, `RETURNING`, named subqueries, `CAST(SUM(…) AS BIGINT)`. Placeholders
//! are `?1`, `?2`, …; a question mark is nothing else.

use super::corrupt;
use crate::error::Error;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

/// A connection.
pub(super) enum Sql {
    Sqlite(Connection),
    #[cfg(feature = "postgres")]
    Postgres(super::postgresql::Link),
}

/// What a column holds. Truth is 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Where a transaction begins and ends, and a part of one that is taken back alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    /// The same while there may be no tables yet.
    Prepare,
    Commit,
    Rollback,
    Savepoint,
    Release,
    Undo,
}

/// The values of a statement's placeholders.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Value::from($value)),*] };
}
pub(super) use values;

impl Sql {
    /// Runs a statement and returns how many rows it changed.
    pub(super) fn execute(&self, text: &str, values: &[Value]) -> Result<u64, Error> {
        match self {
            Sql::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(text)?;
                Ok(statement.execute(params_from_iter(values))? as u64)
            }
            #[cfg(feature = "postgres")]
            Sql::Postgres(link) => link.execute(text, values),
        }
    }

    /// All rows of a question.
    pub(super) fn all<R: FromRow>(&self, text: &str, values: &[Value]) -> Result<Vec<R>, Error> {
        let rows = match self {
            Sql::Sqlite(connection) => sqlite_rows(connection, text, values)?,
            #[cfg(feature = "postgres")]
            Sql::Postgres(link) => link.rows(text, values)?,
        };
        let rows = rows.into_iter().map(R::from_row);
        rows.collect::<Option<_>>().ok_or(corrupt("row"))
    }

    /// The first row, if there is one.
    pub(super) fn first<R: FromRow>(
        &self,
        text: &str,
        values: &[Value],
    ) -> Result<Option<R>, Error> {
        Ok(self.all(text, values)?.into_iter().next())
    }

    /// The row of a question that has one in any case.
    pub(super) fn one<R: FromRow>(&self, text: &str, values: &[Value]) -> Result<R, Error> {
        self.first(text, values)?.ok_or(corrupt("answer"))
    }

    /// Makes changes, all or none.
    pub(super) fn transaction<T>(
        &self,
        work: impl FnOnce(&Sql) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let open = Open::transaction(self)?;
        let done = work(self)?;
        open.finish()?;
        Ok(done)
    }

    /// How many steps of the tables are there.
    pub(super) fn version(&self) -> Result<u32, Error> {
        let version: (u32,) = match self {
            Sql::Sqlite(_) => self.one("PRAGMA user_version", &[])?,
            #[cfg(feature = "postgres")]
            Sql::Postgres(_) => {
                self.batch(super::postgresql::OWN_TABLES)?;
                self.one("SELECT COALESCE(MAX(steps), 0) FROM version", &[])?
            }
        };
        Ok(version.0)
    }

    /// Writes that there are so many.
    pub(super) fn set_version(&self, steps: usize) -> Result<(), Error> {
        self.batch(&match self {
            Sql::Sqlite(_) => format!("PRAGMA user_version = {steps}"),
            #[cfg(feature = "postgres")]
            Sql::Postgres(_) => {
                format!("DELETE FROM version; INSERT INTO version VALUES ({steps})")
            }
        })
    }

    /// Runs one step of the tables.
    pub(super) fn define(&self, step: &str) -> Result<(), Error> {
        match self {
            Sql::Sqlite(_) => self.batch(step),
            #[cfg(feature = "postgres")]
            Sql::Postgres(_) => self.batch(&super::postgresql::translated(step)),
        }
    }

    /// Runs statements without values.
    pub(super) fn batch(&self, text: &str) -> Result<(), Error> {
        match self {
            Sql::Sqlite(connection) => Ok(connection.execute_batch(text)?),
            #[cfg(feature = "postgres")]
            Sql::Postgres(link) => link.batch(text),
        }
    }

    fn step(&self, step: Step) -> Result<(), Error> {
        match self {
            Sql::Sqlite(connection) => {
                let texts: &[&str] = match step {
                    // Others that write wait from here on, not in the middle.
                    Step::Begin | Step::Prepare => &["BEGIN IMMEDIATE"],
                    Step::Undo => &["ROLLBACK TO own", "RELEASE own"],
                    _ => &[step.text()],
                };
                for text in texts {
                    connection.prepare_cached(text)?.execute([])?;
                }
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Sql::Postgres(link) => link.step(step),
        }
    }
}

fn sqlite_rows(
    connection: &Connection,
    text: &str,
    values: &[Value],
) -> Result<Vec<Vec<Value>>, Error> {
    let mut statement = connection.prepare_cached(text)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(values))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let value = |at| match row.get_ref(at)? {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(number) => Ok(Value::Number(number)),
            ValueRef::Text(_) => Ok(Value::Text(row.get(at)?)),
            ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_vec())),
            ValueRef::Real(_) => Err(corrupt("number")),
        };
        all.push((0..columns).map(value).collect::<Result<_, Error>>()?);
    }
    Ok(all)
}

impl Step {
    /// The same for both engines, but for the beginning.
    pub(super) fn text(self) -> &'static str {
        match self {
            Step::Begin | Step::Prepare => "BEGIN",
            Step::Commit => "COMMIT",
            Step::Rollback => "ROLLBACK",
            Step::Savepoint => "SAVEPOINT own",
            Step::Release => "RELEASE own",
            Step::Undo => "ROLLBACK TO own; RELEASE own",
        }
    }
}

/// A transaction or a part of one that has not ended; dropped, it is taken back, whoever panicked.
pub(super) struct Open<'a> {
    sql: &'a Sql,
    finish: Step,
    undo: Option<Step>,
}

impl<'a> Open<'a> {
    pub(super) fn transaction(sql: &'a Sql) -> Result<Self, Error> {
        Self::begin(sql, Step::Begin, Step::Commit, Step::Rollback)
    }

    /// One that makes tables.
    pub(super) fn preparation(sql: &'a Sql) -> Result<Self, Error> {
        Self::begin(sql, Step::Prepare, Step::Commit, Step::Rollback)
    }

    /// Within a transaction.
    pub(super) fn savepoint(sql: &'a Sql) -> Result<Self, Error> {
        Self::begin(sql, Step::Savepoint, Step::Release, Step::Undo)
    }

    fn begin(sql: &'a Sql, begin: Step, finish: Step, undo: Step) -> Result<Self, Error> {
        sql.step(begin)?;
        Ok(Open {
            sql,
            finish,
            undo: Some(undo),
        })
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.sql.step(self.finish)?;
        self.undo = None;
        Ok(())
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // An engine that cannot even do this has lost the transaction with the connection.
        let _ = self.undo.map(|undo| self.sql.step(undo));
    }
}

/// What a row is made into.
pub(super) trait FromRow: Sized {
    /// `None`: the columns have other types.
    fn from_row(row: Vec<Value>) -> Option<Self>;
}

/// What a column is made into.
pub(super) trait Column: Sized {
    fn of(value: Value) -> Option<Self>;
}

macro_rules! rows {
    ($(($($name:ident)+))+) => { $(
        impl<$($name: Column),+> FromRow for ($($name,)+) {
            fn from_row(row: Vec<Value>) -> Option<Self> {
                let mut row = row.into_iter();
                let made = ($($name::of(row.next()?)?,)+);
                row.next().is_none().then_some(made)
            }
        }
    )+ };
}
rows!((A)(A B)(A B C)(A B C D)(A B C D E)(A B C D E F));

impl Column for i64 {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl Column for u32 {
    fn of(value: Value) -> Option<Self> {
        i64::of(value)?.try_into().ok()
    }
}

impl Column for bool {
    fn of(value: Value) -> Option<Self> {
        i64::of(value).map(|number| number != 0)
    }
}

impl Column for String {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Column for Vec<u8> {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl<const N: usize> Column for [u8; N] {
    fn of(value: Value) -> Option<Self> {
        Vec::of(value)?.try_into().ok()
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::of(other).map(Some),
        }
    }
}

macro_rules! numbers {
    ($($number:ty)+) => { $(
        impl From<$number> for Value {
            fn from(number: $number) -> Self {
                Value::Number(number.into())
            }
        }
    )+ };
}
numbers!(i64 i32 u32 bool);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Value::Text(text.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Value::Null, Value::Number)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Number(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
