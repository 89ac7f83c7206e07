//! The connection to servers that hang, are unreachable, are slow, or refuse it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use redis::{AsyncCommands, ErrorKind, IntoConnectionInfo};

use super::*;
use crate::testing::Traced;
use crate::testing::private_redis::PrivateRedis;
use crate::testing::proxy::Proxy;

const MINUTE: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

/// Sends one command after the other until one is answered. Returns how many failed.
async fn until_answered(redis: &RedisConnection) -> usize {
    let mut failed = 0;
    let answered = async {
        let mut redis = redis.clone();
        while redis.incr::<_, _, i64>("answered", 1).await.is_err() {
            failed += 1;
        }
    };
    tokio::time::timeout(MINUTE, answered).await.expect("it recovers");
    failed
}

async fn proxied(server: &PrivateRedis) -> (Proxy, RedisConnection) {
    let proxy = Proxy::to(server.socket()).await;
    let redis = RedisConnection::open(&proxy.redis_url()).unwrap();
    (proxy, redis.with_response_timeout(200 * MILLI).with_ping_timeout(2_000 * MILLI).with_connect_timeout(MINUTE / 2))
}

#[tokio::test]
async fn a_connection_that_stops_answering_is_replaced_after_three_timeouts_and_one_ping() {
    let server = PrivateRedis::start_on_request();
    let (proxy, redis) = proxied(&server).await;
    assert_eq!(until_answered(&redis).await, 0);
    proxy.silence();
    let failed = until_answered(&redis).await;
    assert!(failed >= 3, "{failed}");
    assert_eq!(proxy.accepted(), 2, "one connection more");
    assert_eq!(until_answered(&redis).await, 0);
}

#[tokio::test]
async fn many_callers_of_an_unresponsive_connection_cause_one_replacement() {
    let server = PrivateRedis::start_on_request();
    let (proxy, redis) = proxied(&server).await;
    assert_eq!(until_answered(&redis).await, 0);
    proxy.silence();
    join_all((0..100).map(|_| until_answered(&redis))).await;
    assert_eq!(proxy.accepted(), 2, "one connection more");
}

#[tokio::test]
async fn a_command_that_timed_out_is_not_sent_again() {
    let server = PrivateRedis::start_on_request();
    let (proxy, redis) = proxied(&server).await;
    assert_eq!(until_answered(&redis).await, 0);
    // The commands arrive, and their replies are lost.
    proxy.mute();
    let failed = until_answered(&redis).await;
    let count: usize = redis.clone().get("answered").await.unwrap();
    assert!((2..=failed + 2).contains(&count), "{count} of {failed} and two more");
}

#[tokio::test]
async fn a_slow_server_that_answers_its_ping_keeps_its_connection() {
    let server = PrivateRedis::start_on_request();
    let (proxy, redis) = proxied(&server).await;
    let mut redis = redis.with_ping_timeout(MINUTE);
    let connected = async { while redis.get::<_, Option<i64>>("nothing").await.is_err() {} };
    tokio::time::timeout(MINUTE, connected).await.expect("a quick answer");
    proxy.delay(400 * MILLI);
    let mut failed = 0;
    for _ in 0..12 {
        failed += usize::from(redis.get::<_, Option<i64>>("nothing").await.is_err());
    }
    assert!(failed > 3, "it was asked: {failed}");
    proxy.delay(Duration::ZERO);
    until_answered(&redis).await;
    assert_eq!(proxy.accepted(), 1, "it stayed the same");
}

#[tokio::test]
async fn callers_who_leave_before_the_response_timeout_still_cause_a_replacement() {
    let server = PrivateRedis::start_on_request();
    let (proxy, redis) = proxied(&server).await;
    let redis = redis.with_response_timeout(MINUTE);
    assert_eq!(until_answered(&redis).await, 0);
    proxy.silence();
    let answered = async {
        let mut redis = redis.clone();
        while tokio::time::timeout(200 * MILLI, redis.get::<_, Option<i64>>("nothing")).await.is_err() {}
    };
    tokio::time::timeout(MINUTE, answered).await.expect("it recovers");
    assert_eq!(proxy.accepted(), 2, "one connection more");
}

