use super::super::rate::Used;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_then_one_call_for_each_part_of_the_period() {
    let server = LimitedTool::new().with_rate(Per::Tool, Rate::per_minute(6).with_burst(3)).layer(server());
    for _ in 0..3 {
        assert_eq!(search(&server, &user("ada")).await, Ok(()));
    }
    for _ in 0..3 {
        assert_eq!(
            search(&server, &user("bob")).await,
            Err(by_rate(secs(10))),
            "and a refused call counts for nothing"
        );
        tokio::time::advance(secs(10) - ms(1)).await;
        assert_eq!(search(&server, &user("bob")).await, Err(by_rate(ms(1))));
        tokio::time::advance(ms(1)).await;
        assert_eq!(search(&server, &user("bob")).await, Ok(()), "the time was true");
    }
    tokio::time::advance(secs(3600)).await;
    let passed = async { (search(&server, &user("ada")).await.is_ok(), search(&server, &user("ada")).await.is_ok()) };
    assert_eq!(passed.await, (true, true));
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert!(search(&server, &user("ada")).await.is_err(), "an hour of rest saves no more than the burst");
}

#[test]
fn in_no_stretch_of_time_more_calls_pass_than_the_burst_and_the_rate_of_that_stretch() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rate = Rate::new(random.u32(1..20), ms(random.u64(1..2_000))).with_burst(random.u32(1..10));
        let interval = rate.period.as_nanos() / u128::from(rate.calls);
        let (mut used, mut now, mut passed) = (Used::default(), 0, Vec::<u128>::new());
        for _ in 0..500 {
            now += u128::from(random.u64(0..(2 * interval as u64).max(2)));
            match used.wait(rate, 1, now) {
                None => {
                    used.pay(rate, 1, now);
                    passed.push(now);
                }
                Some(wait) => {
                    let (at, before) = (now + wait.as_nanos(), now + wait.as_nanos() - 1);
                    assert_eq!(used.wait(rate, 1, at), None, "the time to wait is long enough");
                    assert!(used.wait(rate, 1, before).is_some(), "and not longer than that");
                }
            }
        }
        for (at, from) in passed.iter().enumerate() {
            for (further, to) in passed[at..].iter().enumerate() {
                let allowed = u128::from(rate.burst) + (to - from) * u128::from(rate.calls) / rate.period.as_nanos();
                assert!((further as u128) < allowed, "seed {seed}: {} calls in {} ns", further + 1, to - from);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_way_to_count_has_its_own_rate() {
    let rates = [(Per::Tool, 4), (Per::Principal, 3), (Per::PrincipalAndTool, 2)];
    for (per, calls) in rates {
        let server = LimitedTool::new().with_rate(per, Rate::per_second(calls)).layer(server());
        let passed = async |tool: &'static str, name: &str| {
            let mut passed = 0;
            while call(&server, tool, json!({}), &user(name)).await.is_ok() {
                passed += 1;
            }
            passed
        };
        let seen = [passed("search", "ada").await, passed("other", "ada").await, passed("search", "bob").await];
        let expected = match per {
            Per::Tool => [4, 4, 0],
            Per::Principal => [3, 0, 3],
            Per::PrincipalAndTool => [2, 2, 2],
        };
        assert_eq!(seen, expected, "{per:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_one_rate_refuses_counts_for_none() {
    let limits = LimitedTool::new()
        .with_rate(Per::PrincipalAndTool, Rate::per_second(2))
        .with_rate(Per::Principal, Rate::per_second(3))
        .with_rate(Per::Tool, Rate::per_second(4));
    let server = limits.layer(server());
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    for _ in 0..10 {
        assert!(search(&server, &user("ada")).await.is_err());
    }
    assert_eq!(call(&server, "other", json!({}), &user("ada")).await, Ok(()), "one of three is left for ada");
    assert_eq!(search(&server, &user("bob")).await, Ok(()), "and two of four for the tool");
    assert_eq!(search(&server, &user("bob")).await, Ok(()));
    for _ in 0..10 {
        assert!(search(&server, &user("cleo")).await.is_err());
    }
    assert_eq!(call(&server, "other", json!({}), &user("cleo")).await, Ok(()));
    assert_eq!(call(&server, "other", json!({}), &user("cleo")).await, Ok(()), "cleo's refused calls were not hers");
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_is_that_of_the_rate_that_refuses_for_longest() {
    for (per, other) in [(Per::PrincipalAndTool, Per::Tool), (Per::Tool, Per::PrincipalAndTool)] {
        let limits = LimitedTool::new().with_rate(per, Rate::per_minute(1)).with_rate(other, Rate::per_second(1));
        let server = limits.layer(server());
        assert_eq!(search(&server, &user("ada")).await, Ok(()));
        assert_eq!(search(&server, &user("ada")).await, Err(by_rate(secs(60))));
        tokio::time::advance(secs(60)).await;
        assert_eq!(search(&server, &user("ada")).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cost_counts_for_as_many_calls() {
    let limits = LimitedTool::new()
        .with_rate(Per::Principal, Rate::per_second(10))
        .with_cost("order", 4)
        .with_cost("other", 0)
        .with_cost_by("search", |args| args["pages"].as_u64().map_or(1, |pages| pages as u32));
    let server = limits.layer(server());
    let ada = user("ada");
    for _ in 0..20 {
        assert_eq!(call(&server, "other", json!({}), &ada).await, Ok(()), "it costs nothing");
    }
    assert_eq!(call(&server, "order", json!({}), &ada).await, Ok(()));
    assert_eq!(call(&server, "search", json!({"pages": 5}), &ada).await, Ok(()));
    assert_eq!(call(&server, "order", json!({}), &ada).await, Err(by_rate(ms(300))), "one of ten is left");
    assert_eq!(search(&server, &ada).await, Ok(()));
    // More than a burst: it waits for a whole burst, and the next call waits for all of it.
    assert_eq!(call(&server, "search", json!({"pages": 25}), &ada).await, Err(by_rate(secs(1))));
    tokio::time::advance(secs(1)).await;
    assert_eq!(call(&server, "search", json!({"pages": 25}), &ada).await, Ok(()));
    assert_eq!(search(&server, &ada).await, Err(by_rate(ms(1_600))));
    assert_eq!(call(&server, "other", json!({}), &ada).await, Ok(()), "nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn the_longest_periods_and_the_largest_numbers_are_counted() {
    for rate in [Rate::new(u32::MAX, Duration::MAX), Rate::new(1, Duration::MAX), Rate::new(u32::MAX, ms(1))] {
        let limits = LimitedTool::new().with_rate(Per::Tool, rate).with_cost("search", u32::MAX);
        let server = limits.layer(server());
        assert_eq!(search(&server, &user("ada")).await, Ok(()), "{rate:?}");
        assert!(search(&server, &user("ada")).await.is_err(), "{rate:?}");
    }
}
