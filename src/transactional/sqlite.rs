use std::borrow::Cow;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, Sqlite, SqliteConnection};

use super::dialect::{Dialect, Fault, NotCommitted, connection_fault};
use super::options::{Begin, Unsupported};

impl Dialect for Sqlite {
    /// SQLite's transactions are serializable, whatever level is asked for.
    ///
    /// One that will write takes the write lock at once and waits for it (`busy_timeout`). A deferred one that reads first
    /// fails at its first write, without waiting, if another has written meanwhile.
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

    /// There is no way to SQLite that could be spared.
    fn recording(_: &str, _: &str, _: Duration) -> Option<String> {
        None
    }

    /// A failed statement does not abort a transaction of SQLite's, and one that is no more answers `COMMIT` with an error.
    ///
    /// sqlx's own commit does nothing, without an error, if sqlx has rolled back meanwhile. It counts on being in a transaction
    /// still, so it is left an empty one, which has no lock, to roll back.
    async fn commit(connection: &mut SqliteConnection, _: Option<String>) -> Result<bool, NotCommitted> {
        // A query is prepared once for each connection.
        if let Err(error) = sqlx::query("COMMIT; BEGIN").execute(&mut *connection).await {
            let was_open = Self::rollback(connection).await.unwrap_or(true);
            return Err(NotCommitted { error, was_open });
        }
        Ok(false)
    }

    /// SQLite undoes some transactions by itself (`ON CONFLICT ROLLBACK`, `RAISE(ROLLBACK)`, a full disk). Then sqlx, which fails to
    /// roll back, would count on a transaction for ever, and begin no other.
    async fn rollback(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let undone = Self::execute(connection, "ROLLBACK; BEGIN".into()).await;
        if undone.is_err() && connection.is_in_transaction() {
            Self::execute(connection, "BEGIN".into()).await?;
        }
        Ok(undone.is_ok())
    }

    /// In a transaction none can begin.
    async fn is_open(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        if Self::execute(connection, "BEGIN".into()).await.is_err() {
            return Ok(true);
        }
        Self::execute(connection, "ROLLBACK".into()).await.map(|()| false)
    }

    /// By [result code](https://www.sqlite.org/rescode.html); an extended code has its primary code in the low byte.
    fn fault(error: &sqlx::Error) -> Fault {
        if let Some(fault) = connection_fault(error) {
            return fault;
        }
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            // SQLITE_BUSY and SQLITE_LOCKED.
            Some(5 | 6) => Fault::Conflict,
            // SQLITE_INTERRUPT.
            Some(9) => Fault::Timeout,
            // SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN.
            Some(10 | 13 | 14) => Fault::Unavailable,
            _ => Fault::Permanent,
        }
    }

    async fn execute(connection: &mut SqliteConnection, sql: Cow<'static, str>) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(|_| ())
    }
}

super::records::impl_records!(Sqlite, "select 1");