#[tokio::test]
async fn a_stopped_server_fails_calls_in_time_and_is_used_again_once_it_continues() {
    let server = PrivateRedis::start_on_request();
    let redis = RedisConnection::open(&server.url()).unwrap().with_response_timeout(50 * MILLI);
    let redis = redis.with_ping_timeout(100 * MILLI).with_connect_timeout(200 * MILLI);
    assert_eq!(until_answered(&redis).await, 0);
    server.hang();
    let calls = async {
        let mut errors = Vec::new();
        while !errors.iter().any(|error: &String| error.contains("nothing was sent")) {
            errors.push(redis.clone().get::<_, i64>("nothing").await.expect_err("it hangs").to_string());
        }
        errors
    };
    let errors = tokio::time::timeout(MINUTE, calls).await.expect("every call ends");
    assert!(errors.len() > 3, "the first ones were sent: {errors:?}");
    server.resume();
    until_answered(&redis).await;
}

#[tokio::test]
async fn an_unreachable_server_gets_one_connection_attempt_at_a_time_with_pauses() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let redis = RedisConnection::open(&format!("redis://{address}")).unwrap().with_connect_timeout(20 * MILLI);
    let began = Instant::now();
    let callers = (0..50).map(async |_| {
        let mut redis = redis.clone();
        for _ in 0..20 {
            let error = redis.get::<_, i64>("nothing").await.expect_err("no server is there");
            assert_eq!(error.kind(), ErrorKind::Io);
        }
    });
    join_all(callers).await;
    // The first pauses take at least 0.8 seconds together, and each later one takes one second.
    let most = 8 + began.elapsed().as_secs();
    let accepted = accepted.load(Ordering::SeqCst);
    assert!(u64::try_from(accepted).unwrap() <= most, "{accepted} attempts, {most} at the most");
}

#[tokio::test]
async fn a_server_that_stops_answering_after_the_handshake_causes_no_loop_of_connections() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            // The handshake: two commands with the client's name. Then the server closes.
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(b"+OK\r\n+OK\r\n").await;
                let _ = socket.read(&mut [0; 1024]).await;
            });
        }
    });
    let mut redis = RedisConnection::open(&format!("redis://{address}")).unwrap().with_connect_timeout(MINUTE);
    let began = Instant::now();
    for _ in 0..8 {
        redis.get::<_, i64>("nothing").await.expect_err("it closes");
    }
    let most = 8 + began.elapsed().as_secs();
    let accepted = accepted.load(Ordering::SeqCst);
    assert!(u64::try_from(accepted).unwrap() <= most, "{accepted} attempts, {most} at the most");
}

#[tokio::test]
async fn a_refused_password_fails_at_once_and_is_tried_again_later() {
    let server = PrivateRedis::start_on_request();
    server.command(&["CONFIG", "SET", "requirepass", "right"]);
    let url = server.url();
    let redis = RedisConnection::open(&format!("{url}?pass=wrong")).unwrap();
    let refused = redis.clone().get::<_, Option<i64>>("nothing").await.expect_err("the password is wrong");
    assert!(!refused.is_io_error(), "{refused}");
    assert!(!format!("{redis:?}").contains("wrong"), "{redis:?}");
    let admin = redis::Client::open(format!("{url}?pass=right")).unwrap();
    let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", "wrong"]).query_async(&mut admin).await.unwrap();
    until_answered(&redis).await;
}

