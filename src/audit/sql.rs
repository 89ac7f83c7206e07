//! Events in a table of a database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Pool;
use tokio::time::timeout;

use super::destination::{Destination, DestinationError};
use super::event::Event;
use super::text::millis_of;
use crate::ConfigError;
use crate::connections::{Apart, Connections, What, no_answer};
use crate::tables::Table;

mod statements;
pub use statements::AuditDatabase;

/// The statements that create the table of events, for migrations of your own. [`SqlTable::ensure_schema`] runs them too.
///
/// They touch no other table, and not sqlx's `_sqlx_migrations`. Nothing deletes the rows: how long an audit is kept is your decision.
pub const AUDIT_SCHEMA: &str = "\
create table if not exists mcp_patterns_audit (
    id text primary key,
    began_at bigint not null,
    recorded_at bigint not null,
    tool text not null,
    ended text not null,
    principal text,
    session text,
    request_id text,
    trace_id text,
    event text not null
);
create index if not exists mcp_patterns_audit_recorded_at on mcp_patterns_audit (recorded_at);
";

/// The event to write.
#[doc(hidden)]
#[derive(Debug)]
pub struct NewRow<'a> {
    pub event: &'a Event,
    pub began_at: i64,
    pub json: String,
}

const TABLE: Table = Table {
    backend: "audit::SqlTable",
    from: "from mcp_patterns_audit",
    create: "audit::SqlTable::ensure_schema(&pool)",
};

/// The longest time to write a batch.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the check of the table waits.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes events into a table of a database: PostgreSQL or SQLite.
///
/// The [table](AUDIT_SCHEMA) must exist: see [`ensure_schema`](Self::ensure_schema). Each batch is one statement on a connection that no
/// tool has, after the calls, and in no transaction of theirs: the event of a call whose transaction was rolled back stays. A row has the
/// time of the database, `recorded_at`, and the event's own, `began_at`, both in milliseconds since 1970. A batch that is written twice
/// leaves one row for each event.
///
/// Transactions on the same pool leave a connection to it, as they do to sessions and keys. SQLite has one writer at a time: give the table
/// a file of its own if tools write much.
pub struct SqlTable<DB: AuditDatabase> {
    connections: Arc<Connections<DB>>,
    _apart: Apart,
}

impl<DB: AuditDatabase> SqlTable<DB> {
    /// Creates the destination on a pool.
    #[must_use]
    pub fn new(pool: &Pool<DB>) -> Self {
        let connections = Connections::of(pool);
        let apart = connections.set_apart(What::Statements);
        Self { connections, _apart: apart }
    }

    /// Creates the table, unless it exists.
    ///
    /// # Errors
    ///
    /// Those of the database, and a timeout if it does not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        <DB as AuditDatabase>::ensure_schema(pool).await
    }
}

#[async_trait]
impl<DB: AuditDatabase> Destination for SqlTable<DB> {
    fn name(&self) -> &str {
        "sql"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<(), DestinationError> {
        let mut rows = Vec::with_capacity(events.len());
        for event in events {
            let began_at = i64::try_from(millis_of(event.time)).unwrap_or(i64::MAX);
            rows.push(NewRow { event, began_at, json: serde_json::to_string(&**event)? });
        }
        let written = async {
            // Tools may take all connections for long.
            let mut connection = self.connections.spare().await?;
            DB::insert(&mut connection, &rows).await?;
            connection.done();
            Ok(())
        };
        let written = timeout(WRITE_TIMEOUT, written).await.unwrap_or_else(|_| Err(no_answer()));
        written.map_err(|error| match TABLE.missing_by(&error) {
            Some(missing) => missing.into(),
            None => error.into(),
        })
    }

    async fn check_storage(&mut self) -> Result<(), ConfigError> {
        TABLE.check(&self.connections, CHECK_TIMEOUT).await
    }
}

impl<DB: AuditDatabase> fmt::Debug for SqlTable<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlTable").field("database", &DB::NAME).finish_non_exhaustive()
    }
}
