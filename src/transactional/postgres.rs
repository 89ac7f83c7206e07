use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgConnection, Postgres};

use super::dialect::{Dialect, NotCommitted};
use super::options::{Begin, Isolation, Unsupported};
use crate::canonical::hex;
use crate::clock::{millis, time_of};

impl Dialect for Postgres {
    /// `BEGIN` comes last: until then, the batch is a transaction by itself, so a batch that fails half-way leaves no
    /// transaction behind. sqlx returns the connection of a failed begin to the pool as it is. `BEGIN` continues the
    /// transaction of the batch, including its settings.
    fn begin(begin: &Begin) -> Result<String, Unsupported> {
        let mut sql = String::new();
        // The statement timeout ends a statement whose caller has left: a dropped query continues in the server.
        if let Some(timeout) = begin.statement_timeout.into_iter().chain(begin.timeout).min() {
            let _ = write!(sql, "SET LOCAL statement_timeout = {}; ", setting(timeout));
        }
        if let Some(timeout) = begin.lock_timeout {
            let _ = write!(sql, "SET LOCAL lock_timeout = {}; ", setting(timeout));
        }
        // Ends a transaction whose process has vanished or hangs, and so releases its locks.
        let idle_timeout = begin.idle_timeout.or(begin.timeout).unwrap_or(IDLE_TIMEOUT);
        let _ = write!(sql, "SET LOCAL idle_in_transaction_session_timeout = {}; ", setting(idle_timeout));
        sql.push_str("BEGIN");
        if let Some(isolation) = begin.isolation {
            let level = match isolation {
                Isolation::ReadCommitted => "READ COMMITTED",
                Isolation::RepeatableRead => "REPEATABLE READ",
                Isolation::Serializable => "SERIALIZABLE",
            };
            let _ = write!(sql, " ISOLATION LEVEL {level}");
        }
        if begin.read_only {
            sql.push_str(" READ ONLY");
        }
        Ok(sql)
    }

    const HAS_ONE_WRITER: bool = false;

    async fn before_end(_: &Begin, _: &mut PgConnection) -> Result<(), sqlx::Error> {
        Ok(())
    }

    /// A batch binds no arguments, so the texts are sent as hexadecimal digits, which need no quoting; the id consists
    /// of such digits anyway. A missing claim makes it a division by zero.
    ///
    /// `convert_from` has the collation of its encoding's name, by which the primary key is not sorted: an id that is
    /// compared goes through `encode`. An id with other characters would lose them, and find no claim.
    fn recording(id: &str, record: &str, ttl: Duration) -> Option<String> {
        Some(format!(
            "with recorded as (update mcp_patterns_idempotency \
             set result = convert_from(decode('{}', 'hex'), 'UTF8'), expires_at = {} + {} \
             where id = encode(decode('{}', 'hex'), 'hex') and result is null and token is null returning 1) \
             select 1 / count(*) from recorded",
            hex(record.as_bytes()),
            time_of!(Postgres),
            millis(ttl),
            id.replace(|digit: char| !digit.is_ascii_hexdigit(), ""),
        ))
    }

    /// A transaction that a failed statement has aborted answers `COMMIT` with a silent rollback, but any other
    /// statement with an error, and then the rest of the batch does not run. The statement also checks deferred
    /// constraints.
    ///
    /// sqlx assumes that a transaction is still open: so the batch, which takes the one round trip of a `COMMIT`,
    /// leaves an empty one for it to roll back.
    async fn commit(connection: &mut PgConnection, last: Option<String>) -> Result<bool, NotCommitted> {
        let last = last.as_deref().unwrap_or("SET CONSTRAINTS ALL IMMEDIATE");
        let batch = format!("{last}; COMMIT AND CHAIN");
        match Self::execute(connection, batch.into()).await {
            Ok(()) => Ok(true),
            Err(error) => {
                let was_open = match code(&error).as_deref() {
                    Some(NO_ACTIVE_SQL_TRANSACTION) => false,
                    // The claim no longer exists: the tool deleted it, or rolled back. A `COMMIT` that fails ends a
                    // transaction, too.
                    Some(DIVISION_BY_ZERO) => Self::rollback(connection).await.unwrap_or(true),
                    _ => true,
                };
                Err(NotCommitted { error, was_open })
            }
        }
    }

    /// Outside a transaction a `ROLLBACK` only warns, but with `AND CHAIN` it fails. It leaves an empty transaction,
    /// which sqlx rolls back on the way to the pool.
    async fn rollback(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        match Self::execute(connection, "ROLLBACK AND CHAIN".into()).await {
            Ok(()) => Ok(true),
            Err(error) if code(&error).as_deref() == Some(NO_ACTIVE_SQL_TRANSACTION) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn is_open(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        match Self::execute(connection, "SAVEPOINT mcp_patterns; RELEASE SAVEPOINT mcp_patterns".into()).await {
            Ok(()) => Ok(true),
            Err(error) if code(&error).as_deref() == Some(NO_ACTIVE_SQL_TRANSACTION) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn execute(connection: &mut PgConnection, sql: Cow<'static, str>) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(|_| ())
    }
}

/// How long the server waits for the next statement of a transaction that has no timeout.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

const NO_ACTIVE_SQL_TRANSACTION: &str = "25P01";
const DIVISION_BY_ZERO: &str = "22012";

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// A timeout in milliseconds, in the server's range: 32 bits, and 0 would disable it.
fn setting(timeout: Duration) -> u64 {
    const MAX: u64 = 0x7fff_ffff;
    millis(timeout).clamp(1, MAX)
}

super::records::impl_records!(
    Postgres,
    crate::postgres::create_once(
        7_307_210_317,
        "mcp_patterns_idempotency_expires_at",
        crate::transactional::IDEMPOTENCY_SCHEMA
    )
);
