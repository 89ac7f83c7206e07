//! What runs after the commit.

use std::sync::{Arc, Mutex};

use super::databases::{NONE, TestDb, numbers_at_rest, refusal, write};
use super::on_each_database;
use crate::transactional::{Propagation, TransactionError, Transactor, after_commit};

on_each_database! {
    hooks_run_after_the_commit_in_order,
    hooks_never_run_after_a_rollback,
    a_hook_that_panics_keeps_nothing_from_the_others,
    hooks_of_a_part_that_was_undone_never_run,
    hooks_run_although_the_caller_has_gone,
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("no test panics here").push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no test panics here").clone()
    }

    fn after_commit(&self, what: &'static str) {
        let seen = self.clone();
        assert!(after_commit(move || async move { seen.note(what) }).is_ok());
    }
}

async fn hooks_run_after_the_commit_in_order<DB: TestDb>() {
    let (pool, seen) = (DB::pool().await, Seen::default());
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        let (hook, pool) = (seen.clone(), pool.clone());
        let first = after_commit(move || async move { hook.note(format!("{:?}", DB::numbers(&pool).await)) });
        assert!(first.is_ok());
        seen.after_commit("second");
        seen.note("body");
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(seen.all(), ["body", "[1]", "second"]);
}

async fn hooks_never_run_after_a_rollback<DB: TestDb>() {
    let (pool, seen) = (DB::pool().await, Seen::default());
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        seen.after_commit("never");
        Err::<(), _>(refusal())
    });
    assert!(run.await.is_err());
    assert_eq!(numbers_at_rest(&pool).await, NONE);
    assert!(seen.all().is_empty());
}

async fn a_hook_that_panics_keeps_nothing_from_the_others<DB: TestDb>() {
    let (pool, seen) = (DB::pool().await, Seen::default());
    let transactor = Transactor::new(pool);
    let run = transactor.run(&(), || async {
        let broken = after_commit(|| async { std::panic::resume_unwind(Box::new("the hook's own")) });
        assert!(broken.is_ok());
        seen.after_commit("the other");
        Ok::<_, TransactionError>(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(seen.all(), ["the other"]);
}

async fn hooks_of_a_part_that_was_undone_never_run<DB: TestDb>() {
    let (pool, seen) = (DB::pool().await, Seen::default());
    let transactor = Transactor::new(pool.clone());
    let nested = transactor.clone().with_propagation(Propagation::Nested);
    let run = transactor.run(&(), || async {
        seen.after_commit("whole");
        let undone = nested.run(&(), || async {
            seen.after_commit("undone");
            Err::<(), _>(refusal())
        });
        assert!(undone.await.is_err());
        nested
            .run(&(), || async {
                seen.after_commit("kept");
                Ok::<_, TransactionError>(())
            })
            .await
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(seen.all(), ["whole", "kept"]);
}

async fn hooks_run_although_the_caller_has_gone<DB: TestDb>() {
    let (pool, seen) = (DB::pool().await, Seen::default());
    let (go, mut gone) = tokio::sync::mpsc::unbounded_channel::<()>();
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        let go = go.clone();
        let first = after_commit(move || async move {
            let _ = go.send(());
            tokio::task::yield_now().await;
        });
        assert!(first.is_ok());
        seen.after_commit("second");
        Ok::<_, TransactionError>(())
    });
    tokio::select! {
        _ = run => {}
        // The first hook runs, so the commit is done: the caller leaves.
        _ = gone.recv() => {}
    }
    while seen.all().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(seen.all(), ["second"]);
}
