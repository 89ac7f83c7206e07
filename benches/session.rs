//! The cost of reading and writing a value of a session: in memory, in nanoseconds; in Redis and PostgreSQL, in
//! operations per second, compared with the bare client that sends the same commands over the same connections.
//!
//! Redis at `TEST_REDIS_URL` and PostgreSQL at `TEST_POSTGRES_URL`, or at their usual addresses.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::env;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mcp_patterns::session::{Session, SqlBackend};
use mcp_patterns::{AnyRedisConnection, SessionStore};
use redis::aio::MultiplexedConnection;
use redis::{Script, pipe};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use turbomcp::prelude::*;

/// How often each candidate is timed, in turns.
const ROUNDS: usize = 7;

/// The number of sessions; each caller uses its own.
const SESSIONS: usize = 16;

const HOUR_MS: u64 = 3_600_000;

/// Distinct from the sessions of any running server.
const PREFIX: &str = "mcp-patterns-bench:session:";

#[tokio::main]
async fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    memory().await;
    println!("\n| backend | operation | callers | bare, per second | session, per second | ratio |");
    println!("| --- | --- | --- | --- | --- | --- |");
    in_redis().await;
    in_postgres().await;
}

async fn memory() {
    const CALLS: u32 = 100_000;
    let session = sessions(&SessionStore::in_memory()).await.remove(0);
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..CALLS {
            black_box(read(&session).await);
        }
        reads.push(started.elapsed() / CALLS);
        let started = Instant::now();
        for value in 0..CALLS {
            write(&session, round as u64 * u64::from(CALLS) + u64::from(value)).await;
        }
        writes.push(started.elapsed() / CALLS);
    }
    println!("memory: get {} ns, set {} ns", median(reads).as_nanos(), median(writes).as_nanos());
}

async fn read(session: &Session) -> Option<u64> {
    session.get("value").await.expect("a value")
}

async fn write(session: &Session, value: u64) {
    session.set("value", &value).await.expect("it is kept");
}

/// Sessions with a value.
async fn sessions(store: &SessionStore) -> Vec<Session> {
    let run = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let ctx = RequestContext::new().with_session_id(format!("{run}-{number}"));
        let session = store.of(&ctx).expect("the connection has a session");
        write(&session, 0).await;
        sessions.push(session);
    }
    sessions
}

/// A session's record, for the bare client.
fn record(value: u64) -> String {
    format!(r#"{{"value":{value}}}"#)
}

/// Times two candidates in turns, with this many callers, and prints their throughput.
async fn compare(what: &str, calls: usize, bare: impl AsyncFn(usize, u64), session: impl AsyncFn(usize, u64)) {
    for callers in [1, SESSIONS] {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            let first = (round * calls) as u64 + 1;
            times[0].push(timed(callers, calls, first, &bare).await);
            times[1].push(timed(callers, calls, first, &session).await);
        }
        let [bare, session] = times.map(|times| calls as f64 / median(times).as_secs_f64());
        println!("| {what} | {callers} | {bare:.0} | {session:.0} | {:.2} |", session / bare);
    }
}

async fn timed(callers: usize, calls: usize, first: u64, operation: &impl AsyncFn(usize, u64)) -> Duration {
    let started = Instant::now();
    join_all((0..callers).map(async |caller| {
        for call in 0..calls / callers {
            operation(caller, first + call as u64).await;
        }
    }))
    .await;
    started.elapsed()
}

