use std::collections::VecDeque;

use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_window_of_calls_slides_by_one_call() {
    let rules = Rules { window: Window::calls(4), min_calls: 2, failure_rate: 0.75, ..IN_A_ROW };
    let circuit = Circuit::new(rules);
    // The window after each call: `s`, `ss`, `sss`, `sssf`, `ssff`, `sfff`.
    for _ in 0..3 {
        assert!(succeed(&circuit).is_none());
    }
    for counted in [(4, 1), (4, 2)] {
        assert!(fail(&circuit).is_none());
        let tally = circuit.snapshot().tally;
        assert_eq!((tally.calls, tally.failures), counted);
    }
    assert!(fail(&circuit).is_some(), "three of the last four");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_forgets_calls_as_they_get_old() {
    let rules = Rules { window: Window::time(10 * SECOND), min_calls: 3, failure_rate: 0.5, ..IN_A_ROW };
    let circuit = Circuit::new(rules);
    for _ in 0..3 {
        assert!(succeed(&circuit).is_none());
    }
    advance(9 * SECOND).await;
    for _ in 0..2 {
        assert!(fail(&circuit).is_none(), "two of five");
    }
    advance(SECOND).await;
    let tally = circuit.snapshot().tally;
    assert_eq!((tally.calls, tally.failures), (2, 2), "the successes have left");
    assert!(fail(&circuit).is_some());
}

/// The same by the definition.
fn opens(calls: &VecDeque<(Instant, bool)>, rules: &Rules, now: Instant) -> bool {
    let (most, time) = match rules.window {
        window if window == Window::time(10 * SECOND) => (1_000, 10 * SECOND),
        _ => (7, Duration::MAX),
    };
    let counted: Vec<_> = calls
        .iter()
        .rev()
        .take(most)
        .filter(|(at, _)| now.duration_since(*at) < time)
        .map(|(_, fails)| *fails)
        .collect();
    let failures = counted.iter().filter(|fails| **fails).count();
    counted.len() >= rules.min_calls && failures as f64 / counted.len() as f64 >= rules.failure_rate
}

#[tokio::test(start_paused = true)]
async fn a_window_opens_the_breaker_at_the_call_at_which_its_definition_does() {
    let mut opened = 0;
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let window = if random.bool() { Window::calls(7) } else { Window::time(10 * SECOND) };
        let failure_rate = f64::from(random.u32(1..=10)) / 10.0;
        let rules = Rules { window, min_calls: random.usize(1..=7), failure_rate, ..IN_A_ROW };
        let circuit = Circuit::new(rules);
        let (mut calls, share) = (VecDeque::new(), random.f64());
        for call in 0..60 {
            advance(Duration::from_millis(random.u64(0..3_000))).await;
            let fails = random.f64() < share;
            calls.push_back((Instant::now(), fails));
            let change = if fails { fail(&circuit) } else { succeed(&circuit) };
            let expected = fails && opens(&calls, &rules, Instant::now());
            assert_eq!(change.is_some(), expected, "seed {seed}, call {call}: {rules:?}");
            if expected {
                opened += 1;
                break;
            }
        }
    }
    assert!((50..290).contains(&opened), "{opened} opened");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_keeps_at_most_a_thousand_calls() {
    let circuit = Circuit::new(Rules { window: Window::time(10 * SECOND), min_calls: 1_000, ..IN_A_ROW });
    for _ in 0..5_000 {
        succeed(&circuit);
    }
    assert_eq!(circuit.snapshot().tally.calls, 1_000);
    for _ in 0..999 {
        assert!(fail(&circuit).is_none());
    }
    assert!(fail(&circuit).is_some(), "the last thousand have failed");
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_the_reason_if_they_are_more_than_the_failures() {
    for (slow, reason) in [(2, Reason::Failures), (3, Reason::SlowCalls)] {
        let circuit = Circuit::new(IN_A_ROW);
        let end = |number| if number < slow { Failed::Slow } else { Failed::Failure };
        let changes = (0..5).filter_map(|number| admit(&circuit).expect("a permit").failed(end(number)));
        assert_eq!(changes.map(|change| change.reason).collect::<Vec<_>>(), [reason]);
    }
}
