//! How long a session lives.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_it_is_not_used() {
    let session = session(&memory());
    session.set("a", &1).await.unwrap();
    tokio::time::advance(HOUR - MINUTE).await;
    assert_eq!(session.get("a").await.unwrap(), Some(1));
    settle().await;
    tokio::time::advance(HOUR - MINUTE).await;
    assert_eq!(session.get("a").await.unwrap(), Some(1), "a read is a use");
    settle().await;
    tokio::time::advance(HOUR).await;
    assert_eq!(session.get::<u8>("a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn use_is_noted_at_most_every_tenth_of_the_idle_timeout() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("a", &1).await.unwrap();
    spy.steps();
    // Ten hours of reads, one a minute; a tenth of an hour is six minutes.
    for _ in 0..600 {
        tokio::time::advance(MINUTE).await;
        assert_eq!(session.get("a").await.unwrap(), Some(1));
        settle().await;
    }
    assert_eq!(spy.steps(), [0, 600, 0, 100, 0]);
    tokio::time::advance(HOUR / 2).await;
    futures_util::future::join_all((0..100).map(|_| session.get::<u8>("a"))).await;
    settle().await;
    assert_eq!(spy.steps()[3], 1, "a crowd notes its use once");
    session.keys().await.unwrap();
    session.load().await.unwrap().commit().await.unwrap();
    settle().await;
    assert_eq!(spy.steps()[3], 0);
}

#[tokio::test(start_paused = true)]
async fn a_use_that_cannot_be_noted_is_an_answer_all_the_same() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("a", &1).await.unwrap();
    tokio::time::advance(HOUR / 2).await;
    assert_eq!(session.get("a").await.unwrap(), Some(1));
    spy.fails(Fault::Down);
    settle().await;
    spy.fails(Fault::None);
    spy.steps();
    assert_eq!(session.get("a").await.unwrap(), Some(1));
    settle().await;
    assert_eq!(spy.steps()[3], 1, "the next one notes it");
}

/// Moves the clock of a store that measures what is not the backend's.
fn set_clock(store: &SessionStore, at: Duration) {
    const BEGIN: u64 = 1_700_000_000_000;
    store.engine.shared.clock.store(BEGIN + at.as_millis() as u64, Ordering::SeqCst);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_however_much_it_is_used() {
    let spy = Spy::new();
    let store = SessionStore::new(spy.clone());
    set_clock(&store, Duration::ZERO);
    let session = session(&store);
    session.set("a", &1).await.unwrap();
    for minutes in (30..24 * 60).step_by(30) {
        tokio::time::advance(HOUR / 2).await;
        set_clock(&store, minutes * MINUTE);
        assert_eq!(session.get("a").await.unwrap(), Some(1));
        session.update("b", |b: &mut u32| *b += 1).await.unwrap();
        settle().await;
    }
    let left = spy.backend.load(session.key.id()).await.unwrap().unwrap().expires_in;
    assert_eq!(left, HOUR / 2, "the backend keeps it until it ends and no longer");
    set_clock(&store, 24 * HOUR);
    assert_eq!(session.get::<u8>("a").await.unwrap(), None, "also where the backend's clock is slow");
    assert_eq!(session.keys().await.unwrap(), Vec::<String>::new());
    session.set("new", &1).await.unwrap();
    assert_eq!(session.keys().await.unwrap(), ["new"], "a new one begins");
    set_clock(&store, 30 * HOUR);
    assert_eq!(session.get("new").await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn without_an_absolute_timeout_a_session_lives_as_long_as_it_is_used() {
    let store = memory().without_absolute_timeout();
    set_clock(&store, Duration::ZERO);
    let session = session(&store);
    session.set("a", &1).await.unwrap();
    for day in 1..100 {
        set_clock(&store, day * 24 * HOUR);
        assert_eq!(session.get("a").await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn a_session_that_ended_is_empty() {
    let session = session(&memory());
    session.end().await.unwrap();
    session.set("a", &1).await.unwrap();
    session.end().await.unwrap();
    assert_eq!(session.get::<u8>("a").await.unwrap(), None);
    session.set("b", &1).await.unwrap();
    assert_eq!(session.keys().await.unwrap(), ["b"]);
}

#[tokio::test]
async fn a_session_that_is_only_read_is_not_made() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.get::<u8>("a").await.unwrap();
    session.keys().await.unwrap();
    session.remove("a").await.unwrap();
    let [created, _, swapped, ..] = spy.steps();
    assert_eq!((created, swapped), (0, 0));
}
