//! Backends that fail: the caller's error, and when it comes.

use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_failure_before_any_change_is_unavailable_and_says_that_nothing_was_changed() {
    let spy = Spy::new();
    let server = SessionStore::new(spy.clone()).layer(museum());
    spy.fails(Fault::Down);
    let answer = call(&server, "visit", json!({}), &connection("1")).await;
    assert_eq!(refused(&answer), (ErrorKind::Unavailable, "unavailable".into()));
    let failure = outcome::failure(&answer).unwrap();
    assert!(failure.is_temporary());
    let text = failure.message();
    assert!(text.starts_with("Sessions are unavailable: try again later. Nothing was changed (error "), "{text}");
    spy.fails(Fault::None);
    assert_eq!(visit(&server, &connection("1")).await, "1");
}

#[tokio::test]
async fn a_change_that_may_have_been_kept_is_not_a_temporary_failure_and_says_so() {
    let spy = Spy::new();
    let server = SessionStore::new(spy.clone()).layer(museum());
    visit(&server, &connection("1")).await;
    spy.fails(Fault::Deaf);
    let answer = call(&server, "visit", json!({}), &connection("1")).await;
    assert_eq!(refused(&answer), (ErrorKind::Internal, "outcome_unknown".into()));
    let text = outcome::failure(&answer).unwrap().message();
    assert!(text.contains("may or may not") && !text.contains("secret"), "{text}");
    spy.fails(Fault::None);
    assert_eq!(visit(&server, &connection("1")).await, "3", "here it was");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_unavailable_to_all_within_the_timeout() {
    let spy = Spy::new();
    let server = SessionStore::new(spy.clone()).layer(museum());
    visit(&server, &connection("1")).await;
    spy.fails(Fault::Hung);
    let begun = Instant::now();
    let ctx = connection("1");
    let answers = join_all((0..500).map(|_| call(&server, "visit", json!({}), &ctx))).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(2), "a queued writer does not wait longer");
    for answer in answers {
        let refused = refused(&answer);
        let is_in_doubt = refused == (ErrorKind::Internal, "outcome_unknown".into());
        assert!(is_in_doubt || refused == (ErrorKind::Unavailable, "unavailable".into()), "{refused:?}");
    }
    spy.fails(Fault::None);
    assert_eq!(visit(&server, &ctx).await, "2", "and it goes on as soon as it can");
}

#[tokio::test]
async fn a_failing_backend_never_counts_as_an_empty_session() {
    let spy = Spy::new();
    let store = SessionStore::new(spy.clone());
    let session = session(&store);
    session.set("a", &1).await.unwrap();
    spy.fails(Fault::Down);
    assert!(session.get::<u8>("a").await.is_err());
    assert!(session.keys().await.is_err());
    assert!(session.load().await.is_err());
    assert!(session.set("a", &2).await.is_err());
    assert!(session.remove("a").await.is_err());
    assert!(session.clear().await.is_err());
    assert!(session.end().await.is_err());
    assert!(store.open(&nobody()).await.is_err());
    spy.fails(Fault::None);
    assert_eq!(session.get("a").await.unwrap(), Some(1));
}

#[test]
fn no_internal_text_reaches_the_caller() {
    let secret = || BackendError::new("secret://password@host");
    let json = || serde_json::from_str::<u8>("\"secret\"").unwrap_err();
    for error in [
        SessionError::Unavailable(secret()),
        SessionError::OutcomeUnknown(secret()),
        SessionError::Undecodable { key: "k".into(), error: json() },
        SessionError::Unencodable { key: "k".into(), error: json() },
    ] {
        let told = McpError::from(error);
        assert!(!told.message.contains("secret") && !format!("{:?}", told.data()).contains("secret"), "{told:?}");
    }
}
