//! A caller who leaves before there is a connection.

use futures_util::future::BoxFuture;
use futures_util::poll;
use tokio::sync::oneshot;

use super::databases::{NONE, TestDb, hooked_pool, nothing, numbers_at_rest, write};
use super::on_each_database;
use crate::transactional::Transactor;
use crate::transactional::finish::finish;

on_each_database! {
    whoever_leaves_while_waiting_for_a_connection_takes_none,
}

async fn whoever_leaves_while_waiting_for_a_connection_takes_none<DB: TestDb>() {
    let others = DB::pool().await;
    let (pool, hooks) = hooked_pool(&others, 1).await;
    let transactor = Transactor::new(pool.clone());
    for transactor in [transactor.clone(), transactor.with_connection_reuse()] {
        let only = pool.acquire().await.expect("it is not lost");
        let before = hooks.before_acquire();
        for _ in 0..5 {
            let mut run = Box::pin(transactor.run(&(), || write::<DB>(1)));
            assert!(poll!(&mut run).is_pending());
            tokio::task::yield_now().await;
            assert!(poll!(&mut run).is_pending());
        }
        drop(only);

        // Waiters are served in turn, so whoever was before would have been there by now.
        assert_eq!(transactor.run(&(), nothing).await, Ok(()));
        assert_eq!(hooks.before_acquire() - before, 1);
    }
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
