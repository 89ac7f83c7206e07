//! Every setting that is a duration, at its extremes: it is refused when the layer is applied, or calls work.

use std::fmt::Debug;
use std::time::Duration;

use mcp_patterns::audit::{Buffered, JsonLines};
use mcp_patterns::batched::Batcher;
use mcp_patterns::breaker::Window;
use mcp_patterns::cached::{Cache, MemoryLevel, Reads, RedisLevel};
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent;
use mcp_patterns::outcome::ErrorKind;
use mcp_patterns::retry::RetryPolicy;
use mcp_patterns::session::{Session, SqlBackend};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::transactional::{TransactionError, Transactor};
use mcp_patterns::workflow::{Chain, Fallback, Gather, Source};
use mcp_patterns::{
    AnyRedisConnection, AuditTool, BatchedTool, BreakerTool, CachedTool, ConfigError, IdempotentTool, RetryTool,
    SessionStore, TransactionalTool, TryLayer,
};
use redis::aio::ConnectionManager;
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{PgPool, SqlitePool};
use tokio::time::timeout;
use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};

use crate::support::Database;

const ENDLESS: [Duration; 4] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX / 4),
    Duration::from_secs(i64::MAX.unsigned_abs()),
    Duration::from_secs(200 * 365 * 24 * 60 * 60),
];

const TINY: [Duration; 2] = [Duration::ZERO, Duration::from_nanos(1)];

/// `Duration::MAX / 4` is no constant.
fn times() -> impl Iterator<Item = Duration> {
    ENDLESS.into_iter().chain([Duration::MAX / 4]).chain(TINY)
}

fn server() -> ScriptedServer {
    ScriptedServer::new("s")
        .with_plain("write", |_| async { Ok(ToolResult::text("ok")) })
        .with_read_only("read", |_| async { Ok(ToolResult::text("ok")) })
        .with_read_only("missing", |_| async { Err(McpError::resource_not_found("ok")) })
        .with_plain("note", |_| async {
            let session = Session::current()?;
            let visits = session.update("visits", |visits: &mut u64| *visits += 1).await;
            visits.map(|()| ToolResult::text("ok")).map_err(Into::into)
        })
}

/// Fails if a setting makes a call fail or panic. An endless time is never refused.
async fn works<L: TryLayer<ScriptedServer> + Debug>(time: Duration, tool: &'static str, layer: L)
where
    L::Service: McpHandler,
{
    let what = format!("{layer:?}");
    let server = match layer.try_layer(server()) {
        Ok(server) => server,
        Err(ConfigError::InvalidSetting { .. }) if TINY.contains(&time) => return,
        Err(refused) => panic!("{time:?}: {refused}"),
    };
    let ctx = RequestContext::new().with_session_id(format!("{:032x}", fastrand::u128(..)));
    let key = format!("{:032x}", fastrand::u128(..));
    // The second call finds the stored value of the first.
    for _ in 0..2 {
        let (server, ctx, args) = (server.clone(), ctx.clone(), json!({ "idempotency_key": key }));
        let call = tokio::spawn(async move { server.call_tool(tool, args, &ctx).await });
        let answer = timeout(Duration::from_secs(20), call).await.unwrap_or_else(|_| panic!("{time:?}: {what} hangs"));
        let answer = answer.unwrap_or_else(|panic| panic!("{time:?}: {what} panics: {panic}"));
        let text = answer.map_or_else(|error| error.to_string(), |answer| answer.first_text().unwrap_or("").to_owned());
        assert!(text.ends_with("ok"), "{time:?}: {what}: {text}");
    }
    server.on_shutdown().await.expect("it ends");
}

/// Runs an engine. One whose check refuses its settings may fail, but does not panic.
async fn runs<T: Debug, E: Debug>(
    time: Duration,
    checked: Result<(), ConfigError>,
    run: impl Future<Output = Result<T, E>> + Send + 'static,
) where
    Result<T, E>: Send + 'static,
{
    let ended = timeout(Duration::from_secs(20), tokio::spawn(run)).await.expect("it does not hang");
    let ended = ended.unwrap_or_else(|panic| panic!("{time:?}: {panic}"));
    match checked {
        Ok(()) => assert!(ended.is_ok(), "{time:?}: {ended:?}"),
        Err(refused) => assert!(TINY.contains(&time), "{time:?}: {refused}"),
    }
}

async fn sqlite() -> SqlitePool {
    SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("it is made")
}

async fn postgres(database: &Database) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect(&database.url()).await.expect("it is there")
}

