//! The layer on a `#[server]` type, whose tools fail in their own form.

use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use turbomcp::prelude::*;

use super::*;
use crate::{CachedTool, Layer};

#[derive(Clone, Default)]
struct Library {
    reads: Arc<AtomicUsize>,
    lends: Arc<AtomicUsize>,
}

#[server(name = "library", version = "1.0.0")]
impl Library {
    /// Reads a book.
    #[tool(read_only = true)]
    async fn read(&self, shelf: i64, book: f64) -> McpResult<String> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if shelf == 13 {
            return Err(McpError::unavailable("the shelf is being dusted"));
        }
        Ok(format!("{shelf}/{book}, {number}"))
    }

    /// Lends a book.
    #[tool]
    async fn lend(&self) -> McpResult<String> {
        Ok(format!("lent {}", self.lends.fetch_add(1, Ordering::SeqCst) + 1))
    }
}

#[tokio::test(start_paused = true)]
async fn identical_calls_of_a_macro_server_run_the_tool_once_and_a_hit_returns_the_same_result() {
    let library = Library::default();
    let server = CachedTool::new().without_meta().layer(library.clone());
    let ctx = nobody();
    let args = |number: usize| {
        if number.is_multiple_of(2) { json!({"shelf": 1, "book": 2}) } else { json!({"book": 2.0, "shelf": 1}) }
    };
    let results = join_all((0..1_000).map(|number| server.call_tool("read", args(number), &ctx))).await;
    let hit = server.call_tool("read", args(0), &ctx).await.expect("an answer");
    assert_eq!(text(&hit), "1/2, 1");
    for result in results {
        assert_eq!(result.expect("an answer"), hit);
    }
    assert_eq!(library.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_macro_tool_is_shared_and_not_cached() {
    let library = Library::default();
    let server = CachedTool::new().layer(library.clone());
    let (ctx, args) = (nobody(), json!({"shelf": 13, "book": 1}));
    for round in 1..3 {
        for result in join_all((0..100).map(|_| server.call_tool("read", args.clone(), &ctx))).await {
            assert_eq!(failed(&result), (Some(ErrorKind::Unavailable), "the shelf is being dusted".to_owned()));
        }
        assert_eq!(library.reads.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn a_macro_tool_without_annotations_runs_each_time() {
    let server = CachedTool::new().layer(Library::default());
    assert_eq!(answer(&server, "lend", json!({}), &nobody()).await, "lent 1");
    assert_eq!(answer(&server, "lend", json!({}), &nobody()).await, "lent 2");
}

#[tokio::test]
async fn wrong_arguments_of_a_macro_tool_are_refused_and_nothing_is_cached() {
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(Library::default());
    let result = server.call_tool("read", json!({"shelf": "one"}), &nobody()).await;
    assert_eq!(failed(&result).0, Some(ErrorKind::InvalidParams));
    assert_eq!(handle.stats().entries, 0);
}
