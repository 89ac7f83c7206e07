//! The same guarantees on SQLite and PostgreSQL.

mod begins;
mod clocks;
mod conflicts;
mod databases;
mod disk_full;
mod ended_early;
mod ends;
mod holders;
mod hooks;
mod idempotency;
mod in_doubt;
mod layer;
mod lost;
#[cfg(feature = "metrics")]
mod metrics;
mod propagation;
mod questions;
mod queue;
mod recording;
mod reuse;
mod sessions;
mod silence;
mod standstill;
mod sweeps;
mod traps;
mod waiting;
mod write_queue;

/// Turns an `async fn test<DB: TestDb>()` into one test on each database.
macro_rules! on_each_database {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test::<sqlx::Sqlite>().await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test::<sqlx::Postgres>().await;
            })+
        }
    };
}
use on_each_database;
