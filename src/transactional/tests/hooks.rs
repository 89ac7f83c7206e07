//! Hooks and invalidations that run after the commit.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{NONE, TestDb, numbers_at_rest, refusal, write};
use super::on_each_database;
use crate::testing::ScriptedServer;
use crate::transactional::{
    Propagation, TransactionError, TransactionalTool, Transactor, after_commit, after_commit_or_now,
};
use crate::{Layer, Middleware, layer, outcome};

on_each_database! {
    hooks_run_after_the_commit_in_order,
    hooks_never_run_after_a_rollback,
    a_hook_that_panics_does_not_stop_the_others,
    hooks_of_a_rolled_back_part_never_run,
    hooks_run_although_the_caller_left,
    a_hook_for_after_the_commit_or_now_waits_for_the_outer_transaction,
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

async fn a_hook_that_panics_does_not_stop_the_others<DB: TestDb>() {
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

async fn hooks_of_a_rolled_back_part_never_run<DB: TestDb>() {
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

async fn hooks_run_although_the_caller_left<DB: TestDb>() {
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
        // The first hook runs, so the commit is done. Now the caller leaves.
        _ = gone.recv() => {}
    }
    while seen.all().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(seen.all(), ["second"]);
}

/// A layer that records an effect as soon as it is certain.
#[derive(Clone)]
struct Noting(Seen);

impl Middleware for Noting {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let result = inner.call_tool(name, args, ctx).await;
        if outcome::failure(&result).is_none() {
            let (seen, name) = (self.0.clone(), name.to_owned());
            after_commit_or_now(move || async move { seen.note(name) }).await;
        }
        result
    }
}

async fn a_hook_for_after_the_commit_or_now_waits_for_the_outer_transaction<DB: TestDb>() {
    let (pool, seen) = (DB::pool().await, Seen::default());
    let script = ScriptedServer::new("numbers")
        .with_plain("write", |_| async { Ok(write::<DB>(1).await.map(|()| ToolResult::text("written"))?) })
        .with_plain("fail", |_| async { Ok(ToolResult::error("refused")) });
    let noting = Noting(seen.clone());
    let transactional = TransactionalTool::new(pool.clone()).every_write();
    let ctx = RequestContext::new();

    // Outside the transaction: the commit is done when the call comes back.
    let outside = layer(noting.clone()).layer(transactional.clone().layer(script.clone()));
    for tool in ["write", "fail"] {
        let _ = outside.call_tool(tool, json!({}), &ctx).await;
    }
    assert_eq!(seen.all(), ["write"]);

    // Inside: nothing before the commit, and nothing at all if there is none.
    let inside = layer(noting).layer(script);
    let transactor = Transactor::new(pool.clone());
    for succeeds in [true, false] {
        let run = transactor.run(&(), || async {
            let _ = inside.call_tool("write", json!({}), &ctx).await;
            assert_eq!(seen.all().len(), if succeeds { 1 } else { 2 });
            if succeeds { Ok(()) } else { Err(refusal()) }
        });
        assert_eq!(run.await.is_ok(), succeeds);
        assert_eq!(seen.all(), ["write", "write"]);
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 1]);
}
