//! A Redis that stops answering: its connections stay open and deliver nothing.

use super::redis_down::send_until_available;
use super::*;
use crate::RedisConnection;
use crate::testing::private_redis::PrivateRedis;
use crate::testing::proxy::Proxy;
use crate::testing::{Took, Traced};

async fn behind_a_proxy() -> (PrivateRedis, Proxy, ScriptedServer, impl McpHandler) {
    let redis = PrivateRedis::start_on_request();
    let proxy = Proxy::to(redis.socket()).await;
    let connection = RedisConnection::open(&proxy.redis_url()).unwrap().with_ping_timeout(secs(3));
    let post = post();
    let server = layer(RedisBackend::new(connection)).layer(post.clone());
    (redis, proxy, post, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_recorded_again_after_the_connection_of_their_store_stopped_answering() {
    let (_redis, proxy, post, server) = behind_a_proxy().await;
    assert_eq!(text(&send(&server, "before").await), "sent 1");
    proxy.silence();
    let took = Took::begin();
    assert_eq!(kind(&send(&server, "before").await), Some(ErrorKind::Unavailable), "nothing is taken on trust");
    let during = send_until_available(&server, "during").await;
    took.until("keys are recorded again");
    assert_eq!((text(&during), told(&during)), ("sent 2".into(), Value::Null));
    let before = send(&server, "before").await;
    assert_eq!((text(&before), told(&before)), ("sent 1".into(), json!("replayed")));
    assert_eq!((post.calls("send"), proxy.accepted()), (2, 2), "one connection more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_replies_are_lost_makes_no_call_twice() {
    let (_redis, proxy, post, server) = behind_a_proxy().await;
    assert_eq!(text(&send(&server, "before").await), "sent 1");
    // Claims arrive, and their replies are lost.
    proxy.mute();
    let during = send_until_available(&server, "during").await;
    assert_eq!(text(&during), "sent 2");
    assert_eq!(told(&send(&server, "during").await), json!("replayed"));
    assert_eq!(post.calls("send"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_recorded_again_after_a_long_stop_of_redis() {
    let redis = PrivateRedis::start_on_request();
    let milli = Duration::from_millis(1);
    let connection = RedisConnection::open(&redis.url()).unwrap().with_response_timeout(100 * milli);
    let connection = connection.with_ping_timeout(100 * milli).with_connect_timeout(100 * milli);
    let server = layer(RedisBackend::new(connection)).layer(post());
    assert_eq!(text(&send(&server, "before").await), "sent 1");
    redis.hang();
    for _ in 0..10 {
        assert_eq!(kind(&send(&server, "during").await), Some(ErrorKind::Unavailable));
    }
    redis.resume();
    assert_eq!(text(&send_until_available(&server, "during").await), "sent 2");
    assert_eq!(told(&send(&server, "before").await), json!("replayed"));
}

#[tokio::test]
async fn the_log_says_that_the_store_fails_and_that_it_works_again() {
    let mut redis = PrivateRedis::start();
    let connection = RedisConnection::open(&redis.url()).unwrap().with_connect_timeout(Duration::from_millis(50));
    let server = layer(RedisBackend::new(connection)).layer(post());
    assert_eq!(text(&send(&server, "before").await), "sent 1");
    let traced = Traced::start();
    redis.kill();
    for _ in 0..10 {
        assert_eq!(kind(&send(&server, "during").await), Some(ErrorKind::Unavailable));
    }
    redis.restart();
    assert_eq!(text(&send_until_available(&server, "during").await), "sent 2");
    // The dropped claims may be released later.
    let log = traced.text();
    assert_eq!(log.matches("the backend of idempotency keys fails").count(), 1, "{log}");
    assert!(log.matches("the backend of idempotency keys works again").count() >= 1, "{log}");
}
