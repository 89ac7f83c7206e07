//! Rates that several processes count together in Redis.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::super::rate::Used;
use super::*;
use crate::limited::{Handle, RedisBackend};
use crate::testing::private_redis::PrivateRedis;
use crate::{RedisConnection, TryLayer};

/// One of two processes.
struct Process<H> {
    server: H,
    handle: Handle,
}

impl<H: McpHandler> Process<H> {
    /// Calls until a call is refused. Returns how many passed.
    async fn flood(&self, ctx: &RequestContext) -> usize {
        let mut passed = 0;
        while search(&self.server, ctx).await.is_ok() {
            passed += 1;
        }
        passed
    }
}

fn backend(redis: &PrivateRedis) -> RedisBackend {
    let connection = RedisConnection::open(&redis.url()).unwrap().with_connect_timeout(ms(200));
    // Long enough for a machine that is busy.
    RedisBackend { pause: ms(100), ..RedisBackend::new(connection).with_timeout(secs(5)) }
}

fn process_with(backend: RedisBackend, limits: LimitedTool) -> Process<impl McpHandler> {
    let limits = limits.with_backend(backend).with_replicas(2);
    let handle = limits.handle();
    Process { server: limits.layer(server()), handle }
}

fn process(redis: &PrivateRedis, limits: LimitedTool) -> Process<impl McpHandler> {
    process_with(backend(redis), limits)
}

/// A rate of which nothing comes back during a test.
fn hourly(calls: u32) -> Rate {
    Rate::new(calls, secs(1_000 * u64::from(calls)))
}

/// How many scripts have run.
fn scripts(redis: &PrivateRedis) -> u64 {
    let ::redis::Value::VerbatimString { text, .. } = redis.command(&["INFO", "commandstats"]) else { panic!("text") };
    let ran = |line: &str| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok();
    text.lines().find_map(ran).unwrap_or(0)
}

fn keys(redis: &PrivateRedis) -> BTreeSet<String> {
    ::redis::from_redis_value(redis.command(&["KEYS", "*"])).unwrap()
}

#[tokio::test]
async fn processes_count_a_rate_together_in_one_round_trip_for_each_call() {
    let redis = PrivateRedis::start_on_request();
    let limits = || {
        LimitedTool::new()
            .with_rate(Per::Tool, hourly(100))
            .with_rate(Per::Principal, hourly(10))
            .with_rate(Per::PrincipalAndTool, hourly(8))
    };
    let (one, other) = (process(&redis, limits()), process(&redis, limits()));
    let ada = user("ada");
    for passed in 0..8 {
        let process = if passed % 2 == 0 { &one } else { &other };
        assert_eq!(search(&process.server, &ada).await, Ok(()), "call {passed}");
    }
    // Redis did not know the script at first, and was sent its text.
    assert_eq!(scripts(&redis), 8 + 1);
    for process in [&one, &other] {
        let refused = search(&process.server, &ada).await.unwrap_err();
        assert_eq!((refused.0.as_str(), refused.1), ("rate", Some(ErrorKind::RateLimited)));
        let wait = refused.2.expect("a time");
        assert!(secs(990) < wait && wait <= secs(1_000), "{wait:?}");
    }
    // Two of ten are left for another tool, and the refused ones count for nothing.
    let others = join_all((0..4).map(|_| call(&one.server, "other", json!({}), &ada))).await;
    assert_eq!(others.iter().filter(|end| end.is_ok()).count(), 2);
    assert_eq!(one.flood(&user("bob")).await, 8);
    assert_eq!((one.handle.stats().backend_failures, other.handle.stats().backend_failures), (0, 0));
}

#[tokio::test]
async fn a_caller_who_is_known_to_be_limited_costs_redis_nothing() {
    let redis = PrivateRedis::start_on_request();
    let process = process(&redis, LimitedTool::new().with_rate(Per::Principal, hourly(3)));
    let ada = user("ada");
    assert_eq!(process.flood(&ada).await, 3);
    let before = scripts(&redis);
    for _ in 0..100 {
        assert!(search(&process.server, &ada).await.is_err());
    }
    assert_eq!(scripts(&redis), before);
}

