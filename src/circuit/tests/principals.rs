use super::*;

const SECOND: Duration = Duration::from_secs(1);

const HALF: Rules = Rules { window: Window::calls(20), min_calls: 5, failure_rate: 0.5, pause: PAUSE, probes: 1 };

const WINDOWS: [Window; 2] = [Window::calls(20), Window::time(Duration::from_secs(10))];

fn circuits() -> [Circuit; 2] {
    WINDOWS.map(|window| Circuit::new(Rules { window, ..HALF }))
}

#[tokio::test(start_paused = true)]
async fn one_principal_cannot_open_the_breaker_while_another_succeeds_however_rarely() {
    for circuit in circuits() {
        for _ in 0..20 {
            succeed_as(&circuit, BOB);
            for _ in 0..1_000 {
                assert!(fail_as(&circuit, ADA).is_none());
                advance(Duration::from_millis(9)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rare_failure_of_another_does_not_open_it_either() {
    for circuit in circuits() {
        succeed_as(&circuit, BOB);
        for _ in 0..50 {
            for _ in 0..200 {
                assert!(fail_as(&circuit, ADA).is_none());
            }
            succeed_as(&circuit, BOB);
            assert!(fail_as(&circuit, BOB).is_none());
            succeed_as(&circuit, BOB);
            advance(SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_principal_opens_it() {
    for circuit in circuits() {
        for _ in 0..4 {
            assert!(fail_as(&circuit, ADA).is_none());
        }
        assert!(fail_as(&circuit, ADA).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_principal_who_has_succeeded_before_keeps_it_closed_for_ten_seconds() {
    for circuit in circuits() {
        succeed_as(&circuit, BOB);
        advance(10 * SECOND - Duration::from_millis(1)).await;
        for _ in 0..100 {
            assert!(fail_as(&circuit, ADA).is_none());
        }
        advance(Duration::from_millis(1)).await;
        assert!(fail_as(&circuit, ADA).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn successes_of_the_one_whose_calls_fail_do_not_replace_that_of_another() {
    for circuit in circuits() {
        succeed_as(&circuit, BOB);
        for _ in 0..50 {
            succeed_as(&circuit, ADA);
        }
        for _ in 0..200 {
            assert!(fail_as(&circuit, ADA).is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_principals_whose_calls_fail_open_it() {
    for circuit in circuits() {
        for principal in 0..20 {
            succeed_as(&circuit, principal);
        }
        let changes = (0..20)
            .filter_map(|principal| (circuit.state() == State::Closed).then(|| fail_as(&circuit, principal)).flatten());
        assert_eq!(changes.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_it_also_if_one_principal_makes_most_calls() {
    for circuit in circuits() {
        for call in 0..40 {
            succeed_as(&circuit, if call % 10 == 0 { BOB } else { ADA });
        }
        let mut calls = 0;
        while circuit.state() == State::Closed {
            calls += 1;
            fail_as(&circuit, if calls % 10 == 0 { BOB } else { ADA });
            advance(SECOND / 10).await;
        }
        assert!(calls <= 110, "eleven seconds: {calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_another_keeps_one_principal_from_opening_it_again() {
    let circuit = Circuit::new(HALF);
    while circuit.state() == State::Closed {
        fail_as(&circuit, ADA);
    }
    advance(PAUSE).await;
    assert!(succeed_as(&circuit, BOB).is_some(), "it is closed");
    for _ in 0..100 {
        assert!(fail_as(&circuit, ADA).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_new_principals_takes_no_more_memory_than_the_window() {
    let circuit = Circuit::new(HALF);
    for principal in 0..10_000 {
        succeed_as(&circuit, principal);
    }
    assert_eq!(circuit.snapshot().principals, 20);
}
