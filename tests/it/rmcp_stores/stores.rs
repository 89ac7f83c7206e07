//! The stores of a fleet. Each replica has connections of its own.

use std::sync::Arc;
use std::time::Duration;

use mcp_patterns::rmcp_stores::{RedisEventStore, SessionStates, SqlEventStore};
use mcp_patterns::session::{RedisBackend, SqlBackend};
use mcp_patterns::{AnyRedisConnection, RedisConnection};
use redis::AsyncCommands;
use rmcp::transport::streamable_http_server::session::{EventStore, SessionStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};
use tokio::time::timeout;

use super::fleet::LONGEST;
use crate::support::Database;

pub(super) enum Stores {
    Redis { url: String, prefix: String },
    Sql(Database),
}

impl Stores {
    pub(super) fn redis() -> Self {
        let url = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
        Self::Redis { url, prefix: format!("mcp-patterns:test:{:016x}:", fastrand::u64(..)) }
    }

    pub(super) async fn postgres() -> Self {
        let database = Database::postgres().await;
        let pool = PgPool::connect(&database.url()).await.expect("a pool");
        SqlBackend::ensure_schema(&pool).await.expect("a table");
        SqlEventStore::ensure_schema(&pool).await.expect("a table");
        pool.close().await;
        Self::Sql(database)
    }

    pub(super) async fn sqlite() -> Self {
        let stores = Self::Sql(Database::file());
        let pool = stores.file().await;
        SqlBackend::ensure_schema(&pool).await.expect("a table");
        SqlEventStore::ensure_schema(&pool).await.expect("a table");
        pool.close().await;
        stores
    }

    async fn file(&self) -> SqlitePool {
        let Self::Sql(database) = self else { panic!("a file of SQLite") };
        let options: SqliteConnectOptions = database.url().parse().expect("a URL");
        let options =
            options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).busy_timeout(Duration::from_secs(30));
        SqlitePoolOptions::new().max_connections(4).connect_with(options).await.expect("a file")
    }

    /// Returns the stores of one replica.
    pub(super) async fn of_replica(&self) -> (Arc<dyn SessionStore>, Arc<dyn EventStore>) {
        const MINUTES: Duration = Duration::from_secs(600);
        match self {
            Self::Redis { url, prefix } => {
                let redis = RedisConnection::open(url).expect("a URL");
                let connection = AnyRedisConnection::from(redis.clone());
                let sessions =
                    SessionStates::new(RedisBackend::new(connection).with_prefix(format!("{prefix}session:")));
                let events = RedisEventStore::new(redis).with_prefix(format!("{prefix}events:")).with_ttl(MINUTES);
                (Arc::new(sessions.with_ttl(MINUTES)), Arc::new(events))
            }
            Self::Sql(database) if database.url().starts_with("postgres") => {
                let pool = PgPool::connect(&database.url()).await.expect("a pool");
                (Arc::new(SessionStates::new(SqlBackend::new(pool.clone()))), Arc::new(SqlEventStore::new(pool)))
            }
            Self::Sql(_) => {
                let pool = self.file().await;
                (Arc::new(SessionStates::new(SqlBackend::new(pool.clone()))), Arc::new(SqlEventStore::new(pool)))
            }
        }
    }

    /// Waits until the answer of the tool `slow` is kept.
    pub(super) async fn have_the_answer(&self) {
        let kept = async {
            while !self.read().await.iter().any(|data| data.contains("replica 0")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONGEST, kept).await.expect("the answer is kept");
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
                for key in keys {
                    let mut range = redis::cmd("XRANGE");
                    let entries: Vec<(String, Vec<String>)> =
                        range.arg(key).arg("-").arg("+").query_async(&mut connection).await.expect("entries");
                    all.extend(entries.into_iter().flat_map(|(_, fields)| fields));
                }
                all
            }
            Self::Sql(database) if database.url().starts_with("postgres") => {
                let pool = PgPool::connect(&database.url()).await.expect("a pool");
                sqlx::query_scalar(ALL).fetch_all(&pool).await.expect("events")
            }
            Self::Sql(_) => sqlx::query_scalar(ALL).fetch_all(&self.file().await).await.expect("events"),
        }
    }
}
