use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use turbomcp_types::Tool;

use super::*;
use crate::{Identity, Middleware, TryLayer, layer};

fn mistake(breaker: &BreakerTool) -> String {
    breaker.try_layer(server()).map(|_| "none".to_owned()).unwrap_or_else(|mistake| mistake.to_string())
}

#[test]
fn a_setting_that_cannot_work_is_an_error_that_says_what_to_do() {
    let new = BreakerTool::new;
    let group = |name: &str, tools: &[&str]| mistake(&new().with_group(name, tools.iter().copied()));
    let no_tools: [&str; 0] = [];
    let rate = "with_failure_rate: must be above 0 and at most 1, such as 0.5 for half of the calls";
    let cases = [
        (mistake(&new().with_window(Window::calls(0))), "with_window: must be greater than zero"),
        (
            mistake(&new().with_window(Window::calls(10_001))),
            "with_window: is too large: use at most 10000 calls, or a window of time",
        ),
        (mistake(&new().with_window(Window::time(Duration::ZERO))), "with_window: must be greater than zero"),
        (mistake(&new().with_window(Window::time(Duration::from_nanos(1)))), "with_window: must be at least 1 ms"),
        (mistake(&new().with_min_calls(0)), "with_min_calls: must be greater than zero"),
        (
            mistake(&new().with_window(Window::calls(4))),
            "with_min_calls: the window has at most 4 calls: set no more than that",
        ),
        (
            mistake(&new().with_window(Window::time(PAUSE)).with_min_calls(1_001)),
            "with_min_calls: the window has at most 1000 calls: set no more than that",
        ),
        (mistake(&new().with_failure_rate(0.0)), rate),
        (mistake(&new().with_failure_rate(1.1)), rate),
        (mistake(&new().with_failure_rate(f64::NAN)), rate),
        (mistake(&new().with_pause(Duration::ZERO)), "with_pause: must be greater than zero"),
        (mistake(&new().with_pause(Duration::from_nanos(1))), "with_pause: must be at least 1 ms"),
        (mistake(&new().with_probes(0)), "with_probes: must be greater than zero"),
        (mistake(&new().with_slow_calls(Duration::ZERO)), "with_slow_calls: must be greater than zero"),
        (group("", &["search"]), "with_group: the name is empty: name the group after what is behind its tools"),
        (
            mistake(&new().with_group("books", no_tools)),
            "with_group: the group `books` has no tools: name them, or remove it",
        ),
        (
            group("other", &["search"]),
            "with_group: there is a tool `other`, whose breaker has this name: rename the group",
        ),
        (
            mistake(&new().with_group("books", ["search"]).with_group("shop", ["search"])),
            "with_group: `search` is in the groups `books` and `shop`: remove it from one",
        ),
        (
            mistake(&new().with_group("books", ["search"]).except(["search"])),
            "with_group: `search` is in a group and is left out: remove one of the two",
        ),
    ];
    for (mistake, expected) in cases {
        assert_eq!(mistake, format!("BreakerTool::{expected}"));
    }
    assert!(mistake(&new().only(["serach"])).contains("`serach`"));
    assert!(group("books", &["serach"]).contains("did you mean `search`?"));
    assert!(mistake(&new().with_identity(Identity::new().with_tenant_claim(""))).contains("with_identity"));
    assert_eq!(mistake(&new().with_group("books", ["search"]).with_group("books", ["other"])), "none", "it adds tools");
    assert_eq!(mistake(&new().with_window(Window::calls(5)).with_failure_rate(1.0)), "none");
}

