//! The statements on the table of events.

use std::future::Future;

#[cfg(feature = "postgres")]
use sqlx::Postgres;
#[cfg(feature = "sqlite")]
use sqlx::Sqlite;
use sqlx::{AssertSqlSafe, Pool, QueryBuilder};

use super::{AUDIT_SCHEMA, NewRow};
use crate::clock::time_of;
use crate::connections::{Connections, in_time};
use crate::database::SupportedDatabase;

/// A database that keeps audit events: `sqlx::Postgres` or `sqlx::Sqlite`. Sealed: no other type can implement it.
#[diagnostic::on_unimplemented(
    message = "audit events are not kept on `{Self}`",
    label = "not a database of this crate",
    note = "use `sqlx::Postgres` with the feature `postgres`, or `sqlx::Sqlite` with the feature `sqlite`"
)]
pub trait AuditDatabase: SupportedDatabase {
    /// Inserts the events that are not there yet.
    #[doc(hidden)]
    fn insert(
        connection: &mut Self::Connection,
        rows: &[NewRow<'_>],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    #[doc(hidden)]
    fn ensure_schema(pool: &Pool<Self>) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

macro_rules! impl_audit_database {
    ($database:ident, $create:expr) => {
        impl AuditDatabase for $database {
            async fn insert(
                connection: &mut <Self as sqlx::Database>::Connection,
                rows: &[NewRow<'_>],
            ) -> Result<(), sqlx::Error> {
                let mut insert = QueryBuilder::<Self>::new(
                    "insert into mcp_patterns_audit \
                     (id, began_at, recorded_at, tool, ended, principal, session, request_id, trace_id, event) ",
                );
                insert.push_values(rows, |mut values, row| {
                    let event = row.event;
                    let principal = event.principal.as_ref().and_then(|principal| principal.name());
                    values
                        .push_bind(&event.id)
                        .push_bind(row.began_at)
                        .push(time_of!($database))
                        .push_bind(&event.tool)
                        .push_bind(event.end.as_str())
                        .push_bind(principal)
                        .push_bind(&event.session)
                        .push_bind(&event.request_id)
                        .push_bind(&event.trace_id)
                        .push_bind(&row.json);
                });
                insert.push(" on conflict (id) do nothing");
                // Not prepared for the next time: it has as many rows as there are events.
                insert.build().persistent(false).execute(connection).await.map(drop)
            }

            async fn ensure_schema(pool: &Pool<Self>) -> Result<(), sqlx::Error> {
                let mut connection = Connections::of(pool).acquire().await?;
                in_time(sqlx::raw_sql(AssertSqlSafe($create)).execute(&mut *connection)).await.map(|_| ())
            }
        }
    };
}

#[cfg(feature = "postgres")]
impl_audit_database!(
    Postgres,
    crate::postgres::create_once(7_307_210_320, "mcp_patterns_audit_recorded_at", AUDIT_SCHEMA)
);
#[cfg(feature = "sqlite")]
impl_audit_database!(Sqlite, AUDIT_SCHEMA);