async fn redis() -> ConnectionManager {
    let url = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = redis::Client::open(url).expect("a URL");
    client.get_connection_manager().await.expect("Redis answers")
}

fn prefix() -> String {
    format!("mcp-patterns:test:{:032x}:", fastrand::u128(..))
}

#[tokio::test]
async fn breakers() {
    for time in times() {
        let new = BreakerTool::new;
        for layer in [new().with_pause(time), new().with_window(Window::time(time))] {
            works(time, "read", layer).await;
        }
        works(time, "read", new().with_slow_calls(time)).await;
    }
}

#[tokio::test]
async fn audits() {
    for time in times() {
        let buffer = Buffered::new(JsonLines::new(tokio::io::sink())).with_capacity(1).with_wait(time);
        works(time, "read", AuditTool::new().with_buffer(buffer)).await;
    }
}

#[tokio::test]
async fn idempotency_keys() {
    let (sqlite, database, redis) = (sqlite().await, Database::postgres().await, redis().await);
    let postgres = postgres(&database).await;
    TransactionalTool::ensure_schema(&sqlite).await.expect("the table is made");
    TransactionalTool::ensure_schema(&postgres).await.expect("the table is made");
    for time in times() {
        let stores = [
            &|| IdempotentTool::new(idempotent::MemoryBackend::new()),
            &|| IdempotentTool::new(idempotent::SqlBackend::new(sqlite.clone())),
            &|| IdempotentTool::new(idempotent::SqlBackend::new(postgres.clone())),
            &|| {
                let connection = AnyRedisConnection::from_redis_1(redis.clone());
                IdempotentTool::new(idempotent::RedisBackend::new(connection).with_prefix(prefix()))
            },
        ] as [&dyn Fn() -> IdempotentTool; 4];
        for new in stores {
            for layer in [
                new().with_wait(time),
                new().with_lease(time),
                new().with_backend_timeout(time),
                new().with_idempotency(Idempotency::new().with_ttl(time)),
            ] {
                works(time, "write", layer.only(["write"])).await;
            }
        }
    }
}

#[tokio::test]
async fn transactions() {
    let (sqlite, database) = (sqlite().await, Database::postgres().await);
    let postgres = postgres(&database).await;
    TransactionalTool::ensure_schema(&sqlite).await.expect("the table is made");
    TransactionalTool::ensure_schema(&postgres).await.expect("the table is made");
    for time in times() {
        let key = |time| Idempotency::new().with_ttl(time);
        let on = TransactionalTool::new(sqlite.clone()).only(["write"]);
        works(time, "write", on.clone().with_idempotency(Idempotency::new()).with_wait(time)).await;
        works(time, "write", on.with_idempotency(key(time))).await;
        let on = TransactionalTool::new(postgres.clone()).only(["write"]);
        works(time, "write", on.clone().with_idempotency(Idempotency::new()).with_wait(time)).await;
        works(time, "write", on.with_idempotency(key(time))).await;

        let transactor = Transactor::new(sqlite.clone()).with_timeout(time);
        works(time, "write", TransactionalTool::new(transactor.clone()).only(["write"])).await;
        let nothing = async || Ok::<_, TransactionError>(());
        runs(time, transactor.check(), async move { transactor.run(&(), nothing).await }).await;
        let new = || Transactor::new(postgres.clone());
        for transactor in [new().with_timeout(time), new().with_statement_timeout(time), new().with_lock_timeout(time)]
        {
            works(time, "write", TransactionalTool::new(transactor.clone()).only(["write"])).await;
            runs(time, transactor.check(), async move { transactor.run(&(), nothing).await }).await;
        }
    }
}

