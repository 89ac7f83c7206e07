use std::fmt::Write;

use sqlx::{Executor, PgConnection, Postgres, Transaction};

use super::dialect::{Dialect, Fault, connection_fault};
use super::options::{Begin, Isolation, Unsupported};

impl Dialect for Postgres {
    fn begin(begin: &Begin) -> Result<String, Unsupported> {
        let mut sql = String::from("BEGIN");
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
        // The statement timeout is what ends a statement whose caller has gone: a dropped query runs on in the server.
        if let Some(timeout) = begin.statement_timeout.into_iter().chain(begin.timeout).min() {
            let _ = write!(sql, "; SET LOCAL statement_timeout = {}", timeout.as_millis().max(1));
        }
        if let Some(timeout) = begin.lock_timeout {
            let _ = write!(sql, "; SET LOCAL lock_timeout = {}", timeout.as_millis().max(1));
        }
        Ok(sql)
    }

    const BEGIN_CAN_BE_DROPPED: bool = false;

    async fn before_end(_: &Begin, _: &mut PgConnection) -> Result<(), sqlx::Error> {
        Ok(())
    }

    /// A transaction that a failed statement has aborted answers `COMMIT` with a silent rollback, but any other statement with
    /// an error, and then the rest of the batch does not run. Deferred constraints are checked on the way.
    ///
    /// sqlx counts on being in a transaction still: so the batch, which takes no more than the one round trip of a `COMMIT`,
    /// leaves it an empty one to roll back.
    async fn commit(mut transaction: Transaction<'static, Self>, proved: bool) -> Result<(), sqlx::Error> {
        match proved {
            true => transaction.commit().await,
            false => Self::execute(&mut transaction, "SET CONSTRAINTS ALL IMMEDIATE; COMMIT; BEGIN").await,
        }
    }

    /// By [SQLSTATE](https://www.postgresql.org/docs/current/errcodes-appendix.html).
    fn fault(error: &sqlx::Error) -> Fault {
        if let Some(fault) = connection_fault(error) {
            return fault;
        }
        match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
            Some("40001" | "40P01") => Fault::Conflict,
            Some("55P03" | "57014" | "25P03" | "25P04") => Fault::Timeout,
            Some("53300" | "57P01" | "57P02" | "57P03" | "57P05") => Fault::Unavailable,
            Some(code) if code.starts_with("08") => Fault::Unavailable,
            _ => Fault::Permanent,
        }
    }

    async fn execute(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(sql)).await.map(|_| ())
    }
}

super::records::impl_records!(Postgres, "select pg_advisory_xact_lock(7307210317)");
