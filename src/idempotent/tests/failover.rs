//! A Redis that fails over to a replica: a write that is acknowledged only after the replica has it is not lost.

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::redis_down::send_until_available;
use super::*;
use crate::testing::private_redis::Replicated;

/// A connection whose timeout is longer than any step here.
async fn connect(client: ::redis::Client) -> ConnectionManager {
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    let config = config.set_response_timeout(Some(secs(60)));
    client.get_connection_manager_with_config(config).await.unwrap()
}

async fn replicated(client: ::redis::Client, timeout: Duration) -> RedisBackend {
    in_redis(connect(client).await).with_replicas(1, timeout)
}

/// The loss that the manual warns of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_waiting_for_replicas_a_failover_loses_the_key_and_the_call_is_made_again() {
    let mut redis = Replicated::start();
    let post = post();
    let server = layer(in_redis(connect(redis.client()).await)).layer(post.clone());
    redis.fall_behind();
    assert_eq!(text(&send(&server, "k").await), "sent 1");
    redis.fail_over();
    assert_eq!(text(&send_until_available(&server, "k").await), "sent 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_claim_and_answer_were_replicated_is_replayed_after_a_failover() {
    let mut redis = Replicated::start();
    let post = post();
    let backend = replicated(redis.client(), secs(30)).await;
    let server = layer(backend).with_backend_timeout(secs(60)).layer(post.clone());
    for call in 1..=20 {
        assert_eq!(text(&send(&server, &call.to_string()).await), format!("sent {call}"));
    }
    redis.fail_over();
    // There is no replica any more, and a repeated call needs none.
    for call in 1..=20 {
        let again = send_until_available(&server, &call.to_string()).await;
        assert_eq!((text(&again), told(&again)), (format!("sent {call}"), json!("replayed")));
    }
    assert_eq!(post.calls("send"), 20);
    let hasty = layer(replicated(redis.client(), Duration::from_millis(10)).await).layer(post.clone());
    assert_eq!(kind(&send(&hasty, "new").await), Some(ErrorKind::Unavailable));
    assert_eq!(post.calls("send"), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_claim_no_replica_acknowledges_is_not_made_and_its_key_is_free_again() {
    let redis = Replicated::start();
    let post = post();
    let server = layer(replicated(redis.client(), Duration::from_millis(50)).await).layer(post.clone());
    let elsewhere = layer(in_redis(connect(redis.client()).await)).layer(post.clone());
    redis.replica.hang();
    let refused = send(&server, "k").await;
    assert_eq!(kind(&refused), Some(ErrorKind::Unavailable));
    assert_eq!(post.calls("send"), 0);
    assert_eq!(text(&send(&elsewhere, "other").await), "sent 1", "no other connection is held up");
    redis.replica.resume();
    let patient = layer(replicated(redis.client(), secs(30)).await).with_backend_timeout(secs(60)).layer(post.clone());
    let sent = send_until_available(&patient, "k").await;
    assert_eq!((text(&sent), told(&sent)), ("sent 2".into(), Value::Null), "it is no ambiguous call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_resolutions_need_as_many_replicas_as_configured() {
    let redis = Replicated::start();
    let claim = |id: &'static str| claim_of(id, "token", Duration::from_millis(1));
    // Long enough for the only replica to acknowledge it.
    let backend = in_redis(connect(redis.client()).await).with_replicas(2, secs(2));
    assert!(backend.claim(claim("a")).await.is_err(), "there is one replica");
    let patient = replicated(redis.client(), secs(30)).await;
    assert_eq!(patient.claim(claim("b")).await.unwrap(), Claimed::New);
    redis.replica.hang();
    let hasty = replicated(redis.client(), Duration::from_millis(50)).await;
    // Its lease ends in a moment.
    let resolved = loop {
        match hasty.resolve("b", Some("answer"), secs(60)).await {
            Ok(Resolved::Running) => {}
            resolved => break resolved,
        }
    };
    assert!(resolved.is_err(), "{resolved:?}");
    redis.replica.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_calls_that_wait_for_a_replica_are_all_made_once() {
    let redis = Replicated::start();
    let post = post();
    let backend = replicated(redis.client(), secs(30)).await;
    let server = layer(backend).with_backend_timeout(secs(60)).layer(post.clone());
    let keys: Vec<_> = (0..100).map(|call| (call % 50).to_string()).collect();
    let calls = keys.iter().map(|key| send(&server, key));
    for answer in futures_util::future::join_all(calls).await {
        assert!(text(&answer).starts_with("sent "), "{answer:?}");
    }
    assert_eq!(post.calls("send"), 50);
}

/// The claim is on the replica, the answer is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_an_answer_leaves_an_ambiguous_call_and_not_a_free_key() {
    let redis = Arc::new(std::sync::Mutex::new(Replicated::start()));
    let lagging = Arc::clone(&redis);
    let post = ScriptedServer::new("post").with_plain("send", move |call| {
        if call.number == 1 {
            lagging.lock().unwrap().fall_behind();
        }
        ready(Ok(sent(call.number)))
    });
    let client = redis.lock().unwrap().client();
    let backend = replicated(client, Duration::from_millis(200)).await;
    let layer = layer(backend).with_lease(Duration::from_millis(500)).with_wait(secs(30));
    let server = layer.layer(post.clone());
    let answer = send_until_available(&server, "k").await;
    assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("not_recorded")));
    redis.lock().unwrap().fail_over();
    assert!(is_ambiguous(&send_until_available(&server, "k").await));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_recorded_again_waits_for_its_replicas_again() {
    let redis = Replicated::start();
    let claim = claim_of("id", "token", secs(60));
    assert_eq!(replicated(redis.client(), secs(30)).await.claim(claim).await.unwrap(), Claimed::New);
    let owner = Owner { id: "id", token: "token" };
    redis.replica.hang();
    let hasty = replicated(redis.client(), Duration::from_millis(50)).await;
    assert!(hasty.complete(owner, "answer", secs(60)).await.is_err());
    // On another connection, which has written nothing yet.
    let other = replicated(redis.client(), Duration::from_millis(50)).await;
    assert!(other.complete(owner, "answer", secs(60)).await.is_err(), "the replica still does not have it");
    redis.replica.resume();
    redis.catch_up();
    let patient = replicated(redis.client(), secs(30)).await;
    assert!(patient.complete(owner, "answer", secs(600)).await.unwrap());
    // It is written again: since Redis 7.2, `WAIT` waits for nothing on a connection that has written nothing.
    let ttl: u64 = ::redis::cmd("PTTL")
        .arg("mcp-patterns:idempotency:id")
        .query_async(&mut connect(redis.client()).await)
        .await
        .unwrap();
    assert!(ttl > 60_000, "{ttl} ms");
    assert!(!patient.complete(owner, "another", secs(60)).await.unwrap());
}
