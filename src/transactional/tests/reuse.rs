//! Connections that go from one transaction straight to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Pool, Postgres, Sqlite};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::databases::{LONG, TestDb, hooked_pool, numbers_at_rest, refusal, until_idle, write};
use super::on_each_database;
use crate::transactional::{Isolation, TransactionError, Transactor, current};

on_each_database! {
    a_free_connection_is_taken_as_it_is,
    a_connection_goes_back_to_its_pool_where_no_transaction_wants_it,
    others_have_their_turn_while_transactions_go_on,
    whoever_waits_is_served_in_turn,
    whoever_waits_hears_when_the_pool_closes,
    no_connection_is_waited_for_longer_than_the_pool_allows,
    a_hook_that_panics_is_the_end_of_one_wait_only,
    nothing_is_lost_or_mixed_up_under_load,
}

async fn nothing() -> Result<(), TransactionError> {
    Ok(())
}

/// The process of the server's that the transaction is in, and what was set for it.
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

/// Runs a query elsewhere while nothing happens here, so that an idle connection stays where it is.
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

async fn a_free_connection_is_taken_as_it_is<DB: TestDb>() {
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
    // Each time for a while only, so on a busy machine it may have gone back once or twice.
    assert!(hooks.before_acquire() + hooks.after_release() < 100, "{hooks:?}");
    assert_eq!(numbers_at_rest(&pool).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_hands_on_nothing() {
    let (pool, hooks) = hooked_pool(&Postgres::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    for n in 1..=3 {
        assert_eq!(transactor.run(&(), || async { Err::<(), _>(refusal()) }).await, Err(refusal()));
        drop(pool.acquire().await.expect("it is not lost"));
        assert!(hooks.after_release() >= 2 * n - 1, "{hooks:?}");
    }
}

#[tokio::test]
async fn a_new_transaction_on_an_old_connection_is_as_it_was_asked_for() {
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
async fn a_new_transaction_on_an_old_connection_begins_when_it_begins() {
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
async fn a_dead_connection_that_nobody_has_tested_is_replaced() {
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

async fn a_connection_goes_back_to_its_pool_where_no_transaction_wants_it<DB: TestDb>() {
    let (pool, hooks) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    for n in 1..=3 {
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        drop(pool.acquire().await.expect("it comes back"));
        assert!(hooks.after_release() >= 2 * n - 1, "{hooks:?}");
    }
}

async fn others_have_their_turn_while_transactions_go_on<DB: TestDb>() {
    let (pool, _) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = (0..3).map(|_| {
        let (transactor, is_over) = (transactor.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(transactor.run(&(), nothing).await, Ok(()));
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for _ in 0..3 {
        drop(pool.acquire().await.expect("others get it in time"));
    }
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("no panic");
    }
}

async fn whoever_waits_is_served_in_turn<DB: TestDb>() {
    let (pool, _) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let only = pool.acquire().await.expect("it is idle");
    let served = Mutex::new(Vec::new());
    let mut runs: Vec<_> = (0..20)
        .map(|n| {
            let (transactor, served) = (&transactor, &served);
            Box::pin(transactor.run(&(), move || async move {
                served.lock().await.push(n);
                nothing().await
            }))
        })
        .collect();
    for run in &mut runs {
        assert!(poll!(run).is_pending());
    }
    // Some leave before it is their turn.
    for leaving in [15, 7, 6, 0] {
        drop(runs.remove(leaving));
    }
    drop(only);
    assert_eq!(join_all(runs).await, [const { Ok(()) }; 16]);
    let stayed: Vec<_> = (0..20).filter(|n| ![0, 6, 7, 15].contains(n)).collect();
    assert_eq!(served.into_inner(), stayed);
}

async fn whoever_waits_hears_when_the_pool_closes<DB: TestDb>() {
    let (pool, _) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    // What is kept for the next does not keep the pool from closing either.
    assert_eq!(transactor.run(&(), nothing).await, Ok(()));
    let only = pool.acquire().await.expect("it is not lost");
    let runs: Vec<_> = (0..5)
        .map(|_| {
            let transactor = transactor.clone();
            tokio::spawn(async move { transactor.run(&(), nothing).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let close = pool.close();
    for run in runs {
        let refused = timeout(LONG, run).await.expect("it does not wait").expect("no panic");
        assert_eq!(refused, Err(TransactionError::Unavailable));
    }
    drop(only);
    timeout(LONG, close).await.expect("nothing holds a connection");
    assert_eq!(transactor.run(&(), nothing).await, Err(TransactionError::Unavailable));
}

#[tokio::test]
async fn a_pool_can_be_closed_while_a_connection_is_kept() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    assert_eq!(transactor.run(&(), nothing).await, Ok(()));
    timeout(LONG, pool.close()).await.expect("nothing holds a connection");
    assert_eq!(transactor.run(&(), nothing).await, Err(TransactionError::Unavailable));
}

#[tokio::test]
async fn a_pool_that_is_closed_meanwhile_gives_nobody_anything() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let close = || async {
        drop(pool.close());
        nothing().await
    };
    assert_eq!(transactor.run(&(), close).await, Ok(()));
    assert_eq!(transactor.run(&(), nothing).await, Err(TransactionError::Unavailable));
}

#[tokio::test]
async fn who_has_left_is_passed_over() {
    let mut is_handed_on = false;
    // A transaction that takes longer than usual hands on nothing.
    for _ in 0..20 {
        let (pool, hooks) = hooked_pool(&Postgres::pool().await, 1).await;
        let transactor = Transactor::new(pool.clone()).with_connection_reuse();
        let (begun, end) = (Notify::new(), Notify::new());
        let mut first = Box::pin(transactor.run(&(), || async {
            begun.notify_one();
            end.notified().await;
            nothing().await
        }));
        tokio::select! {
            _ = &mut first => unreachable!("nobody has told it to end"),
            () = begun.notified() => {}
        }
        let mut gone = Box::pin(transactor.run(&(), nothing));
        let mut waiting = Box::pin(transactor.run(&(), nothing));
        assert!(poll!(&mut gone).is_pending());
        assert!(poll!(&mut waiting).is_pending());
        drop(gone);
        end.notify_one();
        assert_eq!(first.await, Ok(()));
        assert_eq!(waiting.await, Ok(()));
        is_handed_on |= hooks.after_release() == 0;
    }
    assert!(is_handed_on);
}

#[tokio::test]
async fn who_waits_is_not_forgotten_when_the_time_of_another_is_over() {
    let (pool, _) = hooked_pool(&Postgres::pool().await, 1).await;
    let transactor = Transactor::new(pool).with_connection_reuse();
    // Each runs until it is told to end.
    let [first, second, third] = [Ok(()), Err(refusal()), Ok(())].map(|result| {
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, told) = (Arc::clone(&begun), Arc::clone(&end));
        let body = move || {
            let (tell, told, result) = (Arc::clone(&tell), Arc::clone(&told), result.clone());
            async move {
                tell.notify_one();
                told.notified().await;
                result
            }
        };
        let transactor = transactor.clone();
        (begun, end, async move { transactor.run(&(), body).await })
    });
    let most_of_the_time = || async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(6)).await;
        tokio::time::resume();
    };
    let runs = [tokio::spawn(first.2), tokio::spawn(second.2)];
    first.0.notified().await;
    first.1.notify_one();
    // Nobody has fetched a connection for this one, which the first has left it. But somebody is at the pool.
    second.0.notified().await;
    most_of_the_time().await;
    let last = tokio::spawn(third.2);
    tokio::task::yield_now().await;
    most_of_the_time().await;
    for end in [second.1, third.1] {
        end.notify_one();
    }
    let [first, second] = runs;
    assert_eq!(first.await.expect("no panic"), Ok(()));
    assert_eq!(second.await.expect("no panic"), Err(refusal()));
    assert_eq!(last.await.expect("no panic"), Ok(()));
}

async fn no_connection_is_waited_for_longer_than_the_pool_allows<DB: TestDb>() {
    let other = DB::pool().await;
    let pool = PoolOptions::<DB>::new().max_connections(1).acquire_timeout(Duration::from_millis(50));
    let pool = pool.connect_lazy_with(other.connect_options().as_ref().clone());
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    // To connect may take longer than that, too.
    let only = timeout(LONG, async {
        loop {
            if let Ok(only) = pool.acquire().await {
                return only;
            }
        }
    });
    let only = only.await.expect("a connection");
    for _ in 0..3 {
        let refused = timeout(LONG, join_all((0..3).map(|_| transactor.run(&(), nothing)))).await;
        assert_eq!(refused.expect("they do not wait"), [const { Err(TransactionError::Unavailable) }; 3]);
    }
    drop(only);
    let served = timeout(LONG, async { while transactor.run(&(), nothing).await.is_err() {} });
    served.await.expect("it is free");
}

async fn a_hook_that_panics_is_the_end_of_one_wait_only<DB: TestDb>() {
    let other = DB::pool().await;
    let panics = AtomicBool::new(true);
    let pool = PoolOptions::<DB>::new().max_connections(1).before_acquire(move |_, _| {
        assert!(!panics.swap(false, Ordering::SeqCst), "as the test wants it");
        Box::pin(async { Ok(true) })
    });
    let pool = pool.connect_with(other.connect_options().as_ref().clone()).await.expect("a connection");
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let only = pool.try_acquire().expect("it is idle");
    let mut run = Box::pin(transactor.run(&(), nothing));
    assert!(poll!(&mut run).is_pending());
    drop(only);
    assert_eq!(timeout(LONG, run).await, Ok(Err(TransactionError::Unavailable)));
    assert_eq!(timeout(LONG, transactor.run(&(), nothing)).await, Ok(Ok(())));
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

/// Runs one transaction in a runtime of its own, and returns what is left when that has ended.
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
fn what_is_kept_when_the_runtime_ends_does_no_harm() {
    fn test<DB: TestDb>() {
        let (pool, transactor) = after_its_runtime::<DB>();
        drop(transactor);
        drop(pool);
    }
    test::<Sqlite>();
    test::<Postgres>();
}
