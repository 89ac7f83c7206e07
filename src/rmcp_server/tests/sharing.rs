//! Who shares an answer.

use std::sync::{Arc, OnceLock};

use http::request::Parts;
use rmcp::model::{CallToolResponse, RequestId};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};

use super::server::{Client, Tools, request, text, until};
use crate::idempotent::MemoryBackend;
use crate::rmcp_server::{Principal, RmcpServer, RmcpStack};
use crate::session::SessionMode;
use crate::{CachedTool, IdempotentTool, Identity, Layer, Scope, SessionStore};

/// Calls a tool as a transport of HTTP would, with these headers.
async fn call<S: RmcpStack + ServerHandler>(
    stack: &S,
    peer: &Peer,
    headers: &[(&str, &str)],
    tool: &'static str,
    args: Value,
) -> Result<rmcp::model::CallToolResult, rmcp::ErrorData> {
    let mut builder = http::Request::builder();
    for (name, value) in headers {
        builder = builder.header(*name, value.as_bytes());
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    let mut ctx = peer.context();
    ctx.extensions.insert::<Parts>(parts);
    match ServerHandler::call_tool(stack, request(tool, args), ctx).await? {
        CallToolResponse::Complete(result) => Ok(result),
        other => panic!("not complete: {other:?}"),
    }
}

/// The server's end of a connection with a client.
pub(super) struct Peer {
    _client: Client,
    peer: rmcp::Peer<RoleServer>,
}

impl Peer {
    pub(super) async fn connect() -> Self {
        #[derive(Clone)]
        struct Keeping(Arc<OnceLock<rmcp::Peer<RoleServer>>>);
        impl ServerHandler for Keeping {
            async fn on_initialized(&self, ctx: NotificationContext<RoleServer>) {
                let _ = self.0.set(ctx.peer);
            }
        }
        let keeping = Keeping(Arc::default());
        let client = Client::connect(&keeping, "Ada").await;
        until(|| keeping.0.get().is_some()).await;
        Self { _client: client, peer: keeping.0.get().cloned().unwrap() }
    }

    /// The context of a request of this client.
    pub(super) fn context(&self) -> RequestContext<RoleServer> {
        RequestContext::new(RequestId::Number(1), self.peer.clone())
    }
}

const ADA: (&str, &str) = ("authorization", "Bearer ada");
const BOB: (&str, &str) = ("authorization", "Bearer bob");
/// A header that HTTP allows, and that is no visible ASCII.
const NO_TEXT: (&str, &str) = ("authorization", "Bearer añil");

#[tokio::test]
async fn nothing_is_shared_while_credentials_are_not_read() {
    let peer = Peer::connect().await;
    let tools = Tools::new();
    let not_understood = || RmcpServer::new(tools.clone()).with_principal(|_| None);
    for (scope, server) in [
        (Scope::Principal, RmcpServer::new(tools.clone())),
        (Scope::Session, RmcpServer::new(tools.clone())),
        (Scope::Principal, not_understood()),
        (Scope::Session, not_understood()),
    ] {
        let stack = CachedTool::new().with_scope(scope).layer(server);
        for user in [ADA, BOB, ADA, NO_TEXT, NO_TEXT] {
            let headers = [user, ("mcp-session-id", "one")];
            let before = tools.seen.calls();
            call(&stack, &peer, &headers, "weather", json!({"city": "Paris"})).await.unwrap();
            assert_eq!(tools.seen.calls(), before + 1);
        }
    }
}

#[tokio::test]
async fn keys_and_sessions_of_a_user_are_refused_while_credentials_are_not_read() {
    let peer = Peer::connect().await;
    let tools = Tools::new();
    let stack = (
        SessionStore::in_memory().with_mode(SessionMode::Principal).only(["weather"]),
        IdempotentTool::new(MemoryBackend::new()).only(["write"]),
    )
        .layer(RmcpServer::new(tools.clone()));
    let key = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    for (tool, args) in
        [("write", json!({"city": "Paris", "idempotency_key": key})), ("weather", json!({"city": "Paris"}))]
    {
        let refused = match call(&stack, &peer, &[ADA], tool, args).await {
            Ok(result) => text(&result),
            Err(error) => error.message.into_owned(),
        };
        assert!(refused.contains("set `RmcpServer::with_principal`"), "{refused}");
    }
    assert_eq!(tools.seen.calls(), 0);
}

fn reading(tools: &Tools) -> RmcpServer<Tools> {
    RmcpServer::new(tools.clone()).with_principal(|ctx| {
        let token = ctx.extensions.get::<Parts>()?.headers.get("authorization")?.to_str().ok()?;
        Some(Principal::new(token.strip_prefix("Bearer ")?))
    })
}

#[tokio::test]
async fn each_user_has_answers_keys_and_sessions_of_its_own() {
    let peer = Peer::connect().await;
    let tools = Tools::new();
    let stack = (CachedTool::new(), IdempotentTool::new(MemoryBackend::new()).only(["write"])).layer(reading(&tools));
    let key = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    let mut answers = Vec::new();
    for user in [ADA, BOB, ADA, BOB] {
        let weather = call(&stack, &peer, &[user], "weather", json!({"city": "Paris"})).await.unwrap();
        let write = json!({"city": "Rome", "idempotency_key": key});
        let written = call(&stack, &peer, &[user], "write", write).await.unwrap();
        answers.push((text(&weather), text(&written)));
    }
    assert_eq!(answers[0], ("Paris: 1 by only".into(), "Rome written: 2".into()));
    assert_eq!(answers[1], ("Paris: 3 by only".into(), "Rome written: 4".into()));
    assert_eq!(answers[2..], answers[..2]);
}

#[tokio::test]
async fn two_connections_have_two_sessions() {
    let tools = Tools::new();
    let stack = CachedTool::new().with_scope(Scope::Session).layer(RmcpServer::new(tools.clone()));
    let (ada, bob) = (Client::connect(&stack, "Ada").await, Client::connect(&stack, "Bob").await);
    for _ in 0..2 {
        assert_eq!(ada.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by only");
        assert_eq!(bob.text("weather", json!({"city": "Paris"})).await, "Paris: 2 by only");
    }
}

#[tokio::test]
async fn two_instances_of_one_factory_share_no_answer() {
    let stack = CachedTool::new().with_scope(Scope::Public).layer(RmcpServer::new(Tools::named("first")));
    let (one, other) = (stack.around(Tools::named("one")), stack.around(Tools::named("other")));
    let (ada, bob) = (Client::connect(&one, "Ada").await, Client::connect(&other, "Bob").await);
    for _ in 0..2 {
        assert_eq!(ada.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by one");
        assert_eq!(bob.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by other");
    }
    let first = Client::connect(&stack, "Cleo").await;
    assert_eq!(first.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by first");
}

#[tokio::test]
async fn a_partition_of_the_users_own_needs_no_principal() {
    let peer = Peer::connect().await;
    let tools = Tools::new();
    let identity = Identity::new().with_partition(|ctx| ctx.header("authorization").map(str::to_owned));
    let stack = CachedTool::new().with_identity(identity).layer(RmcpServer::new(tools.clone()));
    for (user, count) in [(ADA, 1), (BOB, 2), (ADA, 1), (BOB, 2)] {
        let answer = call(&stack, &peer, &[user], "weather", json!({"city": "Paris"})).await.unwrap();
        assert_eq!(text(&answer), format!("Paris: {count} by only"));
    }
}
