use super::*;

const THREE: Rules = Rules { probes: 3, ..IN_A_ROW };

async fn half_open(rules: Rules) -> Circuit {
    let circuit = Circuit::new(rules);
    open(&circuit);
    advance(rules.pause).await;
    circuit
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_callers_as_many_are_probes_as_set_and_all_of_them_have_to_succeed() {
    let circuit = half_open(THREE).await;
    let probes: Vec<_> = (0..1_000).filter_map(|_| admit(&circuit)).collect();
    assert_eq!(probes.len(), 3);
    let mut changes = Vec::new();
    for probe in probes {
        // Those that have succeeded count as probes, too.
        assert!(admit(&circuit).is_none());
        changes.push(step(probe.succeeded()));
    }
    assert_eq!(changes, [None, None, Some((State::HalfOpen, State::Closed, Reason::ProbesSucceeded))]);
}

#[tokio::test(start_paused = true)]
async fn the_first_probe_that_fails_opens_the_breaker_whatever_the_others_do() {
    let circuit = half_open(THREE).await;
    let [one, two, three] = std::array::from_fn(|_| admit(&circuit).expect("a probe"));
    assert!(one.succeeded().is_none());
    assert_eq!(step(two.failed(Failed::Failure)), Some((State::HalfOpen, State::Open, Reason::ProbeFailed)));
    assert!(three.succeeded().is_none());
    advance(PAUSE - Duration::from_millis(1)).await;
    assert_eq!(circuit.state(), State::Open, "for a whole pause");
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_a_result_gives_its_place_to_the_next() {
    let circuit = half_open(THREE).await;
    for _ in 0..1_000 {
        let probes: [_; 3] = std::array::from_fn(|_| admit(&circuit).expect("a place"));
        assert!(admit(&circuit).is_none());
        drop(probes);
    }
    assert_eq!(circuit.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn probes_that_hang_keep_others_out_for_one_pause_and_still_count_when_they_end() {
    let circuit = half_open(THREE).await;
    let hung: [_; 3] = std::array::from_fn(|_| admit(&circuit).expect("a probe"));
    advance(PAUSE - Duration::from_millis(1)).await;
    let refused = circuit.admit(ADA).expect_err("they run");
    assert_eq!((refused.state, refused.retry_after), (State::HalfOpen, Some(Duration::from_millis(1))));
    advance(Duration::from_millis(1)).await;
    let next: Vec<_> = (0..1_000).filter_map(|_| admit(&circuit)).collect();
    assert_eq!(next.len(), 3);
    let [one, two, three] = hung;
    drop(one);
    assert!(admit(&circuit).is_none(), "its place was given away");
    assert!(two.succeeded().is_none() && three.succeeded().is_none());
    let closed = next.into_iter().next().and_then(Permit::succeeded);
    assert_eq!(step(closed), Some((State::HalfOpen, State::Closed, Reason::ProbesSucceeded)), "the third of them");
}

#[tokio::test(start_paused = true)]
async fn in_random_runs_no_place_is_lost_and_the_breaker_can_always_be_closed() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rules = Rules { probes: random.usize(1..5), ..IN_A_ROW };
        let circuit = Circuit::new(rules);
        let mut running: Vec<Permit<'_>> = Vec::new();
        for _ in 0..500 {
            match random.u8(0..10) {
                0..5 => {
                    let before = circuit.state();
                    if let Some(permit) = admit(&circuit) {
                        assert_eq!(permit.is_probe(), before == State::HalfOpen, "seed {seed}");
                        running.push(permit);
                    }
                }
                5 => advance(Duration::from_millis(random.u64(0..3_000))).await,
                _ if running.is_empty() => {}
                end => {
                    let permit = running.swap_remove(random.usize(0..running.len()));
                    match end {
                        6 => drop(permit),
                        7 => drop(permit.succeeded()),
                        _ => drop(permit.failed(Failed::Failure)),
                    }
                }
            }
        }
        running.clear();
        advance(PAUSE).await;
        if circuit.state() == State::HalfOpen {
            let places = (0..100).map_while(|_| admit(&circuit)).collect::<Vec<_>>().len();
            assert!((1..=rules.probes).contains(&places), "seed {seed}: {places} of {}", rules.probes);
        }
        // It can always be closed again.
        for _ in 0..rules.probes {
            if circuit.state() == State::HalfOpen {
                succeed(&circuit);
            }
        }
        assert_eq!(circuit.state(), State::Closed, "seed {seed}");
    }
}
