//! Calls that ask a client: their result is for one connection only.

use std::sync::Mutex;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};
use turbomcp_core::McpError;

use super::resources::{BOTH, Shelf, both, try_get};
use super::*;
use crate::cached::MemoryLevel;
use crate::testing::Traced;
use crate::testing::client::{Client, ask_by, ask_name};
use crate::{CachedTool, Layer, RetryTool, Scope};

/// A server whose tool `read` takes a minute and then asks for a name.
fn asking() -> ScriptedServer {
    ScriptedServer::new("library").with_read_only("read", |call| async move {
        sleep(MINUTE).await;
        Ok(ToolResult::text(ask_name(&call.ctx).await?))
    })
}

async fn result(server: &impl McpHandler, ctx: &RequestContext) -> McpResult<ToolResult> {
    server.call_tool("read", json!({}), ctx).await
}

fn spawned(server: &impl McpHandler, ctx: RequestContext) -> JoinHandle<McpResult<ToolResult>> {
    let server = server.clone();
    tokio::spawn(async move { result(&server, &ctx).await })
}

async fn texts(callers: Vec<JoinHandle<McpResult<ToolResult>>>) -> Vec<String> {
    join_all(callers).await.into_iter().map(|answer| text(&answer.expect("no panic").expect("an answer"))).collect()
}

