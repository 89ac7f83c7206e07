use super::*;
use crate::TryLayer;

fn mistake(limits: &LimitedTool) -> String {
    limits.try_layer(server()).map(|_| "none".to_owned()).unwrap_or_else(|mistake| mistake.to_string())
}

#[test]
fn a_setting_that_cannot_work_is_an_error_that_says_what_to_do() {
    let new = LimitedTool::new;
    let rate = |rate| mistake(&new().with_rate(Per::Tool, rate));
    let concurrency = |concurrency| mistake(&new().with_concurrency(Per::Tool, concurrency));
    let cases = [
        (mistake(&new()), "new: it limits nothing: set `with_timeout`, `with_rate` or `with_concurrency`"),
        (rate(Rate::per_second(0)), "with_rate: no call would ever be let through: allow at least one"),
        (
            rate(Rate::per_second(1).with_burst(0)),
            "with_rate: no call would ever be let through: set a burst of at least one",
        ),
        (rate(Rate::new(1, Duration::ZERO)), "with_rate: the period is zero: set one, such as a second"),
        (concurrency(Concurrency::new(0)), "with_concurrency: no call would ever run: allow at least one"),
        (concurrency(Concurrency::new(usize::MAX)), "with_concurrency: is too large: leave the limit out"),
        (
            concurrency(Concurrency::new(1).with_queue(1).with_max_wait(Duration::ZERO)),
            "with_concurrency: a call would never wait: set a `with_max_wait` of at least a millisecond, or no queue",
        ),
        (
            concurrency(Concurrency::new(1).with_slow_after(secs(1))),
            "with_concurrency: `with_slow_after` has no effect without `with_adaptive_limit`: set both, or neither",
        ),
        (
            concurrency(Concurrency::new(1).with_adaptive_limit(1, 2).with_slow_after(Duration::ZERO)),
            "with_concurrency: every call would be slow: set a `with_slow_after` above zero",
        ),
        (
            concurrency(Concurrency::new(1).with_adaptive_limit(0, 2)),
            "with_concurrency: no call would run at the lowest limit: set a `with_adaptive_limit` from at least one",
        ),
        (
            concurrency(Concurrency::new(1).with_adaptive_limit(1, usize::MAX)),
            "with_concurrency: the highest limit is too large: set a lower `with_adaptive_limit`",
        ),
        (
            concurrency(Concurrency::new(9).with_adaptive_limit(1, 8)),
            "with_concurrency: the limit begins outside of `with_adaptive_limit`: choose a number between its bounds",
        ),
        (mistake(&new().with_timeout(secs(1)).with_replicas(0)), "with_replicas: must be greater than zero"),
        (
            mistake(&new().with_concurrency(Per::Tool, Concurrency::new(9).with_adaptive_limit(2, 9)).with_replicas(3)),
            "with_replicas: each process would have less than one place of a concurrency: allow more calls",
        ),
        (
            mistake(&new().with_timeout(secs(1)).with_max_principals(0)),
            "with_max_principals: must be greater than zero",
        ),
        (
            mistake(&new().with_timeout(secs(1)).with_cost("order", 2)),
            "with_cost: no rate is set, so nothing is counted: set `with_rate`, or no cost",
        ),
        (
            mistake(&new().with_rate(Per::Tool, Rate::per_second(1)).with_cost("order", 2).except(["order"])),
            "with_cost: `order` has a cost and is left out: remove one of the two",
        ),
    ];
    for (mistake, expected) in cases {
        assert_eq!(mistake, format!("LimitedTool::{expected}"));
    }
    assert!(mistake(&new().with_timeout(Duration::ZERO)).contains("with_timeout"));
    assert!(mistake(&new().with_timeout(secs(1)).only(["serach"])).contains("`serach`"));
    assert!(mistake(&new().with_rate(Per::Tool, Rate::per_second(1)).with_cost("odrer", 2)).contains("`odrer`"));
    assert_eq!(mistake(&new().with_concurrency(Per::Tool, Concurrency::new(1).with_max_wait(Duration::ZERO))), "none");
}

#[tokio::test(start_paused = true)]
async fn selectors_leave_tools_without_limits() {
    let limits = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1)).only(["search"]);
    let handle = limits.handle();
    let server = limits.layer(server());
    for _ in 0..3 {
        assert_eq!(call(&server, "order", json!({}), &user("ada")).await, Ok(()));
    }
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert!(search(&server, &user("ada")).await.is_err());
    assert_eq!(handle.tools(), ["search"]);
}

#[test]
fn an_explanation_says_the_limits_and_the_costs() {
    let limits = LimitedTool::new()
        .with_timeout(secs(5))
        .with_rate(Per::Principal, Rate::per_minute(60).with_burst(10))
        .with_concurrency(Per::Tool, Concurrency::new(8).with_queue(32))
        .with_concurrency(Per::Principal, Concurrency::new(4).with_adaptive_limit(2, 6).with_slow_after(secs(3)))
        .with_replicas(2)
        .with_cost("order", 5);
    let explained = crate::explain(&limits.layer(server())).to_string();
    for words in [
        "timeout 5 s",
        "rate per principal 60 in 1 min, 10 at once",
        "concurrency per tool 8, and 32 wait up to 10 s",
        "concurrency per principal 4 at first, 2 to 6, slow after 3 s",
        "replicas 2",
        "cost 5",
    ] {
        assert!(explained.contains(words), "{words} in {explained}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_changes_a_tool_resets_nothing_that_is_used() {
    let server = LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(1)).layer(server());
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    server.list_tools();
    server.list_tools_for(&user("ada"));
    assert!(search(&server, &user("ada")).await.is_err());
}
