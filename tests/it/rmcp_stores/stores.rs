//! The stores of a fleet. Each replica has connections of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mcp_patterns::rmcp_stores::{RedisEventStore, ReplicaSessionManager, SessionStates, SqlEventStore};
use mcp_patterns::session::{RedisBackend, SqlBackend};
use mcp_patterns::{AnyRedisConnection, RedisConnection};
use redis::AsyncCommands;
use rmcp::transport::streamable_http_server::session::SessionStore;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};
use tokio::time::timeout;

use super::fleet::LONGEST;
use crate::support::Database;

const MINUTES: Duration = Duration::from_secs(600);

/// The time after which a replica that was killed counts as dead.
const LEASE: Duration = Duration::from_secs(3);

/// The stores of a test.
pub(super) struct Stores {
    pub(super) place: Place,
    /// It is dropped after the test.
    _database: Option<Database>,
}

/// Where the stores are.
pub(super) enum Place {
    Redis { url: String, prefix: String },
    Postgres(String),
    Sqlite(String),
}

impl Stores {
    pub(super) fn redis() -> Self {
        let url = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
        let prefix = format!("mcp-patterns:test:{:016x}:", fastrand::u64(..));
        Self { place: Place::Redis { url, prefix }, _database: None }
    }

    pub(super) async fn postgres() -> Self {
        let database = Database::postgres().await;
        let pool = PgPool::connect(&database.url()).await.expect("a pool");
        SqlBackend::ensure_schema(&pool).await.expect("a table");
        SqlEventStore::ensure_schema(&pool).await.expect("a table");
        pool.close().await;
        Self { place: Place::Postgres(database.url()), _database: Some(database) }
    }

    pub(super) async fn sqlite() -> Self {
        let database = Database::file();
        let pool = file(&database.url()).await;
        SqlBackend::ensure_schema(&pool).await.expect("a table");
        SqlEventStore::ensure_schema(&pool).await.expect("a table");
        pool.close().await;
        Self { place: Place::Sqlite(database.url()), _database: Some(database) }
    }

    /// Waits until the answer of the tool `slow` is kept.
    pub(super) async fn have_the_answer(&self) {
        let kept = async {
            while !self.place.read().await.iter().any(|data| data.contains("replica 0")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONGEST, kept).await.expect("the answer is kept");
    }
}

async fn file(url: &str) -> SqlitePool {
    let options: SqliteConnectOptions = url.parse().expect("a URL");
    let options =
        options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).busy_timeout(Duration::from_secs(30));
    SqlitePoolOptions::new().max_connections(4).connect_with(options).await.expect("a file")
}

impl Place {
    pub(super) fn parse(text: &str) -> Self {
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["redis", url, prefix] => Self::Redis { url: url.into(), prefix: prefix.into() },
            ["postgres", url] => Self::Postgres(url.into()),
            ["sqlite", url] => Self::Sqlite(url.into()),
            _ => panic!("no place: {text}"),
        }
    }

    /// Returns the stores of one replica.
    pub(super) async fn of_replica(&self) -> (Arc<dyn SessionStore>, ReplicaSessionManager) {
        match self {
            Self::Redis { url, prefix } => {
                let redis = RedisConnection::open(url).expect("a URL");
                let connection = AnyRedisConnection::from(redis.clone());
                let sessions =
                    SessionStates::new(RedisBackend::new(connection).with_prefix(format!("{prefix}session:")));
                let events = RedisEventStore::new(redis).with_prefix(format!("{prefix}events:")).with_ttl(MINUTES);
                (Arc::new(sessions.with_ttl(MINUTES)), ReplicaSessionManager::new(events.with_lease(LEASE)))
            }
            Self::Postgres(url) => {
                let pool = PgPool::connect(url).await.expect("a pool");
                let events = SqlEventStore::new(pool.clone()).with_lease(LEASE);
                (Arc::new(SessionStates::new(SqlBackend::new(pool))), ReplicaSessionManager::new(events))
            }
            Self::Sqlite(url) => {
                let pool = file(url).await;
                let events = SqlEventStore::new(pool.clone()).with_lease(LEASE);
                (Arc::new(SessionStates::new(SqlBackend::new(pool))), ReplicaSessionManager::new(events))
            }
        }
    }

    /// Returns all events.
    async fn read(&self) -> Vec<String> {
        const ALL: &str = "select data from mcp_patterns_rmcp_events";
        match self {
            Self::Redis { url, prefix } => {
                let client = redis::Client::open(url.as_str()).expect("a URL");
                let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
                let keys: Vec<String> = connection.keys(format!("{prefix}events:*")).await.expect("keys");
                let mut all = Vec::new();
                for key in keys.iter().filter(|key| !key.contains(":owner:")) {
                    let mut range = redis::cmd("XRANGE");
                    let entries: Vec<(String, Vec<String>)> =
                        range.arg(key).arg("-").arg("+").query_async(&mut connection).await.expect("entries");
                    all.extend(entries.into_iter().flat_map(|(_, fields)| fields));
                }
                all
            }
            Self::Postgres(url) => {
                let pool = PgPool::connect(url).await.expect("a pool");
                sqlx::query_scalar(ALL).fetch_all(&pool).await.expect("events")
            }
            Self::Sqlite(url) => sqlx::query_scalar(ALL).fetch_all(&file(url).await).await.expect("events"),
        }
    }
}

/// As [`Place::parse`] reads it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis { url, prefix } => write!(f, "redis {url} {prefix}"),
            Self::Postgres(url) => write!(f, "postgres {url}"),
            Self::Sqlite(url) => write!(f, "sqlite {url}"),
        }
    }
}
