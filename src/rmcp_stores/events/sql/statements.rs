//! The statements on the table of events.

use std::future::Future;
use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::Postgres;
#[cfg(feature = "sqlite")]
use sqlx::Sqlite;
use sqlx::{AssertSqlSafe, Pool};

use super::{EVENT_SCHEMA, NewRow};
use crate::clock::{signed_millis, time_of};
use crate::connections::{Connections, in_time};
use crate::database::SupportedDatabase;

/// The id, the position and the data of an event.
type Row = (String, i64, String);

/// A database that keeps events: `sqlx::Postgres` or `sqlx::Sqlite`. Sealed: no other type can implement it.
#[diagnostic::on_unimplemented(
    message = "events are not kept on `{Self}`",
    label = "not a database of this crate",
    note = "use `sqlx::Postgres` with the feature `postgres`, or `sqlx::Sqlite` with the feature `sqlite`"
)]
pub trait EventDatabase: SupportedDatabase {
    /// Returns the position of the new event and the bytes before it, or nothing where another writer was first, or the stream is
    /// abandoned: only its mark has no bytes.
    #[doc(hidden)]
    fn append(
        connection: &mut Self::Connection,
        row: NewRow<'_>,
    ) -> impl Future<Output = Result<Option<(i64, i64)>, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn is_abandoned(
        connection: &mut Self::Connection,
        stream: &str,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Marks the stream of an event as abandoned, if the event is its last one.
    #[doc(hidden)]
    fn abandon(
        connection: &mut Self::Connection,
        last: &str,
        id: &str,
        mark: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Keeps the lease of an owner: a row with its id, in a stream of its own.
    #[doc(hidden)]
    fn renew(
        connection: &mut Self::Connection,
        owner: &str,
        lease: Duration,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Returns the milliseconds until the end of a lease, or nothing if it has ended.
    #[doc(hidden)]
    fn lease_left(
        connection: &mut Self::Connection,
        owner: &str,
    ) -> impl Future<Output = Result<Option<i64>, sqlx::Error>> + Send;

    /// Deletes the events before `position` that are not above `oldest_position`, or that begin before `oldest_byte`.
    #[doc(hidden)]
    fn drop_oldest(
        connection: &mut Self::Connection,
        stream: &str,
        position: i64,
        oldest_position: i64,
        oldest_byte: i64,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Returns the event, unless it has expired, and the later ones of its stream.
    #[doc(hidden)]
    fn read_from(
        connection: &mut Self::Connection,
        id: &str,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn touch(
        connection: &mut Self::Connection,
        id: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    #[doc(hidden)]
    fn ensure_schema(pool: &Pool<Self>) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

macro_rules! impl_event_database {
    ($database:ident, $create:expr) => {
        impl EventDatabase for $database {
            async fn append(
                connection: &mut <Self as sqlx::Database>::Connection,
                row: NewRow<'_>,
            ) -> Result<Option<(i64, i64)>, sqlx::Error> {
                sqlx::query_as(concat!(
                    "insert into mcp_patterns_rmcp_events \
                         (id, stream, position, starts_at, bytes, data, expires_at) \
                     select $1, $2, coalesce(newest.position, 0) + 1, \
                         coalesce(newest.starts_at + newest.bytes, 0), $3, $4, clock.now + $5 \
                     from (select ",
                    time_of!($database),
                    " as now) as clock \
                     left join (select position, starts_at, bytes from mcp_patterns_rmcp_events \
                         where stream = $2 order by position desc limit 1) as newest on true \
                     where coalesce(newest.bytes, 1) > 0 \
                     on conflict do nothing \
                     returning position, starts_at",
                ))
                .bind(row.id)
                .bind(row.stream)
                .bind(row.bytes)
                .bind(row.data)
                .bind(signed_millis(row.ttl))
                .fetch_optional(connection)
                .await
            }

            async fn is_abandoned(
                connection: &mut <Self as sqlx::Database>::Connection,
                stream: &str,
            ) -> Result<bool, sqlx::Error> {
                let bytes: Option<i64> = sqlx::query_scalar(
                    "select bytes from mcp_patterns_rmcp_events where stream = $1 order by position desc limit 1",
                )
                .bind(stream)
                .fetch_optional(connection)
                .await?;
                Ok(bytes == Some(0))
            }

            async fn abandon(
                connection: &mut <Self as sqlx::Database>::Connection,
                last: &str,
                id: &str,
                mark: &str,
                ttl: Duration,
            ) -> Result<(), sqlx::Error> {
                sqlx::query(concat!(
                    "insert into mcp_patterns_rmcp_events \
                         (id, stream, position, starts_at, bytes, data, expires_at) \
                     select $1, last.stream, last.position + 1, last.starts_at + last.bytes, 0, $2, ",
                    time_of!($database),
                    " + $3 from mcp_patterns_rmcp_events as last where last.id = $4 \
                     on conflict do nothing",
                ))
                .bind(id)
                .bind(mark)
                .bind(signed_millis(ttl))
                .bind(last)
                .execute(connection)
                .await
                .map(drop)
            }

            async fn renew(
                connection: &mut <Self as sqlx::Database>::Connection,
                owner: &str,
                lease: Duration,
            ) -> Result<(), sqlx::Error> {
                sqlx::query(concat!(
                    "insert into mcp_patterns_rmcp_events \
                         (id, stream, position, starts_at, bytes, data, expires_at) \
                     select $1, $1, 0, 0, 0, '', ",
                    time_of!($database),
                    " + $2 where true on conflict (id) do update set expires_at = excluded.expires_at",
                ))
                .bind(owner)
                .bind(signed_millis(lease))
                .execute(connection)
                .await
                .map(drop)
            }

            async fn lease_left(
                connection: &mut <Self as sqlx::Database>::Connection,
                owner: &str,
            ) -> Result<Option<i64>, sqlx::Error> {
                sqlx::query_scalar(concat!(
                    "select lease.expires_at - clock.now \
                     from mcp_patterns_rmcp_events as lease cross join (select ",
                    time_of!($database),
                    " as now) as clock where lease.id = $1 and lease.expires_at > clock.now",
                ))
                .bind(owner)
                .fetch_optional(connection)
                .await
            }

            async fn drop_oldest(
                connection: &mut <Self as sqlx::Database>::Connection,
                stream: &str,
                position: i64,
                oldest_position: i64,
                oldest_byte: i64,
            ) -> Result<(), sqlx::Error> {
                sqlx::query(
                    "delete from mcp_patterns_rmcp_events \
                     where stream = $1 and position < $2 and (position <= $3 or starts_at < $4)",
                )
                .bind(stream)
                .bind(position)
                .bind(oldest_position)
                .bind(oldest_byte)
                .execute(connection)
                .await
                .map(drop)
            }

            async fn read_from(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                limit: i64,
            ) -> Result<Vec<Row>, sqlx::Error> {
                sqlx::query_as(concat!(
                    "select later.id, later.position, later.data \
                     from mcp_patterns_rmcp_events as known \
                     join mcp_patterns_rmcp_events as later \
                         on later.stream = known.stream and later.position >= known.position \
                     where known.id = $1 and known.expires_at > ",
                    time_of!($database),
                    " order by later.position limit $2",
                ))
                .bind(id)
                .bind(limit)
                .fetch_all(connection)
                .await
            }

            async fn touch(
                connection: &mut <Self as sqlx::Database>::Connection,
                id: &str,
                ttl: Duration,
            ) -> Result<(), sqlx::Error> {
                sqlx::query(concat!(
                    "update mcp_patterns_rmcp_events set expires_at = ",
                    time_of!($database),
                    " + $1 where id = $2",
                ))
                .bind(signed_millis(ttl))
                .bind(id)
                .execute(connection)
                .await
                .map(drop)
            }

            async fn ensure_schema(pool: &Pool<Self>) -> Result<(), sqlx::Error> {
                let mut connection = Connections::of(pool).acquire().await?;
                in_time(sqlx::raw_sql(AssertSqlSafe($create)).execute(&mut *connection)).await.map(|_| ())
            }
        }
    };
}

#[cfg(feature = "postgres")]
impl_event_database!(
    Postgres,
    crate::postgres::create_once(7_307_210_319, "mcp_patterns_rmcp_events_expires_at", EVENT_SCHEMA)
);
#[cfg(feature = "sqlite")]
impl_event_database!(Sqlite, EVENT_SCHEMA);
