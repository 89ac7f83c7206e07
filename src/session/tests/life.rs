//! The lifetime of a session.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_unused_session_ends_after_its_idle_timeout() {
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
async fn use_is_reported_at_most_every_tenth_of_the_idle_timeout() {
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
async fn a_use_that_cannot_be_reported_does_not_fail_the_call() {
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

#[tokio::test(start_paused = true)]
async fn a_session_ends_at_its_absolute_timeout_even_if_it_is_used() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.set("a", &1).await.unwrap();
    for _ in (30..24 * 60).step_by(30) {
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(session.get("a").await.unwrap(), Some(1));
        session.update("b", |b: &mut u32| *b += 1).await.unwrap();
        settle().await;
    }
    let left = spy.backend.load(session.key.id()).await.unwrap().unwrap().expires_in;
    assert_eq!(left, HOUR / 2, "the backend keeps it until it ends and no longer");
    tokio::time::advance(HOUR / 2).await;
    assert_eq!(session.get::<u8>("a").await.unwrap(), None);
    assert_eq!(session.keys().await.unwrap(), Vec::<String>::new());
    session.set("new", &1).await.unwrap();
    assert_eq!(session.keys().await.unwrap(), ["new"], "a new one begins");
    tokio::time::advance(HOUR / 2).await;
    assert_eq!(session.get("new").await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_use_near_the_end_of_a_session_is_not_reported_since_it_extends_nothing() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()).with_absolute_timeout(2 * HOUR));
    session.set("a", &1).await.unwrap();
    for _ in 0..119 {
        tokio::time::advance(MINUTE).await;
        assert_eq!(session.get("a").await.unwrap(), Some(1));
        settle().await;
    }
    // Every six minutes, until its end cannot be extended.
    let [.., touched, _] = spy.steps();
    assert!((9..=11).contains(&touched), "noted {touched} times");
}

#[tokio::test(start_paused = true)]
async fn a_new_handle_does_not_prolong_a_session() {
    let spy = Spy::new();
    let store = SessionStore::new(spy.clone()).with_mode(SessionMode::Handle).with_absolute_timeout(2 * HOUR);
    let mut session = store.open(&nobody()).await.unwrap();
    session.set("a", &1).await.unwrap();
    for _ in 0..3 {
        tokio::time::advance(HOUR / 2).await;
        session = session.renew().await.unwrap();
        assert_eq!(session.get("a").await.unwrap(), Some(1));
    }
    tokio::time::advance(HOUR / 2).await;
    assert!(matches!(session.get::<u8>("a").await, Err(SessionError::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn without_an_absolute_timeout_a_session_lives_as_long_as_it_is_used() {
    let session = session(&memory().without_absolute_timeout());
    session.set("a", &1).await.unwrap();
    for _ in 1..100 * 25 {
        tokio::time::advance(HOUR - MINUTE).await;
        assert_eq!(session.get("a").await.unwrap(), Some(1));
        settle().await;
    }
}

#[tokio::test]
async fn an_ended_session_is_empty() {
    let session = session(&memory());
    session.end().await.unwrap();
    session.set("a", &1).await.unwrap();
    session.end().await.unwrap();
    assert_eq!(session.get::<u8>("a").await.unwrap(), None);
    session.set("b", &1).await.unwrap();
    assert_eq!(session.keys().await.unwrap(), ["b"]);
}

#[tokio::test]
async fn a_read_creates_no_session() {
    let spy = Spy::new();
    let session = session(&SessionStore::new(spy.clone()));
    session.get::<u8>("a").await.unwrap();
    session.keys().await.unwrap();
    session.remove("a").await.unwrap();
    let [created, _, swapped, ..] = spy.steps();
    assert_eq!((created, swapped), (0, 0));
}
