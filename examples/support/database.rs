//! The database of an example: its flags, and a pool of open connections, which are expensive to open and cheap to
//! borrow.

use std::time::{Duration, Instant};

use mcp_patterns::postgres::{KEEPALIVES, replacing_silent};
use sqlx::error::DatabaseError;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{PgPool, SqlitePool};
use tokio::time::sleep;
use turbomcp::McpError;

/// The flags that say where the data is.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseArgs {
    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite::memory:",
        help = "Where the data is: sqlite::memory:, sqlite:FILE or postgres://USER@HOST/DATABASE"
    )]
    database_url: String,

    /// How many connections to the database are open at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
}

/// The opened database.
#[derive(Debug)]
pub enum Database {
    /// A file, or memory.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

impl DatabaseArgs {
    /// Opens the database.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, with a text for the user of the flags.
    pub async fn open(&self) -> Result<Database, McpError> {
        let (url, max_connections) = (&self.database_url, self.max_connections);
        let opened = match url.split_once(':') {
            Some(("sqlite", _)) => sqlite(url, max_connections).await.map(Database::Sqlite),
            Some(("postgres" | "postgresql", _)) => postgres(url, max_connections).await.map(Database::Postgres),
            _ => return Err(McpError::configuration("--database-url begins with sqlite: or postgres:")),
        };
        // Not the URL itself, which may contain a password.
        opened.map_err(|error| {
            McpError::configuration(format!("the database at --database-url cannot be opened: {}", cause(url, &error)))
        })
    }

    /// Whether the database disappears when its last connection is closed.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        is_in_memory(&self.database_url)
    }
}

/// The longest wait of a call for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a transaction on SQLite waits for the writing one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

fn pool<DB: sqlx::Database>(max_connections: u32) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// Opens a file, or a database in memory, which exists as long as its only connection.
///
/// # Errors
///
/// If the URL is invalid, or the file cannot be opened.
pub async fn sqlite(url: &str, max_connections: u32) -> Result<SqlitePool, sqlx::Error> {
    let options = url.parse::<SqliteConnectOptions>()?.foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
    if is_in_memory(url) {
        return pool(1).min_connections(1).idle_timeout(None).max_lifetime(None).connect_with(options).await;
    }
    let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let began = Instant::now();
    loop {
        match pool(max_connections).connect_with(options.clone()).await {
            // While another process switches a new file to a write-ahead log, SQLite returns this error at once.
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && began.elapsed() < BUSY_TIMEOUT => {
                sleep(Duration::from_millis(20)).await;
            }
            opened => return opened,
        }
    }
}

fn is_busy(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "5")
}

/// Connects to a server. Either side notices when the other has vanished.
///
/// # Errors
///
/// If the URL is invalid, or no server answers.
pub async fn postgres(url: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let server = url.parse::<PgConnectOptions>()?.options(KEEPALIVES);
    replacing_silent(pool(max_connections)).connect_with(server).await
}

/// Says why a database cannot be opened, without the password in its URL.
#[must_use]
pub fn cause(url: &str, error: &sqlx::Error) -> String {
    match (error, url.parse::<PgConnectOptions>()) {
        // The pool tries again until its timeout, and does not say why each attempt failed.
        (sqlx::Error::PoolTimedOut, Ok(server)) => {
            let (host, port) = (server.get_host(), server.get_port());
            format!("no connection to {host}:{port} within {ACQUIRE_TIMEOUT:?}; is the server running there?")
        }
        _ => format!("is it there? ({error})"),
    }
}

fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}
