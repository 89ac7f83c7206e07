//! A Redis that is killed, hung, slow, full or similar, under load: no call fails, and its breaker opens.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use futures_util::future::join_all;

use super::fleet::*;
use super::in_redis::{command, on_manager, patiently, shares, to};
use super::*;
use crate::CachedTool;
use crate::circuit::Rules;
use crate::testing::private_redis::PrivateRedis;

/// How a Redis is broken and repaired.
struct Case {
    name: &'static str,
    breaks: fn(&mut Broken),
    mends: fn(&mut Broken),
    /// The breakers that open for it: of reads, and of writes.
    opens: (bool, bool),
}

struct Broken {
    redis: PrivateRedis,
    wire: Arc<Wire>,
}

/// How a proxy treats replies.
#[derive(Default)]
struct Wire {
    delay: AtomicU64,
    is_garbage: AtomicBool,
}

const CASES: [Case; 9] = [
    Case { name: "killed", breaks: |it| it.redis.kill(), mends: |it| it.redis.restart(), opens: (true, true) },
    Case { name: "hung", breaks: |it| it.redis.hang(), mends: |it| it.redis.resume(), opens: (true, true) },
    Case {
        name: "slow",
        breaks: |it| it.wire.delay.store(1000, Ordering::SeqCst),
        mends: |it| it.wire.delay.store(0, Ordering::SeqCst),
        opens: (true, true),
    },
    Case {
        name: "returns garbage",
        breaks: |it| it.wire.is_garbage.store(true, Ordering::SeqCst),
        mends: |it| it.wire.is_garbage.store(false, Ordering::SeqCst),
        opens: (true, true),
    },
    Case {
        name: "restarted",
        breaks: |it| {
            it.redis.kill();
            it.redis.restart();
        },
        mends: |_| {},
        opens: (false, false),
    },
    Case {
        name: "out of memory",
        breaks: |it| {
            command(&it.redis, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
            command(&it.redis, &["CONFIG", "SET", "maxmemory", "1"]);
        },
        mends: |it| command(&it.redis, &["CONFIG", "SET", "maxmemory", "0"]),
        opens: (false, true),
    },
    Case {
        name: "read-only replica",
        breaks: |it| command(&it.redis, &["REPLICAOF", "127.0.0.1", "1"]),
        mends: |it| command(&it.redis, &["REPLICAOF", "NO", "ONE"]),
        opens: (false, true),
    },
    Case {
        name: "without scripts",
        breaks: |it| command(&it.redis, &["SCRIPT", "FLUSH"]),
        mends: |_| {},
        opens: (false, false),
    },
    Case {
        name: "of the wrong type",
        breaks: |it| command(&it.redis, &["SET", "{test:0}:g", "no hash"]),
        mends: |it| command(&it.redis, &["DEL", "{test:0}:g"]),
        opens: (true, true),
    },
];

/// The number of concurrent callers.
const CALLERS: u64 = 16;

/// Each caller reads values that are in no memory and, if it `writes`, writes once in twenty calls. Every call is
/// answered, and no answer is stale.
async fn load(replica: &Arc<Replica>, calls: u64, writes: bool) {
    let least = Arc::<AtomicU64>::default();
    let callers = (0..CALLERS).map(|caller| {
        let (replica, least) = (Arc::clone(replica), Arc::clone(&least));
        tokio::spawn(async move {
            for call in 0..calls {
                let expected = least.load(Ordering::SeqCst);
                if writes && (call + caller) % 20 == 0 {
                    least.fetch_max(replica.write().await, Ordering::SeqCst);
                } else {
                    let (version, ..) = replica.read_of(fastrand::u64(..)).await;
                    assert!(version >= expected, "{version} was read after {expected} was written");
                }
            }
        })
    });
    for caller in join_all(callers.collect::<Vec<_>>()).await {
        caller.expect("no call fails");
    }
}

/// Breaks a Redis under load, and repairs it. Returns a row of the table.
async fn outage(case: Case) -> String {
    let mut broken = Broken { redis: PrivateRedis::start(), wire: Arc::default() };
    let (direct, proxied) = (broken.redis.client(), proxy(&broken.redis, Arc::clone(&broken.wire)).await);
    let level = || {
        let client = if ["slow", "returns garbage"].contains(&case.name) { &proxied } else { &direct };
        on_manager(client).with_prefix("test").with_subscriber(&to(client))
    };
    // Longer than by default, since all cases run at once on a machine that may be busy.
    let patient = |layer: CachedTool| layer.with_second_level_timeout(Duration::from_millis(250));
    let replica = Arc::new(at_once().replica(level(), patient));
    shares(&replica).await;
    patiently(async || replica.level().is_subscribed).await;
    load(&replica, 20, true).await;
    patiently(async || replica.level().pending_invalidations == 0).await;

    let mut row = format!("{:<18}", case.name);
    (case.breaks)(&mut broken);
    // Unsent invalidations keep reads from the level, so at first no caller writes.
    for (writes, opens) in [(false, case.opens.0), (true, case.opens.1)] {
        let asked = || if writes { replica.faults.writes.begun() } else { replica.faults.gets.begun() };
        let (failures, given_up) = (replica.level().failures, replica.faults.given_up());
        load(&replica, 20, writes).await;
        let failures = replica.level().failures - failures;
        let given_up = replica.faults.given_up().saturating_sub(given_up);
        // Until the breaker opens: four gets, and those that every caller had begun when the fifth failed; the same for
        // the two tasks that write. Each call waits for at most one of them.
        assert!(failures <= 4 + CALLERS + 4 + 2, "{}: {failures} steps failed", case.name);

        // While the breaker is open: nothing begins except an occasional probe, as long as Redis is broken.
        patiently(async || {
            let before = asked();
            load(&replica, 1, writes).await;
            // Unsent invalidations are sent again within a second.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            !opens || asked() == before
        })
        .await;
        let (began, before, skipped) = (Instant::now(), asked(), replica.level().skipped);
        load(&replica, 100, writes).await;
        let probes = 1 + began.elapsed().as_secs() / Rules::OF_BACKEND.pause.as_secs();
        let (begun, skipped) = (asked() - before, replica.level().skipped - skipped);
        assert!(!opens || begun <= probes, "{}: {begun} were begun, for {probes} probes", case.name);
        assert!(!opens || writes || skipped + begun >= 100 * CALLERS, "{}: {skipped} were skipped", case.name);
        let what = if writes { "writing" } else { "reading" };
        row += &format!(
            " | {what}: {failures:>2} failed, {given_up:>2} given up, then {begun:>4} begun, {skipped:>4} skipped"
        );
    }

    // A lost connection is detected, also if nothing closes it.
    let is_cut = ["killed", "hung", "slow", "returns garbage"].contains(&case.name);
    patiently(async || !is_cut || !replica.level().is_subscribed).await;

    // Then the level is used again by itself.
    (case.mends)(&mut broken);
    shares(&replica).await;
    patiently(async || !replica.level().is_open && replica.level().is_subscribed).await;
    let (key, other) = (fastrand::u64(..), at_once().replica(level(), patient));
    patiently(async || {
        replica.read_of(key).await;
        other.read_of(key).await.1 == "hit"
    })
    .await;
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fault_redis_has_no_call_fails_and_the_level_recovers_by_itself() {
    let told = async |case| println!("{}", outage(case).await);
    join_all(CASES.map(told)).await;
}

/// Passes replies on as `wire` says.
async fn proxy(redis: &PrivateRedis, wire: Arc<Wire>) -> redis::Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let socket = redis.url().replace("redis+unix://", "");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            // While it returns garbage, no client may reconnect: a manager of redis 1.8 that gets garbage in its
            // handshake never tries again.
            if wire.is_garbage.load(Ordering::SeqCst) {
                continue;
            }
            let Ok(far) = tokio::net::UnixStream::connect(&socket).await else { continue };
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(pass_on(from_near, to_far, Arc::default()));
            tokio::spawn(pass_on(from_far, to_near, Arc::clone(&wire)));
        }
    });
    redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("an address")
}

async fn pass_on(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    wire: Arc<Wire>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const GARBAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n$5\r\nabc";
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        tokio::time::sleep(Duration::from_millis(wire.delay.load(Ordering::SeqCst))).await;
        let answer = if wire.is_garbage.load(Ordering::SeqCst) { GARBAGE } else { &bytes[..read] };
        if to.write_all(answer).await.is_err() {
            return;
        }
    }
}
