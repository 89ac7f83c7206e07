//! A caller who leaves before there is a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use futures_util::poll;
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Pool, Postgres};
use tokio::sync::oneshot;

use super::databases::{NONE, TestDb, numbers_at_rest, write};
use super::on_each_database;
use crate::transactional::finish::finish;
use crate::transactional::{TransactionError, Transactor};

on_each_database! {
    whoever_leaves_while_waiting_for_a_connection_takes_none,
    without_a_test_an_idle_connection_is_taken_as_it_is,
}

/// A pool of one connection, and how often its hook has let somebody have it.
async fn counting_pool<DB: TestDb>(others: &Pool<DB>) -> (Pool<DB>, Arc<AtomicU32>) {
    let taken = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&taken);
    let pool = PoolOptions::<DB>::new()
        .max_connections(1)
        .before_acquire(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(true) })
        })
        .connect_with(others.connect_options().as_ref().clone());
    (pool.await.expect("a connection"), taken)
}

async fn whoever_leaves_while_waiting_for_a_connection_takes_none<DB: TestDb>() {
    let others = DB::pool().await;
    let (pool, taken) = counting_pool(&others).await;
    let only = pool.acquire().await.expect("it is idle");
    let before = taken.load(Ordering::SeqCst);

    let transactor = Transactor::new(pool.clone());
    for _ in 0..5 {
        let mut run = Box::pin(transactor.run(&(), || write::<DB>(1)));
        assert!(poll!(&mut run).is_pending());
        tokio::task::yield_now().await;
        assert!(poll!(&mut run).is_pending());
    }
    drop(only);

    // Waiters are served in turn, so whoever was before would have been there by now.
    assert_eq!(transactor.run(&(), || async { Ok::<_, TransactionError>(()) }).await, Ok(()));
    assert_eq!(taken.load(Ordering::SeqCst) - before, 1);
    assert_eq!(numbers_at_rest(&others).await, NONE);
}

async fn without_a_test_an_idle_connection_is_taken_as_it_is<DB: TestDb>() {
    let (pool, taken) = counting_pool(&DB::pool().await).await;
    let transactor = Transactor::new(pool.clone());
    for (transactor, hooks) in [(transactor.clone(), 1), (transactor.without_test_before_acquire(), 0)] {
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        let before = taken.load(Ordering::SeqCst);
        assert_eq!(transactor.run(&(), || write::<DB>(1)).await, Ok(()));
        assert_eq!(taken.load(Ordering::SeqCst) - before, hooks);
    }
}

#[tokio::test]
async fn without_a_test_a_begin_on_a_dead_connection_takes_another() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).without_test_before_acquire();
    let mut observer = PgConnection::connect_with(&pool.connect_options()).await.expect("the server is there");
    for round in 1..=3 {
        // All connections are there, and end.
        numbers_at_rest(&pool).await;
        let others = "from pg_stat_activity where application_name = current_setting('application_name') \
                      and pid <> pg_backend_pid()";
        let end = AssertSqlSafe(format!("select count(pg_terminate_backend(pid)) {others}"));
        let ended: i64 = sqlx::query_scalar(end).fetch_one(&mut observer).await.expect("they can be ended");
        assert_eq!(ended, i64::from(pool.options().get_max_connections()));
        let left = format!("select count(*) {others}");
        while sqlx::query_scalar::<_, i64>(AssertSqlSafe(left.clone())).fetch_one(&mut observer).await.expect("a count")
            > 0
        {}

        assert_eq!(transactor.run(&(), || write::<Postgres>(round)).await, Ok(()));
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_is_to_be_finished_goes_on_without_its_caller() {
    let (go, gone) = oneshot::channel::<()>();
    let (done, is_done) = oneshot::channel();
    let work: BoxFuture<'static, ()> = Box::pin(async move {
        let _ = gone.await;
        let _ = done.send("done");
    });
    let mut work = Box::pin(finish(work));
    assert!(poll!(&mut work).is_pending());
    drop(work);
    assert!(go.send(()).is_ok(), "it waits still");
    assert_eq!(is_done.await, Ok("done"));
}

#[tokio::test]
async fn what_is_to_be_finished_is_answered_to_a_caller_who_waits() {
    assert_eq!(finish(Box::pin(async { 1 })).await, 1);
}
