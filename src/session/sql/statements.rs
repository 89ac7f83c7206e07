//! The statements on the table of sessions.

use std::future::Future;
use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::Postgres;
#[cfg(feature = "sqlite")]
use sqlx::Sqlite;
use sqlx::{AssertSqlSafe, Pool};

use super::SESSION_SCHEMA;
use crate::clock::{signed_millis, time_of};
use crate::connections::{Connections, in_time};
#[cfg(not(feature = "transactional"))]
use crate::database::SupportedDatabase as Base;
use crate::session::Write;
#[cfg(feature = "transactional")]
use crate::transactional::Dialect as Base;

/// The version, the data, and how many milliseconds are left until the record expires and the session ends.
type Row = (i64, String, i64, i64);

/// A database that keeps sessions: `sqlx::Postgres` or `sqlx::Sqlite`. Sealed: no other type can implement it.
#[diagnostic::on_unimplemented(
    message = "sessions are not kept on `{Self}`",
    label = "not a database of this crate",
    note = "use `sqlx::Postgres` with the feature `postgres`, or `sqlx::Sqlite` with the feature `sqlite`"
)]
pub trait SessionDatabase: Base {
    #[doc(hidden)]
    fn create(
        connection: &mut Self::Connection,
        id: &str,
        write: Write<'_>,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn load(
        connection: &mut Self::Connection,
        id: &str,
    ) -> impl Future<Output = Result<Option<Row>, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn compare_and_swap(
        connection: &mut Self::Connection,
        id: &str,
        expected: u64,
        write: Write<'_>,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn touch(
        connection: &mut Self::Connection,
        id: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn delete(
        connection: &mut Self::Connection,
        id: &str,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn ensure_schema(pool: &Pool<Self>) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Returns a version as the table stores it: both have 63 bits.
fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// Makes a record expire `$n` milliseconds from now, but no later than its session ends.
macro_rules! prolonged {
    ($n:literal) => {
        concat!("expires_at = case when clock.now + $", $n, " < ends_at then clock.now + $", $n, " else ends_at end")
    };
}

macro_rules! impl_session_database {
    ($database:ident, $create:expr) => {
        impl SessionDatabase for $database {
            async fn create(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                write: Write<'_>,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(concat!(
                    "insert into mcp_patterns_sessions as s (id, version, data, expires_at, ends_at) \
                     select $1, $2, $3, clock.now + $4, clock.now + $5 \
                     from (select ",
                    time_of!($database),
                    " as now) as clock where true \
                     on conflict (id) do update set \
                         version = excluded.version, data = excluded.data, \
                         expires_at = excluded.expires_at, ends_at = excluded.ends_at \
                     where s.expires_at <= ",
                    time_of!($database),
                    " or s.version = excluded.version",
                ))
                .bind(id)
                .bind(signed(write.version))
                .bind(write.data)
                .bind(signed_millis(write.ttl.min(write.ends_in)))
                .bind(signed_millis(write.ends_in))
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn load(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
            ) -> Result<Option<Row>, sqlx::Error> {
                sqlx::query_as(concat!(
                    "select version, data, expires_at - clock.now, ends_at - clock.now \
                     from mcp_patterns_sessions, (select ",
                    time_of!($database),
                    " as now) as clock \
                     where id = $1 and expires_at > clock.now",
                ))
                .bind(id)
                .fetch_optional(connection)
                .await
            }

            async fn compare_and_swap(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                expected: u64,
                write: Write<'_>,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(concat!(
                    "update mcp_patterns_sessions set version = $1, data = $2, ",
                    prolonged!(3),
                    " from (select ",
                    time_of!($database),
                    " as now) as clock \
                     where id = $4 and (version = $5 or version = $1) and expires_at > clock.now",
                ))
                .bind(signed(write.version))
                .bind(write.data)
                .bind(signed_millis(write.ttl))
                .bind(id)
                .bind(signed(expected))
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn touch(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                ttl: Duration,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(concat!(
                    "update mcp_patterns_sessions set ",
                    prolonged!(1),
                    " \
                     from (select ",
                    time_of!($database),
                    " as now) as clock where id = $2 and expires_at > clock.now",
                ))
                .bind(signed_millis(ttl))
                .bind(id)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn delete(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                expected: Option<u64>,
            ) -> Result<bool, sqlx::Error> {
                let done = sqlx::query(concat!(
                    "delete from mcp_patterns_sessions \
                     where id = $1 and expires_at > ",
                    time_of!($database),
                    " and version = coalesce($2, version)",
                ))
                .bind(id)
                .bind(expected.map(signed))
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            }

            async fn ensure_schema(pool: &Pool<Self>) -> Result<(), sqlx::Error> {
                let mut connection = Connections::of(pool).acquire().await?;
                in_time(sqlx::raw_sql(AssertSqlSafe($create)).execute(&mut *connection)).await.map(|_| ())
            }
        }
    };
}

#[cfg(feature = "postgres")]
impl_session_database!(
    Postgres,
    crate::postgres::create_once(7_307_210_318, "mcp_patterns_sessions_expires_at", SESSION_SCHEMA)
);
#[cfg(feature = "sqlite")]
impl_session_database!(Sqlite, SESSION_SCHEMA);
