//! SQLite has one writer at a time: the writers of one process take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Connection, Pool, Sqlite};
use tokio::time::timeout;

use super::databases::{TestDb, nothing, numbers_at_rest, write};
use crate::transactional::{Dialect, Propagation, TransactionError, Transactor};

/// Shorter than a writer's wait for its turn.
const SOON: Duration = Duration::from_secs(4);

/// A pool whose connections never wait for a lock, so that a writer fails if it meets another writer in the database.
async fn impatient_pool() -> Pool<Sqlite> {
    let first = Sqlite::pool().await;
    let options = SqliteConnectOptions::clone(&first.connect_options()).busy_timeout(Duration::ZERO);
    first.close().await;
    SqlitePoolOptions::new().max_connections(8).connect_with(options).await.expect("a file can be opened")
}

fn impatient(pool: &Pool<Sqlite>) -> Transactor<Sqlite> {
    Transactor::new(pool.clone()).with_max_attempts(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_process_never_wait_for_each_other_in_the_database() {
    let pool = impatient_pool().await;
    let transactor = impatient(&pool);
    let writers = (0..100).map(|n| {
        let transactor = transactor.clone();
        tokio::spawn(async move {
            transactor
                .run(&(), || async move {
                    write::<Sqlite>(n).await?;
                    tokio::task::yield_now().await;
                    if n % 3 == 0 { Err(TransactionError::Cancelled) } else { Ok(()) }
                })
                .await
        })
    });
    for (n, ended) in join_all(writers).await.into_iter().enumerate() {
        let expected = if n % 3 == 0 { Err(TransactionError::Cancelled) } else { Ok(()) };
        assert_eq!(ended.expect("no panic"), expected);
    }
    let written: Vec<_> = (0..100).filter(|n| n % 3 != 0).collect();
    assert_eq!(numbers_at_rest(&pool).await, written);
}

#[tokio::test]
async fn a_read_only_transaction_does_not_wait_in_the_write_queue() {
    let transactor = impatient(&impatient_pool().await);
    let reader = transactor.clone().read_only();
    let run = transactor.run(&(), || async {
        write::<Sqlite>(1).await?;
        // A separate task is not part of the transaction.
        let reader = reader.clone();
        let read = tokio::spawn(async move { reader.run(&(), nothing).await });
        timeout(SOON, read).await.expect("it does not wait").expect("no panic")
    });
    assert_eq!(run.await, Ok(()));
}

#[tokio::test]
async fn an_inner_transaction_does_not_wait_for_the_turn_of_its_outer_one() {
    let transactor = impatient(&impatient_pool().await);
    let inner = transactor.clone().with_propagation(Propagation::RequiresNew);
    let run = transactor.run(&(), || async {
        write::<Sqlite>(1).await?;
        let refused = timeout(SOON, inner.run(&(), || write::<Sqlite>(2))).await.expect("it does not wait");
        assert!(matches!(refused, Err(TransactionError::WaitsForItself)), "{refused:?}");
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
}

#[tokio::test]
async fn a_writer_who_leaves_passes_its_turn_on_after_the_rollback() {
    let pool = impatient_pool().await;
    let transactor = impatient(&pool);
    for _ in 0..20 {
        let mut first = Box::pin(transactor.run(&(), || async {
            write::<Sqlite>(1).await?;
            std::future::pending::<Result<(), TransactionError>>().await
        }));
        while transactor.write_queue.available_permits() > 0 {
            assert!(poll!(&mut first).is_pending());
            tokio::task::yield_now().await;
        }
        let mut second = Box::pin(transactor.run(&(), || write::<Sqlite>(2)));
        let mut third = Box::pin(transactor.run(&(), || write::<Sqlite>(3)));
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        // The first is somewhere between its begin and its end.
        for _ in 0..fastrand::u8(..200) {
            assert!(poll!(&mut first).is_pending());
            tokio::task::yield_now().await;
        }
        drop((first, second));
        assert_eq!(timeout(SOON, third).await, Ok(Ok(())));
    }
    assert_eq!(numbers_at_rest(&pool).await, [3; 20]);
}

#[tokio::test]
async fn a_writer_who_leaves_keeps_its_turn_during_a_begin_or_commit() {
    let wal = Sqlite::pool().await;
    let options = SqliteConnectOptions::clone(&wal.connect_options()).journal_mode(SqliteJournalMode::Delete);
    wal.close().await;
    let pool = SqlitePoolOptions::new().test_before_acquire(false).connect_with(options).await.expect("a file");
    let transactor = Transactor::new(pool.clone());
    // A writer prevents others from beginning, and without a write-ahead log, a reader prevents them from committing.
    for (other, is_written) in [("BEGIN IMMEDIATE", false), ("BEGIN; SELECT count(*) FROM t", true)] {
        let mut connection = SqliteConnection::connect_with(&pool.connect_options()).await.expect("a file");
        Sqlite::execute(&mut connection, other.into()).await.expect("no other transaction is in its way");
        let written = AtomicBool::new(false);
        let mut leaving = Box::pin(transactor.run(&(), || async {
            write::<Sqlite>(1).await?;
            written.store(true, Ordering::SeqCst);
            Ok::<_, TransactionError>(())
        }));
        loop {
            assert!(poll!(&mut leaving).is_pending());
            if written.load(Ordering::SeqCst) == is_written {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(leaving);
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert_eq!(transactor.write_queue.available_permits(), 0, "{other}");
        }
        Sqlite::execute(&mut connection, "ROLLBACK".into()).await.expect("it can be rolled back");
        let next = timeout(SOON, transactor.run(&(), || write::<Sqlite>(2)));
        assert_eq!(next.await, Ok(Ok(())), "{other}");
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 2, 2]);
}

#[tokio::test]
async fn a_writer_whose_wait_for_a_turn_times_out_tries_the_database_directly() {
    let pool = impatient_pool().await;
    let transactor = impatient(&pool);
    let _permit = Arc::clone(&transactor.write_queue).acquire_owned().await.expect("it is open");
    tokio::time::pause();
    let mut run = Box::pin(transactor.run(&(), || write::<Sqlite>(1)));
    assert!(poll!(&mut run).is_pending());
    tokio::time::advance(SOON).await;
    assert!(poll!(&mut run).is_pending());
    tokio::time::advance(SOON).await;
    // The database has a clock of its own.
    tokio::time::resume();
    assert_eq!(run.await, Ok(()));
}
