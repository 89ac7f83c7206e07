//! Two caches in one stack: the outer cache stores no answer of the inner one from before an invalidation.

use super::fleet::*;
use super::*;
use crate::cached::{Handle, MemoryLevel};
use crate::{CachedTool, Layer, Scope};

/// Two caches around a tool. The inner one can also be called alone.
struct Stack<S> {
    server: S,
    outer: Handle,
    inner: Replica,
}

fn outer() -> CachedTool {
    CachedTool::new().with_scope(Scope::Public).tag("read", |_| ["version"])
}

fn stack(outer: CachedTool, inner: Replica) -> Stack<impl McpHandler> {
    Stack { outer: outer.handle(), server: outer.layer(inner.server.clone()), inner }
}

impl<S: McpHandler> Stack<S> {
    async fn read(&self) -> u64 {
        read(&self.server).await.parse().expect("a version")
    }
}

/// A stack on a level, and another replica on the same level.
async fn on_one_level(source: &Source) -> (Stack<impl McpHandler>, Replica) {
    let level = MemoryLevel::new();
    let inner = source.replica(level.clone(), as_it_is);
    let around = outer().with_second_level(inner.faults.of(level.clone()));
    let pair = (stack(around, inner), source.replica(level, as_it_is));
    settle().await;
    pair
}

/// From now on, invalidations wait at the returned gate.
fn delay(faults: &Faults) -> Gate {
    let gate = Gate::closed();
    *faults.delay.lock().expect("no test panicked") = Some(gate.clone());
    gate
}

