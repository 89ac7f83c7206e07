//! The bounds of the sessions in memory: the share of each caller, and the refusal of a caller without room.

use super::*;

fn in_memory_for(max_sessions: usize) -> SessionStore {
    SessionStore::new(MemoryBackend::new().with_max_sessions(max_sessions))
}

/// Opens sessions until one is refused, or `times` times. Returns how many were opened.
async fn opened(server: &impl McpHandler, ctx: &RequestContext, times: usize) -> usize {
    for number in 0..times {
        let answer = call(server, "open_session", json!({}), ctx).await;
        if outcome::failure(&answer).is_some() {
            assert_eq!(refused(&answer), (ErrorKind::ServerOverloaded, "no_room".to_owned()));
            return number;
        }
    }
    times
}

#[tokio::test]
async fn a_caller_who_opens_sessions_in_a_loop_ends_no_session_of_another_caller() {
    let store = in_memory_for(1_000).with_mode(SessionMode::Handle);
    let server = store.layer(museum());
    let ada = user("ada");
    let handle = call(&server, "open_session", json!({}), &ada).await.unwrap().first_text().unwrap().to_owned();
    let visit = async || text(&call(&server, "visit", json!({ "session": handle }), &ada).await);
    assert_eq!(visit().await, "1");
    for mallory in [user("mallory"), nobody()] {
        assert!(opened(&server, &mallory, 10_000).await < 1_000);
        assert_eq!(visit().await, if mallory.subject().is_some() { "2" } else { "3" });
    }
    assert_eq!(opened(&server, &user("bob"), 50).await, 50, "and others find room for new ones");
}

#[tokio::test]
async fn a_lone_caller_gets_half_and_an_anonymous_connection_half_of_that() {
    for (ctx, share) in [(user("ada"), 500), (nobody(), 500), (connection("1"), 250)] {
        let server = in_memory_for(1_000).with_mode(SessionMode::Handle).layer(museum());
        assert_eq!(opened(&server, &ctx, 1_000).await, share, "{:?}", ctx.session_id());
    }
    let server = in_memory_for(1_000).with_mode(SessionMode::Handle).layer(museum());
    let mut all = 0;
    for number in 0..1_000 {
        all += opened(&server, &connection(&number.to_string()), 1_000).await;
    }
    assert!(all <= 500, "all anonymous connections together get what one caller gets: {all}");
    assert!(opened(&server, &user("ada"), 1_000).await >= 250);
}

#[tokio::test]
async fn a_renewed_session_stays_in_the_share_of_its_opener() {
    let store = in_memory_for(8).with_mode(SessionMode::Handle);
    let ada = user("ada");
    for _ in 0..3 {
        store.open(&ada).await.unwrap();
    }
    let session = store.open(&ada).await.unwrap();
    assert!(matches!(session.renew().await, Err(SessionError::NoRoom)), "for a moment there are two of it");
    assert!(session.keys().await.is_ok(), "it goes on under its old handle");
    store.open(&user("bob")).await.unwrap();
    session.end().await.unwrap();
    let session = store.open(&ada).await.unwrap();
    session.end().await.unwrap();
    assert!(store.open(&ada).await.is_ok(), "a session that ended is room again");
}

#[tokio::test(start_paused = true)]
async fn expired_sessions_make_room_for_new_ones() {
    let store = in_memory_for(100).with_mode(SessionMode::Handle);
    let ada = user("ada");
    let kept = store.open(&ada).await.unwrap();
    while store.open(&ada).await.is_ok() {}
    tokio::time::advance(HOUR / 2).await;
    kept.set("used", &1).await.unwrap();
    tokio::time::advance(HOUR / 2).await;
    for _ in 0..49 {
        store.open(&ada).await.expect("the others have expired");
    }
    assert!(store.open(&ada).await.is_err());
    assert_eq!(kept.get("used").await.unwrap(), Some(1), "what is in use stays");
}

#[tokio::test]
async fn the_bytes_of_sessions_are_bounded_for_each_caller_and_for_all() {
    let backend = MemoryBackend::new().with_max_bytes(1 << 20);
    let store = SessionStore::new(backend).with_mode(SessionMode::Handle);
    let (ada, mallory) = (user("ada"), user("mallory"));
    let hers = store.open(&ada).await.unwrap();
    let large = "x".repeat(60 << 10);
    let mut kept = Vec::new();
    let refused = loop {
        let session = store.open(&mallory).await.unwrap();
        match session.set("large", &large).await {
            Ok(()) => kept.push(session),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SessionError::NoRoom), "{refused}");
    assert_eq!(kept.len(), 8, "half of a MiB");
    hers.set("large", &large).await.expect("there is room for her");

    let first = kept.swap_remove(0);
    assert!(matches!(first.set("more", &"x".repeat(3 << 10)).await, Err(SessionError::NoRoom)));
    assert_eq!(first.keys().await.unwrap(), ["large"], "what is refused changes nothing");
    first.set("large", "small").await.unwrap();
    first.set("more", &"x".repeat(3 << 10)).await.expect("what a session gives back is room");
}

#[tokio::test]
async fn each_anonymous_connection_has_its_session_until_their_share_is_full() {
    let server = in_memory_for(100).layer(museum());
    for number in 0..50 {
        let visit = call(&server, "visit", json!({}), &connection(&number.to_string())).await;
        assert_eq!(text(&visit), "1");
    }
    let too_many = call(&server, "visit", json!({}), &connection("50")).await;
    assert_eq!(refused(&too_many), (ErrorKind::ServerOverloaded, "no_room".to_owned()));
    assert_eq!(text(&call(&server, "visit", json!({}), &connection("0")).await), "2", "an open session is kept");
    assert_eq!(text(&call(&server, "visit", json!({}), &user("ada").with_session_id("51")).await), "1");
}
