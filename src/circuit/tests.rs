mod principals;
mod probes;
mod windows;

use std::time::Duration;

use tokio::time::advance;

use super::{Change, Circuit, Failed, Permit, Reason, Rules, State, Window};

const PAUSE: Duration = Duration::from_secs(5);

/// Five failures in a row open it.
const IN_A_ROW: Rules = Rules { window: Window::calls(5), min_calls: 5, failure_rate: 1.0, pause: PAUSE, probes: 1 };

const ADA: u64 = 1;
const BOB: u64 = 2;

fn admit(circuit: &Circuit) -> Option<Permit<'_>> {
    circuit.admit(ADA).ok().map(|(permit, _)| permit)
}

fn succeed_as(circuit: &Circuit, principal: u64) -> Option<Change> {
    circuit.admit(principal).expect("a permit").0.succeeded()
}

fn fail_as(circuit: &Circuit, principal: u64) -> Option<Change> {
    circuit.admit(principal).expect("a permit").0.failed(Failed::Failure)
}

fn succeed(circuit: &Circuit) -> Option<Change> {
    succeed_as(circuit, ADA)
}

fn fail(circuit: &Circuit) -> Option<Change> {
    fail_as(circuit, ADA)
}

/// Opens a closed breaker.
fn open(circuit: &Circuit) {
    while circuit.state() == State::Closed {
        fail(circuit);
    }
}

/// The states and the reason of a change.
fn step(change: Option<Change>) -> Option<(State, State, Reason)> {
    change.map(|change| (change.from, change.to, change.reason))
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_the_breaker_and_one_probe_closes_it() {
    let circuit = Circuit::new(IN_A_ROW);
    for _ in 0..4 {
        assert!(fail(&circuit).is_none());
    }
    assert!(succeed(&circuit).is_none(), "it was not open");
    for _ in 0..4 {
        assert!(fail(&circuit).is_none());
    }
    assert_eq!(step(fail(&circuit)), Some((State::Closed, State::Open, Reason::Failures)));
    assert!(admit(&circuit).is_none() && circuit.state() == State::Open);
    advance(PAUSE - Duration::from_millis(1)).await;
    let refused = circuit.admit(ADA).expect_err("one millisecond too early");
    assert_eq!((refused.state, refused.retry_after), (State::Open, Some(Duration::from_millis(1))));
    advance(Duration::from_millis(1)).await;
    assert_eq!(circuit.state(), State::HalfOpen);
    let (probe, change) = circuit.admit(ADA).expect("a probe");
    assert_eq!(step(change), Some((State::Open, State::HalfOpen, Reason::PauseOver)));
    assert!(probe.is_probe() && admit(&circuit).is_none(), "one at a time");
    assert_eq!(step(probe.failed(Failed::Slow)), Some((State::HalfOpen, State::Open, Reason::ProbeFailed)));
    assert!(admit(&circuit).is_none() && circuit.state() == State::Open, "it stays open");
    advance(PAUSE).await;
    drop(admit(&circuit).expect("a probe"));
    let closed = succeed(&circuit);
    assert_eq!(step(closed), Some((State::HalfOpen, State::Closed, Reason::ProbesSucceeded)), "after a dropped one");
    assert!(fail(&circuit).is_none(), "its window is empty");
    assert!(circuit.state() == State::Closed && admit(&circuit).is_some());
}

#[tokio::test(start_paused = true)]
async fn failures_after_the_breaker_opened_neither_open_it_again_nor_keep_it_open_longer() {
    let circuit = Circuit::new(IN_A_ROW);
    let late: Vec<_> = (0..8).map(|_| admit(&circuit).expect("a permit")).collect();
    advance(PAUSE / 2).await;
    let opened = late.into_iter().filter_map(|permit| permit.failed(Failed::Failure)).count();
    assert_eq!(opened, 1);
    advance(PAUSE).await;
    assert!(succeed(&circuit).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_breaker_opened_neither_closes_it_nor_takes_the_place_of_a_probe() {
    let circuit = Circuit::new(IN_A_ROW);
    let late: [_; 3] = std::array::from_fn(|_| admit(&circuit).expect("a permit"));
    open(&circuit);
    let [first, second, third] = late;
    assert!(first.succeeded().is_none());
    assert_eq!(circuit.state(), State::Open);
    advance(PAUSE).await;
    let probe = admit(&circuit).expect("a probe");
    assert!(second.failed(Failed::Failure).is_none(), "it is half open");
    drop(third);
    assert!(admit(&circuit).is_none(), "the probe runs");
    assert!(probe.succeeded().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_forced_breaker_ignores_results_and_time_until_it_is_released() {
    let circuit = Circuit::new(IN_A_ROW);
    let running = admit(&circuit).expect("a permit");
    assert_eq!(step(circuit.force_open()), Some((State::Closed, State::ForcedOpen, Reason::Forced)));
    assert!(circuit.force_open().is_none(), "it is so already");
    assert!(running.succeeded().is_none());
    advance(100 * PAUSE).await;
    let refused = circuit.admit(ADA).expect_err("forced");
    assert_eq!((refused.state, refused.retry_after), (State::ForcedOpen, None));
    assert_eq!(step(circuit.force_closed()), Some((State::ForcedOpen, State::ForcedClosed, Reason::Forced)));
    for _ in 0..100 {
        assert!(fail(&circuit).is_none());
    }
    assert_eq!(step(circuit.release()), Some((State::ForcedClosed, State::Closed, Reason::Released)));
    assert!(circuit.release().is_none());
    assert_eq!(circuit.snapshot().tally.calls, 0, "its window is empty");
    open(&circuit);
    assert!(circuit.release().is_none(), "it is not forced");
    assert_eq!(circuit.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_any_length_is_kept() {
    let circuit = Circuit::new(Rules { pause: Duration::MAX, ..IN_A_ROW });
    open(&circuit);
    advance(Duration::from_secs(1 << 30)).await;
    assert!(admit(&circuit).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_last_ten_changes_are_kept() {
    let circuit = Circuit::new(IN_A_ROW);
    for _ in 0..20 {
        circuit.force_open();
        circuit.force_closed();
    }
    circuit.release();
    let changes = circuit.snapshot().changes;
    assert_eq!((changes.len(), changes[9].to), (10, State::Closed));
}