#[tokio::test(start_paused = true)]
async fn an_outer_cache_invalidated_before_the_inner_one_stores_no_older_answer() {
    type Invalidate = fn(&Handle);
    let ways: [Invalidate; 4] = [
        |cache| cache.invalidate("read", &json!({})),
        |cache| cache.invalidate_tool("read"),
        |cache| cache.invalidate_tag("version"),
        |cache| cache.clear(),
    ];
    for invalidate in ways {
        let source = at_once();
        let stack = stack(outer(), source.replica(MemoryLevel::new(), as_it_is));
        assert_eq!(stack.read().await, 0);
        source.version.store(1, Ordering::SeqCst);
        invalidate(&stack.outer);
        assert_eq!(stack.read().await, 0, "the inner cache has it still");
        invalidate(&stack.inner.handle);
        assert_eq!(stack.read().await, 1);
        assert_eq!(stack.read().await, 1);
        assert_eq!(source.loads(), 2, "the outer cache keeps the new answer");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_cache_stores_an_answer_of_the_inner_one_that_was_not_invalidated() {
    let source = at_once();
    let stack = stack(outer(), source.replica(MemoryLevel::new(), as_it_is));
    settle().await;
    stack.outer.invalidate("read", &json!({}));
    assert_eq!(stack.inner.read().await, 0);
    stack.outer.invalidate("another tool", &json!({}));
    assert_eq!(stack.read().await, 0);
    stack.inner.handle.clear();
    source.version.store(1, Ordering::SeqCst);
    assert_eq!(stack.read().await, 0, "out of the outer cache");
}

#[tokio::test(start_paused = true)]
async fn an_outer_cache_does_not_store_a_load_that_began_before_the_invalidation() {
    let source = at_once();
    let stack = stack(outer(), source.replica(MemoryLevel::new(), as_it_is));
    stack.inner.handle.invalidate("read", &json!({}));
    settle().await;
    let gate = Gate::closed();
    *source.gate.lock().expect("no test panicked") = Some(gate.clone());
    let early = stack.inner.read();
    let late = async {
        settle().await;
        *source.gate.lock().expect("no test panicked") = None;
        source.version.store(1, Ordering::SeqCst);
        stack.outer.invalidate("read", &json!({}));
        let joined = stack.read();
        let release = async {
            settle().await;
            gate.open();
        };
        tokio::join!(joined, release).0
    };
    assert_eq!(tokio::join!(early, late), (0, 0));
    stack.inner.handle.invalidate("read", &json!({}));
    assert_eq!(stack.read().await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_outer_cache_that_receives_an_invalidation_before_the_inner_one_stores_no_older_answer() {
    let source = at_once();
    let level = MemoryLevel::new();
    let inner = source.replica(level.clone(), as_it_is);
    let late = delay(&inner.faults);
    let stack = stack(outer().with_second_level(level.clone()), inner);
    let other = source.replica(level, as_it_is);
    settle().await;
    assert_eq!(stack.read().await, 0);
    assert_eq!(other.write().await, 1);
    settle().await;
    assert_eq!(stack.read().await, 0, "the inner cache has not received it");
    late.open();
    settle().await;
    assert_eq!(stack.read().await, 1);
}

/// The level has received the invalidation, and says so to the outer cache, which reads before it loads.
#[tokio::test(start_paused = true)]
async fn an_outer_cache_puts_no_answer_of_the_inner_one_into_the_second_level_for_other_replicas() {
    let source = at_once();
    let (stack, other) = on_one_level(&source).await;
    assert_eq!(stack.inner.read().await, 0);
    settle().await;
    let late = delay(&stack.inner.faults);
    assert_eq!(other.write().await, 1);
    settle().await;
    assert_eq!(stack.read().await, 0, "neither cache has received it");
    settle().await;
    assert_eq!(other.read().await, 1);
    late.open();
    settle().await;
    assert_eq!(stack.read().await, 1);
}

/// A failure that the inner cache keeps is no older in the outer one.
#[tokio::test(start_paused = true)]
async fn an_outer_cache_stores_no_failure_of_the_inner_one_from_before_an_invalidation() {
    let is_away = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&is_away);
    let script =
        ScriptedServer::new("library").with_read_only("read", move |_| {
            let is_away = switch.load(Ordering::SeqCst);
            async move {
                if is_away { Err(turbomcp_core::McpError::unavailable("away")) } else { Ok(ToolResult::text("1")) }
            }
        });
    let keeping = || outer().with_negative_ttl([ErrorKind::Unavailable], MINUTE);
    let (around, within) = (keeping(), keeping());
    let (outer, inner) = (around.handle(), within.handle());
    let server = (around, within).layer(script);
    let nobody = nobody();
    let call = || server.call_tool("read", json!({}), &nobody);
    assert!(outcome::failure(&call().await).is_some());
    is_away.store(false, Ordering::SeqCst);
    outer.invalidate("read", &json!({}));
    assert!(outcome::failure(&call().await).is_some(), "the inner cache has it still");
    inner.invalidate("read", &json!({}));
    assert!(outcome::failure(&call().await).is_none());
}

/// Two users share one call of the batch. It is made for one of them, and the outer cache has a load for each.
#[cfg(feature = "batched")]
#[tokio::test(start_paused = true)]
async fn an_outer_cache_keeps_nothing_older_for_any_caller_of_a_batch_between_the_caches() {
    let source = at_once();
    let inner = source.replica(MemoryLevel::new(), as_it_is);
    let batched = crate::BatchedTool::new().only(["read"]).with_scope(Scope::Public);
    let around = CachedTool::new();
    let outer = around.handle();
    let server = (around, batched).layer(inner.server.clone());
    let users = [user("ada"), user("bob")];
    let both = || async {
        let [ada, bob] = &users;
        tokio::join!(answer(&server, "read", json!({}), ada), answer(&server, "read", json!({}), bob))
    };
    let same = |version: &str| (version.to_owned(), version.to_owned());
    assert_eq!(both().await, same("0"));
    source.version.store(1, Ordering::SeqCst);
    outer.invalidate("read", &json!({}));
    assert_eq!(both().await, same("0"), "the inner cache has it still");
    inner.handle.invalidate("read", &json!({}));
    assert_eq!(both().await, same("1"));
}
