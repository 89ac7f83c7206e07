//! A private Redis, killed during calls.

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::*;
use crate::testing::private_redis::PrivateRedis;

async fn connect(client: ::redis::Client) -> ConnectionManager {
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    client.get_connection_manager_with_config(config).await.unwrap()
}

/// Calls until the connection has recovered, which happens soon, but not at once.
pub(super) async fn send_until_available(server: &impl McpHandler, key: &str) -> McpResult<ToolResult> {
    let retried = async {
        loop {
            let answer = send(server, key).await;
            if kind(&answer) != Some(ErrorKind::Unavailable) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(secs(60), retried).await.expect("the connection comes back")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_makes_calls_unavailable_and_has_its_keys_after_a_restart() {
    let mut redis = PrivateRedis::start();
    let post = post();
    let server = layer(in_redis(connect(redis.client()).await)).layer(post.clone());
    assert_eq!(text(&send(&server, "before").await), "sent 1");

    redis.kill();
    for _ in 0..3 {
        assert_eq!(kind(&send(&server, "during").await), Some(ErrorKind::Unavailable));
    }
    assert_eq!(kind(&send(&server, "before").await), Some(ErrorKind::Unavailable), "nothing is taken on trust");
    assert_eq!(post.calls("send"), 1);

    redis.restart();
    let during = send_until_available(&server, "during").await;
    assert_eq!((text(&during), told(&during)), ("sent 2".into(), Value::Null));
    let before = send(&server, "before").await;
    assert_eq!((text(&before), told(&before)), ("sent 1".into(), json!("replayed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_killed_between_effect_and_record_leaves_the_call_ambiguous() {
    let redis = Arc::new(std::sync::Mutex::new(PrivateRedis::start()));
    let killer = Arc::clone(&redis);
    let post = ScriptedServer::new("post").with_plain("send", move |call| {
        if call.number == 1 {
            killer.lock().unwrap().kill();
        }
        ready(Ok(sent(call.number)))
    });
    let client = redis.lock().unwrap().client();
    let layer = layer(in_redis(connect(client).await)).with_lease(Duration::from_millis(500)).with_wait(secs(30));
    let handle = layer.handle();
    let server = layer.layer(post.clone());
    let answer = send(&server, "k").await;
    assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("not_recorded")));

    // The last attempt to record it comes before or after the restart of the server; both happen.
    redis.lock().unwrap().restart();
    let again = send_until_available(&server, "k").await;
    assert!(told(&again) == "replayed" || is_ambiguous(&again), "{again:?}");
    assert_eq!(post.calls("send"), 1, "in either case it is not made again");
    if told(&again) == "ambiguous" {
        handle.resolve(&RequestContext::new(), "send", "k", Resolution::Done(sent(1))).await.unwrap();
    }
    assert_eq!(told(&send(&server, "k").await), "replayed");
}

#[tokio::test]
async fn a_key_of_another_kind_in_redis_is_not_taken_for_a_claim() {
    let redis = PrivateRedis::start();
    let mut connection = connect(redis.client()).await;
    let post = post();
    let server = layer(in_redis(connect(redis.client()).await)).layer(post.clone());
    send(&server, "k").await.unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert!(keys.len() == 1 && keys[0].starts_with("mcp-patterns:idempotency:"), "one key for each call: {keys:?}");
    let ttl: i64 = ::redis::cmd("PTTL").arg(&keys[0]).query_async(&mut connection).await.unwrap();
    assert!((1..=86_400_000).contains(&ttl), "an answer expires");

    let _: () = ::redis::cmd("SET").arg(&keys[0]).arg("rubbish").query_async(&mut connection).await.unwrap();
    assert_eq!(kind(&send(&server, "k").await), Some(ErrorKind::Unavailable));
    let _: () = ::redis::cmd("DEL").arg(&keys[0]).query_async(&mut connection).await.unwrap();
    let _: () = ::redis::cmd("HSET").arg(&keys[0]).arg("token").arg("t").query_async(&mut connection).await.unwrap();
    assert_eq!(text(&send(&server, "k").await), "sent 2");
    assert_eq!(post.calls("send"), 2);
}