#[tokio::test]
async fn caches() {
    let redis = redis().await;
    for time in times() {
        let new = CachedTool::new;
        for layer in [
            new().with_ttl(time),
            new().with_ttl(time).with_ttl_jitter(1e-300),
            new().with_ttl_for("read", time),
            new().with_resources(Reads::new().with_ttl(time)),
            new().with_prompts(Reads::new().with_ttl(time)),
            new().with_idle_time(time),
            new().with_load_timeout(time),
            new().with_stale_while_revalidate(time),
            new().with_stale_if_error(time),
            new().with_ttl(time).with_stale_while_revalidate(time).with_stale_if_error(time).with_early_refresh(1e300),
        ] {
            works(time, "read", layer).await;
        }
        works(time, "missing", new().with_negative_ttl([ErrorKind::ResourceNotFound], time)).await;
        for level in [true, false] {
            // A busy machine is no failure of the level.
            let new = || new().with_second_level_timeout(Duration::from_secs(10));
            let new = || match level {
                true => new().with_second_level(MemoryLevel::new()),
                false => new().with_second_level(
                    RedisLevel::new(AnyRedisConnection::from_redis_1(redis.clone())).with_prefix(prefix()),
                ),
            };
            for layer in [
                new().with_ttl(time),
                new().with_ttl(time).with_stale_if_error(time),
                new().with_lease(time),
                new().with_first_level_ttl(time),
                new().with_unsubscribed_ttl(time),
                new().with_second_level_timeout(time),
            ] {
                let cache = layer.handle();
                works(time, "read", layer).await;
                if TINY.contains(&time) {
                    continue;
                }
                let level = || cache.stats().second_level.expect("there is one");
                let is_put = async {
                    while level().puts == 0 && level().failures == 0 {
                        tokio::task::yield_now().await;
                    }
                };
                timeout(Duration::from_secs(20), is_put).await.expect("it is put, or that fails");
                assert_eq!(level().failures, 0, "{time:?}");
            }
        }
        let new = Cache::<u8, u8>::new;
        for cache in [
            new().with_ttl(time),
            new().with_ttl(time).with_ttl_jitter(2.0),
            new().with_idle_time(time),
            new().with_load_timeout(time),
            new().with_stale_while_revalidate(time),
            new().with_stale_if_error(time),
            new().with_negative_ttl(time, |_| true),
            new().with_second_level("numbers", MemoryLevel::new()).with_ttl(time),
            new().with_second_level("numbers", MemoryLevel::new()).with_lease(time),
            new().with_second_level("numbers", MemoryLevel::new()).with_second_level_timeout(time),
        ] {
            let checked = if cache.check().is_err() && !TINY.contains(&time) {
                assert!(cache.check().is_err_and(|refused| refused.to_string().contains("with_ttl_jitter")));
                Ok(())
            } else {
                cache.check()
            };
            runs(time, checked, async move {
                let _ = cache.get_or_load(&(), 2, || async { Err(McpError::internal("a failure")) }).await;
                cache.insert(3, 3);
                cache.get_or_load(&(), 1, || async { Ok(1) }).await?;
                cache.get_or_load(&(), 1, || async { Ok(1) }).await
            })
            .await;
        }
    }
}

