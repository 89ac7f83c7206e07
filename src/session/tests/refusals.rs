//! A backend that refuses a write: nothing was kept, and the outcome is known.

use sqlx::postgres::PgPoolOptions;

use super::*;
use crate::testing::private_redis::PrivateRedis;
use crate::testing::proxy::Proxy;
use crate::testing::{Took, Traced, databases};

async fn connected(redis: &PrivateRedis) -> AnyRedisConnection {
    AnyRedisConnection::from_redis_1(redis.client().get_connection_manager().await.expect("it is there"))
}

/// Breaks the server in each way, and repairs it.
const WAYS: [(&str, &[&str], &[&str]); 4] = [
    ("no memory", &["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
    ("a replica", &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
    ("no replicas", &["CONFIG", "SET", "min-replicas-to-write", "1"], &["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ("no permission", &["ACL", "SETUSER", "default", "-@scripting"], &["ACL", "SETUSER", "default", "+@all"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_a_write_has_kept_nothing_and_the_outcome_is_not_unknown() {
    let redis = PrivateRedis::start_on_request();
    let session = session(&SessionStore::redis(connected(&redis).await));
    for (at, (what, breaks, repairs)) in WAYS.into_iter().enumerate() {
        // The next write finds its record here, and does not read first.
        session.set("count", &at).await.expect("it is kept");
        redis.command(breaks);
        for _ in 0..3 {
            let took = Took::begin();
            let refused = session.set("count", &100).await;
            took.until(&format!("a write is refused: {what}"));
            assert!(matches!(refused, Err(SessionError::Unavailable(_))), "{what}: {refused:?}");
        }
        redis.command(repairs);
        assert_eq!(session.get::<usize>("count").await.expect("it can be read"), Some(at), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_runs_another_script_has_kept_nothing() {
    let redis = PrivateRedis::start_on_request();
    let session = session(&SessionStore::redis(connected(&redis).await));
    session.set("count", &1).await.expect("it is kept");
    redis.command(&["CONFIG", "SET", "busy-reply-threshold", "1"]);
    let url = redis.url();
    let busy = std::thread::spawn(move || {
        let mut connection = ::redis::Client::open(url).expect("a URL").get_connection().expect("a connection");
        ::redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut connection)
    });
    let refused = async {
        loop {
            match session.set("count", &100).await {
                Ok(()) => session.set("count", &1).await.unwrap_or_default(),
                // The script had begun, and Redis had answered no client yet.
                Err(SessionError::OutcomeUnknown(_)) => {}
                refused => return refused,
            }
        }
    };
    let refused = tokio::time::timeout(MINUTE, refused).await.expect("it is busy");
    assert!(matches!(refused, Err(SessionError::Unavailable(_))), "{refused:?}");
    redis.command(&["SCRIPT", "KILL"]);
    assert!(busy.join().expect("it ends").is_err(), "it was killed");
    assert!(session.get::<usize>("count").await.expect("it can be read").is_some());
}

#[tokio::test]
async fn a_database_that_refuses_a_write_has_kept_nothing_and_the_outcome_is_not_unknown() {
    let file = crate::testing::databases::sqlite().await;
    crate::session::SqlBackend::ensure_schema(&file.pool).await.expect("the table is made");
    let session = session(&SessionStore::new(crate::session::SqlBackend::new(file.pool.clone())));
    session.set("count", &1).await.expect("it is kept");
    let refuses = "create trigger refuses before update on mcp_patterns_sessions begin select raise(abort, 'no'); end";
    sqlx::raw_sql(refuses).execute(&file.pool).await.expect("a trigger can be made");
    let refused = session.set("count", &2).await;
    assert!(matches!(refused, Err(SessionError::Unavailable(_))), "{refused:?}");
    sqlx::raw_sql("drop trigger refuses").execute(&file.pool).await.expect("it can be dropped");
    assert_eq!(session.get::<u32>("count").await.expect("it can be read"), Some(1));
}

#[tokio::test]
async fn a_failed_session_operation_has_an_id_and_the_log_has_it_with_the_tool_and_the_backend() {
    let redis = PrivateRedis::start_on_request();
    let store = SessionStore::redis(connected(&redis).await);
    let server = store.layer(museum());
    assert!(!server.call_tool("visit", json!({}), &connection("1")).await.expect("a result").is_error());
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let traced = Traced::start();
    let refused = server.call_tool("visit", json!({}), &connection("1")).await;
    let failure = outcome::failure(&refused).expect("there is no memory");
    let text = failure.message();
    let id = text.strip_prefix("Sessions are unavailable: try again later. Nothing was changed (error ");
    let id = id.and_then(|id| id.strip_suffix(')')).unwrap_or_else(|| panic!("{text}"));
    let log = traced.text();
    let line = log.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("no line has {id}: {log}"));
    for field in ["tool=\"visit\"", "attempt=1", "backend=\"Redis\"", "may_be_kept=false"] {
        assert!(line.contains(field), "{field}: {line}");
    }
}

#[test]
fn each_refusal_of_a_session_is_marked() {
    let backend = || BackendError::new("down");
    let json_error = || serde_json::from_str::<u32>("x").expect_err("no number");
    let errors = [
        SessionError::NoLayer,
        SessionError::None(SessionMode::Principal),
        SessionError::Unknown,
        SessionError::Undecodable { key: "k".into(), error: json_error() },
        SessionError::Unencodable { key: "k".into(), error: json_error() },
        SessionError::TooManyBytes { bytes: 2, max_bytes: 1 },
        SessionError::TooManyKeys { max_keys: 1 },
        SessionError::NoRoom,
        SessionError::Conflict,
        SessionError::NotRenewable,
        SessionError::WaitsForItself(backend()),
        SessionError::Unavailable(backend()),
        SessionError::OutcomeUnknown(backend()),
    ];
    for error in errors {
        let text = error.to_string();
        let error = McpError::from(error);
        assert!(error.data().is_some_and(|data| data[outcome::SESSION].is_string()), "{text}: {error:?}");
    }
}

/// The write finds another version, and then the connection is lost while it reads the current record.
#[tokio::test]
async fn a_write_that_changed_nothing_is_not_in_doubt_if_the_current_record_cannot_be_read() {
    let direct = databases::postgres_with_clock(2).await;
    SqlBackend::ensure_schema(&direct).await.unwrap();
    let (network, through) = Proxy::to_postgres(&direct.connect_options()).await;
    let backend = SqlBackend::new(PgPoolOptions::new().connect_with(through).await.unwrap());
    let write = |version| Write { version, data: "{}", ttl: MINUTE, ends_in: Duration::MAX, opener: None };
    assert!(matches!(backend.create("id", write(1)).await, Ok(Written::Yes)));
    // The planner decides whether the write asks for the time.
    let slow_read =
        "create or replace function clock_timestamp() returns timestamptz language plpgsql volatile as $$ begin
            if current_query() like 'select%' then perform pg_sleep(60); end if;
            return pg_catalog.clock_timestamp();
        end $$";
    sqlx::raw_sql(slow_read).execute(&direct).await.unwrap();
    let reads = "select count(*) from pg_stat_activity where application_name = current_setting('application_name') \
                 and wait_event = 'PgSleep'";
    let cut_off = async {
        tokio::join!(backend.compare_and_swap("id", 7, write(2)), async {
            while sqlx::query_scalar::<_, i64>(reads).fetch_one(&direct).await.unwrap() == 0 {}
            network.reset();
        })
    };
    let (swapped, ()) = tokio::time::timeout(MINUTE, cut_off).await.expect("it reads what there is");
    let error = swapped.expect_err("nothing could be read");
    assert!(!error.may_be_taken(), "{error}");
}
