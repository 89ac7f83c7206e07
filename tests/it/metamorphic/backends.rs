//! What the servers of a stack share: a second level, a store of keys, sessions, and a database.

use std::hash::{BuildHasher, RandomState};
use std::process;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mcp_patterns::RedisConnection;
use mcp_patterns::TransactionalTool;
use mcp_patterns::cached::{MemoryLevel, RedisLevel};
use mcp_patterns::idempotent;
use mcp_patterns::session::{MemoryBackend, RedisBackend, SqlBackend};
use mcp_patterns::transactional::{self, current};
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Pool, Postgres, Sqlite};
use turbomcp_core::McpResult;

use super::plan::{BackendKind, SessionRoom, Stack};
use super::world::Books;
use crate::support::Database;

/// What the servers of a stack share.
pub(super) struct Backends {
    pub(super) level: Level,
    pub(super) keys: Keys,
    pub(super) sessions: Sessions,
    pub(super) pool: Option<Tables>,
    /// Gone with the backends.
    _database: Option<Database>,
}

pub(super) enum Level {
    Memory(MemoryLevel),
    Redis(RedisLevel),
}

pub(super) enum Keys {
    Memory(idempotent::MemoryBackend),
    Redis(idempotent::RedisBackend),
    Sqlite(idempotent::SqlBackend<Sqlite>),
    Postgres(idempotent::SqlBackend<Postgres>),
}

#[derive(Clone)]
pub(super) enum Sessions {
    Memory(MemoryBackend),
    Redis(RedisBackend),
    Sqlite(SqlBackend<Sqlite>),
    Postgres(SqlBackend<Postgres>),
}

/// A database with a table.
#[derive(Clone)]
pub(super) enum Tables {
    Sqlite(Pool<Sqlite>),
    Postgres(Pool<Postgres>),
}

/// How many keys a small store has room for.
const SMALL: usize = 2;

impl Backends {
    pub(super) async fn new(stack: &Stack) -> Self {
        let backends = Self::apart(stack).await;
        match &backends.pool {
            Some(Tables::Sqlite(pool)) if stack.keeps_in_database => Self {
                keys: Keys::Sqlite(idempotent::SqlBackend::new(pool.clone())),
                sessions: Sessions::Sqlite(SqlBackend::new(pool.clone())),
                ..backends
            },
            Some(Tables::Postgres(pool)) if stack.keeps_in_database => Self {
                keys: Keys::Postgres(idempotent::SqlBackend::new(pool.clone())),
                sessions: Sessions::Postgres(SqlBackend::new(pool.clone())),
                ..backends
            },
            _ => backends,
        }
    }

    async fn apart(stack: &Stack) -> Self {
        let store = idempotent::MemoryBackend::new();
        let store = if stack.has_small_store { store.with_max_records(SMALL) } else { store };
        let sessions = match stack.session_room {
            Some(SessionRoom::Sessions(most)) => MemoryBackend::new().with_max_sessions(most),
            Some(SessionRoom::Bytes(most)) => MemoryBackend::new().with_max_bytes(most),
            None => MemoryBackend::new(),
        };
        let memory = |pool, database| Self {
            level: Level::Memory(MemoryLevel::new()),
            keys: Keys::Memory(store),
            sessions: Sessions::Memory(sessions),
            pool,
            _database: database,
        };
        // Two processes that run the same plan at the same time must not meet in a folder or in Redis.
        fastrand::seed(RandomState::new().hash_one(process::id()));
        match stack.backends {
            BackendKind::Memory => memory(None, None),
            BackendKind::Sqlite => {
                let database = Database::file();
                let options: SqliteConnectOptions = database.url().parse().expect("a URL");
                let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
                let pool = PoolOptions::new().max_connections(4).connect_with(options).await.expect("a file");
                let pool = Tables::make(Tables::Sqlite(pool)).await;
                memory(Some(pool), Some(database))
            }
            BackendKind::Servers => {
                let url = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
                let redis = RedisConnection::open(&url).expect("a URL");
                let prefix = format!("mcp-patterns:test:{:032x}:", fastrand::u128(..));
                let database = Database::postgres().await;
                let pool = PoolOptions::new().max_connections(6).connect(&database.url()).await.expect("a database");
                Self {
                    level: Level::Redis(RedisLevel::new(redis.clone()).with_prefix(&prefix)),
                    keys: Keys::Redis(idempotent::RedisBackend::new(redis.clone()).with_prefix(&prefix)),
                    sessions: Sessions::Redis(RedisBackend::new(redis).with_prefix(&prefix)),
                    pool: Some(Tables::make(Tables::Postgres(pool)).await),
                    _database: Some(database),
                }
            }
        }
    }
}

impl Tables {
    async fn make(self) -> Self {
        const TABLE: &str = "create table bookings (execution bigint not null)";
        match &self {
            Self::Sqlite(pool) => {
                sqlx::query(TABLE).execute(pool).await.expect("a table");
                TransactionalTool::ensure_schema(pool).await.expect("a table of keys");
                SqlBackend::ensure_schema(pool).await.expect("a table of sessions");
            }
            Self::Postgres(pool) => {
                sqlx::query(TABLE).execute(pool).await.expect("a table");
                TransactionalTool::ensure_schema(pool).await.expect("a table of keys");
                SqlBackend::ensure_schema(pool).await.expect("a table of sessions");
            }
        }
        self
    }
}

impl Books for Tables {
    fn write(&self, execution: u64) -> BoxFuture<'static, McpResult<()>> {
        macro_rules! insert {
            ($db:ty) => {
                async move {
                    let mut db = current::<$db>().await?;
                    let insert = sqlx::query("insert into bookings values ($1)").bind(execution.cast_signed());
                    insert.execute(&mut *db).await.map_err(transactional::failed)?;
                    Ok(())
                }
                .boxed()
            };
        }
        match self {
            Self::Sqlite(_) => insert!(Sqlite),
            Self::Postgres(_) => insert!(Postgres),
        }
    }

    fn read(&self) -> BoxFuture<'static, McpResult<Vec<u64>>> {
        const ROWS: &str = "select execution from bookings order by execution";
        macro_rules! select {
            ($pool:ident) => {{
                let pool = $pool.clone();
                async move {
                    let rows: Vec<i64> =
                        sqlx::query_scalar(ROWS).fetch_all(&pool).await.map_err(transactional::failed)?;
                    Ok(rows.into_iter().map(i64::cast_unsigned).collect())
                }
                .boxed()
            }};
        }
        match self {
            Self::Sqlite(pool) => select!(pool),
            Self::Postgres(pool) => select!(pool),
        }
    }
}
