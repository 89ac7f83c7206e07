//! A cache inside the layer, or without it, never returns one session's answer to another.

#![cfg(feature = "cached")]

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;
use crate::{CachedTool, Scope};

/// A tool that reads its session, one that does not, and one that fails for a session without `name`.
fn library(store: &SessionStore) -> ScriptedServer {
    let by_store = store.clone();
    ScriptedServer::new("library")
        .with_read_only("name", |_| async {
            let name: Option<String> = Session::current()?.get("name").await?;
            name.map(ToolResult::text).ok_or_else(|| McpError::invalid_request("Name not found"))
        })
        .with_read_only("name_by_store", move |call| {
            let store = by_store.clone();
            async move {
                let name: Option<String> = store.of(&call.ctx)?.get("name").await?;
                Ok(ToolResult::text(name.unwrap_or_default()))
            }
        })
        .with_read_only("number", |call| async move { Ok(ToolResult::text(call.number.to_string())) })
}

async fn name(store: &SessionStore, ctx: &RequestContext, name: &str) {
    store.of(ctx).unwrap().set("name", name).await.unwrap();
}

async fn ask(server: &impl McpHandler, tool: &str, ctx: &RequestContext) -> String {
    text(&call(server, tool, json!({}), ctx).await)
}

#[tokio::test]
async fn a_result_of_a_tool_that_read_its_session_is_not_shared_with_another_session_of_the_same_principal() {
    for scope in [Scope::Principal, Scope::Public] {
        let store = memory();
        let script = library(&store);
        let server = (store.clone(), CachedTool::new().with_scope(scope)).layer(script.clone());
        let [one, two] = ["1", "2"].map(|id| user("ada").with_session_id(id));
        name(&store, &one, "Ada").await;
        name(&store, &two, "Countess").await;
        for tool in ["name", "name_by_store"] {
            for _ in 0..2 {
                assert_eq!(ask(&server, tool, &one).await, "Ada");
                assert_eq!(ask(&server, tool, &two).await, "Countess");
            }
        }
        name(&store, &one, "Augusta").await;
        assert_eq!(ask(&server, "name", &one).await, "Augusta", "nor kept for the same one");
    }
}

#[tokio::test]
async fn a_result_of_a_tool_that_did_not_read_its_session_is_shared() {
    let store = memory();
    let script = library(&store);
    let server = (store.clone(), CachedTool::new()).layer(script.clone());
    for id in ["1", "2", "3"] {
        assert_eq!(ask(&server, "number", &user("ada").with_session_id(id)).await, "1");
    }
    assert_eq!(ask(&server, "number", &user("bob").with_session_id("1")).await, "2");
    assert_eq!(script.calls("number"), 2);
}

#[tokio::test]
async fn a_result_of_a_tool_that_uses_the_store_itself_is_not_shared_either() {
    let store = memory().with_namespace("library");
    let server = CachedTool::new().layer(library(&store));
    let [one, two] = ["1", "2"].map(|id| user("ada").with_session_id(id));
    name(&store, &one, "Ada").await;
    name(&store, &two, "Countess").await;
    assert_eq!(ask(&server, "name_by_store", &one).await, "Ada");
    assert_eq!(ask(&server, "name_by_store", &two).await, "Countess");
}

#[tokio::test]
async fn a_failure_that_depends_on_a_session_is_not_shared_with_another_session() {
    let store = memory();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let script = ScriptedServer::new("library").with_read_only("name", move |_| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.expect("it stays").forget();
            let name: Option<String> = Session::current()?.get("name").await?;
            name.map(ToolResult::text).ok_or_else(|| McpError::invalid_request("Name not found"))
        }
    });
    let server = (store.clone(), CachedTool::new()).layer(script.clone());
    let [one, two] = ["1", "2"].map(|id| user("ada").with_session_id(id));
    name(&store, &two, "Countess").await;
    let calls = join_all([&one, &two].map(|ctx| call(&server, "name", json!({}), ctx)));
    let open = async {
        settle().await;
        gate.add_permits(2);
    };
    let (answers, ()) = futures_util::future::join(calls, open).await;
    assert_eq!(refused(&answers[0]).0, ErrorKind::InvalidRequest);
    assert_eq!(text(&answers[1]), "Countess");
    assert_eq!(script.calls("name"), 2);
}

/// 50 callers of each of 10 sessions make the same call concurrently.
#[tokio::test(start_paused = true)]
async fn waiting_callers_get_a_load_only_in_the_session_that_it_read() {
    let store = memory();
    let script = ScriptedServer::new("library").with_read_only("name", |_| async move {
        tokio::time::sleep(MINUTE / 60).await;
        let name: Option<String> = Session::current()?.get("name").await?;
        Ok(ToolResult::text(name.unwrap_or_default()))
    });
    let server = (store.clone(), CachedTool::new()).layer(script.clone());
    let sessions: Vec<_> = (0..10).map(|id| user("ada").with_session_id(id.to_string())).collect();
    for (id, ctx) in sessions.iter().enumerate() {
        name(&store, ctx, &id.to_string()).await;
    }
    let answers = join_all((0..500).map(|number| ask(&server, "name", &sessions[number % 10]))).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, (number % 10).to_string());
    }
    assert_eq!(
        script.calls("name"),
        1 + 450,
        "one session shares the load that it began, the others call for themselves"
    );
}

#[tokio::test]
async fn in_session_scope_a_result_that_depends_on_a_session_is_cached_for_that_session() {
    let store = memory();
    let script = library(&store);
    let server = (store.clone(), CachedTool::new().with_scope(Scope::Session)).layer(script.clone());
    let [one, two] = ["1", "2"].map(|id| user("ada").with_session_id(id));
    name(&store, &one, "Ada").await;
    name(&store, &two, "Countess").await;
    for _ in 0..3 {
        assert_eq!(ask(&server, "name", &one).await, "Ada");
        assert_eq!(ask(&server, "name", &two).await, "Countess");
    }
    assert_eq!(script.calls("name"), 2);
}

/// One connection may hold several handles: the connection is not the session.
#[tokio::test]
async fn in_session_scope_two_handles_of_one_connection_are_two_sessions() {
    let store = memory().with_mode(SessionMode::Handle);
    let script = library(&store);
    let server = (store.clone(), CachedTool::new().with_scope(Scope::Session)).layer(script.clone());
    for ctx in [user("ada").with_session_id("1"), user("ada")] {
        for who in ["Ada", "Countess"] {
            let session = store.open(&ctx).await.unwrap();
            session.set("name", who).await.unwrap();
            for _ in 0..2 {
                let args = json!({ "session": session.handle() });
                assert_eq!(text(&call(&server, "name", args, &ctx).await), who);
            }
        }
    }
    assert_eq!(script.calls("name"), 4);
}

#[tokio::test]
async fn an_outer_cache_stores_no_session_data_either() {
    let store = memory();
    let script = library(&store);
    let caches = (store.clone(), CachedTool::new(), CachedTool::new().with_scope(Scope::Session));
    let server = caches.layer(script.clone());
    let [one, two] = ["1", "2"].map(|id| user("ada").with_session_id(id));
    name(&store, &one, "Ada").await;
    name(&store, &two, "Countess").await;
    for _ in 0..2 {
        assert_eq!(ask(&server, "name", &one).await, "Ada");
        assert_eq!(ask(&server, "name", &two).await, "Countess");
    }
    assert_eq!(script.calls("name"), 2, "the inner one keeps it");
}