#[tokio::test]
async fn a_killed_server_is_used_again_after_its_restart() {
    let mut server = PrivateRedis::start();
    let redis = RedisConnection::open(&server.url()).unwrap().with_connect_timeout(50 * MILLI);
    assert_eq!(until_answered(&redis).await, 0);
    server.kill();
    redis.clone().incr::<_, _, i64>("answered", 1).await.expect_err("its connection is closed");
    let error = redis.clone().incr::<_, _, i64>("answered", 1).await.expect_err("nothing listens");
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    server.restart();
    until_answered(&redis).await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn an_attempt_to_connect_whose_runtime_has_ended_is_abandoned() {
    let server = PrivateRedis::start_on_request();
    let redis = RedisConnection::open(&server.url()).unwrap().with_connect_timeout(50 * MILLI);
    let idle = runtime();
    // It begins and then hangs.
    let begun = idle.block_on(async { tokio::time::timeout(Duration::ZERO, until_answered(&redis)).await });
    assert!(begun.is_err());
    runtime().block_on(until_answered(&redis));
}

#[test]
fn a_connection_outlives_the_runtime_that_made_it() {
    let server = PrivateRedis::start_on_request();
    let redis = RedisConnection::open(&server.url()).unwrap();
    assert_eq!(runtime().block_on(until_answered(&redis)), 0);
    assert!(runtime().block_on(until_answered(&redis)) <= 1, "the first command finds it closed");
}

#[tokio::test]
async fn the_log_says_once_that_a_connection_stopped_answering_and_once_that_it_is_connected_again() {
    let server = PrivateRedis::start_on_request();
    let traced = Traced::start();
    let (proxy, redis) = proxied(&server).await;
    until_answered(&redis).await;
    proxy.silence();
    until_answered(&redis).await;
    let log = traced.text();
    assert_eq!(log.matches("a connection to Redis does not answer, and is replaced").count(), 1, "{log}");
    assert_eq!(log.matches("Redis is connected again").count(), 1, "{log}");
}

#[test]
fn sockets_have_keepalive_unless_the_address_sets_it() {
    let tcp = RedisConnection::open("redis://localhost").unwrap().client();
    let tcp = tcp.get_connection_info().tcp_settings();
    assert!(tcp.nodelay() && tcp.keepalive().is_some());
    #[cfg(target_os = "linux")]
    assert_eq!(tcp.user_timeout(), Some(20_000 * MILLI));

    let keepalive = redis::io::tcp::socket2::TcpKeepalive::new().with_time(MINUTE);
    let info = "redis://localhost".into_connection_info().unwrap();
    let own = info.tcp_settings().clone().set_keepalive(keepalive);
    let kept = RedisConnection::open_redis_1(info.set_tcp_settings(own)).unwrap().client();
    let kept = format!("{:?}", kept.get_connection_info().tcp_settings().keepalive());
    assert!(kept.contains("60s"), "{kept}");
}

#[test]
fn a_setting_that_cannot_work_and_an_invalid_address_are_refused() {
    let redis = || RedisConnection::open("redis://localhost").unwrap();
    let (zero, short) = (Duration::ZERO, Duration::from_micros(999));
    assert_eq!(redis().check(), Ok(()));
    for (connection, mistake) in [
        (redis().with_response_timeout(zero), "with_response_timeout: must be greater than zero"),
        (redis().with_response_timeout(short), "with_response_timeout: must be at least 1 ms"),
        (redis().with_connect_timeout(short), "with_connect_timeout: must be at least 1 ms"),
        (redis().with_ping_timeout(short), "with_ping_timeout: must be at least 1 ms"),
        (redis().with_max_timeouts(0), "with_max_timeouts: must be greater than zero"),
    ] {
        let mistake = format!("RedisConnection::{mistake}");
        assert_eq!(connection.check().unwrap_err().to_string(), mistake);
        for found in refused_by(&connection) {
            assert_eq!(found, mistake);
        }
    }
    assert!(RedisConnection::open("not an address").is_err());
}

/// How each layer with a backend in Redis refuses the settings of the connection.
fn refused_by(connection: &RedisConnection) -> Vec<String> {
    use crate::TryLayer;
    let server = || crate::testing::ScriptedServer::new("server");
    [
        #[cfg(feature = "session")]
        crate::SessionStore::new(crate::session::RedisBackend::new(connection.clone())).try_layer(server()).err(),
        #[cfg(feature = "idempotent")]
        crate::IdempotentTool::new(crate::idempotent::RedisBackend::new(connection.clone()))
            .every_write()
            .try_layer(server())
            .err(),
        #[cfg(feature = "cached")]
        crate::CachedTool::new()
            .with_second_level(crate::cached::RedisLevel::new(connection.clone()))
            .try_layer(server())
            .err(),
    ]
    .into_iter()
    .map(|refused| refused.expect("the layer checks the connection").to_string())
    .collect()
}
