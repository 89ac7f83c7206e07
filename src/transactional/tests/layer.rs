//! Transactions around tool calls.

use std::time::Duration;

use serde_json::json;
use sqlx::Postgres;
use turbomcp::prelude::*;
use turbomcp_core::McpHandler;

use super::databases::{NONE, TestDb, numbers_at_rest, write};
use super::on_each_database;
use crate::testing::ScriptedServer;
use crate::transactional::{Dialect as _, Isolation, TransactionalTool, Transactor, failed};
use crate::{CachedTool, ConfigError, Layer, TryLayer};

on_each_database! {
    a_tool_that_succeeds_is_committed_and_one_that_fails_is_not,
    a_read_only_tool_gets_a_read_only_transaction,
    tools_that_are_not_named_run_without_a_transaction,
    a_cache_inside_a_transaction_does_not_share,
    invalid_settings_are_found_when_the_layer_is_applied,
}

fn internal(error: impl std::fmt::Display) -> McpError {
    McpError::internal(error.to_string())
}

async fn a_tool_that_succeeds_is_committed_and_one_that_fails_is_not<DB: TestDb>() {
    let pool = DB::pool().await;
    let script = ScriptedServer::new("numbers").with_plain("write", |call| async move {
        write::<DB>(call.args["n"].as_i64().unwrap_or_default()).await?;
        match call.args["ends"].as_str() {
            Some("kind") => Err(McpError::invalid_request("refused")),
            Some("plain") => Ok(ToolResult::error("refused")),
            _ => Ok(ToolResult::text("written")),
        }
    });
    let server = TransactionalTool::new(pool.clone()).only(["write"]).layer(script);
    let ctx = RequestContext::new();
    for (n, ends) in [(1, "well"), (2, "kind"), (3, "plain")] {
        let answer = server.call_tool("write", json!({"n": n, "ends": ends}), &ctx).await.expect("a tool's result");
        assert_eq!(answer.is_error(), ends != "well");
        assert_eq!(answer.first_text(), Some(if ends == "well" { "written" } else { "refused" }));
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_read_only_tool_gets_a_read_only_transaction<DB: TestDb>() {
    let pool = DB::pool().await;
    let script = ScriptedServer::new("numbers").with_read_only("read", |_| async {
        let refused = write::<DB>(1).await.expect_err("a read-only tool cannot write");
        Err(internal(refused))
    });
    let server = TransactionalTool::new(pool.clone()).only(["read"]).layer(script);
    let answer = server.call_tool("read", json!({}), &RequestContext::new()).await.expect("a tool's result");
    assert!(answer.first_text().is_some_and(|text| text.starts_with("The database refused a statement")));
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn tools_that_are_not_named_run_without_a_transaction<DB: TestDb>() {
    let pool = DB::pool().await;
    let script = ScriptedServer::new("numbers")
        .with_plain("write", |_| async { Ok(ToolResult::text("in")) })
        .with_plain("other", |_| async { write::<DB>(1).await.map(|()| ToolResult::text("in")).map_err(Into::into) });
    let server = TransactionalTool::new(pool).only(["write"]).layer(script);
    let answer = server.call_tool("other", json!({}), &RequestContext::new()).await.expect("a tool's result");
    assert_eq!(answer.first_text(), Some("No transaction is open here"));
    assert_eq!(answer.meta.expect("a kind")["io.turbomcp/errorData"], json!({"mcp-patterns/transaction": "none"}));
}

async fn a_cache_inside_a_transaction_does_not_share<DB: TestDb>() {
    let pool = DB::pool().await;
    let script = ScriptedServer::new("numbers").with_read_only("read", |_| async {
        crate::transactional::current::<DB>().await?;
        Ok(ToolResult::text("read in the transaction"))
    });
    let server = (TransactionalTool::new(pool).only(["read"]), CachedTool::new()).layer(script.clone());
    for _ in 0..2 {
        let answer = server.call_tool("read", json!({}), &RequestContext::new()).await.expect("a tool's result");
        assert_eq!(answer.first_text(), Some("read in the transaction"));
    }
    assert_eq!(script.calls("read"), 2);
}

async fn invalid_settings_are_found_when_the_layer_is_applied<DB: TestDb>() {
    let pool = DB::pool().await;
    let script = || ScriptedServer::new("numbers").with_plain("write", |_| async { Ok(ToolResult::text("")) });
    let text = |mistake: Option<ConfigError>| mistake.expect("a mistake").to_string();
    let layer = TransactionalTool::new(pool.clone());
    assert_eq!(
        text(layer.clone().try_layer(script()).err()),
        "TransactionalTool::new: no tool runs in a transaction yet: name them with `only`, or use `when` or `every_write`"
    );
    assert_eq!(
        text(layer.only(["writes"]).try_layer(script()).err()),
        "TransactionalTool names the tool `writes`, which the server does not have: did you mean `write`?"
    );
    let new = || Transactor::new(pool.clone());
    assert_eq!(new().check(), Ok(()));
    for (setting, transactor) in [
        ("with_timeout", new().with_timeout(Duration::ZERO)),
        ("with_timeout", new().with_timeout(Duration::from_nanos(1))),
        ("with_statement_timeout", new().with_statement_timeout(Duration::ZERO)),
        ("with_lock_timeout", new().with_lock_timeout(Duration::ZERO)),
        ("with_max_attempts", new().with_max_attempts(0)),
    ] {
        let refused = TransactionalTool::new(transactor.clone()).every_write().try_layer(script()).map(|_| ());
        assert_eq!(transactor.check(), refused.clone(), "outside a server too");
        assert!(text(refused.err()).starts_with(&format!("Transactor::{setting}: ")), "{setting}");
    }
}

#[tokio::test]
async fn an_answer_states_its_repeated_transactions_unless_the_layer_adds_no_meta() {
    let pool = Postgres::pool().await;
    let script = || {
        ScriptedServer::new("numbers").with_plain("write", |call| async move {
            write::<Postgres>(1).await?;
            let conflict = "do $$ begin raise exception 'x' using errcode = '40001'; end $$";
            if call.number < 3 {
                let mut db = crate::transactional::current::<Postgres>().await?;
                Postgres::execute(&mut db, conflict.into()).await.map_err(failed)?;
            }
            Ok(ToolResult::text("written"))
        })
    };
    let layer = TransactionalTool::new(pool.clone()).only(["write"]);
    let ctx = RequestContext::new();
    let answer = layer.clone().layer(script()).call_tool("write", json!({}), &ctx).await.expect("a tool's result");
    assert_eq!(answer.first_text(), Some("written"));
    assert_eq!(answer.meta.expect("a note")["mcp-patterns/transaction"], json!({"attempts": 3}));
    let answer = layer.without_meta().layer(script()).call_tool("write", json!({}), &ctx).await;
    assert_eq!(answer.expect("a tool's result"), ToolResult::text("written"));
    assert_eq!(numbers_at_rest(&pool).await, [1, 1]);
}

#[tokio::test]
async fn a_database_error_of_a_macro_tool_is_masked_and_rolled_back() {
    #[derive(Clone)]
    struct Numbers;

    #[server(name = "numbers", version = "1.0.0")]
    impl Numbers {
        /// Writes, and divides by zero.
        #[tool]
        async fn write(&self, n: i64) -> McpResult<String> {
            let mut db = crate::transactional::current::<Postgres>().await?;
            sqlx::query("insert into t values ($1)").bind(n).execute(&mut *db).await.map_err(failed)?;
            sqlx::query("select 1 / 0 as secret_column").execute(&mut *db).await.map_err(failed)?;
            Ok("written".into())
        }
    }

    let pool = Postgres::pool().await;
    let transactor = Transactor::new(pool.clone()).with_isolation(Isolation::RepeatableRead);
    let server = TransactionalTool::new(transactor).only(["write"]).layer(Numbers);
    let answer = server.call_tool("write", json!({"n": 1}), &RequestContext::new()).await.expect("a tool's result");
    let text = answer.first_text().expect("a sentence");
    assert!(text.starts_with("The database refused a statement (error ") && !text.contains("zero"), "{text}");
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}
