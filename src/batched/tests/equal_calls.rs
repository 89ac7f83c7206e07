//! The calls that a bulk function gets if some are equal.

use turbomcp_core::ToolAnnotations;
use turbomcp_types::Tool;

use super::*;
use crate::batched::Call;
use crate::session::SessionMode;
use crate::testing::Traced;
use crate::{BatchedTool, Layer, Scope, SessionStore};

/// A read-only tool, or a tool that may have an effect each time.
fn server(read_only: bool) -> ScriptedServer {
    let annotations =
        ToolAnnotations { read_only_hint: Some(read_only), idempotent_hint: Some(true), ..Default::default() };
    let tool = Tool { annotations: Some(annotations), ..Tool::new("get", "gets") };
    ScriptedServer::new("library").with_tool(tool, |_| async { Ok(ToolResult::text("not asked")) })
}

fn ids(calls: &[Call]) -> Vec<u64> {
    calls.iter().map(|call| call.args["id"].as_u64().expect("an id")).collect()
}

/// Answers as `select .. where id in (..)` does: one row for each existing id, below 100.
fn rows(sent: &Sent) -> BatchedTool {
    let sent = sent.clone();
    BatchedTool::new().with_bulk("get", move |calls: Vec<Call>| {
        let mut found = ids(&calls);
        sent.note(&found);
        found.sort_unstable();
        found.dedup();
        found.retain(|id| *id < 100);
        async move { found.into_iter().map(|id| Ok(format!("row {id}"))).collect::<Vec<McpResult<String>>>() }
    })
}

