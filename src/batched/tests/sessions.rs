//! A batch never returns one session's answer to another.

use super::*;
use crate::session::{Session, SessionError, SessionMode};
use crate::{BatchedTool, Layer, Scope, SessionStore};

/// A tool that reads its session, and a tool that does not.
fn library() -> ScriptedServer {
    ScriptedServer::new("library")
        .with_read_only("name", |_| async {
            let name: Option<String> = Session::current()?.get("name").await?;
            name.map(ToolResult::text).ok_or_else(|| McpError::invalid_request("Name not found"))
        })
        .with_read_only("number", |call| async move { Ok(ToolResult::text(call.number.to_string())) })
}

fn batched() -> BatchedTool {
    BatchedTool::new().only(["name", "number"])
}

/// A connection of a user.
fn ada(connection: &str) -> RequestContext {
    user("ada").with_session_id(connection)
}

async fn name(store: &SessionStore, ctx: &RequestContext, name: &str) {
    store.of(ctx).expect("a session").set("name", name).await.expect("memory takes it");
}

async fn ask(server: &impl McpHandler, ctx: &RequestContext) -> String {
    text(&server.call_tool("name", json!({}), ctx).await).to_owned()
}

async fn ask_all(server: &impl McpHandler, callers: &[RequestContext]) -> Vec<String> {
    join_all(callers.iter().map(|ctx| ask(server, ctx))).await
}

#[tokio::test(start_paused = true)]
async fn a_batched_tool_finds_its_session() {
    let store = SessionStore::in_memory();
    let server = (store.clone(), batched()).layer(library());
    name(&store, &ada("1"), "Ada").await;
    assert_eq!(ask(&server, &ada("1")).await, "Ada");
}

#[tokio::test(start_paused = true)]
async fn callers_who_share_a_call_do_not_share_the_data_of_a_session() {
    let store = SessionStore::in_memory();
    let script = library();
    let server = (store.clone(), batched()).layer(script.clone());
    let callers: Vec<_> = (0..50).map(|number| ada(&(number % 10).to_string())).collect();
    for (id, ctx) in callers[..10].iter().enumerate() {
        name(&store, ctx, &id.to_string()).await;
    }
    for (number, answer) in ask_all(&server, &callers).await.into_iter().enumerate() {
        assert_eq!(answer, (number % 10).to_string());
    }
    assert_eq!(script.calls("name"), 10, "those of one session share a call");
}

/// One of them has no name and gets that answer; the other has one.
#[tokio::test(start_paused = true)]
async fn a_failure_that_depends_on_a_session_is_not_shared_with_other_sessions() {
    let store = SessionStore::in_memory();
    let server = (store.clone(), batched()).layer(library());
    name(&store, &ada("2"), "Countess").await;
    let callers = [ada("1"), ada("2")];
    let answers = join_all(callers.iter().map(|ctx| server.call_tool("name", json!({}), ctx))).await;
    assert_eq!(failed(&answers[0]), (Some(ErrorKind::InvalidRequest), "Name not found".into()));
    assert_eq!(text(&answers[1]), "Countess");
}