#[tokio::test(start_paused = true)]
async fn each_tool_has_its_own_breaker_and_a_group_has_one() {
    for (grouped, expected) in [(false, false), (true, true)] {
        let mut breaker = BreakerTool::new();
        if grouped {
            breaker = breaker.with_group("books", ["search", "other"]);
        }
        let server = breaker.layer(server());
        open(&server).await;
        assert_eq!(is_refused(&call(&server, "other", json!({})).await), expected);
        assert!(!is_refused(&call(&server, "order", json!({})).await));
    }
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_a_group_count_together() {
    let server = BreakerTool::new().with_group("books", ["search", "other"]).layer(server());
    for tool in ["search", "other", "search", "other", "search"] {
        assert!(!is_refused(&call(&server, tool, down()).await));
    }
    assert!(is_refused(&call(&server, "other", json!({})).await));
}

#[tokio::test(start_paused = true)]
async fn selectors_leave_tools_without_a_breaker() {
    let breaker = BreakerTool::new().only(["order"]);
    let handle = breaker.handle();
    let server = breaker.layer(server());
    for _ in 0..20 {
        assert!(!is_refused(&call(&server, "search", down()).await));
    }
    assert_eq!((handle.tools(), handle.stats().admitted), (vec!["order".to_owned()], 0));
}

#[test]
fn an_explanation_says_when_breakers_open_and_what_is_in_a_group() {
    let breaker = BreakerTool::new()
        .with_window(Window::time(Duration::from_secs(30)))
        .with_slow_calls(ms(500))
        .with_group("books", ["search", "other"]);
    let explained = crate::explain(&breaker.layer(server())).to_string();
    for words in
        ["window 30 s", "opens at 0.5 of at least 5 calls", "slow after 500 ms", "pause 5 s", "probes 1", "group books"]
    {
        assert!(explained.contains(words), "{words} in {explained}");
    }
    let explained = crate::explain(&BreakerTool::new().layer(server())).to_string();
    for words in ["window 20 calls", "slow after none"] {
        assert!(explained.contains(words), "{words} in {explained}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_and_an_announced_change_reset_no_breaker() {
    let breaker = BreakerTool::new();
    let bound = breaker.bind(&server()).expect("no mistake");
    let server = layer(bound.clone()).layer(server());
    open(&server).await;
    server.list_tools();
    bound.forget_definitions();
    server.list_tools_for(&user("ada"));
    assert!(is_refused(&call(&server, "search", json!({})).await));
}

#[tokio::test(start_paused = true)]
async fn tools_that_no_listing_has_share_one_breaker() {
    let breaker = BreakerTool::new().failure_if(|_| true);
    let handle = breaker.handle();
    let server = breaker.layer(server());
    for number in 0..100 {
        let _ = server.call_tool(&format!("made up {number}"), json!({}), &user("ada")).await;
    }
    assert_eq!(handle.breakers().len(), 4, "three are listed");
    assert_eq!(state(&handle, "(not listed)"), State::Open);
    assert_eq!(handle.stats().admitted, 5);
}

/// Lists other tools each time.
#[derive(Clone, Default)]
struct Endless(Arc<AtomicUsize>);

impl Middleware for Endless {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        let listing = self.0.fetch_add(1, Ordering::Relaxed);
        let mut tools = inner.list_tools();
        let first = tools[0].clone();
        tools.extend((0..100).map(|number| Tool { name: format!("{listing}-{number}"), ..first.clone() }));
        tools
    }
}

#[tokio::test(start_paused = true)]
async fn a_catalogue_that_makes_names_up_takes_no_memory_and_resets_no_open_breaker() {
    let breaker = BreakerTool::new().with_pause(Duration::from_secs(1_000_000)).failure_if(|_| true);
    let handle = breaker.handle();
    let server = breaker.layer(layer(Endless::default()).layer(server()));
    open(&server).await;
    // This one comes later, leaves the listing again, and the server does not know it.
    let late = server.list_tools().pop().expect("a tool").name;
    for _ in 0..5 {
        let _ = call(&server, &late, json!({})).await;
    }
    assert_eq!(state(&handle, &late), State::Open);
    for _ in 0..300 {
        server.list_tools();
        advance(Duration::from_secs(61)).await;
    }
    assert!(handle.breakers().len() <= 2_000, "{}", handle.breakers().len());
    assert!(is_refused(&call(&server, "search", json!({})).await));
    assert_eq!(state(&handle, &late), State::Open, "it is not the one of a new tool");
}
