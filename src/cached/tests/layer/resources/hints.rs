//! What clients are told about how long they may keep a resource.

use tokio::time::advance;

use super::*;
use crate::cache_hints::CACHE_HINTS;

fn hinted() -> Reads {
    Reads::new().with_ttl(MINUTE).with_cache_hints()
}

async fn hints(server: &impl McpHandler, ctx: &RequestContext) -> Value {
    wire(server, Resource, "one", ctx).await.expect("an answer")["_meta"][CACHE_HINTS].take()
}

fn is(ttl_ms: u64, scope: &str) -> Value {
    json!({"ttlMs": ttl_ms, "cacheScope": scope})
}

#[tokio::test(start_paused = true)]
async fn a_client_may_keep_a_resource_for_what_remains_of_its_time() {
    let server = Shelf::numbered().with(CachedTool::new().with_resources(hinted()));
    for expected in [60_000, 40_000, 20_000, 60_000] {
        assert_eq!(hints(&server, &nobody()).await, is(expected, "private"));
        advance(MINUTE / 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_resource_that_all_callers_share_is_public() {
    for (scope, expected) in [(Scope::Public, "public"), (Scope::Principal, "private"), (Scope::Session, "private")] {
        let server = Shelf::numbered().with(CachedTool::new().with_resources(hinted().with_scope(scope)));
        let ctx = nobody().with_session_id("one");
        assert_eq!(hints(&server, &ctx).await, is(60_000, expected), "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_hint_is_never_above_the_shortest_life_of_an_entry() {
    let jittered = CachedTool::new().with_ttl_jitter(0.25).with_resources(hinted());
    assert_eq!(hints(&Shelf::numbered().with(jittered), &nobody()).await, is(45_000, "private"));
    let idle = CachedTool::new().with_idle_time(MINUTE / 6).with_resources(hinted());
    assert_eq!(hints(&Shelf::numbered().with(idle), &nobody()).await, is(10_000, "private"));
    let stale = CachedTool::new().with_stale_while_revalidate(MINUTE).with_resources(hinted());
    let server = Shelf::numbered().with(stale);
    hints(&server, &nobody()).await;
    advance(MINUTE + MINUTE / 2).await;
    assert_eq!(hints(&server, &nobody()).await, is(0, "private"), "past its time, nothing remains");
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_and_for_an_answer_that_is_not_kept_there_is_no_hint() {
    let server = Shelf::numbered().with(CachedTool::new().with_resources(Reads::new()));
    assert_eq!(hints(&server, &nobody()).await, Value::Null);
    let server = Shelf::numbered().with(CachedTool::new().with_resources(hinted().when(|uri| uri != "one")));
    assert_eq!(hints(&server, &nobody()).await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_an_inner_layer_counts() {
    let inner = CachedTool::new().with_resources(hinted());
    let outer = CachedTool::new().with_resources(hinted().with_ttl(2 * MINUTE).with_scope(Scope::Public));
    let server = (outer, inner, layer(Shelf::numbered())).layer(numbered());
    assert_eq!(hints(&server, &nobody()).await, is(60_000, "private"));
    advance(MINUTE / 2).await;
    assert_eq!(hints(&server, &nobody()).await, is(30_000, "private"));
}

#[test]
fn explain_names_the_hints() {
    let server = Shelf::numbered().with(CachedTool::new().with_resources(hinted()));
    let text = crate::explain(&server).to_string();
    assert!(text.contains("cache hints of resources"), "{text}");
    let without = Shelf::numbered().with(CachedTool::new().with_resources(Reads::new()));
    assert!(!crate::explain(&without).to_string().contains("cache hints"));
}
