//! Hints of a failing upstream about the time of the next attempt.

use tokio::time::Instant;
use turbomcp_core::ErrorKind;

use super::super::{Jitter, RetryPolicy};
use super::*;

/// The three places of a hint.
#[derive(Debug, Clone, Copy)]
enum Place {
    DataOfAResult,
    DataOfAnErr,
    Meta,
}

const PLACES: [Place; 3] = [Place::DataOfAResult, Place::DataOfAnErr, Place::Meta];

/// Lets a tool fail once after `latency` with `hint` and then answer. Returns the number of calls and the total time.
async fn with_hint(retry: &RetryTool, place: Place, latency: Duration, hint: Value) -> (usize, Duration) {
    let error = match place {
        Place::Meta => throttled(),
        Place::DataOfAResult | Place::DataOfAnErr => throttled().with_data(json!({ "retryAfterMs": hint })),
    };
    let raised = error.clone();
    let script = ScriptedServer::new("upstream").with_read_only("get", move |call| {
        let mut failed = error.to_tool_result();
        if matches!(place, Place::Meta) {
            failed.meta.get_or_insert_default().insert("retryAfterMs".into(), hint.clone());
        }
        async move {
            if call.number > 1 {
                return Ok(ToolResult::text("here"));
            }
            tokio::time::sleep(latency).await;
            Ok(failed)
        }
    });
    let began = Instant::now();
    let result = match place {
        Place::DataOfAnErr => call(&retry.layer(raising(script.clone(), raised))).await,
        Place::DataOfAResult | Place::Meta => call(&retry.layer(script.clone())).await,
    };
    assert_eq!(result.is_ok_and(|result| !result.is_error()), script.calls("get") == 2);
    (script.calls("get"), began.elapsed())
}

fn throttled() -> McpError {
    McpError::new(ErrorKind::RateLimited, "too many")
}

fn exact() -> RetryTool {
    RetryTool::new().with_jitter(Jitter::None)
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_full_hint_wherever_it_is_written() {
    for place in PLACES {
        let (calls, took) = with_hint(&exact(), place, Duration::ZERO, json!(7_000)).await;
        assert_eq!((calls, took), (2, ms(7_050)), "{place:?}: the hint, and the ordinary delay on top");
        for seed in 0..20 {
            let (calls, took) = with_hint(&RetryTool::new().with_seed(seed), place, Duration::ZERO, json!(7_000)).await;
            assert_eq!(calls, 2);
            assert!((ms(7_000)..=ms(7_051)).contains(&took), "{place:?}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_counts_for_a_failure_that_is_not_throttling_too() {
    let error = down().with_data(json!({ "retryAfterMs": 900 }));
    assert_eq!(delays_of(exact().with_max_attempts(2), error).await, [ms(950)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_zero_selects_the_ordinary_delay_instead_of_the_throttled_one() {
    for place in PLACES {
        assert_eq!(with_hint(&exact(), place, Duration::ZERO, json!(0)).await, (2, ms(50)), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_in_fractions_of_a_millisecond_is_not_rounded_away() {
    let error = throttled().with_data(json!({ "retryAfterMs": 0.5 }));
    assert_eq!(delays_of(exact().with_max_attempts(2), error).await, [Duration::from_micros(50_500)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_may_be_longer_than_the_longest_delay() {
    let retry = exact().with_max_delay(ms(100));
    assert_eq!(with_hint(&retry, Place::Meta, Duration::ZERO, json!(5_000)).await, (2, ms(5_050)));
}

#[tokio::test(start_paused = true)]
async fn a_hint_counts_with_custom_delays_too() {
    let retry = RetryTool::new().with_delays(|| std::iter::repeat(ms(3)));
    assert_eq!(with_hint(&retry, Place::DataOfAResult, Duration::ZERO, json!(5_000)).await, (2, ms(5_003)));
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_deadline_ends_the_call_at_once() {
    for place in PLACES {
        assert_eq!(with_hint(&exact(), place, ms(5), json!(30_000)).await, (1, ms(5)), "{place:?}");
        assert_eq!(with_hint(&exact(), place, ms(5), json!(29_900)).await, (2, ms(29_955)), "{place:?}");
    }
    let server = exact().layer(failing(ALWAYS, throttled().with_data(json!({ "retryAfterMs": 60_000 }))));
    assert_eq!(notes(&call(&server).await), (json!(1), json!("deadline")));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_hint_is_ignored() {
    let nonsense = [
        json!(-1),
        json!(-1e300),
        json!("5000"),
        json!("NaN"),
        json!(null),
        json!(true),
        json!([5_000]),
        json!({"ms": 5_000}),
    ];
    for hint in nonsense {
        for place in PLACES {
            let (calls, took) = with_hint(&exact(), place, Duration::ZERO, hint.clone()).await;
            assert_eq!((calls, took), (2, ms(1_000)), "{place:?} {hint}: the throttled delay");
        }
    }
}

/// Hints of a century and more. The third is the longest one that fits a `Duration`, so adding to it overflows; the
/// longer ones fit no `Duration`.
fn beyond_measure() -> [Value; 6] {
    let longest = (u64::MAX - 2_047) as f64 * 1_000.0;
    [json!(u64::MAX), json!(1e20), json!(longest), json!(longest * 1.1), json!(1e300), json!(f64::MAX)]
}

#[tokio::test(start_paused = true)]
async fn an_overlong_hint_never_means_an_immediate_retry() {
    for hint in beyond_measure() {
        for place in PLACES {
            let hour = Duration::from_secs(3_600);
            assert_eq!(with_hint(&exact().with_deadline(hour * 2), place, hour, hint.clone()).await, (1, hour));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_overlong_hint_ends_a_call_without_a_deadline() {
    for hint in beyond_measure() {
        let retry = exact().without_deadline();
        assert_eq!(with_hint(&retry, Place::DataOfAResult, Duration::ZERO, hint.clone()).await, (1, Duration::ZERO));
        let error = throttled().with_data(json!({ "retryAfterMs": hint }));
        assert_eq!(notes(&call(&retry.layer(failing(ALWAYS, error.clone()))).await), (json!(1), json!("deadline")));
        let policy = RetryPolicy::new().without_deadline();
        let mut calls = 0;
        let result: McpResult<()> = policy
            .run(&(), |_| {
                calls += 1;
                ready(Err(error.clone()))
            })
            .await;
        assert_eq!((result.is_err(), calls), (true, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_a_hint_of_less_than_a_century_is_waited_for() {
    let year = Duration::from_secs(365 * 24 * 3_600);
    let hint = json!(u64::try_from(year.as_millis()).unwrap());
    assert_eq!(with_hint(&exact().without_deadline(), Place::Meta, Duration::ZERO, hint).await, (2, year + ms(50)));
}

#[tokio::test(start_paused = true)]
async fn error_data_that_is_not_an_object_contains_no_hint() {
    for data in [json!("retryAfterMs"), json!([{"retryAfterMs": 5_000}]), json!(5_000)] {
        let delays = delays_of(exact().with_max_attempts(2), throttled().with_data(data.clone())).await;
        assert_eq!(delays, [ms(1_000)], "{data}");
    }
}
