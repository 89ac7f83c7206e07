//! The cost of a change, and that none is lost.

use futures_util::future::join_all;

use super::*;

/// Two processes that share only the backend.
fn two_processes(backend: impl Backend + Clone) -> [SessionStore; 2] {
    [backend.clone(), backend].map(|backend| SessionStore::new(backend).with_backend_timeout(MINUTE))
}

async fn a_thousand_updates(stores: [SessionStore; 2], name: &str) {
    let ctx = connection(name);
    let sessions = stores.each_ref().map(|store| store.of(&ctx).unwrap());
    let updates = (0..1000).map(|number| {
        let session = sessions[number % 2].clone();
        tokio::spawn(async move { session.update("count", |count: &mut u32| *count += 1).await })
    });
    for update in join_all(updates).await {
        update.expect("no panic").expect("every update succeeds");
    }
    assert_eq!(sessions[0].get::<u32>("count").await.unwrap(), Some(1000));
    assert_eq!(sessions[1].get::<u32>("count").await.unwrap(), Some(1000));
    sessions[0].end().await.unwrap();
}

#[tokio::test]
async fn a_thousand_concurrent_updates_through_two_stores_are_all_kept() {
    a_thousand_updates(two_processes(MemoryBackend::new()), "memory").await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_concurrent_updates_over_a_slow_network_are_all_kept() {
    let spy = Spy::new();
    spy.fails(Fault::Slow);
    a_thousand_updates(two_processes(spy), "slow").await;
}

#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod shared {
    use super::super::backends::{new_name, postgres, redis, sqlite};
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_concurrent_updates_in_redis_are_all_kept() {
        a_thousand_updates(two_processes(redis().await), &new_name()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_concurrent_updates_in_postgres_are_all_kept() {
        a_thousand_updates(two_processes(postgres().await), &new_name()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_concurrent_updates_in_sqlite_are_all_kept() {
        let (backend, _file) = sqlite().await;
        a_thousand_updates(two_processes(backend), &new_name()).await;
    }
}

/// Steps of the backend: create, load, swap, touch, delete.
#[tokio::test]
async fn a_read_is_one_step_and_a_write_is_one_step() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("a", &1).await.unwrap();
    assert_eq!(spy.steps(), [1, 1, 0, 0, 0], "the first write reads the record");
    session.set("a", &2).await.unwrap();
    session.update("a", |a: &mut u8| *a += 1).await.unwrap();
    session.remove("b").await.unwrap();
    assert_eq!(spy.steps(), [0, 1, 2, 0, 0], "what changes nothing is read and not written");
    session.set("a", &4).await.unwrap();
    session.set("a", &4).await.unwrap();
    assert_eq!(spy.steps(), [0, 1, 1, 0, 0], "nor is the same value again");
    assert_eq!(session.get("a").await.unwrap(), Some(4));
    session.keys().await.unwrap();
    assert_eq!(spy.steps(), [0, 2, 0, 0, 0]);
}

#[tokio::test]
async fn several_operations_share_one_load_and_one_write() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("a", &1).await.unwrap();
    spy.steps();
    let mut draft = session.load().await.unwrap();
    assert_eq!(draft.get::<u8>("a").unwrap(), Some(1));
    draft.set("a", &2).unwrap();
    draft.set("b", &3).unwrap();
    assert_eq!(draft.keys().collect::<Vec<_>>(), ["a", "b"]);
    draft.commit().await.unwrap();
    assert_eq!(spy.steps(), [0, 1, 1, 0, 0]);
    let draft = session.load().await.unwrap();
    assert_eq!(draft.get::<u8>("b").unwrap(), Some(3));
    draft.commit().await.unwrap();
    assert_eq!(spy.steps(), [0, 1, 0, 0, 0], "without a change there is no write");
}

#[tokio::test]
async fn a_draft_does_not_overwrite_a_later_change() {
    let session = session(&memory());
    let mut draft = session.load().await.unwrap();
    draft.set("a", &1).unwrap();
    session.set("a", &2).await.unwrap();
    assert!(matches!(draft.commit().await, Err(SessionError::Conflict)));
    assert_eq!(session.get("a").await.unwrap(), Some(2));
    let mut draft = session.load().await.unwrap();
    draft.set("a", &3).unwrap();
    session.end().await.unwrap();
    assert!(matches!(draft.commit().await, Err(SessionError::Conflict)), "a session that ended is not revived");
}

#[tokio::test]
async fn a_write_of_another_process_is_seen_and_kept() {
    let stores = two_processes(MemoryBackend::new());
    let [one, two] = stores.each_ref().map(session);
    for round in 0..10 {
        one.set("one", &round).await.unwrap();
        two.set("two", &round).await.unwrap();
        assert_eq!(one.get("two").await.unwrap(), Some(round));
        assert_eq!(two.get("one").await.unwrap(), Some(round));
        let sum = one.update_all(|data| Ok(data.get::<i32>("one")?.unwrap() + data.get::<i32>("two")?.unwrap()));
        assert_eq!(sum.await.unwrap(), 2 * round, "not what this process wrote last");
    }
}

#[tokio::test]
async fn a_session_ended_by_another_process_starts_empty() {
    let stores = two_processes(MemoryBackend::new());
    let [one, two] = stores.each_ref().map(session);
    one.set("old", &1).await.unwrap();
    two.end().await.unwrap();
    one.set("new", &1).await.unwrap();
    assert_eq!(two.keys().await.unwrap(), ["new"]);
    two.end().await.unwrap();
    two.set("newer", &1).await.unwrap();
    one.set("newest", &1).await.unwrap();
    assert_eq!(two.keys().await.unwrap(), ["newer", "newest"]);
}

/// A refusal that is based on this process's last write may be out of date.
#[tokio::test]
async fn a_change_is_not_refused_if_another_process_has_made_room_for_it() {
    let stores = two_processes(MemoryBackend::new()).map(|store| store.with_max_keys(1));
    let [one, two] = stores.each_ref().map(session);
    one.set("a", &1).await.unwrap();
    two.remove("a").await.unwrap();
    one.set("b", &1).await.unwrap();
    assert_eq!(two.keys().await.unwrap(), ["b"]);
}

#[tokio::test]
async fn a_change_that_conflicts_at_each_attempt_ends_with_a_conflict() {
    let spy = Spy::new();
    let (mine, theirs) = (SessionStore::new(spy.clone()), SessionStore::new(spy.clone()));
    let (mine, theirs) = (session(&mine.with_max_attempts(3)), session(&theirs));
    theirs.set("a", &0).await.unwrap();
    let mut runs = 0;
    let error = mine.update("a", |a: &mut i32| {
        // Another writer is always faster.
        runs += 1;
        let theirs = theirs.clone();
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(theirs.update("a", |a: &mut i32| *a += 100)).unwrap();
        });
        done.join().unwrap();
        *a += 1;
    });
    assert!(matches!(error.await, Err(SessionError::Conflict)));
    assert_eq!(runs, 3);
    assert_eq!(theirs.get("a").await.unwrap(), Some(300), "nothing of it was kept");
    assert_eq!(McpError::from(SessionError::Conflict).kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_change_that_panics_or_is_dropped_passes_the_turn_on() {
    let spy = Spy::new();
    let store = SessionStore::new(spy.clone());
    let session = session(&store);
    session.set("a", &1).await.unwrap();
    let panicking = session.clone();
    let panicked =
        tokio::spawn(async move { panicking.update("a", |_: &mut u8| -> () { panic!("as configured") }).await });
    assert!(panicked.await.unwrap_err().is_panic());
    spy.fails(Fault::Hung);
    let dropped = tokio::time::timeout(Duration::from_millis(1), session.set("a", &2)).await;
    assert!(dropped.is_err());
    spy.fails(Fault::None);
    session.update("a", |a: &mut u8| *a += 1).await.unwrap();
    assert_eq!(session.get("a").await.unwrap(), Some(2));
}

#[tokio::test]
async fn the_write_queues_of_sessions_without_writers_are_dropped() {
    let store = memory();
    for number in 0..3000 {
        let session = store.of(&connection(&number.to_string())).unwrap();
        session.set("a", &1).await.unwrap();
    }
    assert!(store.engine.shared.write_queues.len() <= 1025, "{}", store.engine.shared.write_queues.len());
}
