//! Two replicas with a second level between them.

use tokio::time::sleep;

use super::fleet::*;
use super::*;
use crate::cached::{Cache, MemoryLevel};
use crate::testing::second_level_contract;

#[tokio::test]
async fn the_level_in_memory_passes_the_contract_suite() {
    let level = MemoryLevel::new();
    second_level_contract(|| async { level.clone() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_finds_values_that_another_replica_loaded() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    assert_eq!(a.read_with_status().await, found(0, "miss", 0));
    settle().await;
    assert_eq!(b.read_with_status().await, found(0, "hit", 2));
    assert_eq!(b.read_with_status().await, found(0, "hit", 1));
    assert_eq!(source.loads(), 1);
    assert_eq!((a.level().puts, b.level().hits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_from_the_second_level_keeps_its_age() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_ttl(20 * SECOND)).await;
    a.read().await;
    sleep(15 * SECOND).await;
    assert_eq!(b.read_with_status().await.1, "hit");
    sleep(5 * SECOND).await;
    assert_eq!(b.read_with_status().await, found(0, "miss", 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_invalidates_on_its_replica_at_once_and_on_the_others_when_they_receive_it() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    for _ in 0..100 {
        a.read().await;
        settle().await;
        b.read().await;
        let written = a.write().await;
        assert_eq!(a.read().await, written);
        settle().await;
        assert_eq!(b.read().await, written);
    }
    assert_eq!(b.level().invalidations_received, 100);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_an_invalidation_is_stored_on_no_replica() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    let gate = Gate::closed();
    *source.gate.lock().expect("no panic") = Some(gate.clone());
    let server = b.server.clone();
    let slow = tokio::spawn(async move { read(&server).await });
    settle().await;
    *source.gate.lock().expect("no panic") = None;
    let written = a.write().await;
    gate.open();
    assert_eq!(slow.await.expect("an answer"), "0", "a caller from before may get it");
    settle().await;
    assert_eq!((a.read().await, b.read().await), (written, written));
}

/// The message does not reach B, which learns of the invalidation by a read.
#[tokio::test(start_paused = true)]
async fn a_value_loaded_before_an_invalidation_is_not_found_in_the_second_level() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_unsubscribed_ttl(Duration::from_millis(1))).await;
    let gate = Gate::closed();
    *source.gate.lock().expect("no panic") = Some(gate.clone());
    b.faults.hang_up.notify_waiters();
    let server = b.server.clone();
    let slow = tokio::spawn(async move { read(&server).await });
    sleep(Duration::from_micros(100)).await;
    *source.gate.lock().expect("no panic") = None;
    let written = a.write().await;
    gate.open();
    slow.await.expect("an answer");
    sleep(Duration::from_millis(5)).await;
    assert_eq!((b.read().await, a.read().await), (written, written));
}

#[tokio::test(start_paused = true)]
async fn background_work_ends_when_the_last_clone_is_dropped() {
    let source = Source::default();
    let level = MemoryLevel::new();
    let a = source.replica(level, as_it_is);
    a.read().await;
    settle().await;
    let fault = Arc::downgrade(&a.faults.fault);
    let Replica { server, handle, faults, .. } = a;
    drop((server, faults));
    settle().await;
    assert!(fault.upgrade().is_some(), "the handle is a clone");
    drop(handle);
    settle().await;
    assert!(fault.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_past_its_ttl_everywhere_is_served_and_refreshed() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_ttl(10 * SECOND).with_stale_while_revalidate(MINUTE)).await;
    a.read().await;
    source.version.store(7, Ordering::SeqCst);
    sleep(15 * SECOND).await;
    assert_eq!(b.read_with_status().await, found(0, "stale", 2));
    assert_eq!(b.read_with_status().await, found(0, "stale", 1));
    sleep(SECOND).await;
    assert_eq!(b.read_with_status().await, found(7, "hit", 1));
    assert_eq!(a.read_with_status().await, found(0, "stale", 1));
    sleep(SECOND).await;
    assert_eq!(a.read_with_status().await, found(7, "hit", 1), "from B, without a load");
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn caches_with_different_names_on_one_level_share_no_values() {
    let level = MemoryLevel::new();
    let caches = ["one", "two", ""].map(|name| Cache::<String, String>::new().with_second_level(name, level.clone()));
    for round in 0..2 {
        for (at, cache) in caches.iter().enumerate() {
            let load = || async move { Ok(at.to_string()) };
            let value = cache.get_or_load(&(), "key".to_owned(), load).await.expect("a value");
            assert_eq!(value, at.to_string(), "round {round}");
            settle().await;
        }
    }
}

/// Too many invalidations are unsent to send each: then everything shared is invalidated.
#[tokio::test(start_paused = true)]
async fn invalidations_that_cannot_be_sent_take_bounded_memory_and_are_not_lost() {
    const MOST: usize = 16_384;
    // At once, or in two halves, one of which is already being sent.
    for halves in [1, 2] {
        let source = at_once();
        let level = MemoryLevel::new();
        let [a, b, c] = [(); 3].map(|()| source.replica(level.clone(), as_it_is));
        settle().await;
        assert_eq!((a.read().await, b.read().await), (0, 0));
        settle().await;
        a.faults.set(FAILS);
        source.version.store(1, Ordering::SeqCst);
        a.handle.invalidate_tool("read");
        for half in 0..halves {
            for tag in 0..=MOST / halves {
                a.handle.invalidate_tag(&format!("{half}:{tag}"));
            }
            assert!(a.level().pending_invalidations <= halves * MOST, "{}", a.level().pending_invalidations);
            // The waiting invalidations are taken, and sending them fails.
            sleep(2 * SECOND).await;
            assert!(a.level().pending_invalidations <= MOST, "{}", a.level().pending_invalidations);
        }
        a.faults.set(WORKS);
        sleep(10 * SECOND).await;
        assert_eq!(a.level().pending_invalidations, 0);
        assert_eq!(b.read().await, 1, "the replica with the old value receives it");
        source.version.store(2, Ordering::SeqCst);
        assert_eq!(c.read().await, 1, "what b has put since is right");
        assert_eq!(a.read().await, 1, "in {halves}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_invalidated_by_clear_or_by_the_key_of_everything_is_not_found_in_the_second_level() {
    use crate::cached::SecondLevel;
    let source = at_once();
    let level = MemoryLevel::new();
    for round in 0..3 {
        source.version.store(round, Ordering::SeqCst);
        let [a, b] = [(); 2].map(|()| source.replica(level.clone(), as_it_is));
        settle().await;
        assert_eq!(a.read().await, round);
        settle().await;
        source.version.store(round + 10, Ordering::SeqCst);
        match round {
            0 => {}
            1 => a.handle.clear(),
            _ => drop(level.invalidate(7, &[0]).await.expect("an answer")),
        }
        settle().await;
        assert_eq!(b.read().await, if round == 0 { 0 } else { round + 10 }, "{round}");
        a.handle.clear();
        settle().await;
    }
}

#[test]
fn a_value_from_another_epoch_or_from_a_lost_history_is_not_current() {
    use crate::cached::{Generation, Read};
    let now = Read::new(None, Generation::new(7, 100), 50);
    let is_current = |epoch, number| now.is_current(Generation::new(epoch, number));
    assert!(is_current(7, 50) && is_current(7, 100));
    assert!(!is_current(7, 49), "it is invalidated");
    assert!(!is_current(6, 60) && !is_current(8, 60), "it is of another life");
    assert!(!is_current(7, 101), "a number that is not taken yet");
}

#[test]
fn an_encoded_invalidation_is_decoded_unchanged() {
    use crate::cached::Invalidation;
    for keys in [vec![], vec![0, 1, u64::MAX]] {
        let told = Invalidation::new(u64::MAX, 1 << 53, keys);
        let message = told.encode();
        assert_eq!(Invalidation::decode(&message), Some(told));
        assert_eq!(Invalidation::decode(&message[1..]), None);
        assert_eq!(Invalidation::decode(&[message.as_slice(), &[0]].concat()), None);
    }
}
