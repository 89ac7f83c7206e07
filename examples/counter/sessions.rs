//! The store of the sessions, and their names.

use std::error::Error;

use clap::ValueEnum;
use mcp_patterns::session::{SessionMode, SqlBackend};
use mcp_patterns::{RedisConnection, SessionStore};
use redis::IntoConnectionInfo;
use turbomcp::McpError;

use crate::database;
use crate::serve::Failure;
use crate::server::SESSION_TOOLS;

/// The flags that say where sessions are kept.
#[derive(Debug, Clone, clap::Args)]
pub struct SessionArgs {
    /// Where sessions are kept: `memory`, or a `redis://`, `sqlite:` or `postgres://` URL
    #[arg(long, value_name = "STORE", default_value = "memory")]
    sessions: String,

    /// What names a session
    #[arg(long, value_enum, default_value = "transport")]
    session_mode: Mode,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// The connection, or over HTTP the session that the server gave it
    Transport,
    /// The user who has signed in
    Principal,
    /// An argument, which the tool `open_session` makes
    Handle,
}

/// The maximum of open connections to a SQL database.
const MAX_CONNECTIONS: u32 = 10;

/// Connects to the store of the sessions.
///
/// # Errors
///
/// If no server answers, or the URL is invalid.
pub async fn store(args: &SessionArgs) -> Result<SessionStore, Failure> {
    // Not the URL itself, which may contain a password.
    let store = open(&args.sessions)
        .await
        .map_err(|error| McpError::configuration(format!("--sessions cannot be used: {error}")))?;
    let mode = match args.session_mode {
        Mode::Transport => SessionMode::Transport,
        Mode::Principal => SessionMode::Principal,
        Mode::Handle => SessionMode::Handle,
    };
    Ok(store.with_mode(mode).only(SESSION_TOOLS))
}

async fn open(url: &str) -> Result<SessionStore, Box<dyn Error>> {
    Ok(match url.split_once(':').map_or(url, |(scheme, _)| scheme) {
        "memory" => SessionStore::in_memory(),
        "redis" | "redis+unix" => {
            let redis = RedisConnection::open(url)?;
            // It connects by itself when needed. A wrong address is detected now.
            if let Err(error) = redis::cmd("PING").exec_async(&mut redis.clone()).await {
                let server = url.into_connection_info()?;
                return Err(format!("the Redis at {} does not answer: {error}", server.addr()).into());
            }
            SessionStore::redis(redis)
        }
        "sqlite" => {
            let pool = database::sqlite(url, MAX_CONNECTIONS).await?;
            SqlBackend::ensure_schema(&pool).await?;
            SessionStore::sqlite(pool)
        }
        "postgres" | "postgresql" => {
            let pool = database::postgres(url, MAX_CONNECTIONS).await.map_err(|error| database::cause(url, &error))?;
            SqlBackend::ensure_schema(&pool).await?;
            SessionStore::postgres(pool)
        }
        _ => return Err("it must be `memory`, or begin with redis:, sqlite: or postgres:".into()),
    })
}
