//! The layer together with others.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::advance;

use super::*;
use crate::explain::Warning;
use crate::idempotent::MemoryBackend;
use crate::{BatchedTool, CachedTool, IdempotentTool, Scope};

fn library() -> ScriptedServer {
    let script = |_| async { Ok(ToolResult::text(lines(500))) };
    ScriptedServer::new("library").with_read_only("read", script).with_plain("send", script)
}

fn is_wrong(server: &impl McpHandler) -> bool {
    crate::explain(server).warnings().iter().any(|warning| matches!(warning, Warning::WrongOrder { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_hit_of_a_cache_further_in_has_a_link_that_its_caller_can_read() {
    let shared = || CachedTool::new().with_scope(Scope::Public);
    let keeping = || bound().with_spill(Spill::new().with_ttl(secs(60)));
    let readable = async |server: &dyn ErasedCall| {
        let mut readable = 0;
        for name in ["ada", "bob"] {
            readable += usize::from(server.call_and_read(name).await);
        }
        advance(secs(120)).await;
        readable + usize::from(server.call_and_read("ada").await)
    };
    let script = library();
    let right = (keeping(), shared()).layer(script.clone());
    assert_eq!((readable(&right).await, script.calls("read"), is_wrong(&right)), (3, 1, false));
    let script = library();
    let wrong = (shared(), keeping()).layer(script.clone());
    assert_eq!((readable(&wrong).await, script.calls("read"), is_wrong(&wrong)), (1, 1, true));
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_a_key_further_in_has_a_link_that_can_be_read() {
    let keys = || IdempotentTool::new(MemoryBackend::new()).only(["send"]);
    let keeping = || bound().with_spill(Spill::new().with_ttl(secs(60)));
    let args = json!({ "idempotency_key": "7c9e6679-7425-40de-944b-000000000001" });
    let (right, wrong) = ((keeping(), keys()).layer(library()), (keys(), keeping()).layer(library()));
    let replayed = async |server: &dyn ErasedCall| {
        server.call_with("send", args.clone()).await;
        advance(secs(120)).await;
        server.call_with("send", args.clone()).await
    };
    assert_eq!((replayed(&right).await, is_wrong(&right)), (true, false));
    assert_eq!((replayed(&wrong).await, is_wrong(&wrong)), (false, true));
}

#[tokio::test]
async fn a_bulk_function_is_bounded_only_from_outside() {
    let bulk = || {
        BatchedTool::new().with_bulk("read", |calls: Vec<crate::batched::Call>| async move {
            Ok(calls.iter().map(|_| Ok(lines(500))).collect())
        })
    };
    let (right, wrong) = ((bound(), bulk()).layer(library()), (bulk(), bound()).layer(library()));
    assert!(answer_bytes(&call(&right, "read", &user("ada")).await) <= BYTES);
    assert!(answer_bytes(&call(&wrong, "read", &user("ada")).await) > BYTES);
    assert_eq!((is_wrong(&right), is_wrong(&wrong)), (false, true));
}

#[tokio::test]
async fn a_cache_further_in_keeps_what_the_tool_has_answered_and_each_hit_is_redacted() {
    let redacted = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&redacted);
    let redacting = OutputTool::new().with_redaction(move |_, _| {
        counts.fetch_add(1, Ordering::SeqCst);
        "***".into()
    });
    let script = library();
    let server = (redacting, CachedTool::new()).layer(script.clone());
    for times in 1..=2 {
        assert_eq!(call(&server, "read", &user("ada")).await.first_text(), Some("***"));
        assert_eq!((redacted.load(Ordering::SeqCst), script.calls("read")), (times, 1));
    }
}

#[test]
fn two_bounds_of_one_tool_are_a_mistake_and_of_two_tools_are_none() {
    let repeated = |one: OutputTool, other: OutputTool| {
        let warnings = crate::explain(&(one, other).layer(library())).warnings().to_vec();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(repeated(bound().only(["read"]), bound().only(["send"])), Vec::<String>::new());
    let warned = repeated(bound(), bound());
    assert!(warned.len() == 1 && warned[0].contains("the outer one cuts the sentence"), "{warned:?}");
}

/// Calls a tool, and says whether the whole answer can be read by the link in its answer.
trait ErasedCall {
    fn call_and_read<'a>(&'a self, name: &'a str) -> futures_util::future::BoxFuture<'a, bool>;
    fn call_with<'a>(&'a self, tool: &'a str, args: Value) -> futures_util::future::BoxFuture<'a, bool>;
}

impl<H: McpHandler> ErasedCall for H {
    fn call_and_read<'a>(&'a self, name: &'a str) -> futures_util::future::BoxFuture<'a, bool> {
        Box::pin(async move { whole(self, &call(self, "read", &user(name)).await, &user(name)).await.is_some() })
    }

    fn call_with<'a>(&'a self, tool: &'a str, args: Value) -> futures_util::future::BoxFuture<'a, bool> {
        Box::pin(async move {
            let answer = self.call_tool(tool, args, &user("ada")).await.expect("a result");
            whole(self, &answer, &user("ada")).await.is_some()
        })
    }
}
