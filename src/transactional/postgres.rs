use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgConnection, Postgres};

use super::dialect::{Dialect, NotCommitted};
use super::options::{Begin, Isolation, Unsupported};
use crate::canonical::hex;
use crate::clock::{millis, time_of};

impl Dialect for Postgres {
    /// `BEGIN` comes last: a batch is a transaction by itself until then, so one that fails half-way leaves none
    /// behind. sqlx returns the connection of a failed begin to the pool as it is. `BEGIN` goes on with what the batch
    /// has begun, its settings included.
    fn begin(begin: &Begin) -> Result<String, Unsupported> {
        let mut sql = String::new();
        // The statement timeout is what ends a statement whose caller has gone: a dropped query runs on in the server.
        if let Some(timeout) = begin.statement_timeout.into_iter().chain(begin.timeout).min() {
            let _ = write!(sql, "SET LOCAL statement_timeout = {}; ", setting(timeout));
        }
        if let Some(timeout) = begin.lock_timeout {
            let _ = write!(sql, "SET LOCAL lock_timeout = {}; ", setting(timeout));
        }
        // What ends a transaction whose process has vanished, or hangs: its locks are free again then.
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

    /// A batch binds no arguments, so the texts travel as hexadecimal digits, in which nothing can be quoted wrongly; the id is of
    /// such digits anyway. A claim that is gone makes it a division by zero.
    ///
    /// `convert_from` has the collation of its encoding's name, by which the primary key is not sorted: an id that is compared
    /// goes through `encode`. An id that had anything but digits in it would lose that, and find no claim.
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

    /// A transaction that a failed statement has aborted answers `COMMIT` with a silent rollback, but any other statement with
    /// an error, and then the rest of the batch does not run. Deferred constraints are checked on the way.
    ///
    /// sqlx counts on being in a transaction still: so the batch, which takes no more than the one round trip of a `COMMIT`,
    /// leaves it an empty one to roll back.
    async fn commit(connection: &mut PgConnection, last: Option<String>) -> Result<bool, NotCommitted> {
        let last = last.as_deref().unwrap_or("SET CONSTRAINTS ALL IMMEDIATE");
        let batch = format!("{last}; COMMIT AND CHAIN");
        match Self::execute(connection, batch.into()).await {
            Ok(()) => Ok(true),
            Err(error) => {
                let was_open = match code(&error).as_deref() {
                    Some(NO_ACTIVE_SQL_TRANSACTION) => false,
                    // The claim is gone: by the tool's hand, or with a rollback of its own. A `COMMIT` that fails ends a transaction, too.
                    Some(DIVISION_BY_ZERO) => Self::rollback(connection).await.unwrap_or(true),
                    _ => true,
                };
                Err(NotCommitted { error, was_open })
            }
        }
    }

    /// Outside a transaction a `ROLLBACK` only warns, but with `AND CHAIN` it fails. sqlx rolls the empty transaction back that it
    /// leaves, on the way to the pool.
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

/// A timeout in milliseconds, as the server takes it: 32 bits, and 0 would be none at all.
fn setting(timeout: Duration) -> u64 {
    const MAX: u64 = 0x7fff_ffff;
    millis(timeout).clamp(1, MAX)
}

super::records::impl_records!(Postgres, "select pg_advisory_xact_lock(7307210317)");
