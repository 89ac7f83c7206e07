//! Connections that are handed from one transaction directly to the next.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Pool, Postgres, Sqlite};
use tokio::time::timeout;

use super::databases::{LONG, TestDb, hooked_pool, nothing, numbers_at_rest, refusal, until_idle, write};
use super::on_each_database;
use crate::transactional::{Isolation, TransactionError, Transactor, current};

on_each_database! {
    a_free_connection_is_used_without_a_test,
    a_connection_returns_to_its_pool_if_no_transaction_takes_it,
    nothing_is_lost_or_mixed_up_under_load,
}

/// The server process of the transaction, and its settings.
async fn server_side() -> Result<(i32, [String; 3]), TransactionError> {
    let mut connection = current::<Postgres>().await?;
    let (pid, isolation, read_only, timeout) = sqlx::query_as(
        "select pg_backend_pid(), current_setting('transaction_isolation'), current_setting('transaction_read_only'), \
         current_setting('statement_timeout')",
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok((pid, [isolation, read_only, timeout]))
}

async fn pid() -> Result<i32, TransactionError> {
    Ok(server_side().await?.0)
}

/// Runs a query on another connection while nothing happens here, so that an idle connection stays idle.
fn meanwhile<T>(pool: &Pool<Postgres>, query: String) -> T
where
    T: Send + Unpin + 'static,
    (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
{
    let options = pool.connect_options();
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = PgConnection::connect_with(&options).await.expect("the server is there");
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await.expect("an answer")
        })
    });
    elsewhere.join().expect("it does not panic")
}

async fn a_free_connection_is_used_without_a_test<DB: TestDb>() {
    let (pool, hooks) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone());
    for (transactor, expected) in [(transactor.clone(), 1), (transactor.with_connection_reuse(), 0)] {
        until_idle(&pool).await;
        let before = hooks.before_acquire();
        assert_eq!(transactor.run(&(), || write::<DB>(1)).await, Ok(()));
        assert_eq!(hooks.before_acquire() - before, expected);
    }
}

