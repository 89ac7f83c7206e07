//! One caller fills everything that is bounded, on three connections. The test checks the effect on the others.

use std::future::ready;

use futures_util::future::join_all;
use mcp_patterns::idempotent;
use mcp_patterns::outcome;
use mcp_patterns::retry::Budget;
use mcp_patterns::session::{MemoryBackend, Session, SessionMode};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{BatchedTool, IdempotentTool, Layer, RetryTool, SessionStore};
use serde_json::{Value, json};
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpError, McpHandler, RequestContext};
use turbomcp_types::ToolResult;

/// A server on which every call of Mallory fails, and the exchange of other callers sometimes.
fn bank() -> ScriptedServer {
    ScriptedServer::new("bank")
        .with_plain("pay", |call| {
            let fails = call.ctx.subject() == Some("mallory");
            ready(if fails {
                Ok(ToolResult::error("no such account"))
            } else {
                Ok(ToolResult::text(format!("paid {}", call.number)))
            })
        })
        .with_plain("remember", |call| async move {
            let known: Option<Value> = Session::current()?.get("basket").await?;
            Session::current()?.set("basket", &call.args["basket"]).await?;
            Ok(ToolResult::text(known.map_or_else(|| "nothing".to_owned(), |known| known.to_string())))
        })
        .with_read_only("rate", |call| {
            let fails = call.ctx.subject() == Some("mallory") || call.args["try"] == "first" && call.number % 2 == 1;
            ready(if fails { Err(McpError::unavailable("the exchange is busy")) } else { Ok(ToolResult::text("1.08")) })
        })
        .with_read_only("balance", |call| ready(Ok(ToolResult::text(call.args["account"].to_string()))))
}

fn whole(bank: &ScriptedServer) -> impl McpHandler + use<> {
    let sessions = MemoryBackend::new().with_max_sessions(64);
    (
        SessionStore::new(sessions).with_mode(SessionMode::Handle).only(["remember"]),
        BatchedTool::new().only(["balance"]).with_max_queue(16).with_max_in_flight(1),
        RetryTool::new().with_budget(Budget::new().with_burst(200).with_ratio(0.0).with_retries_per_second(0.0)),
        IdempotentTool::new(idempotent::MemoryBackend::new().with_max_records(64)).only(["pay"]),
    )
        .layer(bank.clone())
}

fn on(connection: &str) -> RequestContext {
    RequestContext::new().with_session_id(connection)
}

fn user(name: &str, tenant: &str, connection: &str) -> RequestContext {
    on(connection).with_principal(Principal::new(name).with_claim("tid", json!(tenant)))
}

async fn call(server: &impl McpHandler, tool: &str, args: Value, ctx: &RequestContext) -> Result<String, String> {
    let answer = server.call_tool(tool, args, ctx).await;
    match outcome::failure(&answer) {
        Some(failure) => Err(failure.message().to_owned()),
        None => Ok(answer.expect("no failure").first_text().unwrap_or_default().to_owned()),
    }
}

/// All data that a caller has on the server, and must keep.
struct Held {
    ctx: RequestContext,
    session: String,
    paid: String,
}

async fn settle_in(server: &impl McpHandler, ctx: RequestContext, key: &str) -> Held {
    let session = call(server, "open_session", json!({}), &ctx).await.expect("there is room");
    let basket = json!({ "session": session, "basket": "tea" });
    call(server, "remember", basket, &ctx).await.expect("it is kept");
    let paid = call(server, "pay", json!({ "idempotency_key": key }), &ctx).await.expect("it is paid");
    Held { ctx, session, paid }
}

async fn does_what_fills(server: &impl McpHandler, who: impl Fn(usize) -> RequestContext, name: &str) {
    let calls = (0..200).map(|number| {
        let (server, ctx) = (server.clone(), who(number % 3));
        let key = format!("{name}-{number}");
        async move {
            let _ = call(&server, "open_session", json!({}), &ctx).await;
            let _ = call(&server, "pay", json!({ "idempotency_key": key }), &ctx).await;
            let _ = call(&server, "rate", json!({}), &ctx).await;
            let _ = call(&server, "balance", json!({ "account": number }), &ctx).await;
        }
    });
    join_all(calls).await;
}

async fn nothing_is_missing(server: &impl McpHandler, held: &Held, key: &str) {
    let Held { ctx, session, paid } = held;
    let who = format!("{:?} on {:?}", ctx.subject(), ctx.session_id());
    let again = call(server, "pay", json!({ "idempotency_key": key }), ctx).await;
    assert_eq!(again.as_ref(), Ok(paid), "the answer of {who}");
    let basket = call(server, "remember", json!({ "session": session, "basket": "tea" }), ctx).await;
    assert_eq!(basket.as_deref(), Ok("\"tea\""), "the session of {who}");
}

async fn there_is_room(server: &impl McpHandler, ctx: &RequestContext, key: &str) {
    let who = format!("{:?} on {:?}", ctx.subject(), ctx.session_id());
    call(server, "pay", json!({ "idempotency_key": key }), ctx)
        .await
        .unwrap_or_else(|error| panic!("a key of {who}: {error}"));
    call(server, "open_session", json!({}), ctx).await.unwrap_or_else(|error| panic!("a session of {who}: {error}"));
    let balance = call(server, "balance", json!({ "account": 1 }), ctx).await;
    assert_eq!(balance.as_deref(), Ok("1"), "a place in a batch of {who}");
    // The exchange fails on every second first attempt.
    for _ in 0..2 {
        let rate = call(server, "rate", json!({ "try": "first" }), ctx).await;
        assert_eq!(rate.as_deref(), Ok("1.08"), "a retry of {who}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_one_caller_fills_others_keep_their_data_and_find_room() {
    let bank = bank();
    let server = whole(&bank);
    let ada = settle_in(&server, user("ada", "acme", "1"), "rent").await;
    let other_ada = settle_in(&server, user("ada", "globex", "2"), "rent").await;
    let nobody = settle_in(&server, on("3"), "rent").await;

    does_what_fills(&server, |number| user("mallory", "acme", &format!("mallory {number}")), "mallory").await;
    does_what_fills(&server, |number| on(&format!("stranger {number}")), "stranger").await;

    for held in [&ada, &other_ada, &nobody] {
        nothing_is_missing(&server, held, "rent").await;
    }
    assert_ne!(ada.paid, other_ada.paid, "one user in two tenants is two callers");
    for ctx in [user("ada", "acme", "4"), user("ada", "globex", "5"), user("bob", "acme", "6")] {
        there_is_room(&server, &ctx, "another").await;
    }
}