/// The clock advances only for waiting tasks, since endless delays are waited for.
#[tokio::test(start_paused = true)]
async fn retries() {
    for time in times() {
        let new = RetryTool::new;
        for layer in [
            new().with_base_delay(time),
            new().with_throttled_delay(time),
            new().with_max_delay(time),
            new().with_base_delay(time).with_max_delay(time).with_factor(1e300),
            new().with_deadline(time),
            new().with_attempt_timeout(time),
        ] {
            works(time, "read", layer).await;
        }
        let new = || RetryPolicy::new().without_deadline();
        for policy in [
            new().with_base_delay(time).with_max_delay(time),
            new().with_throttled_delay(time).with_max_delay(time).with_factor(1e300),
            new().with_deadline(time).with_base_delay(Duration::from_millis(1)),
            new().with_attempt_timeout(time),
            new().with_delays(move || std::iter::repeat(time)),
        ] {
            let checked = policy.check();
            let (mut calls, is_throttled) = (0, time > Duration::from_secs(1));
            let attempts = move |_| {
                calls += 1;
                let failure = if is_throttled { McpError::rate_limited("not yet") } else { McpError::unavailable("") };
                async move { if calls < 3 { Err(failure) } else { Ok(()) } }
            };
            let run = tokio::spawn(async move { policy.run(&(), attempts).await });
            let ended = run.await.unwrap_or_else(|panic| panic!("{time:?}: {panic}"));
            assert!(ended.is_ok() || checked.is_err(), "{time:?}: {ended:?}");
            assert!(checked.is_ok() || TINY.contains(&time), "{time:?}: {checked:?}");
        }
    }
}

#[tokio::test]
async fn batches() {
    for time in times() {
        let new = || BatchedTool::new().only(["read"]).with_max_size(1);
        for layer in [new().with_max_delay(time), new().with_batch_timeout(time), new().with_drain_timeout(time)] {
            works(time, "read", layer).await;
        }
        let new = || {
            Batcher::new(|numbers: Vec<u8>| async { numbers.into_iter().map(Ok).collect::<Vec<_>>() }).with_max_size(1)
        };
        for batcher in [new().with_max_delay(time), new().with_batch_timeout(time)] {
            runs(time, batcher.check(), async move {
                let answer: Result<u8, McpError> = batcher.load(&(), 1).await;
                batcher.shut_down(time).await;
                answer
            })
            .await;
        }
    }
}

#[tokio::test]
async fn sessions() {
    let (sqlite, database, redis) = (sqlite().await, Database::postgres().await, redis().await);
    let postgres = postgres(&database).await;
    SqlBackend::ensure_schema(&sqlite).await.expect("the table is made");
    SqlBackend::ensure_schema(&postgres).await.expect("the table is made");
    for time in times() {
        let stores = [
            &|| SessionStore::in_memory(),
            &|| SessionStore::sqlite(sqlite.clone()),
            &|| SessionStore::postgres(postgres.clone()),
            &|| SessionStore::redis(AnyRedisConnection::from_redis_1(redis.clone())),
        ] as [&dyn Fn() -> SessionStore; 4];
        for new in stores {
            for store in
                [new().with_idle_timeout(time), new().with_absolute_timeout(time), new().with_backend_timeout(time)]
            {
                works(time, "note", store.clone().only(["note"]).with_namespace("durations")).await;
                let session = store.of(&RequestContext::new().with_session_id(prefix())).expect("it has one");
                runs(time, store.check(), async move {
                    session.set("k", &1).await?;
                    session.set("k", &2).await?;
                    session.get::<u8>("k").await
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn workflows() {
    for time in times().filter(|time| !TINY.contains(time)) {
        let source = || Source::new("one", || async { Ok::<_, McpError>(1) });
        let (gather, fallback) = (Gather::new().with_timeout(time), Fallback::new().with_timeout(time));
        runs(time, Ok(()), async move { gather.all(&(), (source(), source().with_timeout(time))).await }).await;
        runs(time, Ok(()), async move {
            fallback
                .with_backfill_timeout(time)
                .find(&(), [Source::new("one", || async { Ok::<_, McpError>(Some(1)) })])
                .await
        })
        .await;
        let _ = Chain::new("chain").with_compensation_timeout(time);
    }
}
