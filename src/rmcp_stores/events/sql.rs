use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Pool;

use super::payload::ABANDONED;
use super::{EventLog, EventLogError, KeptEvent, Log, NewEvent};
use crate::ConfigError;
use crate::connections::{Apart, Connections, What};
use crate::sweeper::{Expired, Sweeper};
use crate::tables::Table;

mod statements;
pub use statements::EventDatabase;

/// The statements that create the table of events, for migrations of your own. [`SqlEventStore::ensure_schema`] runs them too.
///
/// They touch no other table, and not sqlx's `_sqlx_migrations`.
pub const EVENT_SCHEMA: &str = "\
create table if not exists mcp_patterns_rmcp_events (
    id text primary key,
    stream text not null,
    position bigint not null,
    starts_at bigint not null,
    bytes bigint not null,
    data text not null,
    expires_at bigint not null,
    unique (stream, position)
);
create index if not exists mcp_patterns_rmcp_events_expires_at on mcp_patterns_rmcp_events (expires_at);
";

/// The event to write.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    pub id: &'a str,
    pub stream: &'a str,
    pub data: &'a str,
    pub bytes: i64,
    pub ttl: Duration,
}

/// How often an event is written at most while other processes write to its stream too.
const MAX_ATTEMPTS: usize = 64;

/// How long the check of the table waits.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

const EXPIRED: Expired =
    Expired { from: "from mcp_patterns_rmcp_events", condition: "expires_at <= {now}", rows: "events of rmcp" };

const TABLE: Table = Table {
    backend: "rmcp_stores::SqlEventStore",
    from: EXPIRED.from,
    create: "rmcp_stores::SqlEventStore::ensure_schema(&pool)",
};

/// Keeps the events of rmcp's streams in a table of a database, for all replicas.
///
/// The [table](EVENT_SCHEMA) must exist: see [`ensure_schema`](Self::ensure_schema). The clock of the database measures expiry. Expired
/// rows are deleted in the background, 500 at a time, once a minute while events are written, on idle connections of the pool.
///
/// Transactions on the same pool leave a connection to the store.
pub type SqlEventStore<DB> = EventLog<SqlEvents<DB>>;

/// The log of a [`SqlEventStore`].
pub struct SqlEvents<DB: EventDatabase> {
    pool: Pool<DB>,
    sweeper: Sweeper,
    connections: Arc<Connections<DB>>,
    /// A tool in a transaction may wait until its event is kept. So transactions leave a connection to the events.
    _apart: Apart,
}

impl<DB: EventDatabase> EventLog<SqlEvents<DB>> {
    /// Creates a store on a pool. Each step is a statement of its own.
    pub fn new(pool: Pool<DB>) -> Self {
        let connections = Connections::of(&pool);
        let apart = connections.set_apart(What::Statements);
        Self::on(SqlEvents { pool, sweeper: Sweeper::later(&EXPIRED), connections, _apart: apart })
    }

    /// Creates the table, unless it exists.
    ///
    /// # Errors
    ///
    /// Those of the database, and a timeout if it does not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        <DB as EventDatabase>::ensure_schema(pool).await
    }

    /// Deletes the expired events, 500 at a time, and returns how many it deleted. On SQLite, all of them stay while another connection
    /// writes.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sweep(pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
        Sweeper::new(&EXPIRED).sweep(pool).await
    }
}

fn failed(error: sqlx::Error) -> EventLogError {
    match TABLE.missing_by(&error) {
        Some(missing) => missing.into(),
        None => EventLogError::backend(error),
    }
}

#[async_trait]
impl<DB: EventDatabase> Log for SqlEvents<DB> {
    const NAME: &'static str = "SqlEventStore";

    async fn check_storage(&self) -> Result<(), ConfigError> {
        TABLE.check(&self.connections, CHECK_TIMEOUT).await
    }

    async fn append(&self, event: NewEvent<'_>) -> Result<Option<String>, EventLogError> {
        let row = NewRow {
            id: event.secret,
            stream: event.stream,
            data: event.data,
            bytes: i64::try_from(event.data.len()).unwrap_or(i64::MAX),
            ttl: event.ttl,
        };
        let mut connection = self.connections.acquire().await.map_err(failed)?;
        for _ in 0..MAX_ATTEMPTS {
            let Some((position, starts_at)) = DB::append(&mut connection, row).await.map_err(failed)? else {
                if DB::is_abandoned(&mut connection, row.stream).await.map_err(failed)? {
                    return Ok(None);
                }
                // Of two writers to one stream, which have the same place in mind, one gets it.
                continue;
            };
            let oldest_position = position.saturating_sub(i64::from(event.max_events));
            let max_bytes = i64::try_from(event.max_bytes).unwrap_or(i64::MAX);
            let oldest_byte = starts_at.saturating_add(row.bytes).saturating_sub(max_bytes);
            if (oldest_position > 0 || oldest_byte > 0)
                && let Err(error) =
                    DB::drop_oldest(&mut connection, row.stream, position, oldest_position, oldest_byte).await
            {
                // The event is kept. The next one tries again.
                tracing::debug!(%error, "old events of a stream were not dropped");
            }
            drop(connection);
            self.sweeper.sweep_now_and_then(&self.pool);
            return Ok(Some(event.secret.to_owned()));
        }
        Err(EventLogError::backend("other processes wrote to the stream first, at each attempt"))
    }

    async fn read_from(&self, id: &str, limit: usize) -> Result<Option<Vec<KeptEvent>>, EventLogError> {
        if id.len() != 32 {
            return Ok(None);
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut connection = self.connections.acquire().await.map_err(failed)?;
        let rows = DB::read_from(&mut connection, id, limit).await.map_err(failed)?;
        let Some((_, first, _)) = rows.first() else { return Ok(None) };
        let has_gap = rows.iter().zip(*first..).any(|((_, position, _), expected)| *position != expected);
        let events = rows.into_iter().map(|(id, _, data)| KeptEvent { id, data }).collect();
        Ok((!has_gap).then_some(events))
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<(), EventLogError> {
        let mut connection = self.connections.acquire().await.map_err(failed)?;
        DB::touch(&mut connection, id, ttl).await.map_err(failed)
    }

    async fn abandon(&self, last: &str, secret: &str, ttl: Duration) -> Result<(), EventLogError> {
        let mut connection = self.connections.acquire().await.map_err(failed)?;
        DB::abandon(&mut connection, last, secret, ABANDONED, ttl).await.map_err(failed)
    }

    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), EventLogError> {
        // Tools may take all connections for longer than a lease. Then the process would count as dead.
        let mut connection = self.connections.spare().await.map_err(failed)?;
        DB::renew(&mut connection, owner, lease).await.map_err(failed)?;
        self.connections.keep_for_next(connection, lease);
        Ok(())
    }

    async fn lease_left(&self, owner: &str) -> Result<Option<Duration>, EventLogError> {
        let mut connection = self.connections.acquire().await.map_err(failed)?;
        let left = DB::lease_left(&mut connection, owner).await.map_err(failed)?;
        Ok(left.and_then(|left| u64::try_from(left).ok()).map(Duration::from_millis))
    }
}

impl<DB: EventDatabase> fmt::Debug for SqlEvents<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlEvents").field("database", &DB::NAME).finish_non_exhaustive()
    }
}
