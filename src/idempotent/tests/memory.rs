//! The bounds of the store in memory.

use super::*;

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_the_answer_that_expires_first_is_dropped() {
    let post = post();
    let server = layer(MemoryStore::new().with_max_records(2)).layer(post.clone());
    for key in ["a", "b", "c"] {
        send(&server, key).await.unwrap();
        tokio::time::advance(secs(1)).await;
    }
    assert_eq!(told(&send(&server, "b").await), "replayed");
    assert_eq!(told(&send(&server, "c").await), "replayed");
    assert_eq!(text(&send(&server, "a").await), "sent 4", "its answer had to go");
}

#[tokio::test(start_paused = true)]
async fn claims_are_never_dropped_and_a_store_full_of_them_refuses_new_ones() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let post = ScriptedServer::new("post").with_plain("send", move |call| {
        let gate = Arc::clone(&gate);
        async move {
            if call.number == 2 {
                return Err(McpError::timeout("no answer"));
            }
            gate.notified().await;
            Ok(sent(call.number))
        }
    });
    let layer = layer(MemoryStore::new().with_max_records(2)).with_wait(Duration::ZERO);
    let handle = layer.handle();
    let server = layer.layer(post.clone());
    let running = tokio::spawn({
        let server = server.clone();
        async move { send(&server, "running").await }
    });
    settle().await;
    assert_eq!(told(&send(&server, "ambiguous").await), "ambiguous");
    for key in ["new", "newer"] {
        let refused = send(&server, key).await;
        assert_eq!(kind(&refused), Some(ErrorKind::ServerOverloaded));
    }
    assert!(is_ambiguous(&send(&server, "ambiguous").await));
    assert_eq!(told(&send(&server, "running").await), "in_progress");
    assert_eq!(post.calls("send"), 2);

    handle.resolve(&RequestContext::new(), "send", "ambiguous", Resolution::NotDone).await.unwrap();
    go.notify_one();
    running.await.unwrap().unwrap();
    go.notify_one();
    assert_eq!(text(&send(&server, "new").await), "sent 3");
}

#[tokio::test(start_paused = true)]
async fn expired_answers_are_cleared_away() {
    let store = MemoryStore::new();
    let server = layer(store.clone()).with_idempotency(Idempotency::new().with_ttl(secs(1))).layer(post());
    for number in 0..100 {
        send(&server, &format!("old.{number}")).await.unwrap();
    }
    tokio::time::advance(secs(2)).await;
    for number in 0..50 {
        send(&server, &format!("new.{number}")).await.unwrap();
    }
    assert!(format!("{store:?}").contains("records: 50"), "{store:?}");
}
