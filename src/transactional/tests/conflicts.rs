//! Transactions that conflict with others, and are repeated.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Postgres, Sqlite};
use tokio::sync::Barrier;
use turbomcp_core::{McpError, McpResult};

use super::databases::{TestDb, numbers_at_rest, refusal, write};
use crate::transactional::{Dialect, Isolation, TransactionError, Transactor, current, failed};

/// Two doctors are on call, one must stay: each leaves if the other is on call. Returns how often a body ran.
async fn write_skew(isolation: Isolation) -> (Vec<i64>, u32) {
    let pool = Postgres::pool().await;
    sqlx::query("insert into t values (1), (2)").execute(&pool).await.expect("both are on call");
    let transactor = Transactor::new(pool.clone()).with_isolation(isolation);
    let (bodies, both_have_looked) = (AtomicU32::new(0), Barrier::new(2));
    let leave = |doctor: i64| {
        let (transactor, bodies, both_have_looked) = (&transactor, &bodies, &both_have_looked);
        async move {
            transactor
                .run(&(), || async {
                    let mut db = current::<Postgres>().await?;
                    let on_call: i64 = sqlx::query_scalar("select count(*) from t").fetch_one(&mut *db).await?;
                    if bodies.fetch_add(1, Ordering::SeqCst) < 2 {
                        both_have_looked.wait().await;
                    }
                    if on_call < 2 {
                        return Err(refusal());
                    }
                    sqlx::query("delete from t where n = $1").bind(doctor).execute(&mut *db).await?;
                    Ok(())
                })
                .await
        }
    };
    let (one, two) = tokio::join!(leave(1), leave(2));
    assert!(one.is_ok() || two.is_ok());
    (numbers_at_rest(&pool).await, bodies.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_write_skew_that_read_committed_allows_is_prevented_at_serializable() {
    let (on_call, bodies) = write_skew(Isolation::ReadCommitted).await;
    assert_eq!((on_call.len(), bodies), (0, 2), "no doctor is on call, undetected");

    let (on_call, bodies) = write_skew(Isolation::Serializable).await;
    assert_eq!((on_call.len(), bodies), (1, 3), "one of them ran again");
}

#[tokio::test]
async fn transactions_are_repeated_after_serialization_failures_and_deadlocks() {
    let pool = Postgres::pool().await;
    for conflict in [
        "do $$ begin raise exception 'x' using errcode = '40001'; end $$",
        "do $$ begin raise exception 'x' using errcode = '40P01'; end $$",
    ] {
        let bodies = AtomicU32::new(0);
        let transactor = Transactor::new(pool.clone());
        let run = transactor.run(&(), || async {
            write::<Postgres>(1).await?;
            if bodies.fetch_add(1, Ordering::SeqCst) < 2 {
                Postgres::execute(&mut *current::<Postgres>().await?, conflict.into()).await?;
            }
            Ok::<_, TransactionError>(())
        });
        assert_eq!(run.await, Ok(()));
        assert_eq!(bodies.load(Ordering::SeqCst), 3);
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 1]);
}

#[tokio::test]
async fn a_conflict_is_detected_although_the_tool_maps_its_errors() {
    let pool = Postgres::pool().await;
    let bodies = AtomicU32::new(0);
    let transactor = Transactor::new(pool);
    let run = transactor.run(&(), || async {
        let mut db = current::<Postgres>().await?;
        if bodies.fetch_add(1, Ordering::SeqCst) == 0 {
            let conflict = "do $$ begin raise exception 'x' using errcode = '40001'; end $$";
            Postgres::execute(&mut db, conflict.into())
                .await
                .map_err(failed)
                .map_err(|_| McpError::internal("DB error"))?;
        }
        McpResult::Ok(())
    });
    assert!(run.await.is_ok());
    assert_eq!(bodies.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_conflict_that_the_tool_ignores_is_repeated_too() {
    let pool = Postgres::pool().await;
    let bodies = AtomicU32::new(0);
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<Postgres>(1).await?;
        if bodies.fetch_add(1, Ordering::SeqCst) == 0 {
            let conflict = "do $$ begin raise exception 'x' using errcode = '40001'; end $$";
            let mut db = current::<Postgres>().await?;
            let _swallowed = Postgres::execute(&mut db, conflict.into()).await.map_err(failed);
        }
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(bodies.load(Ordering::SeqCst), 2);
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

#[tokio::test]
async fn transactions_are_not_repeated_after_other_failures() {
    let pool = Postgres::pool().await;
    let bodies = AtomicU32::new(0);
    let transactor = Transactor::new(pool);
    let run = transactor.run(&(), || async {
        bodies.fetch_add(1, Ordering::SeqCst);
        Postgres::execute(&mut *current::<Postgres>().await?, "select 1 / 0".into()).await?;
        Ok::<_, TransactionError>(())
    });
    assert!(matches!(run.await, Err(TransactionError::Statement { .. })));
    assert_eq!(bodies.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_transaction_that_always_conflicts_fails_after_a_bounded_number_of_attempts() {
    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_max_attempts(3);
    let run = transactor.run(&(), || async {
        let conflict = "do $$ begin raise exception 'x' using errcode = '40001'; end $$";
        Postgres::execute(&mut *current::<Postgres>().await?, conflict.into()).await?;
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Err(TransactionError::Conflict { attempts: 3 }));
}

#[tokio::test]
async fn a_transaction_waits_for_a_busy_file_and_is_then_repeated() {
    let pool = Sqlite::pool().await;
    let impatient = pool.connect_options().as_ref().clone().busy_timeout(Duration::from_millis(20));
    let impatient = sqlx::SqlitePool::connect_with(impatient).await.expect("the file is there");
    let writer = pool.begin_with("begin immediate").await.expect("no other writer");
    let (busy, mut seen_busy) = tokio::sync::mpsc::unbounded_channel();
    let transactor = Transactor::new(impatient).with_max_attempts(100);
    let waits = async {
        let run = transactor.run(&(), || write::<Sqlite>(1)).await;
        drop(busy);
        run
    };
    let frees = async {
        // Long enough for one attempt to fail; however long it takes, the next finds the file free.
        let _ = tokio::time::timeout(Duration::from_millis(200), seen_busy.recv()).await as Result<Option<()>, _>;
        writer.rollback().await
    };
    let (waited, freed) = tokio::join!(waits, frees);
    assert!(freed.is_ok());
    assert_eq!(waited, Ok(()));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}
