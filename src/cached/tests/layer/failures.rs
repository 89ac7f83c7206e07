use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use turbomcp_core::McpError;

use super::*;
use crate::{CachedTool, Layer, Middleware, layer};

/// Returns failures as `Err`, as a handwritten handler may.
#[derive(Clone, Default)]
struct Refusing {
    calls: Arc<AtomicUsize>,
}

impl Middleware for Refusing {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        _: &'a str,
        _: Value,
        _: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(McpError::unavailable("the library is closed").with_data(json!({"retryAfterMs": 250})))
    }
}

/// The results of a hundred concurrent calls.
async fn hundred(server: &impl McpHandler) -> Vec<McpResult<ToolResult>> {
    let ctx = nobody();
    join_all((0..100).map(|_| server.call_tool("read", json!({}), &ctx))).await
}

#[tokio::test(start_paused = true)]
async fn an_error_is_returned_to_all_waiting_callers_and_not_cached() {
    let refusing = Refusing::default();
    let cached = CachedTool::new();
    let handle = cached.handle();
    let server = (cached, layer(refusing.clone())).layer(numbered());
    for result in hundred(&server).await {
        let error = result.as_ref().expect_err("the form stays");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "the library is closed"));
        let failure = outcome::failure(&result).expect("a failure");
        assert_eq!(failure.retry_after(), Some(Duration::from_millis(250)));
    }
    assert_eq!(refusing.calls.load(Ordering::SeqCst), 1);
    hundred(&server).await;
    assert_eq!(refusing.calls.load(Ordering::SeqCst), 2);
    let stats = handle.stats();
    assert_eq!((stats.hits, stats.loads, stats.failed_loads, stats.entries), (0, 2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_result_is_returned_to_all_waiting_callers_and_not_cached() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if call.number < 3 { Err(McpError::rate_limited("too many readers")) } else { Ok(ToolResult::text("3")) }
    });
    let server = CachedTool::new().layer(script.clone());
    let bare = McpError::rate_limited("too many readers").to_tool_result();
    for round in 1..3 {
        for result in hundred(&server).await {
            assert_eq!(failed(&result), (Some(ErrorKind::RateLimited), "too many readers".to_owned()));
            assert_eq!(result.expect("the form stays").content, bare.content);
        }
        assert_eq!(script.calls("read"), round);
    }
    assert_eq!(read(&server).await, "3");
}

#[tokio::test(start_paused = true)]
async fn an_error_result_without_a_kind_is_returned_unchanged_and_never_cached() {
    let script =
        ScriptedServer::new("library").with_read_only("read", |_| async { Ok(ToolResult::error("no such book")) });
    let server = CachedTool::new().layer(script.clone());
    for _ in 0..3 {
        let result = server.call_tool("read", json!({}), &nobody()).await.expect("the form stays");
        assert_eq!(result, ToolResult::error("no such book"));
    }
    assert_eq!(script.calls("read"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_tool_is_an_error_for_each_waiting_caller_and_the_next_call_loads_again() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(call.number > 1, "the shelf breaks");
        Ok(ToolResult::text(call.number.to_string()))
    });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    for result in hundred(&server).await {
        let (kind, message) = failed(&result);
        assert_eq!(kind, Some(ErrorKind::Internal));
        assert!(!message.contains("shelf"), "a panic's text is internal: {message}");
    }
    assert_eq!(script.calls("read"), 1);
    assert_eq!(handle.stats().failed_loads, 1);
    assert_eq!(read(&server).await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_load_past_its_timeout_is_a_timeout_for_all_callers_and_the_next_call_loads_again() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.number == 1 {
            std::future::pending::<()>().await;
        }
        Ok(ToolResult::text(call.number.to_string()))
    });
    let server = CachedTool::new().with_load_timeout(MINUTE).layer(script.clone());
    let start = tokio::time::Instant::now();
    for result in hundred(&server).await {
        assert_eq!(failed(&result), (Some(ErrorKind::Timeout), "No answer within 60000 ms".to_owned()));
    }
    assert_eq!(start.elapsed(), MINUTE);
    assert_eq!(script.calls("read"), 1);
    assert_eq!(read(&server).await, "2");
}

#[tokio::test(start_paused = true)]
async fn without_a_load_timeout_a_load_has_no_limit() {
    let script = ScriptedServer::new("library").with_read_only("read", |_| async {
        tokio::time::sleep(60 * MINUTE).await;
        Ok(ToolResult::text("at last"))
    });
    let server = CachedTool::new().without_load_timeout().layer(script);
    assert_eq!(read(&server).await, "at last");
}

#[tokio::test(start_paused = true)]
async fn a_load_past_its_timeout_sees_its_cancellation_token_fire() {
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let script = ScriptedServer::new("library").with_read_only("read", move |call| {
        let told = told.clone();
        async move {
            tokio::spawn(async move {
                tokio::time::sleep(2 * MINUTE).await;
                let _ = told.send(call.ctx.is_cancelled());
            });
            std::future::pending().await
        }
    });
    let server = CachedTool::new().with_load_timeout(MINUTE).layer(script);
    let result = server.call_tool("read", json!({}), &nobody()).await;
    assert_eq!(failed(&result).0, Some(ErrorKind::Timeout));
    assert_eq!(tells.recv().await, Some(true));
}