#[tokio::test]
async fn redis_decides_as_the_memory_of_a_process_does() {
    let redis = PrivateRedis::start_on_request();
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rate = hourly(random.u32(1..50)).with_burst(random.u32(1..50));
        let limits = LimitedTool::new()
            .with_rate(Per::Principal, rate)
            .with_cost_by("search", |args| args["cost"].as_u64().and_then(|cost| cost.try_into().ok()).unwrap_or(1));
        let process = process(&redis, limits);
        let (ada, mut used, now) = (user(&seed.to_string()), Used::default(), 0);
        for _ in 0..60 {
            let cost = random.u32(0..60);
            let ended = call(&process.server, "search", json!({ "cost": cost }), &ada).await;
            let expected = used.wait(rate, cost.into(), now);
            assert_eq!(ended.is_ok(), expected.is_none(), "seed {seed}, cost {cost}: {ended:?}");
            match (ended, expected) {
                (Err((_, _, Some(wait))), Some(expected)) => {
                    assert!(wait <= expected && expected - wait < secs(60), "{wait:?} is about {expected:?}");
                }
                (Ok(()), _) => used.pay(rate, cost.into(), now),
                _ => {}
            }
        }
    }
}

/// Calls until Redis is asked again.
async fn until_shared(process: &Process<impl McpHandler>, redis: &PrivateRedis) {
    let before = scripts(redis);
    let asked = async {
        for number in 0.. {
            search(&process.server, &user(&format!("somebody {number}"))).await.ok();
            if scripts(redis) > before {
                return;
            }
            tokio::time::sleep(ms(50)).await;
        }
    };
    tokio::time::timeout(secs(60), asked).await.expect("Redis is asked again");
}

#[tokio::test]
async fn without_redis_the_processes_let_no_more_through_than_with_it() {
    let mut redis = PrivateRedis::start_on_request();
    let limits = || LimitedTool::new().with_rate(Per::Principal, hourly(60));
    let (one, other) = (process(&redis, limits()), process(&redis, limits()));
    let ada = user("ada");
    for _ in 0..10 {
        assert_eq!(search(&one.server, &ada).await, Ok(()));
        assert_eq!(search(&other.server, &ada).await, Ok(()));
    }
    redis.kill();
    // Each of them has its half of the forty that are left.
    assert_eq!((one.flood(&ada).await, other.flood(&ada).await), (20, 20));
    for process in [&one, &other] {
        assert!(process.handle.stats().backend_failures >= 5, "Redis was asked");
    }
    // Redis has lost everything. The processes tell it what they know.
    redis.restart();
    // The first one does not know of the last call before the outage, which came to the other one.
    for (process, passed) in [(&one, 1), (&other, 0)] {
        until_shared(process, &redis).await;
        assert_eq!(process.flood(&ada).await, passed);
    }
    let late = self::process(&redis, limits());
    assert_eq!(late.flood(&user("bob")).await, 60, "a caller whom nobody has seen begins anew");
}

#[tokio::test]
async fn what_redis_has_forgotten_is_remembered_by_the_processes() {
    let redis = PrivateRedis::start_on_request();
    let limits = || LimitedTool::new().with_rate(Per::Principal, hourly(10));
    let (one, other) = (process(&redis, limits()), process(&redis, limits()));
    let ada = user("ada");
    for _ in 0..4 {
        assert_eq!(search(&one.server, &ada).await, Ok(()));
    }
    // As after a failover to a replica that has nothing of it.
    redis.command(&["FLUSHALL"]);
    assert_eq!(search(&one.server, &ada).await, Ok(()));
    assert_eq!(other.flood(&ada).await, 5);
}

#[tokio::test]
async fn a_redis_that_hangs_delays_five_calls_by_the_timeout_and_no_more() {
    let redis = PrivateRedis::start_on_request();
    let limits = LimitedTool::new().with_rate(Per::Tool, hourly(1_000));
    let backend = RedisBackend { pause: secs(3_600), ..backend(&redis).with_timeout(ms(20)) };
    let process = process_with(backend, limits);
    search(&process.server, &user("ada")).await.ok();
    redis.hang();
    for _ in 0..100 {
        assert_eq!(search(&process.server, &user("ada")).await, Ok(()));
    }
    redis.resume();
    // On a machine that is busy, the first call may have failed, too.
    assert!((5..=6).contains(&process.handle.stats().backend_failures), "{:?}", process.handle.stats());
}

#[tokio::test]
async fn keys_say_nobody_s_name_and_expire_when_nothing_is_used_any_more() {
    let redis = PrivateRedis::start_on_request();
    let limits = LimitedTool::new()
        .with_rate(Per::Principal, Rate::new(100, secs(30)))
        .with_rate(Per::PrincipalAndTool, Rate::new(100, secs(30)));
    let process = process(&redis, limits);
    let seen = async {
        loop {
            assert_eq!(search(&process.server, &user("ada")).await, Ok(()));
            let keys = keys(&redis);
            if keys.len() == 2 {
                return keys;
            }
        }
    };
    let keys = seen.await;
    let tag = |key: &str| key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag.to_owned());
    assert_eq!(keys.iter().map(|key| tag(key)).collect::<BTreeSet<_>>().len(), 1, "one node of a cluster: {keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("mcp-patterns:limit:") && !key.contains("ada")), "{keys:?}");
    while !self::keys(&redis).is_empty() {
        tokio::time::sleep(ms(10)).await;
    }
}

