//! The bounds of the backend in memory: the share of each caller, and the refusal of a caller without room.

use super::*;

fn user(name: &str) -> RequestContext {
    RequestContext::new().with_user_id(name)
}

fn nobody_on(connection: &str) -> RequestContext {
    RequestContext::new().with_session_id(connection)
}

/// Calls with new keys until one is refused, or `times` times. Returns how many were accepted.
async fn accepted(server: &impl McpHandler, ctx: &RequestContext, times: usize) -> usize {
    for number in 0..times {
        let answer = send_as(server, &format!("{number}"), ctx).await;
        if kind(&answer) == Some(ErrorKind::ServerOverloaded) {
            return number;
        }
    }
    times
}

#[tokio::test(start_paused = true)]
async fn one_callers_calls_never_drop_the_answer_of_another() {
    let post = post();
    let server = layer(MemoryBackend::new().with_max_records(1_000)).layer(post.clone());
    let (ada, mallory) = (user("ada"), user("mallory"));
    send_as(&server, "rent", &ada).await.unwrap();
    assert_eq!(accepted(&server, &mallory, 1_000).await, 500, "a caller alone gets half of the room");

    let again = send_as(&server, "rent", &ada).await;
    assert_eq!((text(&again), told(&again)), ("sent 1".into(), json!("replayed")));
    assert!(accepted(&server, &user("bob"), 100).await == 100, "and others find room");
}

