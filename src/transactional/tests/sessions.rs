//! Sessions that are written in the transaction of the tool.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Pool;
use turbomcp_core::RequestContext;

use super::databases::{NONE, TestDb, numbers_at_rest, refusal, write};
use super::on_each_database;
use crate::SessionStore;
use crate::session::{Session, SessionDatabase, SessionMode, SqlBackend};
use crate::transactional::{Isolation, Propagation, TransactionError, Transactor};

on_each_database! {
    a_session_is_committed_with_the_transaction,
    a_session_is_rolled_back_with_the_transaction,
    a_session_write_that_was_rolled_back_blocks_no_later_one,
    a_session_is_rolled_back_with_a_part_of_the_transaction,
    a_caller_dropped_at_any_await_point_leaves_both_or_none,
    outside_a_transaction_a_session_is_written_at_once,
    no_change_of_many_transactions_on_one_session_is_lost,
}

async fn prepared<DB: TestDb + SessionDatabase>() -> (Pool<DB>, Session, Session) {
    let pool = DB::pool().await;
    SqlBackend::ensure_schema(&pool).await.expect("a table can be made");
    let ctx = RequestContext::new().with_user_id("ada");
    let session = |backend| {
        let store =
            SessionStore::new(backend).with_mode(SessionMode::Principal).with_backend_timeout(Duration::from_secs(8));
        store.of(&ctx).expect("a session")
    };
    let joined = session(SqlBackend::new(pool.clone()).in_transactions());
    let other = session(SqlBackend::new(pool.clone()));
    (pool, joined, other)
}

async fn count(session: &Session) -> u32 {
    session.get("n").await.expect("it can be read").unwrap_or_default()
}

async fn add(session: &Session) -> Result<(), TransactionError> {
    session.update("n", |n: &mut u32| *n += 1).await.map_err(|_| refusal())
}

async fn a_session_is_committed_with_the_transaction<DB: TestDb + SessionDatabase>() {
    let (pool, session, other) = prepared::<DB>().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        add(&session).await?;
        assert_eq!(count(&session).await, 1, "it reads what it wrote");
        // A separate task is not part of the transaction.
        let other = other.clone();
        let seen = tokio::spawn(async move { count(&other).await }).await.expect("no panic");
        assert_eq!(seen, 0, "nothing else does");
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!((count(&other).await, numbers_at_rest(&pool).await), (1, vec![1]));
}

async fn a_session_is_rolled_back_with_the_transaction<DB: TestDb + SessionDatabase>() {
    let (pool, session, other) = prepared::<DB>().await;
    add(&session).await.expect("it is written");
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        add(&session).await?;
        Err::<(), _>(refusal())
    });
    assert_eq!(run.await, Err(refusal()));
    assert_eq!((count(&session).await, count(&other).await), (1, 1));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_session_write_that_was_rolled_back_blocks_no_later_one<DB: TestDb + SessionDatabase>() {
    let (pool, session, _) = prepared::<DB>().await;
    let transactor = Transactor::new(pool);
    for round in 0..5 {
        let undone = transactor.run(&(), || async {
            add(&session).await?;
            Err::<(), _>(refusal())
        });
        assert_eq!(undone.await, Err(refusal()));
        // Inside the next transaction, and outside.
        assert_eq!(transactor.run(&(), || add(&session)).await, Ok(()));
        assert_eq!(add(&session).await, Ok(()));
        assert_eq!(count(&session).await, 2 * round + 2);
    }
}

async fn a_session_is_rolled_back_with_a_part_of_the_transaction<DB: TestDb + SessionDatabase>() {
    let (pool, session, other) = prepared::<DB>().await;
    let transactor = Transactor::new(pool);
    let nested = transactor.clone().with_propagation(Propagation::Nested);
    let run = transactor.run(&(), || async {
        add(&session).await?;
        let undone = nested.run(&(), || async {
            add(&session).await?;
            Err::<(), _>(refusal())
        });
        assert_eq!(undone.await, Err(refusal()));
        add(&session).await
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(count(&other).await, 2);
}

async fn a_caller_dropped_at_any_await_point_leaves_both_or_none<DB: TestDb + SessionDatabase>() {
    let (pool, session, other) = prepared::<DB>().await;
    let transactor = Transactor::new(pool.clone());
    for polls in 0..40 {
        let mut run = Box::pin(transactor.run(&(), || async {
            write::<DB>(1).await?;
            add(&session).await
        }));
        let mut polled = 0;
        std::future::poll_fn(|cx| {
            polled += 1;
            if polled > polls { std::task::Poll::Ready(()) } else { run.as_mut().poll(cx).map(|_| ()) }
        })
        .await;
        drop(run);
        let numbers = numbers_at_rest(&pool).await.len();
        assert_eq!(count(&other).await as usize, numbers, "left after {polls} polls");
    }
}

async fn outside_a_transaction_a_session_is_written_at_once<DB: TestDb + SessionDatabase>() {
    let (_pool, session, other) = prepared::<DB>().await;
    add(&session).await.expect("it is written");
    assert_eq!(count(&other).await, 1);
}

async fn no_change_of_many_transactions_on_one_session_is_lost<DB: TestDb + SessionDatabase>() {
    let (pool, session, other) = prepared::<DB>().await;
    for isolation in [None, Some(Isolation::RepeatableRead)] {
        let before = count(&other).await;
        let transactor = Transactor::new(pool.clone()).with_max_attempts(50);
        let transactor =
            if let Some(isolation) = isolation { transactor.with_isolation(isolation) } else { transactor };
        let runs = (0..20).map(|_| {
            transactor.run(&(), || async {
                write::<DB>(1).await?;
                add(&session).await
            })
        });
        let done = join_all(runs).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(done, 20, "{isolation:?}");
        assert_eq!(count(&other).await - before, 20);
    }
}
