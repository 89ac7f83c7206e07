//! Settings for PostgreSQL connections whose other end may vanish, be paused, or hang.
//!
//! None of these events closes a connection. The server then keeps the client's locks, and the client waits for an answer, both until
//! TCP gives up, which takes hours by default. The layers of this crate bound each wait, on any pool: see
//! [`transactional`](crate::transactional#when-postgresql-or-a-process-that-uses-it-stops-answering). Two settings belong to the code that
//! opens the pool:
//!
//! - [`KEEPALIVES`] sets how soon the server notices that a client has vanished.
//! - [`replacing_silent`] makes the pool replace a connection on which the server no longer answers, also where a tool takes
//!   it from the pool itself.
//!
//! # Example
//!
//! ```no_run
//! use std::time::Duration;
//! use mcp_patterns::postgres::{KEEPALIVES, replacing_silent};
//! use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server: PgConnectOptions = "postgres://bank@db.example/bank".parse()?;
//! let pool =
//!     PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_secs(3));
//! let pool = replacing_silent(pool).connect_with(server.options(KEEPALIVES)).await?;
//! # Ok(()) }
//! ```

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::connections::{LONGEST_ANSWER, RETURN_TIMEOUT, no_answer};

/// Settings of a connection for [`PgConnectOptions::options`](sqlx::postgres::PgConnectOptions::options). With them, the server closes the
/// connection within 25 seconds if the client's host no longer answers: after 10 silent seconds it sends three probes, one every 5
/// seconds, and sent data must be acknowledged within 25 seconds.
///
/// They are settings of the server, which sqlx sends when it connects: sqlx has none for the client's side. A connection by a Unix socket
/// ignores them. `PgBouncer` refuses them unless its `ignore_startup_parameters` has `options`: there, set them in the server's
/// configuration. They do not detect a process that hangs, since its host still answers:
/// [`Transactor::with_idle_timeout`](crate::transactional::Transactor::with_idle_timeout) ends its transaction.
pub const KEEPALIVES: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "5s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25s"),
];

/// Makes a pool replace the connections on which the server no longer answers.
///
/// A connection has one second to answer before it is lent, and five seconds before it returns to the pool. If it does not, it is closed,
/// and another one is opened in its place, within the same acquire timeout. sqlx itself also tests connections, but waits for the answer
/// until the acquire timeout ends, and on the return without a limit: during this time, the pool has one connection less.
///
/// No call waits for an additional round trip. It sets the pool's `before_acquire` and `after_release` hooks, and turns
/// `test_before_acquire` off: use it for a pool without such hooks of its own.
#[must_use]
pub fn replacing_silent(options: PgPoolOptions) -> PgPoolOptions {
    options
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(answers(connection, LONGEST_ANSWER)))
        .after_release(|connection, _| Box::pin(answers(connection, RETURN_TIMEOUT)))
}

async fn answers(connection: &mut PgConnection, within: Duration) -> Result<bool, sqlx::Error> {
    timeout(within, connection.ping()).await.unwrap_or_else(|_| Err(no_answer())).map(|()| true)
}

/// Returns the batch that creates a table with an index, unless both are there. Replicas that start at the same time take turns by
/// `lock`. The batch is a transaction by itself, which leaves none behind if its caller leaves half-way.
///
/// `create index if not exists` locks the table before it looks for the index. So it would wait for each open transaction that has
/// written to the table, and meanwhile all other writers would wait for it.
#[cfg(any(feature = "audit", feature = "rmcp", feature = "session", feature = "transactional"))]
pub(crate) fn create_once(lock: i64, index: &str, schema: &str) -> String {
    format!(
        "select pg_advisory_xact_lock({lock}); \
         do $schema$ begin if to_regclass(format('%I.{index}', current_schema())) is null then {schema} end if; end $schema$"
    )
}

#[cfg(test)]
#[cfg(all(feature = "redis", feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::testing::databases::postgres_options;
    use crate::testing::proxy::Proxy;

    #[tokio::test]
    async fn the_server_accepts_the_keepalive_settings() {
        let options = postgres_options().options(KEEPALIVES);
        let mut connection = PgConnection::connect_with(&options).await.expect("the server is there");
        for (setting, expected) in KEEPALIVES {
            let value: String =
                sqlx::query_scalar("select setting || coalesce(unit, '') from pg_settings where name = $1")
                    .bind(setting)
                    .fetch_one(&mut connection)
                    .await
                    .expect("the server tells");
            assert_eq!(value.replace("000ms", "s"), expected, "{setting}");
        }
    }

    #[tokio::test]
    async fn a_pool_replaces_idle_and_used_connections_that_stopped_answering() {
        const LONG: Duration = Duration::from_secs(20);
        let (network, options) = Proxy::to_postgres(&postgres_options()).await;
        let pool = replacing_silent(PgPoolOptions::new().max_connections(2).acquire_timeout(LONG));
        let pool = pool.connect_with(options).await.expect("the way is open");
        for _ in 0..2 {
            let in_use = pool.acquire().await.expect("it is idle");
            drop(pool.acquire().await.expect("there is room for two"));
            while pool.num_idle() == 0 {
                tokio::task::yield_now().await;
            }
            network.silence();
            let one: i32 = sqlx::query_scalar("select 1").fetch_one(&pool).await.expect("the idle one is replaced");
            assert_eq!(one, 1);
            drop(in_use);
            let both = timeout(2 * LONG, async { (pool.acquire().await, pool.acquire().await) }).await;
            assert!(both.is_ok_and(|(one, other)| one.is_ok() && other.is_ok()), "so is the one that was in use");
        }
    }
}
