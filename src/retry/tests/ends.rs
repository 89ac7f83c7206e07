//! The events that end a call before its last attempt: the caller, the deadline, a timeout, a panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use turbomcp_core::ErrorKind;

use super::super::{Budget, Jitter};
use super::*;
use crate::outcome;

/// Waits exactly ten seconds before the second attempt.
fn slow() -> RetryTool {
    RetryTool::new().with_jitter(Jitter::None).with_base_delay(ms(10_000))
}

/// A server whose `get` takes `latency` and then fails.
fn failing_after(latency: Duration) -> ScriptedServer {
    ScriptedServer::new("upstream").with_read_only("get", move |_| async move {
        sleep(latency).await;
        Err(down())
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_during_a_delay_makes_no_further_attempt_and_leaves_nothing_behind() {
    let script = failing(ALWAYS, down());
    let server = slow().layer(script.clone());
    timeout(ms(100), call(&server)).await.unwrap_err();
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    sleep(ms(60_000)).await;
    assert_eq!(script.calls("get"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_during_an_attempt_drops_the_attempt() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let script = ScriptedServer::new("upstream").with_read_only("get", move |_| {
        let held = Arc::clone(&held);
        async move {
            sleep(ms(1_000)).await;
            drop(held);
            Err(down())
        }
    });
    let server = slow().layer(script.clone());
    timeout(ms(100), call(&server)).await.unwrap_err();
    assert_eq!(Arc::strong_count(&alive), 2, "the script has one, the attempt none");
}

#[tokio::test(start_paused = true)]
async fn a_call_cancelled_during_a_delay_ends_within_50_ms() {
    for at in [1, 49, 50, 73, 1_025] {
        let script = failing(ALWAYS, down());
        let server = slow().layer(script.clone());
        let token = Token::default();
        let ctx = token.ctx();
        let began = Instant::now();
        let cancel = async {
            sleep(ms(at)).await;
            token.cancel();
        };
        let (result, ()) = tokio::join!(call_with(&server, &ctx), cancel);
        let late = began.elapsed() - ms(at);
        assert!(late <= ms(50), "cancelled at {at} ms, ended {late:?} later");
        assert_eq!(notes(&result), (json!(1), json!("cancelled")));
        sleep(ms(60_000)).await;
        assert_eq!(script.calls("get"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_cancelled_during_an_attempt_ends_with_the_attempt() {
    let script = failing_after(ms(200));
    let told = Log::new();
    let budget = Budget::new();
    let retry = slow().with_budget(budget.clone()).on_retry({
        let told = told.clone();
        move |event| told.push(event.attempt)
    });
    let server = retry.layer(script.clone());
    let token = Token::default();
    let ctx = token.ctx();
    let began = Instant::now();
    let cancel = async {
        sleep(ms(10)).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(call_with(&server, &ctx), cancel);
    assert_eq!(began.elapsed(), ms(200));
    assert_eq!(notes(&result), (json!(1), json!("cancelled")));
    assert_eq!(script.calls("get"), 1);
    assert_eq!((told.entries(), budget.available()), (vec![], 100), "no retry is reported or paid for");
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_at_the_end_of_a_delay_stops_the_next_attempt() {
    let script = failing(ALWAYS, down());
    let server = RetryTool::new().with_jitter(Jitter::None).with_base_delay(ms(75)).layer(script.clone());
    let token = Token::default();
    let ctx = token.ctx();
    let cancel = async {
        sleep(ms(74)).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(call_with(&server, &ctx), cancel);
    assert_eq!((script.calls("get"), notes(&result)), (1, (json!(1), json!("cancelled"))));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_never_cancelled_changes_nothing() {
    let script = failing(2, down());
    let began = Instant::now();
    let server = RetryTool::new().with_jitter(Jitter::None).layer(script.clone());
    assert!(!call_with(&server, &Token::default().ctx()).await.unwrap().is_error());
    assert_eq!((script.calls("get"), began.elapsed()), (3, ms(150)));
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_or_is_waited_for_after_the_deadline() {
    let script = failing(ALWAYS, down());
    let began = Instant::now();
    let retry = RetryTool::new().with_jitter(Jitter::None).with_max_attempts(99);
    let result = call(&retry.with_deadline(ms(400)).layer(script.clone())).await;
    assert_eq!(notes(&result), (json!(4), json!("deadline")));
    assert_eq!(began.elapsed(), ms(350), "the next attempt would have begun at 750 ms");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_30_s_by_default_and_can_be_disabled() {
    let retry = RetryTool::new().with_jitter(Jitter::None).with_max_attempts(20);
    let began = Instant::now();
    let result = call(&retry.clone().layer(failing(ALWAYS, down()))).await;
    assert_eq!(notes(&result), (json!(10), json!("deadline")));
    assert_eq!(began.elapsed(), ms(25_550), "the next attempt would have begun at 45.55 s");

    let result = call(&retry.clone().without_deadline().layer(failing(ALWAYS, down()))).await;
    assert_eq!(notes(&result), (json!(20), json!("attempts")));

    let just_within = retry.clone().with_delays(|| std::iter::once(ms(29_999)));
    assert_eq!(notes(&call(&just_within.layer(failing(1, down()))).await), (json!(2), Value::Null));
    let just_beyond = retry.with_delays(|| std::iter::once(ms(30_000)));
    assert_eq!(notes(&call(&just_beyond.layer(failing(1, down()))).await), (json!(1), json!("deadline")));
}

#[tokio::test(start_paused = true)]
async fn the_duration_of_attempts_counts_towards_the_deadline() {
    let script = failing_after(ms(300));
    let retry = RetryTool::new().with_jitter(Jitter::None).with_max_attempts(99).with_deadline(ms(1_000));
    let result = call(&retry.layer(script.clone())).await;
    // They begin at 0, 350 and 750 ms; the next would begin at 1,250 ms.
    assert_eq!(notes(&result), (json!(3), json!("deadline")));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_running_is_not_cut_short_by_the_deadline() {
    let script = ScriptedServer::new("upstream").with_read_only("get", |_| async {
        sleep(Duration::from_secs(3_600)).await;
        Ok(ToolResult::text("here"))
    });
    assert_eq!(call(&RetryTool::new().layer(script)).await.unwrap(), ToolResult::text("here"));
}

/// A server whose `get` hangs on its first `times` calls.
fn hanging(times: usize) -> ScriptedServer {
    ScriptedServer::new("upstream").with_read_only("get", move |call| async move {
        if call.number <= times {
            std::future::pending::<()>().await;
        }
        Ok(ToolResult::text("here"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_is_dropped_after_its_timeout_and_retried() {
    let script = hanging(2);
    let began = Instant::now();
    let retry = RetryTool::new().with_jitter(Jitter::None).with_attempt_timeout(ms(200));
    let result = call(&retry.layer(script.clone())).await;
    assert_eq!(result.as_ref().unwrap().first_text(), Some("here"));
    assert_eq!(script.calls("get"), 3);
    assert_eq!(began.elapsed(), ms(200 + 50 + 200 + 100));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_attempts_all_hang_ends_with_a_timeout() {
    let server = RetryTool::new().with_attempt_timeout(ms(200)).layer(hanging(ALWAYS));
    let result = call(&server).await;
    let failure = outcome::failure(&result).unwrap();
    assert_eq!(failure.kind(), Some(ErrorKind::Timeout));
    assert_eq!(failure.message(), "No answer within 200 ms");
    assert!(result.is_ok(), "it surfaces as the failure of a tool does");
    assert_eq!(notes(&result), (json!(3), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_gets_only_the_rest_of_the_deadline() {
    let began = Instant::now();
    let retry = RetryTool::new()
        .with_jitter(Jitter::None)
        .with_max_attempts(99)
        .with_deadline(ms(1_000))
        .with_attempt_timeout(ms(600));
    let result = call(&retry.layer(hanging(ALWAYS))).await;
    assert_eq!(began.elapsed(), ms(1_000), "600 ms, 50 ms between them, and the remaining 350 ms");
    assert_eq!(result.as_ref().unwrap().first_text(), Some("No answer within 350 ms"));
    assert_eq!(notes(&result), (json!(2), json!("deadline")));
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_has_its_whole_timeout_even_beyond_the_deadline() {
    let began = Instant::now();
    let retry = RetryTool::new().with_deadline(ms(100)).with_attempt_timeout(ms(600));
    let result = call(&retry.layer(hanging(ALWAYS))).await;
    assert_eq!(began.elapsed(), ms(600));
    assert_eq!(notes(&result), (json!(1), json!("deadline")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_attempt_reaches_the_caller_and_leaves_the_layer_usable() {
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| async move {
        match call.number {
            1 => Err(down()),
            2 => panic!("a bug in the tool"),
            3 => Err(down()),
            _ => Ok(ToolResult::text("here")),
        }
    });
    let budget = Budget::new().with_ratio(0.0).with_retries_per_second(0.0);
    let server = RetryTool::new().with_seed(7).with_budget(budget.clone()).layer(script.clone());
    let panic = AssertUnwindSafe(call(&server)).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug in the tool"));
    assert_eq!(script.calls("get"), 2, "a panic is not tried again");

    assert_eq!(call(&server).await.unwrap().first_text(), Some("here"));
    assert_eq!((script.calls("get"), budget.available()), (4, 98));
}