#[tokio::test]
async fn a_committed_transaction_hands_its_connection_to_the_next() {
    let (pool, hooks) = hooked_pool(&Postgres::pool().await, 4).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    for n in 0..200 {
        assert_eq!(transactor.clone().run(&(), || write::<Postgres>(n)).await, Ok(()));
    }
    // It waits only briefly each time, so on a busy machine it may have gone back once or twice.
    assert!(hooks.before_acquire() + hooks.after_release() < 100, "{hooks:?}");
    assert_eq!(numbers_at_rest(&pool).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_rolled_back_transaction_does_not_hand_on_its_connection() {
    let (pool, hooks) = hooked_pool(&Postgres::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    for n in 1..=3 {
        assert_eq!(transactor.run(&(), || async { Err::<(), _>(refusal()) }).await, Err(refusal()));
        drop(pool.acquire().await.expect("it is not lost"));
        assert!(hooks.after_release() >= 2 * n - 1, "{hooks:?}");
    }
}

#[tokio::test]
async fn a_transaction_on_a_reused_connection_has_the_requested_settings() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse().with_timeout(Duration::from_secs(60));
    let other = transactor
        .clone()
        .with_isolation(Isolation::Serializable)
        .with_statement_timeout(Duration::from_millis(12_345))
        .read_only();
    let mut pids = Vec::new();
    for _ in 0..2 {
        let expected = [(&transactor, ["read committed", "off", "1min"]), (&other, ["serializable", "on", "12345ms"])];
        for (transactor, expected) in expected {
            let (pid, settings) = transactor.run(&(), server_side).await.expect("it succeeds");
            assert_eq!(settings, expected);
            pids.push(pid);
        }
    }
    assert!(pids.windows(2).any(|pids| pids[0] == pids[1]), "{pids:?}");
}

#[tokio::test]
async fn a_transaction_on_a_reused_connection_has_its_own_start_time() {
    let (pool, _) = hooked_pool(&Postgres::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    assert_eq!(transactor.run(&(), nothing).await, Ok(()));
    assert_eq!(pool.num_idle(), 0, "it is kept");
    let between: String = meanwhile(&pool, "select clock_timestamp()::text".into());
    let is_after = transactor.run(&(), || async {
        let mut connection = current::<Postgres>().await?;
        let is_after = sqlx::query_scalar("select now() > $1::timestamptz").bind(&between);
        Ok::<bool, TransactionError>(is_after.fetch_one(&mut *connection).await?)
    });
    assert_eq!(is_after.await, Ok(true));
}

#[tokio::test]
async fn a_dead_reused_connection_is_replaced() {
    let (pool, _) = hooked_pool(&Postgres::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    for round in 1..=3 {
        let kept = transactor.run(&(), pid).await.expect("it succeeds");
        assert_eq!(pool.num_idle(), 0, "it is kept");
        assert!(meanwhile::<bool>(&pool, format!("select pg_terminate_backend({kept}, 10000)")));
        assert_eq!(transactor.run(&(), || write::<Postgres>(2 * round)).await, Ok(()));

        until_idle(&pool).await;
        let idle = transactor.run(&(), pid).await.expect("it succeeds");
        until_idle(&pool).await;
        assert!(meanwhile::<bool>(&pool, format!("select pg_terminate_backend({idle}, 10000)")));
        assert_eq!(transactor.run(&(), || write::<Postgres>(2 * round + 1)).await, Ok(()));
    }
    assert_eq!(numbers_at_rest(&pool).await, [2, 3, 4, 5, 6, 7]);
}

async fn a_connection_returns_to_its_pool_if_no_transaction_takes_it<DB: TestDb>() {
    let (pool, hooks) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    for n in 1..=3 {
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        drop(pool.acquire().await.expect("it comes back"));
        assert!(hooks.after_release() >= 2 * n - 1, "{hooks:?}");
    }
}

#[tokio::test]
async fn a_pool_closes_while_a_connection_waits_for_reuse() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    assert_eq!(transactor.run(&(), nothing).await, Ok(()));
    timeout(LONG, pool.close()).await.expect("nothing holds a connection");
    assert!(matches!(transactor.run(&(), nothing).await, Err(TransactionError::Unavailable { .. })));
}

#[tokio::test]
async fn a_closed_pool_hands_on_no_connection() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let close = || async {
        drop(pool.close());
        nothing().await
    };
    assert_eq!(transactor.run(&(), close).await, Ok(()));
    assert!(matches!(transactor.run(&(), nothing).await, Err(TransactionError::Unavailable { .. })));
}

async fn nothing_is_lost_or_mixed_up_under_load<DB: TestDb>() {
    let (pool, _) = hooked_pool(&DB::pool().await, 3).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let seed = fastrand::u64(..);
    let runs = (0..300).map(|n| {
        let transactor = transactor.clone();
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(n));
        let n = i64::try_from(n).expect("it is small");
        tokio::spawn(async move {
            let (fails, leaves_after) = (random.u8(..4) == 0, random.u32(..400));
            let run = transactor.run(&(), || async move {
                write::<DB>(n).await?;
                if fails { Err(refusal()) } else { Ok(()) }
            });
            let patience = async {
                for _ in 0..leaves_after {
                    tokio::task::yield_now().await;
                }
                if leaves_after > 200 {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                ended = run => Some((n, fails, ended)),
                () = patience => None,
            }
        })
    });
    let mut written = Vec::new();
    let mut left = 0;
    for ended in join_all(runs).await {
        match ended.expect("no panic") {
            Some((n, fails, ended)) => {
                assert_eq!(ended, if fails { Err(refusal()) } else { Ok(()) }, "seed {seed}");
                written.extend((!fails).then_some(n));
            }
            None => left += 1,
        }
    }
    let numbers = numbers_at_rest(&pool).await;
    assert!(written.iter().all(|n| numbers.binary_search(n).is_ok()), "seed {seed}");
    assert!(numbers.len() <= written.len() + left, "seed {seed}");
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}");
}

/// Runs one transaction in its own runtime, and returns the rest after that runtime has ended.
fn after_its_runtime<DB: TestDb>() -> (Pool<DB>, Transactor<DB>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pool = DB::pool().await;
        let transactor = Transactor::new(pool.clone()).with_connection_reuse();
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        (pool, transactor)
    })
}

#[test]
fn reusable_connections_survive_the_end_of_their_runtime_without_harm() {
    fn test<DB: TestDb>() {
        let (pool, transactor) = after_its_runtime::<DB>();
        drop(transactor);
        drop(pool);
    }
    test::<Sqlite>();
    test::<Postgres>();
}
