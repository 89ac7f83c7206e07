//! Calls that ask a client, and the notifications for callers who wait for a batch.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::batched::Call;
use crate::testing::client::{Client, ask_name};
use crate::{BatchedTool, CachedTool, Layer, Scope, SessionStore};

const SECOND: Duration = Duration::from_secs(1);

/// A tool that reports three steps and then asks for a name, and a tool that does not ask.
fn asking() -> ScriptedServer {
    ScriptedServer::new("library")
        .with_read_only("who", |call| async move {
            work(&call.ctx).await?;
            Ok(ToolResult::text(ask_name(&call.ctx).await?))
        })
        .with_read_only("read", |call| async move {
            work(&call.ctx).await?;
            Ok(ToolResult::text(call.number.to_string()))
        })
}

async fn work(ctx: &RequestContext) -> McpResult<()> {
    for step in 1..=3 {
        tokio::time::sleep(SECOND).await;
        ctx.report_progress(f64::from(step), Some(3.0), Some("reading")).await?;
        ctx.notify_client("notifications/message", json!({"level": "info", "data": step})).await?;
    }
    Ok(())
}

fn batched() -> BatchedTool {
    BatchedTool::new().only(["who", "read"])
}

async fn call(server: &impl McpHandler, tool: &str, args: Value, ctx: RequestContext) -> McpResult<ToolResult> {
    server.call_tool(tool, args, &ctx).await
}

async fn call_all(server: &impl McpHandler, tool: &str, callers: &[RequestContext]) -> Vec<String> {
    let answers = join_all(callers.iter().map(|ctx| server.call_tool(tool, json!({}), ctx))).await;
    answers.iter().map(|answer| text(answer).to_owned()).collect()
}

fn ctxs(clients: &[Arc<Client>]) -> Vec<RequestContext> {
    clients.iter().map(|client| client.ctx("ada")).collect()
}

fn logs(client: &Client) -> usize {
    client.told("notifications/message").len()
}