async fn in_redis() {
    const CALLS: usize = 16_000;
    const WRITE: &str = "
        local version = redis.call('HGET', KEYS[1], 'v') or ''
        if version ~= ARGV[1] and version ~= ARGV[2] then
            local found = redis.call('HMGET', KEYS[1], 'd', 'r')
            return {version ~= '' and version, found[1], found[2], redis.call('PTTL', KEYS[1])}
        end
        local left = tonumber(ARGV[5])
        if version ~= '' then left = redis.call('PTTL', KEYS[1]) + redis.call('HGET', KEYS[1], 'r') end
        local ttl = math.min(tonumber(ARGV[4]), left)
        redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3], 'r', string.format('%.0f', left - ttl))
        redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
        return false";
    let url = env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = redis::Client::open(url).expect("an address");
    let connection: MultiplexedConnection =
        client.get_multiplexed_async_connection().await.expect("Redis is reachable");
    let sessions = sessions(&SessionStore::redis(AnyRedisConnection::from_redis_1(connection.clone()))).await;
    let script = Script::new(WRITE);
    let last: [AtomicU64; SESSIONS] = Default::default();
    let key = |caller: usize| format!("{PREFIX}{caller:064}");
    let set = async |caller: usize, value: u64| {
        let mut set = script.prepare_invoke();
        let before = match last[caller].swap(value + 1, Ordering::Relaxed) {
            0 => String::new(),
            before => version(before).to_string(),
        };
        set.key(key(caller)).arg(before).arg(version(value + 1)).arg(record(value)).arg(HOUR_MS).arg(24 * HOUR_MS);
        let refused: Option<(u64, String, u64, i64)> =
            set.invoke_async(&mut connection.clone()).await.expect("an answer");
        assert!(refused.is_none(), "no other writer");
    };
    let get = async |caller: usize, _| {
        let mut get = pipe();
        get.cmd("HMGET").arg(key(caller)).arg("v").arg("d").arg("r").pttl(key(caller));
        let found: ((u64, String, u64), i64) = get.query_async(&mut connection.clone()).await.expect("a record");
        black_box(found);
    };
    for caller in 0..SESSIONS {
        set(caller, 0).await;
    }
    compare("Redis | get", CALLS, get, async |caller, _| {
        black_box(read(&sessions[caller]).await);
    })
    .await;
    compare("Redis | set", CALLS, set, async |caller, value| write(&sessions[caller], value).await).await;
    end(sessions).await;
    for caller in 0..SESSIONS {
        let _: () = redis::cmd("DEL").arg(key(caller)).query_async(&mut connection.clone()).await.expect("it goes");
    }
}

/// As long as the ids of a store.
fn version(value: u64) -> u64 {
    4_000_000_000_000_000_000 + value
}

/// PostgreSQL's time, in milliseconds since 1970.
macro_rules! now {
    () => {
        "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"
    };
}

async fn in_postgres() {
    const CALLS: usize = 3_200;
    let url = env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into());
    let pool: PgPool = PgPoolOptions::new().max_connections(8).connect(&url).await.expect("PostgreSQL is reachable");
    SqlBackend::ensure_schema(&pool).await.expect("the table is made");
    let sessions = sessions(&SessionStore::postgres(pool.clone())).await;
    let id = |caller: usize| format!("bench {caller:058}");
    for caller in 0..SESSIONS {
        sqlx::query(concat!(
            "insert into mcp_patterns_sessions (id, version, data, expires_at, ends_at) \
             select $1, 0, $2, clock.now + $3, clock.now + 24 * $3 from (select ",
            now!(),
            " as now) as clock \
             on conflict (id) do update set version = 0, data = excluded.data, \
             expires_at = excluded.expires_at, ends_at = excluded.ends_at",
        ))
        .bind(id(caller))
        .bind(record(0))
        .bind(HOUR_MS as i64)
        .execute(&pool)
        .await
        .expect("it is kept");
    }
    let get = async |caller: usize, _| {
        let found: Option<(i64, String, i64, i64)> = sqlx::query_as(concat!(
            "select version, data, expires_at - clock.now, ends_at - clock.now \
             from mcp_patterns_sessions, (select ",
            now!(),
            " as now) as clock where id = $1 and expires_at > clock.now",
        ))
        .bind(id(caller))
        .fetch_optional(&pool)
        .await
        .expect("an answer");
        black_box(found.expect("a record"));
    };
    let last: [AtomicU64; SESSIONS] = Default::default();
    let set = async |caller: usize, value: u64| {
        let before = last[caller].swap(version(value), Ordering::Relaxed);
        let done = sqlx::query(concat!(
            "update mcp_patterns_sessions set version = $1, data = $2, \
             expires_at = case when clock.now + $3 < ends_at then clock.now + $3 else ends_at end \
             from (select ",
            now!(),
            " as now) as clock \
             where id = $4 and (version = $5 or version = $1) and expires_at > clock.now",
        ))
        .bind(version(value) as i64)
        .bind(record(value))
        .bind(HOUR_MS as i64)
        .bind(id(caller))
        .bind(before as i64)
        .execute(&pool)
        .await
        .expect("it is kept");
        assert_eq!(done.rows_affected(), 1);
    };
    compare("PostgreSQL | get", CALLS, get, async |caller, _| {
        black_box(read(&sessions[caller]).await);
    })
    .await;
    compare("PostgreSQL | set", CALLS, set, async |caller, value| write(&sessions[caller], value).await).await;
    end(sessions).await;
    for caller in 0..SESSIONS {
        let delete = sqlx::query("delete from mcp_patterns_sessions where id = $1").bind(id(caller));
        delete.execute(&pool).await.expect("it goes");
    }
}

async fn end(sessions: Vec<Session>) {
    for session in sessions {
        session.end().await.expect("it ends");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
