//! The end of a transaction, whatever happens to the function that runs in it.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use turbomcp_core::{Cancellable, RequestContext};

use super::databases::{NONE, TestDb, numbers_at_rest, refusal, write};
use super::on_each_database;
use crate::transactional::{TransactionError, Transactor, current, set_rollback_only};

on_each_database! {
    a_success_is_committed,
    a_failure_is_rolled_back,
    a_panic_rolls_back_and_continues_to_unwind,
    a_body_past_its_timeout_is_rolled_back,
    a_cancelled_body_is_rolled_back,
    a_caller_dropped_at_any_await_point_leaves_all_or_nothing,
    outside_a_transaction_there_is_no_connection,
    another_task_has_no_connection,
    keeping_the_connection_is_a_clear_error,
    two_parts_that_need_the_connection_concurrently_take_turns,
    a_body_that_requests_a_rollback_is_rolled_back,
    a_read_only_transaction_refuses_to_write_and_leaves_the_connection_writable,
    a_database_that_cannot_be_reached_is_unavailable,
}

async fn a_success_is_committed<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let result = transactor.run(&(), || write::<DB>(1)).await;
    assert_eq!(result, Ok(()));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_failure_is_rolled_back<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let result = transactor.run(&(), || async {
        write::<DB>(1).await?;
        Err::<(), _>(refusal())
    });
    assert_eq!(result.await, Err(refusal()));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_panic_rolls_back_and_continues_to_unwind<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        if true {
            std::panic::resume_unwind(Box::new("the tool's own"));
        }
        Ok::<(), TransactionError>(())
    });
    let panic = AssertUnwindSafe(run).catch_unwind().await.expect_err("the panic reaches the caller");
    assert_eq!(panic.downcast_ref(), Some(&"the tool's own"));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_body_past_its_timeout_is_rolled_back<DB: TestDb>() {
    let pool = DB::pool().await;
    let after = Duration::from_millis(300);
    let transactor = Transactor::new(pool.clone()).with_timeout(after);
    let result = transactor.run(&(), || async {
        write::<DB>(1).await?;
        pending::<Result<(), TransactionError>>().await
    });
    assert_eq!(result.await, Err(TransactionError::TimedOut { after }));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_cancelled_body_is_rolled_back<DB: TestDb>() {
    #[derive(Debug)]
    struct Cancelled;
    impl Cancellable for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }

    let pool = DB::pool().await;
    let ctx = RequestContext::new().with_cancellation_token(std::sync::Arc::new(Cancelled));
    let transactor = Transactor::new(pool.clone());
    let waits = transactor.run(&ctx, || async {
        write::<DB>(1).await?;
        pending::<Result<(), TransactionError>>().await
    });
    assert_eq!(waits.await, Err(TransactionError::Cancelled));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_caller_dropped_at_any_await_point_leaves_all_or_nothing<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let mut finished = 0;
    for polls in 0..40 {
        let run = transactor.run(&(), || async {
            write::<DB>(1).await?;
            tokio::task::yield_now().await;
            write::<DB>(2).await
        });
        let mut run = Box::pin(run);
        let mut polled = 0;
        // Each poll after the first handles one event, so the call is dropped at each of its await points.
        let left = std::future::poll_fn(|cx| {
            polled += 1;
            if polled > polls {
                return std::task::Poll::Ready(None);
            }
            run.as_mut().poll(cx).map(Some)
        });
        finished += usize::from(left.await.is_some());
        drop(run);
        let numbers = numbers_at_rest(&pool).await;
        let (ones, twos) = (numbers.iter().filter(|n| **n == 1).count(), numbers.iter().filter(|n| **n == 2).count());
        assert_eq!(ones, twos, "left after {polls} polls");
        assert!(ones >= finished, "answered writes exist");
    }
    assert!(finished > 0, "the last rounds come to their end");
}

async fn outside_a_transaction_there_is_no_connection<DB: TestDb>() {
    assert_eq!(current::<DB>().await.err(), Some(TransactionError::None));
    assert_eq!(set_rollback_only(), Err(TransactionError::None));
}

async fn another_task_has_no_connection<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool);
    let run = transactor.run(&(), || async {
        let elsewhere = tokio::spawn(async { current::<DB>().await.err() }).await.expect("the task ends");
        Ok::<_, TransactionError>(elsewhere)
    });
    assert_eq!(run.await, Ok(Some(TransactionError::None)));
}

async fn keeping_the_connection_is_a_clear_error<DB: TestDb>() {
    let pool = DB::pool().await;
    let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || {
        let keep = keep.clone();
        async move {
            let mut connection = current::<DB>().await?;
            DB::write(&mut connection, 1).await?;
            keep.send(connection).map_err(|_| refusal())
        }
    });
    assert_eq!(run.await, Err(TransactionError::Leaked));
    drop(kept.recv().await);
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn two_parts_that_need_the_connection_concurrently_take_turns<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        let (one, two) = tokio::join!(write::<DB>(1), write::<DB>(2));
        one.and(two)
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(numbers_at_rest(&pool).await, [1, 2]);
}

async fn a_body_that_requests_a_rollback_is_rolled_back<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        set_rollback_only()?;
        Ok::<_, TransactionError>("as it would be")
    });
    assert_eq!(run.await, Ok("as it would be"));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_read_only_transaction_refuses_to_write_and_leaves_the_connection_writable<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone()).read_only();
    let refused = transactor.run(&(), || write::<DB>(1)).await;
    assert!(matches!(refused, Err(TransactionError::Statement { .. })), "{refused:?}");

    let read = transactor.run(&(), || async { current::<DB>().await.map(|_| ()) }).await;
    assert_eq!(read, Ok(()));

    // Also after a caller who left during the transaction.
    let left = transactor.run(&(), || async {
        current::<DB>().await?;
        pending::<Result<(), TransactionError>>().await
    });
    assert!(tokio::time::timeout(Duration::from_millis(200), left).await.is_err());

    assert_eq!(numbers_at_rest(&pool).await, NONE);
    for n in 0..8 {
        assert_eq!(Transactor::new(pool.clone()).run(&(), || write::<DB>(n)).await, Ok(()));
    }
}

async fn a_database_that_cannot_be_reached_is_unavailable<DB: TestDb>() {
    let pool = DB::pool().await;
    pool.close().await;
    let transactor = Transactor::new(pool);
    let run = transactor.run(&(), || write::<DB>(1)).await;
    assert!(matches!(run, Err(TransactionError::Unavailable { .. })));
}