#[tokio::test(start_paused = true)]
async fn each_caller_of_a_shared_call_that_asks_is_asked_by_its_own_call() {
    for scope in [Scope::Principal, Scope::Public] {
        let script = asking();
        let server = batched().with_scope(scope).layer(script.clone());
        let names = ["laptop", "phone", "tablet"];
        let clients = names.map(Client::new);
        assert_eq!(call_all(&server, "who", &ctxs(&clients)).await, names);
        assert!(clients.iter().all(|client| client.asked().len() == 1), "{scope:?}");
        assert_eq!(script.calls("who"), 3, "as many as without the layer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_not_answered_delays_neither_its_batch_nor_the_next_one() {
    let script = asking();
    let server = batched().with_max_in_flight(1).layer(script.clone());
    let (laptop, phone) = (Client::thinking("laptop"), Client::new("phone"));
    let thinking = tokio::spawn({
        let (server, ctx) = (server.clone(), laptop.ctx("ada"));
        async move { call(&server, "who", json!({}), ctx).await }
    });
    let others = tokio::join!(
        call(&server, "who", json!({}), phone.ctx("ada")),
        call(&server, "who", json!({"other": true}), phone.ctx("ada")),
    );
    assert_eq!((text(&others.0), text(&others.1)), ("phone", "phone"));
    assert_eq!(text(&call(&server, "read", json!({}), phone.ctx("ada")).await), "1");
    assert!(!thinking.is_finished());
    laptop.answer();
    assert_eq!(text(&thinking.await.expect("no panic")), "laptop");
    assert_eq!((laptop.asked().len(), script.calls("who")), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_shared_call_are_released_as_soon_as_the_client_of_the_first_is_asked() {
    let script = asking();
    let server = batched().layer(script.clone());
    let (laptop, phone) = (Client::thinking("laptop"), Client::new("phone"));
    // In one task, so that the first call is made and the others join it.
    let first = call(&server, "who", json!({}), laptop.ctx("ada"));
    let follows = async {
        let answer = call(&server, "who", json!({}), phone.ctx("ada")).await;
        assert_eq!((text(&answer), laptop.asked().len()), ("phone", 1));
        laptop.answer();
    };
    let (first, ()) = tokio::join!(first, follows);
    assert_eq!(text(&first), "laptop");
    assert_eq!((laptop.asked().len(), phone.asked().len(), script.calls("who")), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_of_a_shared_call_does_not_cancel_it_for_the_others() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(2 * SECOND).await;
        if call.ctx.is_cancelled() {
            Err(McpError::cancelled("it is told to end"))
        } else {
            Ok(ToolResult::text("read"))
        }
    });
    let server = BatchedTool::new().only(["read"]).layer(script.clone());
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let token = Token::default();
    let leaving = call(&server, "read", json!({}), laptop.ctx("ada").with_cancellation_token(Arc::new(token.clone())));
    let (left, stayed, ()) =
        tokio::join!(leaving, call(&server, "read", json!({}), phone.ctx("ada")), token.cancel_after(SECOND));
    assert_eq!((failed(&left).0, text(&stayed)), (Some(ErrorKind::Cancelled), "read"));
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_left_is_not_asked_and_a_waiting_caller_is() {
    let script = asking();
    let server = batched().layer(script.clone());
    let (laptop, phone) = (Client::new("laptop"), Client::new("phone"));
    let token = Token::default();
    let leaving = call(&server, "who", json!({}), laptop.ctx("ada").with_cancellation_token(Arc::new(token.clone())));
    let (left, stayed, ()) =
        tokio::join!(leaving, call(&server, "who", json!({}), phone.ctx("ada")), token.cancel_after(SECOND));
    assert_eq!((failed(&left).0, text(&stayed)), (Some(ErrorKind::Cancelled), "phone"));
    assert_eq!((laptop.asked(), script.calls("who")), (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_its_client_answers_ends_the_call() {
    let seen = Arc::new(Mutex::new(None));
    let script = ScriptedServer::new("library").with_read_only("who", {
        let seen = Arc::clone(&seen);
        move |call| {
            *seen.lock().expect("no panic") = Some(call.ctx.clone());
            async move { Ok(ToolResult::text(ask_name(&call.ctx).await?)) }
        }
    });
    let server = BatchedTool::new().only(["who"]).layer(script);
    let token = Token::default();
    let laptop = Client::thinking("laptop");
    let ctx = laptop.ctx("ada").with_cancellation_token(Arc::new(token.clone()));
    let (left, ()) = tokio::join!(call(&server, "who", json!({}), ctx), token.cancel_after(SECOND));
    assert_eq!(failed(&left).0, Some(ErrorKind::Cancelled));
    let ctx = seen.lock().expect("no panic").take().expect("the tool was called");
    assert!(ctx.is_cancelled(), "what the tool has spawned is told");
}

/// Asks the client of the first call, and gives its answer to each call.
async fn who_is_first(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
    let name = ask_name(&calls[0].ctx).await?;
    Ok(calls.iter().map(|_| Ok(name.clone())).collect())
}

#[tokio::test(start_paused = true)]
async fn a_bulk_function_that_asks_is_not_run_again_and_none_of_its_answers_is_kept() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let layer = BatchedTool::new().with_bulk("who", move |calls| {
        counted.fetch_add(1, Ordering::SeqCst);
        who_is_first(calls)
    });
    let cached = CachedTool::new();
    let handle = cached.handle();
    let script = asking();
    let server = (cached, layer).layer(script.clone());
    let clients = ["laptop", "phone"].map(Client::new);
    let calls =
        clients.iter().enumerate().map(|(n, client)| call(&server, "who", json!({ "n": n }), client.ctx("ada")));
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().map(text).collect::<Vec<_>>(), ["laptop", "laptop"], "only the function knows");
    assert_eq!((runs.load(Ordering::SeqCst), script.calls("who")), (1, 0));
    assert_eq!(handle.stats().entries, 0);
    assert_eq!((clients[0].asked().len(), clients[1].asked().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_that_asked_a_client_is_not_split() {
    for (ends, sent) in [("asks and fails", 1), ("asks and panics", 1), ("fails", 3)] {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let layer = BatchedTool::new().split_failed_batches().with_bulk("who", move |calls: Vec<Call>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if ends.starts_with("asks") {
                    ask_name(&calls[1].ctx).await?;
                }
                assert!(!ends.ends_with("panics"), "it was told to");
                Err::<Vec<McpResult<String>>, _>(McpError::invalid_params("one of them is wrong"))
            }
        });
        let server = layer.layer(asking());
        let clients = ["laptop", "phone"].map(Client::new);
        let calls =
            clients.iter().enumerate().map(|(n, client)| call(&server, "who", json!({ "n": n }), client.ctx("ada")));
        assert!(join_all(calls).await.iter().all(|answer| failed(answer).0.is_some()), "{ends}");
        assert_eq!(runs.load(Ordering::SeqCst), sent, "{ends}");
        assert_eq!(clients[1].asked().len(), usize::from(ends.starts_with("asks")), "{ends}");
    }
}

/// Asks the client of each call.
async fn who_each(calls: Vec<Call>) -> Vec<McpResult<String>> {
    join_all(calls.iter().map(|call| ask_name(&call.ctx))).await
}

#[tokio::test(start_paused = true)]
async fn each_of_equal_calls_is_passed_once_to_a_bulk_function_that_asks() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let layer = BatchedTool::new().with_bulk("who", move |calls| {
        counted.fetch_add(calls.len(), Ordering::SeqCst);
        who_each(calls)
    });
    let server = layer.layer(asking());
    let names = ["laptop", "phone", "tablet"];
    let clients = names.map(Client::new);
    assert_eq!(call_all(&server, "who", &ctxs(&clients)).await, names);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    assert!(clients.iter().all(|client| client.asked().len() == 1));
}

#[tokio::test(start_paused = true)]
async fn all_callers_of_equal_calls_get_the_progress_of_the_bulk_function() {
    let layer = BatchedTool::new().with_bulk("read", |calls: Vec<Call>| async move {
        for call in &calls {
            work(&call.ctx).await?;
        }
        Ok(calls.iter().map(|_| Ok("read")).collect::<Vec<McpResult<&str>>>())
    });
    let server = layer.layer(asking());
    let (clients, quiet) = (["laptop", "phone"].map(Client::new), Client::new("quiet"));
    let mut callers = vec![quiet.quiet_ctx("ada")];
    callers.extend(ctxs(&clients));
    assert_eq!(call_all(&server, "read", &callers).await, ["read"; 3]);
    for client in &clients {
        assert_eq!((client.steps(), logs(client)), (vec![1.0, 2.0, 3.0], 3));
    }
    assert_eq!((quiet.steps(), logs(&quiet)), (vec![], 3));
}

#[tokio::test(start_paused = true)]
async fn all_callers_of_a_shared_call_get_its_progress_by_their_own_token() {
    let script = asking();
    let server = batched().layer(script.clone());
    let (clients, quiet) = (["laptop", "phone"].map(Client::new), Client::new("quiet"));
    let mut callers = ctxs(&clients);
    callers.push(quiet.quiet_ctx("ada"));
    assert_eq!(call_all(&server, "read", &callers).await, ["1", "1", "1"]);
    for client in &clients {
        assert_eq!((client.steps(), logs(client)), (vec![1.0, 2.0, 3.0], 3));
    }
    assert_eq!((quiet.steps(), logs(&quiet)), (vec![], 3));
}

#[tokio::test(start_paused = true)]
async fn other_users_of_a_public_call_get_numbers_only() {
    let server = batched().with_scope(Scope::Public).layer(asking());
    let (laptop, phone, eve) = (Client::new("laptop"), Client::new("phone"), Client::new("eve"));
    call_all(&server, "read", &[laptop.ctx("ada"), phone.ctx("ada"), eve.ctx("eve")]).await;
    for own in [&laptop, &phone] {
        assert_eq!((own.steps(), logs(own)), (vec![1.0, 2.0, 3.0], 3));
        assert_eq!(own.progress()[0].2.as_deref(), Some("reading"));
    }
    assert_eq!((eve.steps(), logs(&eve)), (vec![1.0, 2.0, 3.0], 0));
    assert!(eve.progress().iter().all(|(_, total, message)| *total == Some(3.0) && message.is_none()));
}

#[tokio::test(start_paused = true)]
async fn progress_rises_when_a_call_is_made_again_for_another_session_or_client() {
    let script = asking().with_read_only("mine", |call| async move {
        work(&call.ctx).await?;
        let number: Option<u64> = crate::session::Session::current()?.get("number").await?;
        Ok(ToolResult::text(number.unwrap_or_default().to_string()))
    });
    let layer = BatchedTool::new().only(["who", "mine"]);
    let server = (SessionStore::in_memory(), layer).layer(script);
    for tool in ["who", "mine"] {
        let clients = ["laptop", "phone"].map(Client::new);
        call_all(&server, tool, &ctxs(&clients)).await;
        assert_eq!(clients[0].steps(), [1.0, 2.0, 3.0], "{tool}");
        assert_eq!(clients[1].steps(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "{tool}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulk_function_reports_progress_to_the_caller_of_each_call() {
    let layer = BatchedTool::new().with_bulk("read", |calls: Vec<Call>| async move {
        for (call, step) in calls.iter().zip([1.0, 2.0]) {
            call.ctx.report_progress(step, None, None).await?;
        }
        let late = calls[0].ctx.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SECOND).await;
            late.report_progress(9.0, None, None).await
        });
        Ok(calls.iter().map(|_| Ok("read")).collect::<Vec<McpResult<&str>>>())
    });
    let server = layer.layer(asking());
    let clients = ["laptop", "phone"].map(Client::new);
    let calls =
        clients.iter().enumerate().map(|(n, client)| call(&server, "read", json!({ "n": n }), client.ctx("ada")));
    join_all(calls).await;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!((clients[0].steps(), clients[1].steps()), (vec![1.0], vec![2.0]));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_connection_delays_neither_the_call_nor_another_caller() {
    for names in [["stuck", "laptop"], ["laptop", "stuck"]] {
        let server = batched().layer(asking());
        let clients = names.map(|name| if name == "stuck" { Client::stuck(name) } else { Client::new(name) });
        let began = tokio::time::Instant::now();
        let callers = clients.iter().map(|client| async {
            assert_eq!(text(&call(&server, "read", json!({}), client.ctx("ada")).await), "1");
            began.elapsed().as_secs()
        });
        let took = join_all(callers).await;
        assert_eq!(took, names.map(|name| if name == "stuck" { 4 } else { 3 }), "on a paused clock");
    }
}
