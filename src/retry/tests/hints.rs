//! What a failing upstream says about when to come back.

use tokio::time::Instant;
use turbomcp_core::ErrorKind;

use super::super::Jitter;
use super::*;

/// The three places in which a hint is found.
#[derive(Debug, Clone, Copy)]
enum Place {
    DataOfAResult,
    DataOfAnErr,
    Meta,
}

const PLACES: [Place; 3] = [Place::DataOfAResult, Place::DataOfAnErr, Place::Meta];

/// Lets a tool fail once after `latency` with `hint` and then answer. Returns the calls and how long all of it took.
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
async fn a_hint_is_waited_out_in_full_wherever_it_stands() {
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
async fn a_hint_counts_for_a_failure_that_is_not_a_throttling_one() {
    let error = down().with_data(json!({ "retryAfterMs": 900 }));
    assert_eq!(delays_of(exact().with_max_attempts(2), error).await, [ms(950)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_nothing_means_the_ordinary_delay_without_the_throttled_one() {
    for place in PLACES {
        assert_eq!(with_hint(&exact(), place, Duration::ZERO, json!(0)).await, (2, ms(50)), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_in_fractions_of_a_millisecond_is_kept() {
    let error = throttled().with_data(json!({ "retryAfterMs": 0.5 }));
    assert_eq!(delays_of(exact().with_max_attempts(2), error).await, [Duration::from_micros(50_500)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_may_be_longer_than_the_longest_delay() {
    let retry = exact().with_max_delay(ms(100));
    assert_eq!(with_hint(&retry, Place::Meta, Duration::ZERO, json!(5_000)).await, (2, ms(5_050)));
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_waited_out_with_delays_of_ones_own_too() {
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
async fn a_hint_that_means_nothing_is_ignored() {
    let nonsense = [
        json!(-1),
        json!(-1e300),
        json!("5000"),
        json!("NaN"),
        json!(null),
        json!(true),
        json!([5_000]),
        json!({"ms": 5_000}),
        json!(1e300),
        json!(f64::MAX),
    ];
    for hint in nonsense {
        for place in PLACES {
            let (calls, took) = with_hint(&exact(), place, Duration::ZERO, hint.clone()).await;
            assert_eq!((calls, took), (2, ms(1_000)), "{place:?} {hint}: the throttled delay");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_centuries_ends_the_call_without_a_panic() {
    // The longest hint that fits a `Duration`: no time at all may be added to it.
    let longest = (u64::MAX - 2_047) as f64 * 1_000.0;
    for hint in [json!(u64::MAX), json!(i64::MAX), json!(1e20), json!(longest)] {
        for place in PLACES {
            let hour = Duration::from_secs(3_600);
            assert_eq!(with_hint(&exact().with_deadline(hour * 2), place, hour, hint.clone()).await, (1, hour));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_is_no_object_holds_no_hint() {
    for data in [json!("retryAfterMs"), json!([{"retryAfterMs": 5_000}]), json!(5_000)] {
        let delays = delays_of(exact().with_max_attempts(2), throttled().with_data(data.clone())).await;
        assert_eq!(delays, [ms(1_000)], "{data}");
    }
}
