//! A caller who leaves before there is a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use futures_util::poll;
use sqlx::pool::PoolOptions;
use tokio::sync::oneshot;

use super::databases::{NONE, TestDb, numbers_at_rest, write};
use super::on_each_database;
use crate::transactional::finish::finish;
use crate::transactional::{TransactionError, Transactor};

on_each_database! {
    whoever_leaves_while_waiting_for_a_connection_takes_none,
}

async fn whoever_leaves_while_waiting_for_a_connection_takes_none<DB: TestDb>() {
    let taken = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&taken);
    let others = DB::pool().await;
    let pool = PoolOptions::<DB>::new()
        .max_connections(1)
        .before_acquire(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(true) })
        })
        .connect_with(others.connect_options().as_ref().clone())
        .await
        .expect("a connection");
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