#[tokio::test(start_paused = true)]
async fn each_caller_of_a_call_that_asks_its_client_is_asked_by_its_own_call() {
    for scope in [Scope::Principal, Scope::Public] {
        let script = asking();
        let server = CachedTool::new().with_scope(scope).layer(script.clone());
        let names = ["laptop", "phone", "tablet"];
        let clients = names.map(Client::new);
        let callers = clients.iter().map(|client| spawned(&server, client.ctx("ada"))).collect();
        assert_eq!(texts(callers).await, names, "{scope:?}");
        assert!(clients.iter().all(|client| client.asked().len() == 1), "{scope:?}");
        assert_eq!(script.calls("read"), 3, "as many as without the layer");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_depends_on_a_client_is_never_cached() {
    for way in ["elicit", "sample", "roots", "capabilities", "version", "by itself"] {
        let script = ScriptedServer::new("library")
            .with_read_only("read", move |call| async move { Ok(ToolResult::text(ask_by(way, &call.ctx).await?)) });
        let layer = CachedTool::new();
        let handle = layer.handle();
        let server = layer.layer(script.clone());
        let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
        for client in [&laptop, &phone, &laptop] {
            let answer = text(&result(&server, &client.ctx("ada")).await.expect("an answer"));
            assert_eq!(answer, ask_by(way, &client.ctx("ada")).await.expect("an answer"), "{way}");
        }
        assert_eq!((script.calls("read"), handle.stats().entries), (3, 0), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_from_a_task_of_the_tool_counts_too() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        let name = tokio::spawn(async move { ask_name(&call.ctx).await });
        Ok(ToolResult::text(name.await.map_err(|_| McpError::internal("lost"))??))
    });
    let server = CachedTool::new().layer(script.clone());
    let clients = ["laptop", "phone"].map(Client::new);
    let callers = clients.iter().map(|client| spawned(&server, client.ctx("ada"))).collect();
    assert_eq!(texts(callers).await, ["laptop", "phone"]);
    assert_eq!(text(&result(&server, &clients[1].ctx("ada")).await.expect("an answer")), "phone");
    assert_eq!(script.calls("read"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_not_answered_delays_no_other_caller() {
    let script = asking();
    let server = CachedTool::new().layer(script.clone());
    let (laptop, phone) = (Client::thinking("laptop"), Client::new("phone"));
    let first = spawned(&server, laptop.ctx("ada"));
    settle().await;
    let second = spawned(&server, phone.ctx("ada"));
    assert_eq!(texts(vec![second]).await, ["phone"]);
    assert_eq!(text(&result(&server, &phone.ctx("ada")).await.expect("an answer")), "phone");
    laptop.answer();
    assert_eq!(texts(vec![first]).await, ["laptop"]);
    assert_eq!((laptop.asked().len(), script.calls("read")), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_be_asked_fails_only_its_own_call() {
    for (one, other) in [("shy", "laptop"), ("laptop", "shy"), ("nobody", "laptop"), ("laptop", "nobody")] {
        let server = (CachedTool::new(), RetryTool::new()).layer(asking());
        let ctx = |name| match name {
            "nobody" => user("ada"),
            "shy" => Client::shy(name).ctx("ada"),
            _ => Client::new(name).ctx("ada"),
        };
        let callers = [one, other].map(|name| spawned(&server, ctx(name)));
        for (answer, name) in join_all(callers).await.into_iter().zip([one, other]) {
            let answer = answer.expect("no panic");
            match name {
                "laptop" => assert_eq!(text(&answer.expect("an answer")), "laptop"),
                _ => assert_eq!(failed(&answer).0, Some(ErrorKind::CapabilityNotSupported), "{name}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_left_is_not_asked_and_a_waiting_caller_is() {
    let refused = Arc::new(Mutex::new(None));
    let script = ScriptedServer::new("library").with_read_only("read", {
        let refused = Arc::clone(&refused);
        move |call| {
            let refused = Arc::clone(&refused);
            async move {
                sleep(MINUTE).await;
                // In its own task, so that the refusal is recorded although no caller waits for it.
                let asked = tokio::spawn(async move { ask_name(&call.ctx).await }).await;
                let name = asked.map_err(|_| McpError::internal("lost"))?;
                if let Err(error) = &name {
                    *refused.lock().expect("no panic") = Some(error.kind);
                }
                Ok(ToolResult::text(name?))
            }
        }
    });
    let server = CachedTool::new().layer(script.clone());
    let token = Token::default();
    for leaves in ["is dropped", "is cancelled"] {
        let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
        let leaving = spawned(&server, laptop.ctx("ada").with_cancellation_token(Arc::new(token.clone())));
        settle().await;
        let staying = spawned(&server, phone.ctx("ada"));
        settle().await;
        if leaves == "is dropped" {
            leaving.abort();
        } else {
            token.cancel();
        }
        assert_eq!(texts(vec![staying]).await, ["phone"], "{leaves}");
        assert_eq!(laptop.asked(), [""; 0], "who {leaves}");
    }
    assert_eq!(script.calls("read"), 4);
}

#[tokio::test(start_paused = true)]
async fn the_caller_who_started_a_load_does_not_cancel_it_for_the_others() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        sleep(MINUTE).await;
        if call.ctx.is_cancelled() {
            Err(McpError::cancelled("it is told to end"))
        } else {
            Ok(ToolResult::text("a book"))
        }
    });
    let server = CachedTool::new().layer(script.clone());
    for leaves in ["is dropped", "is cancelled"] {
        let (laptop, phone, token) = (Client::new("laptop"), Client::new("phone"), Token::default());
        let leaving = spawned(&server, laptop.ctx(leaves).with_cancellation_token(Arc::new(token.clone())));
        settle().await;
        let staying = spawned(&server, phone.ctx(leaves));
        settle().await;
        if leaves == "is dropped" {
            leaving.abort();
        } else {
            token.cancel();
        }
        assert_eq!(texts(vec![staying]).await, ["a book"], "who {leaves}");
    }
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_its_client_answers_ends_the_call() {
    let seen = Arc::new(Mutex::new(None));
    let script = ScriptedServer::new("library").with_read_only("read", {
        let seen = Arc::clone(&seen);
        move |call| {
            *seen.lock().expect("no panic") = Some(call.ctx.clone());
            async move { Ok(ToolResult::text(ask_name(&call.ctx).await?)) }
        }
    });
    let server = CachedTool::new().layer(script);
    let token = Token::default();
    let laptop = Client::thinking("laptop");
    let leaving = spawned(&server, laptop.ctx("ada").with_cancellation_token(Arc::new(token.clone())));
    settle().await;
    let ctx = seen.lock().expect("no panic").take().expect("the tool was called");
    assert!(!ctx.is_cancelled());
    token.cancel();
    assert_eq!(failed(&leaving.await.expect("no panic")).0, Some(ErrorKind::Cancelled));
    assert!(ctx.is_cancelled(), "what the tool has spawned is told");
}

#[tokio::test(start_paused = true)]
async fn a_question_after_the_call_does_not_change_the_cached_answer() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::spawn(async move {
            sleep(MINUTE).await;
            ask_name(&call.ctx).await
        });
        Ok(ToolResult::text("a book"))
    });
    let server = CachedTool::new().layer(script.clone());
    let laptop = Client::new("laptop");
    assert_eq!(text(&result(&server, &laptop.ctx("ada")).await.expect("an answer")), "a book");
    sleep(2 * MINUTE).await;
    assert_eq!(laptop.asked().len(), 1, "the connection is still there");
    result(&server, &laptop.ctx("ada")).await.expect("an answer");
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_of_a_resource_or_a_prompt_is_for_one_connection_too() {
    for what in BOTH {
        let shelf = Shelf::new(|ask| async move {
            sleep(MINUTE).await;
            ask_name(&ask.ctx).await
        });
        let server = shelf.with(both());
        let names = ["laptop", "phone", "tablet"];
        let clients = names.map(Client::new);
        let callers = clients.iter().map(|client| {
            let (server, ctx) = (server.clone(), client.ctx("ada"));
            async move { try_get(&server, what, "one", &ctx).await.expect("an answer") }
        });
        assert_eq!(join_all(callers).await, names, "{what:?}");
        assert_eq!(try_get(&server, what, "one", &clients[1].ctx("ada")).await.expect("an answer"), "phone");
        assert_eq!(shelf.asked(), 4, "{what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_asks_is_not_in_the_second_level_and_no_replica_waits_for_it() {
    let level = MemoryLevel::new();
    let layer = || CachedTool::new().with_second_level(level.clone()).with_lease(60 * MINUTE);
    let (here, there) = (layer(), layer());
    let handle = here.handle();
    let (here, there) = (here.layer(asking()), there.layer(asking()));
    let (laptop, phone) = (Client::thinking("laptop"), Client::new("phone"));
    let first = spawned(&here, laptop.ctx("ada"));
    sleep(2 * MINUTE).await;
    let began = tokio::time::Instant::now();
    assert_eq!(text(&result(&there, &phone.ctx("ada")).await.expect("an answer")), "phone");
    assert!(began.elapsed() < 2 * MINUTE, "on a paused clock: {:?}", began.elapsed());
    laptop.answer();
    assert_eq!(texts(vec![first]).await, ["laptop"]);
    settle().await;
    assert_eq!(handle.stats().second_level.expect("there is one").puts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_cannot_ask_and_a_caller_who_waits_for_it_is_asked() {
    let layer = CachedTool::new().with_scope(Scope::Public);
    let handle = layer.handle();
    let server = layer.layer(asking());
    let laptop = Client::new("laptop");
    let warming = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.warm([("read", json!({}))], 1).await })
    };
    settle().await;
    let caller = spawned(&server, laptop.ctx("ada"));
    let warmed = warming.await.expect("no panic").expect("a server");
    assert_eq!((warmed.loaded, warmed.failed.len()), (0, 1));
    let expected = "Capability not supported: a client for its capabilities, since the caller has no session";
    assert_eq!(warmed.failed[0].error, expected);
    assert_eq!(handle.refresh("read", json!({})).await, Ok(false));
    assert_eq!(texts(vec![caller]).await, ["laptop"]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_reports_an_answer_that_depends_on_a_missing_client() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        Ok(ToolResult::text(ask_name(&call.ctx).await.unwrap_or_else(|_| "nobody".into())))
    });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let _server = layer.layer(script);
    let warmed = handle.warm([("read", json!({}))], 1).await.expect("a server");
    assert_eq!((warmed.loaded, handle.stats().entries), (0, 0));
    let reason = "the answer depends on a client or a session, so it is not kept";
    assert_eq!(warmed.failed[0].error, reason);
    let traced = Traced::start();
    assert_eq!(handle.refresh("read", json!({})).await, Ok(false));
    assert!(traced.text().contains(reason), "{}", traced.text());
}

/// A server whose tool `read` asks in every call but the first.
fn asking_later() -> ScriptedServer {
    ScriptedServer::new("library").with_read_only("read", |call| async move {
        Ok(ToolResult::text(if call.number == 1 { "a book".into() } else { ask_name(&call.ctx).await? }))
    })
}

#[tokio::test(start_paused = true)]
async fn a_background_refresh_asks_no_client_and_drops_the_value_of_a_tool_that_would_ask() {
    let script = asking_later();
    let layer = CachedTool::new().with_ttl(MINUTE).with_stale_while_revalidate(60 * MINUTE);
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    let laptop = Client::new("laptop");
    for _ in 0..2 {
        assert_eq!(text(&result(&server, &laptop.ctx("ada")).await.expect("an answer")), "a book");
        advance(2 * MINUTE).await;
    }
    settle().await;
    assert_eq!((laptop.asked(), handle.stats().entries), (vec![], 0));
    assert_eq!(text(&result(&server, &laptop.ctx("ada")).await.expect("an answer")), "laptop");
    assert_eq!(script.calls("read"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_client_was_asked_gets_the_failure_and_no_stale_value() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.number > 1 {
            ask_name(&call.ctx).await?;
            return Err(McpError::unavailable("down"));
        }
        Ok(ToolResult::text("a book"))
    });
    let layer = CachedTool::new().with_ttl(MINUTE).with_stale_if_error(60 * MINUTE);
    let handle = layer.handle();
    let server = layer.layer(script);
    let laptop = Client::new("laptop");
    result(&server, &laptop.ctx("ada")).await.expect("an answer");
    advance(2 * MINUTE).await;
    assert_eq!(failed(&result(&server, &laptop.ctx("ada")).await), (Some(ErrorKind::Unavailable), "down".into()));
    assert_eq!(handle.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_question_is_not_cached() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        Err::<ToolResult, _>(McpError::resource_not_found(ask_name(&call.ctx).await?))
    });
    let server = CachedTool::new().with_negative_ttl([ErrorKind::ResourceNotFound], MINUTE).layer(script.clone());
    for name in ["laptop", "phone"] {
        let answer = result(&server, &Client::new(name).ctx("ada")).await;
        assert!(failed(&answer).1.contains(name), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_cache_sees_the_question_too() {
    let script = asking();
    let outer = CachedTool::new();
    let handle = outer.handle();
    let server = (outer, CachedTool::new().with_scope(Scope::Public)).layer(script.clone());
    let names = ["laptop", "phone", "tablet"];
    let clients = names.map(Client::new);
    let users = ["ada", "ada", "bob"];
    let callers = clients.iter().zip(users).map(|(client, user)| spawned(&server, client.ctx(user))).collect();
    assert_eq!(texts(callers).await, names);
    assert_eq!((script.calls("read"), handle.stats().entries), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn other_notifications_go_to_the_starter_and_delay_it_for_at_most_one_second() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        let told = call.ctx.notify_resource_updated("book://1").await;
        Ok(ToolResult::text(if told.is_ok() { "told" } else { "not told" }))
    });
    let server = CachedTool::new().layer(script);
    let (laptop, phone, stuck) = (Client::new("laptop"), Client::new("phone"), Client::stuck("stuck"));
    let callers = [&laptop, &phone].map(|client| spawned(&server, client.ctx("ada")));
    assert_eq!(texts(callers.into()).await, ["told", "told"]);
    let updated = "notifications/resources/updated";
    assert_eq!((laptop.told(updated).len(), phone.told(updated).len()), (1, 0));
    let began = tokio::time::Instant::now();
    assert_eq!(texts(vec![spawned(&server, stuck.ctx("bob"))]).await, ["not told"]);
    assert!(began.elapsed() <= Duration::from_secs(1), "on a paused clock");
}
