//! Transactions within transactions.

use std::time::Duration;

use super::databases::{NONE, TestDb, numbers_at_rest, refusal, write};
use super::on_each_database;
use crate::transactional::{Propagation, TransactionError, Transactor};

on_each_database! {
    a_part_that_joins_commits_and_fails_with_the_whole,
    a_failed_part_is_not_committed_although_the_whole_succeeds,
    a_part_that_was_dropped_half_way_is_not_committed,
    a_nested_part_is_rolled_back_alone,
    a_nested_part_that_was_dropped_half_way_rolls_back_the_whole,
    a_mandatory_part_needs_a_transaction,
}

async fn a_part_that_joins_commits_and_fails_with_the_whole<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let mandatory = transactor.clone().with_propagation(Propagation::Mandatory);
    for fails in [false, true] {
        let run = transactor.run(&(), || async {
            write::<DB>(1).await?;
            transactor.run(&(), || write::<DB>(2)).await?;
            mandatory.run(&(), || write::<DB>(3)).await?;
            if fails { Err(refusal()) } else { Ok(()) }
        });
        assert_eq!(run.await.is_err(), fails);
        assert_eq!(numbers_at_rest(&pool).await, [1, 2, 3]);
    }
}

async fn a_failed_part_is_not_committed_although_the_whole_succeeds<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        let _ = transactor.run(&(), || async { Err::<(), _>(refusal()) }).await;
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Err(TransactionError::RolledBack));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_part_that_was_dropped_half_way_is_not_committed<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        let part = transactor.run(&(), || async {
            write::<DB>(1).await?;
            std::future::pending::<Result<(), TransactionError>>().await
        });
        let _ = tokio::time::timeout(Duration::from_millis(100), part).await;
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Err(TransactionError::RolledBack));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_nested_part_is_rolled_back_alone<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let nested = transactor.clone().with_propagation(Propagation::Nested);
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        let undone = nested.run(&(), || async {
            write::<DB>(2).await?;
            nested.run(&(), || write::<DB>(3)).await?;
            Err::<(), _>(refusal())
        });
        assert_eq!(undone.await, Err(refusal()));
        nested.run(&(), || write::<DB>(4)).await
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(numbers_at_rest(&pool).await, [1, 4]);
}

async fn a_nested_part_that_was_dropped_half_way_rolls_back_the_whole<DB: TestDb>() {
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let nested = transactor.clone().with_propagation(Propagation::Nested);
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        let part = nested.run(&(), std::future::pending::<Result<(), TransactionError>>);
        let _ = tokio::time::timeout(Duration::from_millis(100), part).await;
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Err(TransactionError::RolledBack));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_mandatory_part_needs_a_transaction<DB: TestDb>() {
    let pool = DB::pool().await;
    let mandatory = Transactor::new(pool.clone()).with_propagation(Propagation::Mandatory);
    assert_eq!(mandatory.run(&(), || write::<DB>(1)).await, Err(TransactionError::None));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

/// On PostgreSQL only: SQLite has one writer at a time, so an independent inner transaction would wait for the outer
/// one.
#[tokio::test]
async fn an_inner_transaction_of_its_own_commits_whatever_happens_to_the_outer_one() {
    type DB = sqlx::Postgres;
    let pool = DB::pool().await;
    let transactor = Transactor::new(pool.clone());
    let own = transactor.clone().with_propagation(Propagation::RequiresNew);
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        own.run(&(), || write::<DB>(2)).await?;
        Err::<(), _>(refusal())
    });
    assert_eq!(run.await, Err(refusal()));
    assert_eq!(numbers_at_rest(&pool).await, [2]);
}