async fn get(server: &impl McpHandler, callers: &[(&RequestContext, Value)]) -> Vec<String> {
    let calls = callers.iter().map(|(ctx, id)| server.call_tool("get", json!({ "id": id }), ctx));
    let text = |answer: McpResult<ToolResult>| answer.ok()?.first_text().map(str::to_owned);
    join_all(calls).await.into_iter().map(|answer| text(answer).expect("a text")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_bulk_function_of_a_read_only_tool_gets_equal_calls_once() {
    let sent = Sent::default();
    let server = rows(&sent).layer(server(true));
    let (ada, phone) = (user("ada").with_session_id("1"), user("ada").with_session_id("2"));
    let calls = [(&ada, json!(1)), (&phone, json!(1)), (&ada, json!(2)), (&ada, json!(1.0))];
    assert_eq!(get(&server, &calls).await, ["row 1", "row 1", "row 2", "row 1"]);
    assert_eq!(sent.all(), [[1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn equal_calls_of_different_partitions_are_passed_separately() {
    let sent = Sent::default();
    let apart = rows(&sent).layer(server(true));
    let (ada, bob) = (user("ada"), user("bob"));
    assert_eq!(get(&apart, &[(&ada, json!(1)), (&bob, json!(1))]).await, ["row 1", "row 1"]);
    assert_eq!(sent.all(), [[1], [1]]);
    let sent = Sent::default();
    let together = rows(&sent).with_scope(Scope::Public).layer(server(true));
    assert_eq!(get(&together, &[(&ada, json!(1)), (&bob, json!(1))]).await, ["row 1", "row 1"]);
    assert_eq!(sent.all(), [[1]]);
}

#[tokio::test(start_paused = true)]
async fn a_bulk_function_of_a_tool_with_effects_gets_each_call() {
    let sent = Sent::default();
    let server = rows(&sent).layer(server(false));
    let ada = user("ada");
    let traced = Traced::start();
    let answers = get(&server, &[(&ada, json!(1)), (&ada, json!(1))]).await;
    assert_eq!(sent.all(), [[1, 1]]);
    let log = traced.text();
    assert!(log.contains("calls=2") && log.contains("results=1") && log.contains("where calls are equal"), "{log}");
    for answer in answers {
        assert!(answer.contains("wrong number of results"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_row_is_reported_as_not_found() {
    let sent = Sent::default();
    let server = rows(&sent).split_failed_batches().layer(server(true));
    let ada = user("ada");
    let calls = [(&ada, json!(1)), (&ada, json!(1)), (&ada, json!(100))];
    for answer in get(&server, &calls).await {
        assert_eq!(answer, "The batch got a wrong number of results, so they cannot be assigned to its calls");
    }
    assert_eq!(sent.all(), [[1, 100]], "it is a bug of the function, which no other batch mends");
}

/// One result for each caller instead of each call.
#[tokio::test(start_paused = true)]
async fn the_number_of_results_must_equal_the_calls_that_the_function_got() {
    let bulk = |_: Vec<Call>| async {
        ["a", "b", "c"].map(|text| Ok(text.to_owned())).into_iter().collect::<Vec<McpResult<_>>>()
    };
    let server = BatchedTool::new().with_bulk("get", bulk).layer(server(true));
    let ada = user("ada");
    for answer in get(&server, &[(&ada, json!(1)), (&ada, json!(1)), (&ada, json!(2))]).await {
        assert!(answer.contains("wrong number of results"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_data_of_one_session_is_not_returned_in_another() {
    let store = SessionStore::in_memory();
    let sessions = store.clone();
    let sent = Sent::default();
    let asked = sent.clone();
    let bulk = move |calls: Vec<Call>| {
        asked.note(&ids(&calls));
        let sessions = sessions.clone();
        async move {
            let of = |call: &Call| sessions.of(&call.ctx).expect("a session");
            let names = calls.iter().map(|call| async move { of(call).get::<String>("name").await });
            let names = join_all(names).await.into_iter();
            names.map(|name| Ok(name.ok().flatten().unwrap_or_default())).collect::<Vec<McpResult<String>>>()
        }
    };
    let server = (store.clone(), BatchedTool::new().with_bulk("get", bulk)).layer(server(true));
    let connections = ["1", "2", "1", "3"].map(|id| user("ada").with_session_id(id));
    for ctx in &connections {
        store.of(ctx).expect("a session").set("name", ctx.session_id().expect("an id")).await.expect("memory takes it");
    }
    let calls: Vec<_> = connections.iter().map(|ctx| (ctx, json!(7))).collect();
    assert_eq!(get(&server, &calls).await, ["1", "2", "1", "3"]);
    assert_eq!(sent.all(), [vec![7], vec![7, 7]], "those of one session share a call");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_second_run_does_not_change_the_first_answers() {
    let store = SessionStore::in_memory();
    let (sessions, sent) = (store.clone(), Sent::default());
    let asked = sent.clone();
    let bulk = move |calls: Vec<Call>| {
        let number = asked.note(&ids(&calls));
        let sessions = sessions.clone();
        async move {
            drop(sessions.of(&calls[0].ctx).expect("a session").get::<String>("name").await);
            if number == 1 { Ok(vec![Ok("first".to_owned())]) } else { Err(McpError::unavailable("down")) }
        }
    };
    let server = (store.clone(), BatchedTool::new().with_bulk("get", bulk)).layer(server(true));
    let (one, two) = (user("ada").with_session_id("1"), user("ada").with_session_id("2"));
    assert_eq!(get(&server, &[(&one, json!(7)), (&two, json!(7))]).await, ["first", "down"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_several_callers_is_cancelled_when_all_of_them_have_left() {
    let token: Arc<Mutex<Option<RequestContext>>> = Arc::default();
    let seen = Arc::clone(&token);
    let bulk = move |calls: Vec<Call>| {
        *seen.lock().expect("no panic") = Some(calls[0].ctx.clone());
        std::future::pending::<Vec<McpResult<String>>>()
    };
    let server = BatchedTool::new().with_bulk("get", bulk).layer(server(true));
    let calls = [1, 2].map(|_| {
        let server = server.clone();
        tokio::spawn(async move { server.call_tool("get", json!({"id": 1}), &user("ada")).await })
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let is_cancelled = || token.lock().expect("no panic").as_ref().is_some_and(RequestContext::is_cancelled);
    for (left, call) in calls.into_iter().enumerate() {
        assert!(!is_cancelled(), "{left} have left");
        call.abort();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn handles_do_not_reach_a_bulk_function_and_keep_calls_apart() {
    let sent = Sent::default();
    let sessions = SessionStore::in_memory().with_mode(SessionMode::Handle).optional();
    let server = (rows(&sent), sessions).layer(server(true));
    let ada = user("ada");
    let calls = ["a", "a", "b"].map(|handle| server.call_tool("get", json!({"id": 1, "session": handle}), &ada));
    join_all(calls).await;
    assert_eq!(sent.all(), [[1, 1]]);
}
