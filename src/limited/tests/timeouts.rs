use super::*;

async fn text(server: &impl McpHandler, tool: &str) -> String {
    let answer = server.call_tool(tool, json!({ "ms": 200 }), &user("ada")).await;
    outcome::failure(&answer).map_or_else(|| "done".to_owned(), |failure| failure.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_after_the_timeout_and_the_error_of_a_write_says_that_its_effect_is_not_known() {
    let (limits, script) = (LimitedTool::new().with_timeout(ms(100)), server());
    let handle = limits.handle();
    let server = limits.layer(script.clone());
    assert_eq!(text(&server, "search").await, "No answer within 100 ms");
    let of_write = "No answer within 100 ms: the call was ended, and may or may not have taken effect";
    assert_eq!(text(&server, "order").await, of_write);
    let answer = server.call_tool("order", json!({ "ms": 200 }), &user("ada")).await;
    let failure = outcome::failure(&answer).expect("it timed out");
    assert_eq!(failure.kind(), Some(ErrorKind::Timeout));
    assert!(!failure.is_not_executed(), "a key must not be freed");
    assert_eq!(call(&server, "search", json!({ "ms": 99 }), &user("ada")).await, Ok(()));
    assert_eq!((handle.stats().timed_out, handle.stats().admitted), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn the_time_in_a_queue_does_not_count() {
    let limits =
        LimitedTool::new().with_timeout(ms(250)).with_concurrency(Per::Tool, Concurrency::new(1).with_queue(1));
    let server = limits.layer(server());
    let (first, second) = tokio::join!(text(&server, "search"), text(&server, "search"));
    assert_eq!((&*first, &*second), ("done", "done"), "the second one waits 200 ms, and runs for 200 ms");
}
