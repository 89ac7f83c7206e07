//! A PostgreSQL that stops answering on the existing connections, and accepts new ones.

use std::future::pending;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Sqlite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::databases::{LONG, TestDb, nothing, refusal, until_idle, write};
use crate::testing::private_postgres::PrivatePostgres;
use crate::testing::proxy::Proxy;
use crate::transactional::{TransactionError, Transactor};

const CONNECTIONS: u32 = 4;

/// The cause of the missing answers.
enum Peer {
    /// The server: its processes are stopped.
    Backends(PrivatePostgres),
    /// The network.
    Network(Proxy),
}

impl Peer {
    fn fall_silent(&self) {
        match self {
            Self::Backends(server) => assert!(server.stop_backends() > 0, "a client is connected"),
            Self::Network(network) => network.silence(),
        }
    }
}

/// A pool for each cause, with a table `t`. All of its connections exist and are idle.
async fn peers() -> [(Peer, PgPool); 2] {
    async fn pool(options: PgConnectOptions) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(LONG).connect_with(options);
        let pool = pool.await.expect("the server is there");
        assert!(is_whole(&pool).await);
        until_idle(&pool).await;
        pool
    }
    let server = PrivatePostgres::start("");
    let stopped = pool(server.options()).await;
    sqlx::query("create table t (n bigint)").execute(&stopped).await.expect("a table can be made");

    let direct = Postgres::pool().await;
    let (network, options) = Proxy::to_postgres(&direct.connect_options()).await;
    let half_open = pool(options).await;
    [(Peer::Backends(server), stopped), (Peer::Network(network), half_open)]
}

/// Returns whether the pool lends as many connections as it may.
async fn is_whole(pool: &PgPool) -> bool {
    let all = join_all((0..CONNECTIONS).map(|_| pool.acquire()));
    timeout(LONG, all).await.is_ok_and(|all| all.iter().all(Result::is_ok))
}

/// Without and with connections that are handed on.
fn both(pool: &PgPool) -> [Transactor<Postgres>; 2] {
    let transactor = Transactor::new(pool.clone());
    [transactor.clone(), transactor.with_connection_reuse()]
}

#[tokio::test]
async fn idle_connections_that_stop_answering_are_replaced_within_the_acquire_timeout() {
    for (peer, pool) in peers().await {
        for transactor in both(&pool) {
            peer.fall_silent();
            for _ in 0..2 * CONNECTIONS {
                let run = timeout(LONG, transactor.run(&(), || write::<Postgres>(1))).await;
                assert_eq!(run, Ok(Ok(())), "the first call has another connection already");
            }
            assert!(is_whole(&pool).await);
            until_idle(&pool).await;
        }
    }
}

#[tokio::test]
async fn a_reused_connection_that_stops_answering_is_replaced() {
    for (peer, pool) in peers().await {
        let transactor = Transactor::new(pool.clone()).with_connection_reuse();
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        // It is kept briefly for the next transaction.
        peer.fall_silent();
        assert_eq!(timeout(LONG, transactor.run(&(), || write::<Postgres>(1))).await, Ok(Ok(())));
        assert!(is_whole(&pool).await);
    }
}

#[tokio::test]
async fn running_calls_end_within_their_timeout_when_the_server_stops_answering_and_the_pool_recovers() {
    // Long enough for all four to have begun on a busy machine.
    let after = LONG / 2;
    for (peer, pool) in peers().await {
        for transactor in both(&pool) {
            let transactor = transactor.with_timeout(after);
            let (begun, go_on) = (Semaphore::new(0), Semaphore::new(0));
            let hold = || async {
                write::<Postgres>(1).await?;
                begun.add_permits(1);
                go_on.acquire().await.expect("it is open").forget();
                Ok::<_, TransactionError>(())
            };
            // One waits for a statement, one is idle, one is rolled back and one is committed.
            let statement = transactor.run(&(), || async {
                hold().await?;
                write::<Postgres>(2).await
            });
            let idle = transactor.run(&(), || async {
                hold().await?;
                pending::<Result<(), TransactionError>>().await
            });
            let fails = transactor.run(&(), || async {
                hold().await?;
                Err::<(), _>(refusal())
            });
            let succeeds = transactor.run(&(), hold);
            let silence = async {
                begun.acquire_many(4).await.expect("it is open").forget();
                peer.fall_silent();
                go_on.add_permits(4);
            };
            let calls = async { tokio::join!(statement, idle, fails, succeeds, silence) };
            let (statement, idle, fails, succeeds, ()) = timeout(4 * LONG, calls).await.expect("they end");
            assert_eq!(statement, Err(TransactionError::TimedOut { after }));
            assert_eq!(idle, Err(TransactionError::TimedOut { after }));
            assert_eq!(fails, Err(refusal()));
            assert!(matches!(succeeds, Err(TransactionError::Unknown { .. })), "{succeeds:?}");
            // The wait for the commit is the longest.
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(31)).await;
            tokio::time::resume();
            assert!(is_whole(&pool).await, "no connection is lost");
            assert_eq!(timeout(LONG, transactor.run(&(), || write::<Postgres>(3))).await, Ok(Ok(())));
            until_idle(&pool).await;
        }
    }
}

/// The waits for the turn, the place and the connection share one timeout, that of the pool.
#[tokio::test]
async fn a_call_spends_at_most_one_acquire_timeout_on_all_waits_before_it_begins() {
    let file = Sqlite::pool().await;
    let after = Duration::from_secs(3);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).acquire_timeout(after);
    let pool = pool.connect_with(file.connect_options().as_ref().clone()).await.expect("a file can be opened");
    let transactor = Transactor::new(pool.clone());
    let _permit = std::sync::Arc::clone(&transactor.write_queue).acquire_owned().await.expect("it is open");
    let _only = pool.acquire().await.expect("it is idle");
    tokio::time::pause();
    for transactor in [transactor.clone(), transactor.with_connection_reuse()] {
        let begun = Instant::now();
        let refused = transactor.run(&(), nothing).await;
        assert!(matches!(refused, Err(TransactionError::Unavailable { .. })), "{refused:?}");
        // The test controls the clock.
        let waited = begun.elapsed();
        assert!(waited >= after && waited < after + Duration::from_millis(50), "{waited:?}");
    }
}
