//! The delays between attempts.

use std::iter;

use tokio::time::Instant;

use super::super::{Jitter, RetryPolicy};
use super::*;
#[cfg(any(feature = "backon", feature = "backoff"))]
use crate::retry;

/// Retries often enough to see every delay.
fn patient(attempts: u32) -> RetryTool {
    RetryTool::new().with_max_attempts(attempts).without_deadline().without_budget()
}

fn exact(attempts: u32) -> RetryTool {
    patient(attempts).with_jitter(Jitter::None)
}

fn throttled() -> McpError {
    McpError::rate_limited("too many")
}

#[tokio::test(start_paused = true)]
async fn delays_start_at_50_ms_double_and_stop_growing_at_20_s() {
    let expected = [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 20_000, 20_000];
    assert_eq!(delays_of(exact(12), down()).await, expected.map(ms));
}

#[tokio::test(start_paused = true)]
async fn delays_start_at_one_second_for_throttling_failures() {
    let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 20_000].map(ms);
    assert_eq!(delays_of(exact(7), throttled()).await, expected);
    assert_eq!(delays_of(exact(7), McpError::server_overloaded()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_its_full_delay() {
    let began = Instant::now();
    let at = Log::new();
    let log = at.clone();
    let script = ScriptedServer::new("upstream").with_read_only("get", move |_| {
        log.push(began.elapsed());
        ready(Err(down()))
    });
    call(&exact(4).layer(script)).await.unwrap();
    assert_eq!(at.entries(), [0, 50, 150, 350].map(ms));
    assert_eq!(began.elapsed(), ms(350), "nothing is waited for after the last attempt");
}

#[tokio::test(start_paused = true)]
async fn base_factor_cap_and_throttled_base_are_settings() {
    let retry =
        || exact(5).with_base_delay(ms(10)).with_factor(3.0).with_max_delay(ms(200)).with_throttled_delay(ms(40));
    assert_eq!(delays_of(retry(), down()).await, [10, 30, 90, 200].map(ms));
    assert_eq!(delays_of(retry(), throttled()).await, [40, 120, 200, 200].map(ms));
}

#[tokio::test(start_paused = true)]
async fn a_factor_of_one_keeps_the_delay() {
    assert_eq!(delays_of(exact(5).with_factor(1.0), down()).await, [ms(50); 4]);
}

#[tokio::test(start_paused = true)]
async fn full_jitter_is_the_default_and_ranges_up_to_the_whole_delay() {
    let mut shares = Vec::new();
    for seed in 0..300 {
        let delays = delays_of(patient(4).with_seed(seed), down()).await;
        for (delay, whole) in iter::zip(delays, [50, 100, 200].map(ms)) {
            assert!(delay <= whole, "{delay:?} of {whole:?}");
            shares.push(delay.as_secs_f64() / whole.as_secs_f64());
        }
    }
    assert!(shares.iter().any(|share| *share < 0.05) && shares.iter().any(|share| *share > 0.95));
    let mean = shares.iter().sum::<f64>() / 900.0;
    assert!((0.45..0.55).contains(&mean), "{mean}");
}

#[tokio::test(start_paused = true)]
async fn jitter_leaves_at_least_half_of_a_throttled_delay() {
    let mut shares = Vec::new();
    for seed in 0..300 {
        let delays = delays_of(patient(4).with_seed(seed), throttled()).await;
        for (delay, whole) in iter::zip(delays, [1_000, 2_000, 4_000].map(ms)) {
            assert!((whole / 2..=whole).contains(&delay), "{delay:?} of {whole:?}");
            shares.push(delay.as_secs_f64() / whole.as_secs_f64());
        }
    }
    assert!(shares.iter().any(|share| *share < 0.55) && shares.iter().any(|share| *share > 0.95));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_delays_and_another_seed_others() {
    let delays = async |seed| delays_of(patient(8).with_seed(seed), down()).await;
    assert_eq!(delays(7).await, delays(7).await);
    assert_ne!(delays(7).await, delays(8).await);
}

#[tokio::test(start_paused = true)]
async fn delays_come_from_any_iterator_and_start_over_with_each_call() {
    let retry = patient(4).with_delays(|| [30, 10, 20].map(ms).into_iter());
    let delays = Log::new();
    let hook = delays.clone();
    let server = retry.on_retry(move |event| hook.push(event.delay)).layer(failing(ALWAYS, down()));
    call(&server).await.unwrap();
    call(&server).await.unwrap();
    assert_eq!(delays.entries(), [30, 10, 20, 30, 10, 20].map(ms));
}

#[tokio::test(start_paused = true)]
async fn custom_delays_are_used_unchanged_for_throttling_failures_too() {
    assert_eq!(delays_of(patient(3).with_delays(|| iter::repeat(ms(5))), throttled()).await, [ms(5); 2]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_custom_delays_ends_the_call() {
    let script = failing(ALWAYS, down());
    let result = call(&patient(9).with_delays(|| iter::once(ms(10))).layer(script.clone())).await;
    assert_eq!(script.calls("get"), 2);
    assert_eq!(notes(&result), (json!(2), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn the_maximum_of_attempts_ends_a_call_with_endless_delays() {
    let script = failing(ALWAYS, down());
    let result = call(&patient(5).with_delays(|| iter::repeat(Duration::ZERO)).layer(script.clone())).await;
    assert_eq!(script.calls("get"), 5);
    assert_eq!(notes(&result), (json!(5), json!("attempts")));
}

#[cfg(feature = "backon")]
#[tokio::test(start_paused = true)]
async fn delays_come_from_a_builder_of_backon() {
    let builder = backon::ConstantBuilder::default().with_delay(ms(70)).with_max_times(4);
    let retry = || patient(99).with_delays(retry::from_backon(builder));
    assert_eq!(delays_of(retry(), down()).await, [ms(70); 4], "its own bound holds");
    assert_eq!(delays_of(retry().with_max_attempts(3), down()).await, [ms(70); 2], "and so does the policy's");

    let exponential = backon::ExponentialBuilder::default().with_min_delay(ms(10)).with_factor(2.0).with_max_times(2);
    let server = patient(99).with_delays(retry::from_backon(exponential));
    assert_eq!(delays_of(server, down()).await, [10, 20].map(ms));
}

#[cfg(feature = "backoff")]
#[tokio::test(start_paused = true)]
async fn delays_come_from_a_backoff_of_backoff_and_start_over_with_each_call() {
    let mut used = backoff::ExponentialBackoff {
        initial_interval: ms(10),
        current_interval: ms(10),
        randomization_factor: 0.0,
        multiplier: 2.0,
        ..backoff::ExponentialBackoff::default()
    };
    backoff::backoff::Backoff::next_backoff(&mut used);
    let retry = patient(4).with_delays(retry::from_backoff(used));
    assert_eq!(delays_of(retry.clone(), down()).await, [10, 20, 40].map(ms));
    assert_eq!(delays_of(retry, down()).await, [10, 20, 40].map(ms));
}

/// Waits once and then stops.
#[cfg(feature = "backoff")]
#[derive(Clone)]
struct Once {
    used: bool,
}

#[cfg(feature = "backoff")]
impl backoff::backoff::Backoff for Once {
    fn reset(&mut self) {
        self.used = false;
    }

    fn next_backoff(&mut self) -> Option<Duration> {
        (!std::mem::replace(&mut self.used, true)).then_some(ms(10))
    }
}

#[cfg(feature = "backoff")]
#[tokio::test(start_paused = true)]
async fn a_backoff_that_stops_ends_the_call() {
    let script = failing(ALWAYS, down());
    let retry = patient(9).with_delays(retry::from_backoff(Once { used: true }));
    let result = call(&retry.layer(script.clone())).await;
    assert_eq!(script.calls("get"), 2);
    assert_eq!(notes(&result), (json!(2), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn very_many_attempts_neither_overflow_nor_panic() {
    let script = failing(3_000, down());
    let retry = RetryTool::new().with_max_attempts(u32::MAX).without_deadline().without_budget();
    for retry in [retry.clone(), retry.with_jitter(Jitter::None)] {
        let result = call(&retry.layer(script.clone())).await;
        assert!(!result.unwrap().is_error());
    }
    assert_eq!(script.calls("get"), 3_002);
}

#[tokio::test(start_paused = true)]
async fn the_largest_possible_settings_neither_overflow_nor_panic() {
    let policy = RetryPolicy::new().with_max_attempts(u32::MAX).without_deadline().without_budget();
    let settings = [policy.clone(), policy.clone().with_factor(1e300), policy.with_max_delay(Duration::MAX)];
    for policy in settings {
        let mut calls = 0;
        let result: McpResult<()> = policy
            .with_jitter(Jitter::None)
            .with_deadline(Duration::from_secs(60))
            .run(&(), |_| {
                calls += 1;
                ready(Err(down()))
            })
            .await;
        assert!(result.is_err());
        assert!(calls > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_overflows_the_clock_ends_the_call_without_a_panic() {
    let endless = [
        exact(9).with_deadline(ms(30_000)).with_max_delay(Duration::MAX).with_factor(1e300),
        exact(9).with_deadline(ms(30_000)).with_delays(|| [ms(10), Duration::MAX].into_iter()),
    ];
    for retry in endless {
        let script = failing(ALWAYS, down());
        let result = call(&retry.layer(script.clone())).await;
        assert_eq!(script.calls("get"), 2);
        assert_eq!(notes(&result), (json!(2), json!("deadline")));
    }
}
