//! Callers who wait for a connection that is handed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use sqlx::Postgres;
use sqlx::pool::PoolOptions;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::databases::{LONG, TestDb, hooked_pool, nothing, refusal};
use super::on_each_database;
use crate::transactional::{TransactionError, Transactor};

on_each_database! {
    other_users_of_the_pool_get_connections_while_transactions_continue,
    waiting_callers_are_served_in_turn,
    waiting_callers_get_an_error_when_the_pool_closes,
    a_wait_for_a_connection_ends_with_the_acquire_timeout,
    a_pool_hook_that_panics_ends_only_one_wait,
}

async fn other_users_of_the_pool_get_connections_while_transactions_continue<DB: TestDb>() {
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

async fn waiting_callers_are_served_in_turn<DB: TestDb>() {
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
    // Some leave before their turn.
    for leaving in [15, 7, 6, 0] {
        drop(runs.remove(leaving));
    }
    drop(only);
    assert_eq!(join_all(runs).await, [const { Ok(()) }; 16]);
    let stayed: Vec<_> = (0..20).filter(|n| ![0, 6, 7, 15].contains(n)).collect();
    assert_eq!(served.into_inner(), stayed);
}

async fn waiting_callers_get_an_error_when_the_pool_closes<DB: TestDb>() {
    let (pool, _) = hooked_pool(&DB::pool().await, 1).await;
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    // A connection kept for the next caller does not prevent the pool from closing, either.
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
        assert!(matches!(refused, Err(TransactionError::Unavailable { .. })));
    }
    drop(only);
    timeout(LONG, close).await.expect("nothing holds a connection");
    assert!(matches!(transactor.run(&(), nothing).await, Err(TransactionError::Unavailable { .. })));
}

#[tokio::test]
async fn a_caller_who_has_left_is_skipped() {
    let mut is_handed_on = false;
    // A transaction that takes longer than usual does not hand on its connection.
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
async fn a_waiting_caller_is_served_after_the_timeout_of_another() {
    let (pool, _) = hooked_pool(&Postgres::pool().await, 1).await;
    let transactor = Transactor::new(pool).with_connection_reuse();
    // Each runs until the test ends it.
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
    // This caller has no fetched connection: the first caller left that task to it. But another caller waits at the
    // pool.
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

async fn a_wait_for_a_connection_ends_with_the_acquire_timeout<DB: TestDb>() {
    let other = DB::pool().await;
    let pool = PoolOptions::<DB>::new().max_connections(1).acquire_timeout(Duration::from_millis(50));
    let pool = pool.connect_lazy_with(other.connect_options().as_ref().clone());
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    // Connecting may take longer than that, too.
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
        let refused = refused.expect("they do not wait");
        assert!(refused.iter().all(|one| matches!(one, Err(TransactionError::Unavailable { .. }))), "{refused:?}");
    }
    drop(only);
    let served = timeout(LONG, async { while transactor.run(&(), nothing).await.is_err() {} });
    served.await.expect("it is free");
}

async fn a_pool_hook_that_panics_ends_only_one_wait<DB: TestDb>() {
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
    assert!(matches!(timeout(LONG, run).await, Ok(Err(TransactionError::Unavailable { .. }))));
    assert_eq!(timeout(LONG, transactor.run(&(), nothing)).await, Ok(Ok(())));
}
