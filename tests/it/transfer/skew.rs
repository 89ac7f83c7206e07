//! Two transactions that each read what the other writes.

use std::sync::atomic::{AtomicU32, Ordering};

use mcp_patterns::transactional::{Isolation, TransactionError, Transactor, current};
use sqlx::{PgPool, Postgres};
use tokio::sync::Barrier;

use crate::client::patiently;
use crate::support::Database;

/// Whether the rule held that the two accounts together are never overdrawn.
struct Outcome {
    sum: i64,
    withdrawn: [bool; 2],
    attempts: u32,
}

/// Takes $100 out of each of two accounts that have $75 each, at the same time and only if their sum allows it.
async fn withdraw_from_both(pool: &PgPool, isolation: Isolation) -> Outcome {
    sqlx::raw_sql(
        "drop table if exists pockets; create table pockets (id bigint primary key, cents bigint not null); \
         insert into pockets values (1, 75), (2, 75)",
    )
    .execute(pool)
    .await
    .expect("no table");
    let transactor = Transactor::new(pool.clone()).with_isolation(isolation);
    let (both_have_read, attempts) = (Barrier::new(2), AtomicU32::new(0));
    let withdraw = async |pocket: i64| {
        let own_attempts = AtomicU32::new(0);
        transactor
            .run(&(), async || {
                attempts.fetch_add(1, Ordering::Relaxed);
                let mut db = current::<Postgres>().await?;
                let sum: i64 = sqlx::query_scalar("select sum(cents)::bigint from pockets").fetch_one(&mut *db).await?;
                if own_attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                    both_have_read.wait().await;
                }
                if sum < 100 {
                    return Ok(false);
                }
                sqlx::query("update pockets set cents = cents - 100 where id = $1")
                    .bind(pocket)
                    .execute(&mut *db)
                    .await?;
                Ok::<_, TransactionError>(true)
            })
            .await
            .expect("no transaction fails for good")
    };
    let (first, second) = tokio::join!(withdraw(1), withdraw(2));
    let sum = sqlx::query_scalar("select sum(cents)::bigint from pockets").fetch_one(pool).await.expect("no sum");
    Outcome { sum, withdrawn: [first, second], attempts: attempts.into_inner() }
}

#[tokio::test]
async fn a_write_skew_that_read_committed_allows_is_prevented_by_serializable() {
    patiently(async {
        let database = Database::postgres().await;
        let pool = PgPool::connect(&database.url()).await.expect("no pool");

        let skewed = withdraw_from_both(&pool, Isolation::ReadCommitted).await;
        assert_eq!((skewed.sum, skewed.withdrawn, skewed.attempts), (-50, [true, true], 2));

        let serial = withdraw_from_both(&pool, Isolation::Serializable).await;
        assert_eq!(serial.sum, 50);
        assert_eq!(serial.withdrawn.iter().filter(|withdrawn| **withdrawn).count(), 1);
        // One of them must be repeated, and repeated again if it starts before the other's commit is done.
        let attempts = serial.attempts;
        assert!((3..=10).contains(&attempts), "{attempts} attempts, where three to ten were expected");
    })
    .await;
}
