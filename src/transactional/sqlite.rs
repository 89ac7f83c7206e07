use std::borrow::Cow;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, Sqlite, SqliteConnection};

use super::dialect::{Dialect, NotCommitted};
use super::options::{Begin, Unsupported};

impl Dialect for Sqlite {
    /// SQLite's transactions are serializable, whatever level is requested.
    ///
    /// A writing transaction takes the write lock at once and waits for it (`busy_timeout`). A deferred one that reads
    /// first fails at its first write, without waiting, if another has written meanwhile.
    fn begin(begin: &Begin) -> Result<String, Unsupported> {
        if begin.statement_timeout.is_some() {
            return Err(Unsupported("with_statement_timeout"));
        }
        if begin.lock_timeout.is_some() {
            return Err(Unsupported("with_lock_timeout"));
        }
        if begin.idle_timeout.is_some() {
            return Err(Unsupported("with_idle_timeout"));
        }
        Ok(if begin.read_only { "BEGIN DEFERRED; PRAGMA query_only = ON" } else { "BEGIN IMMEDIATE" }.into())
    }

    const HAS_ONE_WRITER: bool = true;

    async fn before_end(begin: &Begin, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        match begin.read_only {
            true => Self::execute(connection, "PRAGMA query_only = OFF".into()).await,
            false => Ok(()),
        }
    }

    /// SQLite has no round trip that could be saved.
    fn recording(_: &str, _: &str, _: Duration) -> Option<String> {
        None
    }

    /// A failed statement does not abort a SQLite transaction, and `COMMIT` outside a transaction is an error.
    ///
    /// sqlx's own commit does nothing, without an error, if sqlx has rolled back meanwhile. sqlx assumes that a
    /// transaction is still open, so it is left an empty one, which has no lock, to roll back.
    async fn commit(connection: &mut SqliteConnection, _: Option<String>) -> Result<bool, NotCommitted> {
        // A query is prepared once for each connection.
        if let Err(error) = sqlx::query("COMMIT; BEGIN").execute(&mut *connection).await {
            let is_undone = Self::rollback(connection).await.unwrap_or(true);
            // SQLite itself rolls back a transaction whose commit fails. "No transaction" is the only error without a
            // specific code.
            let was_open = is_undone || !is_unspecific(&error);
            return Err(NotCommitted { error, was_open });
        }
        Ok(false)
    }

    /// SQLite itself rolls back some transactions (`ON CONFLICT ROLLBACK`, `RAISE(ROLLBACK)`, a full disk). sqlx then
    /// fails to roll back, would assume an open transaction for ever, and begin no other.
    async fn rollback(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let undone = Self::execute(connection, "ROLLBACK; BEGIN".into()).await;
        if undone.is_err() && connection.is_in_transaction() {
            Self::execute(connection, "BEGIN".into()).await?;
        }
        Ok(undone.is_ok())
    }

    /// Inside a transaction, no other can begin.
    async fn is_open(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        if Self::execute(connection, "BEGIN".into()).await.is_err() {
            return Ok(true);
        }
        Self::execute(connection, "ROLLBACK".into()).await.map(|()| false)
    }

    async fn execute(connection: &mut SqliteConnection, sql: Cow<'static, str>) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(|_| ())
    }
}

/// `SQLITE_ERROR`.
fn is_unspecific(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("1")
}

super::records::impl_records!(Sqlite, crate::transactional::IDEMPOTENCY_SCHEMA);