#[tokio::test(start_paused = true)]
async fn one_callers_ambiguous_calls_never_block_another() {
    let script = ScriptedServer::new("post").with_plain("send", |call| {
        let is_ada = call.ctx.subject() == Some("ada");
        ready(Ok(if is_ada { ToolResult::text("sent") } else { ToolResult::error("no such address") }))
    });
    let server = layer(MemoryBackend::new().with_max_records(1_000)).layer(script.clone());
    let mallory = user("mallory");
    assert_eq!(accepted(&server, &mallory, 1_000).await, 500);
    for number in [0, 499] {
        assert!(is_ambiguous(&send_as(&server, &format!("{number}"), &mallory).await), "no claim of his is dropped");
    }
    assert_eq!(text(&send_as(&server, "rent", &user("ada")).await), "sent");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_until_its_ttl_and_then_frees_its_room() {
    let post = post();
    let server = layer(MemoryBackend::new().with_max_records(8)).layer(post.clone());
    let ada = user("ada");
    assert_eq!(accepted(&server, &ada, 8).await, 4);
    tokio::time::advance(secs(24 * 60 * 60 - 1)).await;
    for number in 0..4 {
        assert_eq!(told(&send_as(&server, &format!("{number}"), &ada).await), "replayed");
    }
    assert_eq!(kind(&send_as(&server, "new", &ada).await), Some(ErrorKind::ServerOverloaded));
    assert_eq!(post.calls("send"), 4, "what is refused is not made");
    tokio::time::advance(secs(1)).await;
    assert_eq!(text(&send_as(&server, "new", &ada).await), "sent 5");
    assert_eq!(accepted(&server, &ada, 8).await, 3, "all that has expired makes room");
}

#[tokio::test(start_paused = true)]
async fn a_released_key_takes_no_room() {
    let script =
        ScriptedServer::new("post").with_plain("send", |_| ready(Err(McpError::invalid_params("no such address"))));
    let server = layer(MemoryBackend::new().with_max_records(2)).layer(script.clone());
    assert_eq!(accepted(&server, &user("ada"), 100).await, 100);
}

#[tokio::test(start_paused = true)]
async fn an_anonymous_connection_blocks_neither_another_connection_nor_a_user() {
    let server = layer(MemoryBackend::new().with_max_records(1_000)).layer(post());
    // Anonymous callers share their keys, so each connection has to use different ones.
    let mut number = 0;
    let mut accepted_on = async |connection: usize| {
        let mut accepted = 0;
        loop {
            number += 1;
            let answer = send_as(&server, &format!("{number}"), &nobody_on(&connection.to_string())).await;
            if kind(&answer) == Some(ErrorKind::ServerOverloaded) {
                return accepted;
            }
            accepted += 1;
        }
    };
    assert_eq!(accepted_on(0).await, 250);
    assert_eq!(accepted_on(1).await, 125, "another connection finds room");
    let mut others = 0;
    for connection in 2..200 {
        others += accepted_on(connection).await;
    }
    assert!(others <= 125, "but all together no more than one caller: {others}");
    assert!(accepted(&server, &user("ada"), 1_000).await >= 250, "an authenticated user has a share of the rest");
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_answers_are_bounded_for_each_caller_and_for_all() {
    const MIB: usize = 1 << 20;
    let script = ScriptedServer::new("post").with_plain("send", |call| {
        ready(Ok(ToolResult::text("x".repeat(MIB).replace('x', &(call.number % 10).to_string()))))
    });
    let backend = MemoryBackend::new().with_max_bytes(16 * MIB);
    let server = layer(backend.clone()).layer(script.clone());
    let (ada, mallory) = (user("ada"), user("mallory"));
    send_as(&server, "report", &ada).await.unwrap();

    // Each of them is made once and answered, but only the answers with room are kept.
    let mut made = 0;
    loop {
        let answer = send_as(&server, &format!("{made}"), &mallory).await;
        if kind(&answer) == Some(ErrorKind::ServerOverloaded) {
            break;
        }
        assert_eq!(text(&answer).len(), MIB);
        assert_eq!(told(&answer), if made < 7 { Value::Null } else { json!("not_recorded") }, "{made}");
        made += 1;
    }
    assert!(made > 50, "a call without an answer takes little room: {made}");
    assert_eq!(script.calls("send"), made + 1);
    let kept = send_as(&server, "6", &mallory).await;
    assert_eq!((text(&kept).len(), told(&kept)), (MIB, json!("replayed")));
    let forgotten = send_as(&server, "7", &mallory).await;
    assert_eq!(kind(&forgotten), Some(ErrorKind::Internal));
    assert!(text(&forgotten).contains("too large to be kept. The call is not made again"), "{}", text(&forgotten));
    assert_eq!(told(&forgotten), "replayed");
    assert_eq!(outcome::failure(&forgotten).unwrap().data().unwrap()[IDEMPOTENCY], "answer_not_kept");
    assert_eq!(script.calls("send"), made + 1, "none is made again");

    assert_eq!(text(&send_as(&server, "report", &ada).await).len(), MIB, "ada's answer is kept");
    let another = send_as(&server, "another-report", &ada).await;
    assert_eq!(told(&another), Value::Null, "and there is room for her next one");
}

#[tokio::test(start_paused = true)]
async fn a_resolved_answer_is_refused_if_there_is_no_room_for_it() {
    let script = ScriptedServer::new("post").with_plain("send", |_| ready(Err(McpError::timeout("Lost"))));
    let layer = layer(MemoryBackend::new().with_max_bytes(1 << 20));
    let handle = layer.handle();
    let server = layer.layer(script);
    let ada = user("ada");
    send_as(&server, "k", &ada).await.unwrap();
    let resolve = async |text: &str| handle.resolve(&ada, "send", "k", Resolution::Done(ToolResult::text(text))).await;
    let refused = resolve(&"x".repeat(1 << 20)).await.unwrap_err();
    assert!(
        matches!(&refused, ResolveError::Backend(error) if matches!(error.downcast_ref(), Some(BackendError::Full))),
        "{refused}"
    );
    assert!(is_ambiguous(&send_as(&server, "k", &ada).await), "nothing has changed");
    resolve("It is sent").await.unwrap();
    assert_eq!(text(&send_as(&server, "k", &ada).await), "It is sent");
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
    let layer = layer(MemoryBackend::new().with_max_records(4)).with_wait(Duration::ZERO);
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
async fn expired_answers_are_removed() {
    let backend = MemoryBackend::new();
    let server = layer(backend.clone()).with_idempotency(Idempotency::new().with_ttl(secs(1))).layer(post());
    for number in 0..100 {
        send(&server, &format!("old.{number}")).await.unwrap();
    }
    tokio::time::advance(secs(2)).await;
    for number in 0..50 {
        send(&server, &format!("new.{number}")).await.unwrap();
    }
    assert!(format!("{backend:?}").contains("records: 50"), "{backend:?}");
}
