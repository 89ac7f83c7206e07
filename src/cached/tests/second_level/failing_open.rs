//! A second level that fails or hangs, on a paused clock.

use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep};

use super::fleet::*;
use super::*;
use crate::cached::MemoryLevel;
use crate::circuit::Rules;
use crate::testing::Traced;

#[tokio::test(start_paused = true)]
async fn a_replica_reads_its_own_write_while_the_second_level_fails() {
    for fault in [FAILS, HANGS, PANICS] {
        let source = Source::default();
        let (a, b) = two(&source, as_it_is).await;
        a.read().await;
        settle().await;
        a.faults.set(fault);
        let written = a.write().await;
        assert_eq!(a.read().await, written);
        a.handle.clear();
        a.faults.set(WORKS);
        assert_eq!(a.read().await, written, "what the second level has is from before the write");
        sleep(10 * SECOND).await;
        assert_eq!(a.level().pending_invalidations, 0, "it is sent as soon as the level works again");
        assert_eq!(b.read().await, written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_a_subscription_trusts_its_memory_for_one_second_only() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    a.read().await;
    settle().await;
    b.read().await;
    b.faults.set(FAILS);
    settle().await;
    assert!(!b.level().is_subscribed);
    let written = a.write().await;
    assert_eq!(b.read().await, 0, "within the bound");
    advance(SECOND).await;
    assert_eq!(b.read().await, written, "and not beyond");
    b.faults.set(WORKS);
    sleep(7 * SECOND).await;
    assert!(b.level().is_subscribed);
    b.read().await;
    b.faults.set(FAILS);
    settle().await;
    let written = a.write().await;
    b.faults.set(WORKS);
    sleep(2 * SECOND).await;
    assert_eq!(b.read().await, written, "values from before the subscription are not trusted");
}

#[tokio::test(start_paused = true)]
async fn a_failing_or_hanging_second_level_fails_no_call_and_opens_the_breaker() {
    for fault in [FAILS, HANGS, PANICS] {
        let source = Source::default();
        let (a, _) = two(&source, |layer| layer.with_ttl(Duration::from_millis(1))).await;
        a.faults.set(fault);
        for _ in 0..100 {
            a.read().await;
            sleep(Duration::from_millis(2)).await;
        }
        let stats = a.level();
        assert_eq!(source.loads(), 100);
        assert!(stats.is_open && stats.failures <= 12, "{stats:?}");
        a.faults.set(WORKS);
        sleep(6 * SECOND).await;
        a.read().await;
        assert!(!a.level().is_open, "it comes back by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_admits_one_probe_in_five_seconds_however_many_callers_there_are() {
    for fault in [FAILS, HANGS, PANICS] {
        let source = Source::default();
        let (a, _) = two(&source, as_it_is).await;
        a.faults.set(fault);
        // Unsent invalidations keep reads from the level, so at first no caller writes.
        for writes in [false, true] {
            let asked = || if writes { a.faults.writes.begun() } else { a.faults.gets.begun() };
            let crowd = async |seconds: u64| {
                for n in 0..10 * seconds {
                    if writes {
                        a.write().await;
                    }
                    join_all((0..20).map(|caller| a.read_of(1_000 * n + caller))).await;
                    sleep(SECOND / 10).await;
                }
            };
            crowd(1).await;
            let (before, skipped, began) = (asked(), a.level().skipped, Instant::now());
            crowd(60).await;
            let (begun, probes) = (asked() - before, 1 + began.elapsed().as_secs() / Rules::OF_BACKEND.pause.as_secs());
            assert!((10..=probes).contains(&begun), "{begun} were begun in {probes} pauses");
            assert!(writes || a.level().skipped - skipped >= 600 * 20 - begun);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_write_waits_for_a_second_level_whose_breaker_is_open_or_about_to_probe() {
    let source = Source::default();
    let (a, _) = two(&source, as_it_is).await;
    a.faults.set(HANGS);
    a.write().await;
    sleep(2 * SECOND).await;
    assert!(a.level().is_open);
    for _ in 0..200 {
        advance(SECOND / 20).await;
        let began = Instant::now();
        a.write().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "on a paused clock");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_until_the_second_level_has_its_invalidation_and_not_for_later_writes() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    let (a, b) = (Arc::new(a), Arc::new(b));
    a.faults.set(CRAWLS);
    let writers = (0..50).map(|n| {
        let (a, b) = (Arc::clone(&a), Arc::clone(&b));
        tokio::spawn(async move {
            sleep(Duration::from_millis(3 * n)).await;
            let began = Instant::now();
            let written = a.write().await;
            assert!(
                began.elapsed() <= Duration::from_millis(21),
                "on a paused clock: the step under way, and one more"
            );
            tokio::task::yield_now().await;
            assert!(b.read().await >= written, "the other replica has received it");
        })
    });
    for writer in join_all(writers.collect::<Vec<_>>()).await {
        writer.expect("every write ends soon");
    }
    assert_eq!(a.level().pending_invalidations, 0);
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_a_subscription_trusts_its_memory_no_longer_than_its_ttl() {
    let source = Source::default();
    let (a, _) = two(&source, |layer| layer.with_first_level_ttl(SECOND / 10)).await;
    a.read().await;
    a.faults.set(FAILS);
    settle().await;
    assert!(!a.level().is_subscribed);
    assert_eq!(a.read_with_status().await.1, "hit");
    advance(SECOND / 10).await;
    assert_eq!(a.read_with_status().await.1, "miss");
}

#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_written_wait_in_a_bounded_queue_and_further_ones_are_dropped() {
    let (a, _) = two(&at_once(), as_it_is).await;
    a.faults.set(HANGS_WRITING);
    join_all((0..3_000).map(|n| a.read_of(n))).await;
    let dropped = a.level().dropped_puts;
    assert!((3_000 - 1_024 - 64..3_000).contains(&dropped), "{dropped} were dropped");
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_warning_is_logged_once_in_ten_seconds_with_the_number_of_suppressed_ones() {
    let traced = Traced::start();
    let source = at_once();
    let a = source.replica(MemoryLevel::new(), as_it_is);
    a.read().await;
    settle().await;
    // It fails and recovers repeatedly for a minute.
    for n in 0..600 {
        a.faults.set(if n % 80 < 56 { FAILS } else { WORKS });
        join_all((0..6).map(|caller| a.read_of(10 * n + caller))).await;
        a.write().await;
        sleep(SECOND / 10).await;
    }
    a.faults.set(WORKS);
    sleep(10 * SECOND).await;
    a.read().await;
    let text = traced.text();
    let said = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    for (warning, most) in [
        ("the second level of the cache failed", 3 * 7),
        ("fails repeatedly, so it is not used for a while", 2 * 7),
        ("does not receive the invalidations of other replicas", 7),
    ] {
        assert!((1..=most).contains(&said(warning)), "{warning}: {}\n{text}", said(warning));
    }
    assert!((2..=2 * 8).contains(&said("is used again")), "{text}");
    assert!((1..=8).contains(&said("receives the invalidations of other replicas again")), "{text}");
    let unsaid = text.lines().filter_map(|line| line.split("unsaid=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    assert!(unsaid.sum::<u64>() > 20, "{text}");
    assert!(a.level().failures > 40, "{:?}", a.level());
}
