//! How much retries add to the load of an upstream that fails for all callers.

use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::super::{Budget, Jitter};
use super::*;

/// A budget that holds `burst` retries and earns none.
fn saved(burst: u32) -> Budget {
    Budget::new().with_ratio(0.0).with_retries_per_second(0.0).with_burst(burst)
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_stops_retries_from_multiplying_an_outage() {
    let script = failing(ALWAYS, down());
    let server = RetryTool::new().with_seed(7).layer(script.clone());
    let mut calls = JoinSet::new();
    let mut reached_before = 0;
    for millis in 0..60_000 {
        if millis == 1_000 {
            reached_before = script.calls("get");
        }
        let server = server.clone();
        calls.spawn(async move { call(&server).await });
        sleep(ms(1)).await;
    }
    calls.join_all().await;

    assert!((1_100..=1_300).contains(&reached_before), "the burst was spent in the first second: {reached_before}");
    let reached = script.calls("get") - reached_before;
    assert!(reached <= 59_000 * 12 / 10, "{reached} for 59,000 calls");
    assert!(reached >= 59_000 * 105 / 100, "retries go on: {reached} for 59,000 calls");
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_retries_multiply_an_outage() {
    let script = failing(ALWAYS, down());
    let server = RetryTool::new().without_budget().layer(script.clone());
    for _ in 0..500 {
        call(&server).await.unwrap();
    }
    assert_eq!(script.calls("get"), 1_500);
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_spent_budget_fails_at_once_and_states_the_reason() {
    let script = failing(ALWAYS, down());
    // Half of the budget is left for others.
    let server = RetryTool::new().with_budget(saved(6)).layer(script.clone());
    assert_eq!(notes(&call(&server).await), (json!(3), json!("attempts")));
    assert_eq!(notes(&call(&server).await), (json!(2), json!("budget")));
    let began = tokio::time::Instant::now();
    assert_eq!(notes(&call(&server).await), (json!(1), json!("budget")));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(script.calls("get"), 6);
}

#[tokio::test(start_paused = true)]
async fn the_budget_recovers_by_calls_that_succeed() {
    let budget = Budget::new().with_retries_per_second(0.0).with_burst(1);
    let script = ScriptedServer::new("upstream")
        .with_read_only("get", |_| ready(Err(down())))
        .with_read_only("works", |_| ready(Ok(ToolResult::text("here"))));
    let server = RetryTool::new().with_budget(budget.clone()).layer(script.clone());
    call(&server).await.unwrap();
    assert_eq!((script.calls("get"), budget.available()), (2, 0));

    for _ in 0..10 {
        server.call_tool("works", json!({}), &RequestContext::new()).await.unwrap();
    }
    assert_eq!(budget.available(), 1, "ten calls pay for one retry");
    call(&server).await.unwrap();
    assert_eq!(script.calls("get"), 4);
}

#[tokio::test(start_paused = true)]
async fn the_budget_recovers_by_time() {
    let budget = Budget::new().with_ratio(0.0).with_retries_per_second(2.0).with_burst(4);
    assert_eq!((0..9).filter(|_| budget.withdraw(None)).count(), 4);
    advance(ms(499)).await;
    assert!(!budget.withdraw(None));
    advance(ms(1)).await;
    assert!(budget.withdraw(None));
    assert!(!budget.withdraw(None));
    advance(Duration::from_secs(3_600)).await;
    assert_eq!((0..9).filter(|_| budget.withdraw(None)).count(), 4, "no more than the burst is saved up");
}

#[tokio::test(start_paused = true)]
async fn the_budget_recovers_by_time_however_often_it_is_read() {
    let budget = Budget::new().with_ratio(0.0).with_burst(1);
    assert!(budget.withdraw(None));
    let granted = (0..40_000).map(async |_| {
        advance(Duration::from_micros(100)).await;
        budget.withdraw(None)
    });
    let mut retries = 0;
    for granted in granted {
        retries += u32::from(granted.await);
    }
    assert!((3..=4).contains(&retries), "one per second for four seconds, not {retries}");
}

#[tokio::test(start_paused = true)]
async fn available_tokens_include_the_tokens_added_over_time() {
    let budget = Budget::new().with_burst(4);
    assert_eq!((0..9).filter(|_| budget.withdraw(None)).count(), 4);
    assert_eq!(budget.available(), 0);
    advance(Duration::from_secs(2)).await;
    assert_eq!(budget.available(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_small_ratio_adds_up() {
    let budget = Budget::new().with_ratio(0.0004).with_retries_per_second(0.0).with_burst(1);
    assert!(budget.withdraw(None));
    for _ in 0..2_600 {
        budget.deposit(None);
    }
    assert_eq!(budget.available(), 1, "2,600 calls at 0.0004 pay for one retry");
}

#[tokio::test(start_paused = true)]
async fn the_burst_bounds_the_saved_tokens() {
    let budget = Budget::new().with_burst(3);
    for _ in 0..1_000 {
        budget.deposit(None);
    }
    assert_eq!(budget.available(), 3);
}

#[tokio::test(start_paused = true)]
async fn two_layers_with_one_budget_share_it() {
    let budget = saved(3);
    let (one, other) = (failing(ALWAYS, down()), failing(ALWAYS, down()));
    let first = RetryTool::new().with_budget(budget.clone()).layer(one.clone());
    let second = RetryTool::new().with_budget(budget.clone()).layer(other.clone());
    call_with(&first, &user("ada")).await.unwrap();
    call_with(&second, &user("bob")).await.unwrap();
    assert_eq!((one.calls("get"), other.calls("get"), budget.available()), (3, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_applied_again_or_cloned_keeps_its_budget() {
    let retry = RetryTool::new().with_budget(saved(3));
    let (one, other) = (failing(ALWAYS, down()), failing(ALWAYS, down()));
    call_with(&retry.layer(one.clone()), &user("ada")).await.unwrap();
    call_with(&retry.clone().layer(other.clone()), &user("bob")).await.unwrap();
    assert_eq!((one.calls("get"), other.calls("get")), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn two_separately_created_layers_have_separate_budgets() {
    let quick = || RetryTool::new().with_jitter(Jitter::None).with_base_delay(ms(1)).with_max_attempts(1_000);
    for _ in 0..2 {
        let script = failing(ALWAYS, down());
        let result = call(&quick().with_factor(1.0).layer(script.clone())).await;
        assert_eq!(notes(&result), (json!(52), json!("budget")), "the first call, half of a hundred, and one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_burst_makes_a_new_budget() {
    let budget = saved(2);
    let other = budget.clone().with_burst(5);
    assert!(other.withdraw(None));
    assert_eq!((budget.available(), other.available()), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_not_retried_costs_no_token() {
    let budget = saved(5);
    let server = RetryTool::new()
        .with_budget(budget.clone())
        .with_deadline(ms(10))
        .with_jitter(Jitter::None)
        .layer(failing(ALWAYS, down()));
    assert_eq!(notes(&call(&server).await), (json!(1), json!("deadline")));
    assert_eq!(budget.available(), 5);
}