#[tokio::test]
async fn layers_with_other_limits_tools_servers_or_prefixes_do_not_count_together() {
    let redis = PrivateRedis::start_on_request();
    let limits = || LimitedTool::new().with_rate(Per::Principal, hourly(2));
    let ada = user("ada");
    let ways = [
        process_with(backend(&redis), limits()),
        process_with(backend(&redis), LimitedTool::new().with_rate(Per::Principal, hourly(2).with_burst(1))),
        process_with(backend(&redis).with_prefix("other:"), limits()),
    ];
    assert_eq!([ways[0].flood(&ada).await, ways[1].flood(&ada).await, ways[2].flood(&ada).await], [2, 1, 2]);
    assert_eq!(process(&redis, limits().only(["search"])).flood(&ada).await, 2);
    assert_eq!(process(&redis, limits()).flood(&ada).await, 0, "the same as the first one");
    let named = |name: &str| {
        let limits = limits().with_backend(backend(&redis)).with_replicas(2);
        let other = ScriptedServer::new(name).with_read_only("search", |_| async { Ok(ToolResult::text("done")) });
        limits.layer(other)
    };
    assert_eq!(search(&named("shop"), &ada).await.map_err(|refusal| refusal.0), Err("rate".to_owned()));
    assert_eq!(search(&named("bank"), &ada).await, Ok(()));
}

#[tokio::test]
async fn a_flood_of_principals_grows_no_memory_of_redis() {
    let redis = PrivateRedis::start_on_request();
    let limits = LimitedTool::new().with_rate(Per::Principal, hourly(1)).with_max_principals(10);
    let process = process(&redis, limits);
    let mut passed = 0;
    for number in 0..200 {
        passed += usize::from(search(&process.server, &user(&number.to_string())).await.is_ok());
    }
    assert_eq!((passed, keys(&redis).len()), (11, 11), "ten have a key of their own, and the others share one");
}

#[tokio::test]
async fn a_caller_who_leaves_or_waits_for_a_place_asks_redis_for_nothing() {
    let redis = PrivateRedis::start_on_request();
    let limits = LimitedTool::new()
        .with_rate(Per::Principal, hourly(2))
        .with_concurrency(Per::Tool, Concurrency::new(2).with_queue(1).with_max_wait(secs(60)));
    let process = process(&redis, limits);
    let (ada, bob) = (user("ada"), user("bob"));
    let running = call(&process.server, "search", json!({ "ms": 1_000 }), &bob);
    let leaving = tokio::time::timeout(ms(100), search(&process.server, &ada));
    let (first, left) = tokio::join!(running, leaving);
    assert_eq!((first, left.is_err()), (Ok(()), true));
    assert_eq!(process.flood(&ada).await, 2);
}

#[tokio::test]
async fn a_key_that_holds_something_else_fails_no_call() {
    let redis = PrivateRedis::start_on_request();
    let process = process(&redis, LimitedTool::new().with_rate(Per::Tool, hourly(10)));
    assert_eq!(search(&process.server, &user("ada")).await, Ok(()));
    let key = keys(&redis).into_iter().next().expect("a key");
    for other in [["LPUSH", "x"], ["SET", "x"]] {
        redis.command(&["DEL", &key]);
        redis.command(&[other[0], &key, other[1]]);
        assert_eq!(search(&process.server, &user("ada")).await.map_err(|refusal| refusal.0), Ok(()), "{other:?}");
    }
    assert_eq!(process.handle.stats().backend_failures, 2);
}

#[tokio::test]
async fn a_backend_that_cannot_work_is_an_error_that_says_what_to_do() {
    let redis = PrivateRedis::start_on_request();
    let mistake = |limits: LimitedTool| limits.try_layer(server()).map(|_| ()).unwrap_err().to_string();
    let rate = || LimitedTool::new().with_rate(Per::Tool, Rate::per_second(1));
    assert_eq!(
        mistake(rate().with_backend(backend(&redis))),
        "LimitedTool::with_backend: say how many processes share the rates, for the time when the backend does not answer: set \
         `with_replicas`"
    );
    assert_eq!(
        mistake(LimitedTool::new().with_timeout(secs(1)).with_replicas(2).with_backend(backend(&redis))),
        "LimitedTool::with_backend: it counts rates, and none is set: set `with_rate`, or no backend"
    );
    let zero = backend(&redis).with_timeout(Duration::ZERO);
    assert_eq!(
        mistake(rate().with_replicas(2).with_backend(zero)),
        "RedisBackend::with_timeout: must be greater than zero"
    );
}
