//! Removed tools.

use std::time::Duration;

use mcp_patterns::Middleware;
use tokio::time::advance;

use super::*;

/// Lists one tool, with another name each time.
fn growing() -> Catalogue {
    let listings = AtomicUsize::new(0);
    Catalogue::new(move |_| {
        let number = listings.fetch_add(1, Ordering::SeqCst);
        vec![with_arguments(&format!("report_{number:06}"), &["month"])]
    })
}

#[test]
fn a_catalogue_that_keeps_changing_takes_no_more_memory_with_time() {
    let server = (ValidatedTool::new(), CachedTool::new(), RetryTool::new()).layer(growing());
    let list = |times: usize| (0..times).for_each(|_| drop(server.list_tools_for(&nobody())));
    // As many as layers keep at most, and one round more.
    list(12_000);
    let growth = allocation_counter::measure(|| list(4_000));
    assert!(growth.bytes_current < 4 << 20, "{} bytes for removed tools", growth.bytes_current);
}

#[tokio::test(start_paused = true)]
async fn removed_tools_are_forgotten_after_a_minute_or_two() {
    let server = ValidatedTool::new().layer(growing());
    let list = || (0..1_000).for_each(|_| drop(server.list_tools_for(&nobody())));
    list();
    let growth = allocation_counter::measure(list);
    let each = growth.bytes_current / 1_000;
    let freed = {
        advance(Duration::from_secs(60)).await;
        server.list_tools_for(&nobody());
        advance(Duration::from_secs(60)).await;
        allocation_counter::measure(|| drop(server.list_tools_for(&nobody()))).bytes_current
    };
    assert!(-freed > each * 1_500, "{} of {each} bytes for each of 2,000 tools", -freed);
}

#[test]
fn the_cost_of_a_new_tool_does_not_grow_with_the_known_tools() {
    let server = CachedTool::new().layer(growing());
    let list = || drop(server.list_tools_for(&nobody()));
    list();
    let few = allocation_counter::measure(list).bytes_total;
    (0..5_000).for_each(|_| list());
    // The least of several: sometimes the table that counts them grows.
    let many = (0..10).map(|_| allocation_counter::measure(list).bytes_total).min().expect("some");
    assert!(many < few + 1024, "{few} bytes at first, {many} later");
}

/// Lists `send` and `look` while the upstream is there.
fn upstream() -> (Catalogue, Arc<AtomicUsize>) {
    let away = Arc::new(AtomicUsize::new(0));
    let is_away = Arc::clone(&away);
    let catalogue = Catalogue::new(move |_| {
        let mut tools = vec![tool("ping")];
        if is_away.load(Ordering::SeqCst) == 0 {
            tools.extend([with_arguments("send", &["to"]), read_only("look"), tool("write")]);
        }
        tools
    });
    (catalogue, away)
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_upstream_removes_the_protection_of_no_tool() {
    let (script, away) = upstream();
    let server = (ValidatedTool::new(), IdempotentTool::new(MemoryBackend::new()).when(|tool| tool.name == "send"))
        .layer(script.clone());
    let send = async |args: Value| call(&server, "send", args, &nobody()).await;
    away.store(1, Ordering::SeqCst);
    for minutes in 0..4 {
        server.list_tools_for(&nobody());
        // It is still called: it is known for a while, then refused, and never unprotected.
        let refused = send(json!({"to": "much too long"})).await;
        let kind = if minutes < 2 { ErrorKind::InvalidParams } else { ErrorKind::ToolNotFound };
        assert_eq!(refused, Err(Some(kind)), "after {minutes} minutes");
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(script.calls("send"), 0);
    away.store(0, Ordering::SeqCst);
    for _ in 0..2 {
        let sent = send(json!({"to": "Bob", "idempotency_key": "once"})).await;
        assert_eq!(sent.as_deref(), Ok(r#"1 {"to":"Bob"}"#));
    }
    assert_eq!(send(json!({"to": "much too long"})).await, Err(Some(ErrorKind::InvalidParams)));
}

#[tokio::test(start_paused = true)]
async fn a_setting_for_a_tool_holds_while_the_tool_is_not_listed() {
    let (script, away) = upstream();
    let server = CachedTool::new().only(["look"]).invalidates("write", ["look"]).layer(script.clone());
    away.store(1, Ordering::SeqCst);
    for _ in 0..4 {
        advance(Duration::from_secs(60)).await;
        server.list_tools_for(&nobody());
    }
    server.middleware().forget_definitions();
    let mut looks = Vec::new();
    for name in ["look", "look", "write", "look"] {
        looks.push(call(&server, name, json!({}), &nobody()).await.expect("an answer"));
    }
    assert_eq!(looks, ["1 {}", "1 {}", "1 {}", "2 {}"]);
}

#[tokio::test(start_paused = true)]
async fn a_tool_missing_from_other_callers_listings_stays_cached_for_its_callers() {
    let script = for_members();
    let server = CachedTool::new().layer(script.clone());
    server.list_tools_for(&user("ada"));
    assert_eq!(call(&server, "look", json!({}), &user("ada")).await.as_deref(), Ok("1 {}"));
    for _ in 0..4 {
        advance(Duration::from_secs(60)).await;
        server.list_tools_for(&nobody());
    }
    let listings = script.listings();
    for _ in 0..10 {
        assert_eq!(call(&server, "look", json!({}), &user("ada")).await.as_deref(), Ok("1 {}"));
    }
    assert_eq!(script.listings(), listings + 1);
}