#[tokio::test(start_paused = true)]
async fn two_handles_of_one_connection_are_two_sessions() {
    let store = SessionStore::in_memory().with_mode(SessionMode::Handle);
    let script = library();
    let server = (store.clone(), batched()).layer(script.clone());
    let ctx = ada("1");
    let mut sessions = Vec::new();
    for name in ["Ada", "Countess"] {
        let session = store.open(&ctx).await.expect("memory takes it");
        session.set("name", name).await.expect("memory takes it");
        sessions.push(json!({ "session": session.handle() }));
    }
    let answers = join_all(sessions.into_iter().map(|session| server.call_tool("name", session, &ctx))).await;
    assert_eq!(answers.iter().map(text).collect::<Vec<_>>(), ["Ada", "Countess"]);
    assert!(answers.iter().all(|answer| size(answer) == Some(2)), "they travelled together");
    assert_eq!(script.calls("name"), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_that_open_no_session_share_one_also_across_sessions() {
    let script = library();
    let server = (SessionStore::in_memory(), batched()).layer(script.clone());
    let callers = ["1", "2", "3"].map(ada);
    let answers = join_all(callers.iter().map(|ctx| server.call_tool("number", json!({}), ctx))).await;
    assert_eq!(answers.iter().map(text).collect::<Vec<_>>(), ["1"; 3]);
    assert_eq!(script.calls("number"), 1);
}

/// The scope has no session, but the store finds the session of each call.
fn names(store: &SessionStore) -> BatchedTool {
    let store = store.clone();
    BatchedTool::new().with_bulk("name", move |calls| {
        let store = store.clone();
        async move {
            assert!(matches!(Session::current(), Err(SessionError::NoLayer)));
            let names = calls.iter().map(async |call| {
                let name: Option<String> = store.of(&call.ctx)?.get("name").await?;
                name.ok_or_else(|| McpError::invalid_request("Name not found"))
            });
            join_all(names).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_bulk_function_finds_the_session_of_each_call_through_the_store() {
    let store = SessionStore::in_memory();
    let script = library();
    let server = (store.clone(), names(&store)).layer(script.clone());
    let callers = ["1", "2"].map(ada);
    name(&store, &callers[0], "Ada").await;
    name(&store, &callers[1], "Countess").await;
    assert_eq!(ask_all(&server, &callers).await, ["Ada", "Countess"]);
    assert_eq!(script.calls("name"), 0);
}

#[cfg(feature = "cached")]
#[tokio::test(start_paused = true)]
async fn an_outer_cache_stores_no_answer_that_used_a_session() {
    for has_bulk in [false, true] {
        let store = SessionStore::in_memory().with_namespace("library");
        let batched = if has_bulk { names(&store) } else { batched() };
        let cached = crate::CachedTool::new().with_scope(Scope::Principal);
        let server = (store.clone(), cached, batched).layer(library());
        let callers = ["1", "2"].map(ada);
        name(&store, &callers[0], "Ada").await;
        name(&store, &callers[1], "Countess").await;
        for _ in 0..2 {
            assert_eq!(ask_all(&server, &callers).await, ["Ada", "Countess"], "bulk: {has_bulk}");
        }
        name(&store, &callers[0], "Augusta").await;
        assert_eq!(ask(&server, &callers[0]).await, "Augusta", "bulk: {has_bulk}");
    }
}

/// Each of two caches is around one of two callers who share a call, so one cache has not seen the call.
#[cfg(feature = "cached")]
#[tokio::test(start_paused = true)]
async fn an_outer_cache_of_a_caller_who_joined_the_call_stores_no_answer_that_used_a_session_either() {
    let (store, script, batched) = (SessionStore::in_memory(), library(), batched());
    let servers = [(); 2].map(|()| (store.clone(), crate::CachedTool::new(), batched.clone()).layer(script.clone()));
    let ctx = ada("1");
    name(&store, &ctx, "Ada").await;
    assert_eq!(join_all(servers.iter().map(|server| ask(server, &ctx))).await, ["Ada", "Ada"]);
    assert_eq!(script.calls("name"), 1);
    name(&store, &ctx, "Augusta").await;
    for server in &servers {
        assert_eq!(ask(server, &ctx).await, "Augusta");
    }
}

/// How a bulk function ends if a value is missing in the session of a call.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Fails,
    Panics,
    IsShort,
    Hangs,
}

/// Fails the whole batch if one of the sessions has no name.
fn names_or_none(store: &SessionStore, ends: Ends) -> BatchedTool {
    let store = store.clone();
    let layer = BatchedTool::new().with_batch_timeout(Duration::from_secs(1));
    layer.with_bulk("name", move |calls| {
        let store = store.clone();
        async move {
            let mut names = Vec::new();
            for call in &calls {
                match store.of(&call.ctx)?.get::<String>("name").await? {
                    Some(name) => names.push(Ok(name)),
                    None => match ends {
                        Ends::Fails => return Err(McpError::invalid_request("Name not found")),
                        Ends::Panics => panic!("no name"),
                        Ends::IsShort => return Ok(Vec::new()),
                        Ends::Hangs => std::future::pending().await,
                    },
                }
            }
            Ok(names)
        }
    })
}

/// Both wait for one load of the cache, which one of them started.
#[cfg(feature = "cached")]
#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_after_using_a_session_fails_no_caller_of_another_session() {
    for (ends, kind) in [
        (Ends::Fails, ErrorKind::InvalidRequest),
        (Ends::Panics, ErrorKind::Internal),
        (Ends::IsShort, ErrorKind::Internal),
        (Ends::Hangs, ErrorKind::Timeout),
    ] {
        let store = SessionStore::in_memory();
        let server = (store.clone(), crate::CachedTool::new(), names_or_none(&store, ends)).layer(library());
        let callers = ["1", "2"].map(ada);
        name(&store, &callers[1], "Countess").await;
        let answers = join_all(callers.iter().map(|ctx| server.call_tool("name", json!({}), ctx))).await;
        assert_eq!(failed(&answers[0]).0, Some(kind), "{ends:?}");
        assert_eq!(text(&answers[1]), "Countess", "{ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_depends_on_a_session_is_not_shared_with_other_sessions() {
    let store = SessionStore::in_memory();
    let script = ScriptedServer::new("library").with_read_only("name", |_| async {
        let name: Option<String> = Session::current()?.get("name").await?;
        Ok(ToolResult::text(name.expect("a name")))
    });
    let server = (store.clone(), BatchedTool::new().only(["name"])).layer(script.clone());
    name(&store, &ada("2"), "Countess").await;
    let callers = ["1", "2", "1"].map(ada);
    let answers = join_all(callers.iter().map(|ctx| server.call_tool("name", json!({}), ctx))).await;
    assert_eq!(failed(&answers[0]).0, Some(ErrorKind::Internal));
    assert_eq!(text(&answers[1]), "Countess");
    assert_eq!(failed(&answers[2]).0, Some(ErrorKind::Internal));
    assert_eq!(script.calls("name"), 2, "those of one session share it");
}
