//! Without a bulk function.

use super::*;
use crate::{BatchedTool, Layer, Layered};

/// A server whose tool `read` answers after 10 ms with the number of the call.
fn numbered() -> ScriptedServer {
    ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match call.args["n"].as_u64() {
            Some(0) => panic!("poison"),
            Some(1) => Err(McpError::unavailable("down")),
            _ => Ok(ToolResult::text(format!("{} {}", call.args["n"], call.number))),
        }
    })
}

fn layered(script: &ScriptedServer) -> Layered<BatchedTool, ScriptedServer> {
    BatchedTool::new().only(["read"]).layer(script.clone())
}

async fn read_all(server: &impl McpHandler, args: impl IntoIterator<Item = Value>) -> Vec<McpResult<ToolResult>> {
    let ctx = nobody();
    join_all(args.into_iter().map(|args| server.call_tool("read", args, &ctx))).await
}

#[tokio::test(start_paused = true)]
async fn identical_calls_run_once_and_distinct_calls_run_concurrently() {
    let script = numbered();
    let start = Instant::now();
    let answers = read_all(
        &layered(&script),
        [json!({"n": 2, "m": [1]}), json!({"n": 3}), json!({"m": [1.0], "n": 2.0}), json!({"n": 4}), json!({"n": 3})],
    )
    .await;
    assert_eq!(start.elapsed(), Duration::from_millis(10));
    assert_eq!(script.calls("read"), 3);
    assert_eq!(text(&answers[0]), text(&answers[2]));
    assert_eq!(text(&answers[1]), text(&answers[4]));
    assert!(text(&answers[3]).starts_with("4 "));
    assert!(answers.iter().all(|answer| size(answer) == Some(5)));
}

#[tokio::test(start_paused = true)]
async fn calls_of_different_users_are_not_identical() {
    let script = numbered();
    let server = layered(&script);
    let (ada, bob) = (user("ada"), user("bob"));
    tokio::join!(server.call_tool("read", json!({"n": 2}), &ada), server.call_tool("read", json!({"n": 2}), &bob))
        .0
        .expect("an answer");
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_or_a_panic_goes_only_to_the_callers_of_that_call() {
    let script = numbered();
    let answers = read_all(&layered(&script), [0, 1, 2, 0, 1].map(|n| json!({"n": n}))).await;
    let kinds: Vec<_> =
        answers.iter().map(|answer| outcome::failure(answer).and_then(|failure| failure.kind())).collect();
    let (lost, down) = (Some(ErrorKind::Internal), Some(ErrorKind::Unavailable));
    assert_eq!(kinds, [lost, down, None, lost, down]);
    assert_eq!(script.calls("read"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_stays_a_protocol_error() {
    #[derive(Debug, Clone)]
    struct Refusing;
    impl crate::Middleware for Refusing {
        async fn call_tool<'a, H: McpHandler>(
            &'a self,
            _: &'a H,
            name: &'a str,
            _: Value,
            _: &'a RequestContext,
        ) -> McpResult<ToolResult> {
            Err(McpError::tool_not_found(name))
        }
    }
    let server = (BatchedTool::new().only(["read"]), crate::layer(Refusing)).layer(numbered());
    let answer = server.call_tool("read", json!({}), &nobody()).await;
    assert_eq!(answer.expect_err("a protocol error").kind, ErrorKind::ToolNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_shared_call_is_cancelled_only_when_all_its_callers_have_left() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = ScriptedServer::new("library").with_read_only("read", {
        let seen = Arc::clone(&seen);
        move |call| {
            seen.lock().expect("no panic").push(call.ctx);
            async { std::future::pending().await }
        }
    });
    let server = layered(&script);
    let calls: Vec<_> = [2, 2, 3]
        .into_iter()
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move { server.call_tool("read", json!({"n": n}), &nobody()).await })
        })
        .collect();
    settle().await;
    let cancelled = || -> Vec<_> { seen.lock().expect("no panic").iter().map(RequestContext::is_cancelled).collect() };
    assert_eq!(cancelled(), [false, false]);
    calls[0].abort();
    settle().await;
    assert_eq!(cancelled(), [false, false]);
    calls[1].abort();
    settle().await;
    assert_eq!(cancelled(), [true, false]);
    calls[2].abort();
    settle().await;
    assert_eq!(cancelled(), [true, true]);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
