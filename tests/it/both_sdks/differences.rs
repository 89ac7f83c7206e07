//! What is not the same in both columns. A difference that disappears fails its test, and the page on rmcp has the same list.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use ::rmcp::ServerHandler;
use mcp_patterns::cached::Reads;
use mcp_patterns::{BoxHandler, CachedTool, Layered, RmcpServer};
use serde_json::json;

use super::script::Script;
use super::{rmcp, status, text, turbomcp};

/// Each difference as the page names it, and its reason.
const DIFFERENCES: [(&str, &str); 6] = [
    ("the client's capabilities", "a tool of rmcp reads them from its peer, without a request that a layer could see"),
    // Not shown here: it is a matter of the timers of both SDKs, behind the sessions of these columns.
    (
        "progress of a question to the client",
        "rmcp resets the timeout at the peer that asks, which is the client's own",
    ),
    ("notifications that invalidate what `CachedTool` keeps", "a subscription of rmcp goes straight to the server"),
    ("warm-ups of `CachedTool`", "a warm-up is a call of no server of `around` in particular"),
    ("`boxed`", "a trait object of turbomcp's handler is no server of rmcp"),
    ("`cacheScope` and `ttlMs` of a resource", "results of turbomcp have no such fields"),
];

#[test]
fn the_page_on_rmcp_has_the_same_differences() {
    let page = include_str!("../../../docs/rmcp.md");
    let (_, table) = page.split_once("## What differs from TurboMCP").expect("the page has the list");
    let first = |row: &str| Some(row.strip_prefix("| ")?.split(" | ").next()?.to_owned());
    let rows: BTreeSet<_> =
        table.lines().filter_map(first).filter(|row| !row.starts_with("---") && !row.starts_with('|')).collect();
    let listed: BTreeSet<_> = DIFFERENCES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(rows, listed);
    assert!(DIFFERENCES.iter().all(|(_, reason)| !reason.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_by_the_capabilities_of_a_client_is_shared_with_rmcp_only() {
    let script = Script::new();
    let server = turbomcp::serve(&script, CachedTool::new());
    for _ in 0..2 {
        let _ = server.client("ada").await.call("capable", json!({})).await;
    }
    assert_eq!(script.calls("capable"), 2, "reading them is a question to this client");
    let script = Script::new();
    let server = rmcp::serve(&script, CachedTool::new());
    for _ in 0..2 {
        assert_eq!(text(&server.client("ada").await.call("capable", json!({})).await), "true at 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_to_a_subscriber_invalidates_with_turbomcp_only() {
    let cached = || CachedTool::new().with_resources(Reads::new());
    let script = Script::new();
    let client = turbomcp::serve(&script, cached()).client("ada").await;
    client.subscribe("note://a").await;
    let _ = client.read("note://a").await;
    script.notify_subscribers("note://a").await;
    let _ = client.read("note://a").await;
    assert_eq!(script.calls("note://a"), 2);
    let script = Script::new();
    let client = rmcp::serve(&script, cached()).client("ada").await;
    client.subscribe("note://a").await;
    let _ = client.read("note://a").await;
    script.notify_subscribers("note://a").await;
    let _ = client.read("note://a").await;
    assert_eq!(script.calls("note://a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_is_not_for_a_server_of_around() {
    let args = json!({"topic": "a"});
    let cached = || CachedTool::new().with_scope(mcp_patterns::Scope::Public);
    let layer = cached();
    let script = Script::new();
    let server = turbomcp::serve(&script, layer.clone());
    layer.handle().refresh("read", args.clone()).await.expect("the tool is cached");
    assert_eq!(status(&server.client("ada").await.call("read", args.clone()).await), "hit");
    let layer = cached();
    let server = rmcp::serve(&script, layer.clone());
    layer.handle().refresh("read", args.clone()).await.expect("the tool is cached");
    assert_eq!(status(&server.client("ada").await.call("read", args.clone()).await), "hit");
    assert_eq!(status(&server.around(&script).client("ada").await.call("read", args).await), "miss");
}

/// Says whether a type is a server of rmcp.
struct Probe<T>(PhantomData<T>);

impl<T: ServerHandler> Probe<T> {
    #[expect(clippy::unused_self, reason = "it hides the method of the trait")]
    fn is_server(&self) -> bool {
        true
    }
}

trait IsNone {
    fn is_server(&self) -> bool {
        false
    }
}

impl<T> IsNone for Probe<T> {}

#[test]
fn a_boxed_stack_is_no_server_of_rmcp() {
    assert!(Probe::<Layered<CachedTool, RmcpServer<rmcp::End>>>(PhantomData).is_server());
    assert!(!Probe::<BoxHandler>(PhantomData).is_server());
}

#[tokio::test(start_paused = true)]
async fn hints_for_the_caches_of_clients_exist_with_rmcp_only() {
    let script = Script::new();
    let cached = || CachedTool::new().with_resources(Reads::new());
    let server = turbomcp::serve(&script, cached());
    let read = server.client("ada").await.read("note://a").await.expect("a resource");
    let fields = serde_json::to_value(read).expect("JSON");
    assert!(fields.get("ttlMs").is_none() && fields.get("cacheScope").is_none(), "{fields}");
    let server = rmcp::serve(&script, cached());
    assert_eq!(server.client("ada").await.hints("note://a").await, Some(60_000));
}
