//! Pools of connections that are kept open: expensive to make, cheap to borrow.

use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Database, PgPool, SqlitePool};

/// How long a call waits for a connection before it is told to come back later.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a transaction on SQLite waits for the one that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

fn pool<DB: Database>(max_connections: u32) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// Opens a file, or a database in memory, which lives as long as its only connection.
///
/// # Errors
///
/// When the URL is none, or the file cannot be opened.
pub async fn sqlite(url: &str, max_connections: u32) -> Result<SqlitePool, sqlx::Error> {
    let options = url.parse::<SqliteConnectOptions>()?.foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
    if is_in_memory(url) {
        return pool(1).min_connections(1).idle_timeout(None).max_lifetime(None).connect_with(options).await;
    }
    let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    pool(max_connections).connect_with(options).await
}

/// Connects to a server.
///
/// # Errors
///
/// When the URL is none, or no server answers.
pub async fn postgres(url: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    pool(max_connections).connect(url).await
}

/// Whether nothing is left of the database when its last connection is closed.
#[must_use]
pub fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}
