//! How much of a budget one caller can use.

use std::collections::HashMap;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::{Budget, Jitter, RetryPolicy};
use super::*;
use crate::Identity;

/// A server whose `get` always fails for a user whose name begins with `broken`, and for others on every twentieth
/// attempt.
fn upstream() -> ScriptedServer {
    let attempts = Arc::<Mutex<HashMap<String, usize>>>::default();
    ScriptedServer::new("upstream").with_read_only("get", move |call| {
        let name = call.ctx.subject().unwrap_or_default().to_owned();
        let mut attempts = attempts.lock().unwrap();
        // They begin at different positions; otherwise all of them would fail at the same time.
        let number = name.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let attempt = attempts.entry(name.clone()).or_insert(number);
        *attempt += 1;
        let fails = name.starts_with("broken") || attempt.is_multiple_of(20);
        ready(if fails { Err(down()) } else { Ok(ToolResult::text("here")) })
    })
}

/// Makes the calls of a minute: a hundred healthy users call once a second each, the broken ones a hundred times.
/// Returns how many calls of the healthy users failed, how often the tool was called, and for how many calls.
async fn a_minute(broken: usize, healthy: usize) -> (usize, usize, usize) {
    let script = upstream();
    let server = RetryTool::new().with_seed(11).layer(script.clone());
    let mut calls = JoinSet::new();
    let mut made = 0;
    let mut start = |name: String| {
        made += 1;
        let server = server.clone();
        calls.spawn(async move {
            let failed = call_with(&server, &user(&name)).await.unwrap().is_error();
            failed && name.starts_with("healthy")
        });
    };
    for centiseconds in 0..6_000 {
        (0..broken).for_each(|number| start(format!("broken {number}")));
        (0..healthy)
            .filter(|number| number % 100 == centiseconds % 100)
            .for_each(|number| start(format!("healthy {number}")));
        sleep(ms(10)).await;
    }
    let failed = calls.join_all().await.into_iter().filter(|failed| *failed).count();
    (failed, script.calls("get"), made)
}

#[tokio::test(start_paused = true)]
async fn one_user_whose_calls_all_fail_takes_no_retry_from_a_hundred_others() {
    let (failed, reached, made) = a_minute(1, 100).await;
    assert_eq!(failed, 0, "of the others' calls");
    assert!(reached - made >= 300, "their retries alone: {reached} for {made}");
    assert!(reached - made <= 100 + 60 + made / 10, "all within the one budget: {reached} for {made}");
}

#[tokio::test(start_paused = true)]
async fn ten_users_whose_calls_all_fail_take_no_retry_from_a_hundred_others() {
    let (failed, reached, made) = a_minute(10, 100).await;
    assert_eq!(failed, 0, "of the others' calls");
    assert!(reached - made <= 100 + 60 + made / 10, "all within the one budget: {reached} for {made}");
}

#[tokio::test(start_paused = true)]
async fn retries_multiply_an_outage_for_all_callers_no_more_than_the_budget_allows() {
    let (_, reached, made) = a_minute(20, 0).await;
    let retries = reached - made;
    assert!(retries <= 100 + 60 + made / 10, "{retries} retries for {made} calls");
    assert!(retries >= made / 11, "and retries go on: {retries} for {made} calls");
}

/// A budget that holds `burst` retries and earns none.
fn saved(burst: u32) -> Budget {
    Budget::new().with_ratio(0.0).with_retries_per_second(0.0).with_burst(burst)
}

/// Returns how many retries a caller gets who takes as many as possible.
async fn retries(retry: &RetryTool, ctx: &RequestContext) -> usize {
    let script = failing(ALWAYS, down());
    let retry =
        retry.clone().with_max_attempts(1_000).with_jitter(Jitter::None).with_base_delay(ms(1)).with_factor(1.0);
    call_with(&retry.layer(script.clone()), ctx).await.unwrap();
    script.calls("get") - 1
}

#[tokio::test(start_paused = true)]
async fn a_callers_retries_never_exceed_the_rest_left_for_others() {
    let retry = RetryTool::new().with_budget(saved(100));
    for (name, share) in [("ada", 50), ("ada", 0), ("bob", 25), ("cyd", 13), ("ada", 0)] {
        assert_eq!(retries(&retry, &user(name)).await, share, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn anonymous_callers_are_distinguished_by_their_connection() {
    let retry = RetryTool::new().with_budget(saved(100));
    let on = |connection: &str| RequestContext::new().with_session_id(connection);
    for (connection, share) in [("1", 50), ("1", 0), ("2", 25)] {
        assert_eq!(retries(&retry, &on(connection)).await, share, "{connection}");
    }
    let ada = |connection| user("ada").with_session_id(connection);
    assert_eq!(retries(&retry, &ada("1")).await, 13);
    assert_eq!(retries(&retry, &ada("2")).await, 0, "an authenticated user is one caller on all connections");
}

#[tokio::test(start_paused = true)]
async fn callers_are_distinguished_by_the_identity() {
    let by_header = Identity::new().with_partition(|ctx| json!(ctx.get_metadata_str("desk")));
    let retry = RetryTool::new().with_budget(saved(100)).with_identity(by_header);
    let at = |name: &str, desk: &str| user(name).with_metadata("desk", desk);
    assert_eq!(retries(&retry, &at("ada", "1")).await, 50);
    assert_eq!(retries(&retry, &at("bob", "1")).await, 0);
    assert_eq!(retries(&retry, &at("ada", "2")).await, 25);
}

#[tokio::test(start_paused = true)]
async fn a_full_budget_clears_all_usage() {
    let budget = Budget::new().with_ratio(0.0).with_retries_per_second(10.0).with_burst(10);
    let retry = RetryTool::new().with_budget(budget.clone());
    assert!(retries(&retry, &user("ada")).await >= 5);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.available(), 10);
    assert!(retries(&retry, &user("ada")).await >= 5);
}

#[tokio::test(start_paused = true)]
async fn only_the_callers_own_calls_reduce_its_usage() {
    let budget = Budget::new().with_ratio(0.1).with_retries_per_second(0.0).with_burst(100);
    let retry = RetryTool::new().with_budget(budget.clone());
    let healthy = retry.layer(failing(0, down()));
    assert_eq!(retries(&retry, &user("ada")).await, 50);
    assert_eq!(retries(&retry, &user("bob")).await, 26);
    for _ in 0..100 {
        call_with(&healthy, &user("bob")).await.unwrap();
    }
    // Ten tokens came in, and ten of Bob's 26 are paid back: 34 are left, Bob has used 16 and Ada 50.
    assert_eq!(retries(&retry, &user("ada")).await, 0);
    assert_eq!(retries(&retry, &user("bob")).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_policy_inside_a_tool_gives_its_caller_a_share_and_work_without_a_caller_the_whole_budget() {
    let policy =
        RetryPolicy::new().with_budget(saved(100)).with_max_attempts(1_000).with_base_delay(ms(1)).with_factor(1.0);
    let attempts = async |attempt: &mut u32, ctx: Option<&RequestContext>| {
        let mut count = |number| {
            *attempt = number;
            ready(Err::<(), _>(down()))
        };
        match ctx {
            Some(ctx) => policy.run(ctx, &mut count).await.unwrap_err(),
            None => policy.run(&(), &mut count).await.unwrap_err(),
        };
    };
    let mut attempt = 0;
    attempts(&mut attempt, Some(&user("ada"))).await;
    assert_eq!(attempt - 1, 50);
    attempts(&mut attempt, None).await;
    assert_eq!(attempt - 1, 50, "what is left");
}
