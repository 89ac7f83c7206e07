//! The databases that layers keep rows in.

use std::future::Future;

use sqlx::AssertSqlSafe;
#[cfg(feature = "sqlite")]
use sqlx::Row;

use crate::clock::time_of;

/// A database that this crate has statements for. Sealed: its module is private, so no other type can implement it.
#[doc(hidden)]
pub trait SupportedDatabase: sqlx::Database {
    /// Whether it is a server, which may stop answering.
    const IS_REMOTE: bool;

    /// The end of a selection that skips rows which another transaction has locked.
    const SKIP_LOCKED: &str;

    /// The database's time, in milliseconds since 1970.
    const TIME: &str;

    /// Runs a statement of this crate that reads no row and changes nothing.
    fn probe(
        connection: &mut Self::Connection,
        statement: String,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement of this crate, and returns the number of deleted rows.
    fn delete_expired(
        connection: &mut Self::Connection,
        statement: String,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
}

#[cfg(feature = "postgres")]
impl SupportedDatabase for sqlx::Postgres {
    const IS_REMOTE: bool = true;

    const SKIP_LOCKED: &str = "for update skip locked";
    const TIME: &str = time_of!(Postgres);

    async fn probe(connection: &mut sqlx::PgConnection, statement: String) -> Result<(), sqlx::Error> {
        sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
    }

    async fn delete_expired(connection: &mut sqlx::PgConnection, statement: String) -> Result<u64, sqlx::Error> {
        let deleted = sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
        Ok(deleted.rows_affected())
    }
}

#[cfg(feature = "sqlite")]
impl SupportedDatabase for sqlx::Sqlite {
    const IS_REMOTE: bool = false;

    /// There is one lock, for the whole database.
    const SKIP_LOCKED: &str = "";
    const TIME: &str = time_of!(Sqlite);

    async fn probe(connection: &mut sqlx::SqliteConnection, statement: String) -> Result<(), sqlx::Error> {
        sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
    }

    /// Deletes nothing while another connection writes. Afterwards, the connection waits for locks as before.
    ///
    /// SQLite applies and reads this pragma when it prepares it: a cached statement would do nothing.
    async fn delete_expired(connection: &mut sqlx::SqliteConnection, statement: String) -> Result<u64, sqlx::Error> {
        let timeout: i64 = sqlx::raw_sql("PRAGMA busy_timeout").fetch_one(&mut *connection).await?.try_get(0)?;
        sqlx::raw_sql("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
        let deleted = sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await;
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA busy_timeout = {timeout}"))).execute(&mut *connection).await?;
        match deleted {
            Ok(deleted) => Ok(deleted.rows_affected()),
            Err(error) if is_busy(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Whether another connection writes, by the [primary result code](https://www.sqlite.org/rescode.html): `SQLITE_BUSY` or
/// `SQLITE_LOCKED`.
#[cfg(feature = "sqlite")]
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    matches!(code.map(|code| code & 0xff), Some(5 | 6))
}
