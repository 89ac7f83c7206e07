//! Both backends stop answering under all layers: two tenants on three connections, one of which leaves meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use mcp_patterns::audit::{Buffered, SqlTable};
use mcp_patterns::cached::RedisLevel;
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent;
use mcp_patterns::limited::{Concurrency, Per, Rate, RedisBackend};
use mcp_patterns::output::Spill;
use mcp_patterns::session::{Session, SessionMode, SqlBackend};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::transactional::{Transactor, current, failed};
use mcp_patterns::{
    AuditTool, BatchedTool, BreakerTool, CachedTool, IdempotentTool, Layer, LimitedTool, OutputTool, RedisConnection,
    RetryTool, SessionStore, TransactionalTool, ValidatedTool, outcome,
};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres};
use tokio::time::timeout;
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpError, McpHandler, McpSession, RequestContext, SessionFuture};
use turbomcp_types::ToolResult;

use crate::client::patiently;
use crate::private_redis::PrivateRedis;
use crate::proxy::Proxy;
use crate::support::Database;

/// How long a call may take before it counts as hung. It bounds a failure and measures nothing.
const HUNG: Duration = Duration::from_secs(60);

/// A connection of Ada's, who works for several tenants. Its client agrees to every question.
#[derive(Debug)]
struct Desk {
    tenant: &'static str,
    name: &'static str,
    asked: AtomicUsize,
}

impl Desk {
    fn ctx(self: &Arc<Self>) -> RequestContext {
        let session: Arc<dyn McpSession> = Arc::clone(self) as _;
        let ada = Principal::new("ada").with_claim("tid", json!(self.tenant));
        RequestContext::http().with_session_id(self.name).with_session(session).with_principal(ada)
    }
}

impl McpSession for Desk {
    fn call<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, Value> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(json!({ "action": "accept" })) })
    }

    fn notify<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn desks() -> [Arc<Desk>; 3] {
    [("acme", "laptop"), ("acme", "phone"), ("globex", "tablet")]
        .map(|(tenant, name)| Arc::new(Desk { tenant, name, asked: AtomicUsize::new(0) }))
}

fn tenant(ctx: &RequestContext) -> String {
    let tenant = ctx.principal().and_then(|principal| principal.get_claim("tid")?.as_str());
    tenant.expect("everybody has a tenant").to_owned()
}

/// The sent messages, by tenant and letter.
type Sent = Arc<Mutex<BTreeMap<(String, String), usize>>>;

/// Every answer begins with the tenant that it is for.
fn office(sent: &Sent) -> ScriptedServer {
    let sent = Arc::clone(sent);
    ScriptedServer::new("office")
        .with_read_only("read", |call| async move { Ok(ToolResult::text(format!("{} reads", tenant(&call.ctx)))) })
        .with_plain("price", |call| async move { Ok(ToolResult::text(format!("{} pays", tenant(&call.ctx)))) })
        .with_plain("remember", |call| async move {
            let (tenant, session) = (tenant(&call.ctx), Session::current()?);
            let known: Option<String> = session.get("tenant").await?;
            assert!(known.is_none_or(|known| known == tenant), "a session of another tenant");
            session.set("tenant", &tenant).await?;
            Ok(ToolResult::text(format!("{tenant} is remembered")))
        })
        .with_plain("send", move |call| {
            let (tenant, letter) = (tenant(&call.ctx), call.args["letter"].to_string());
            *sent.lock().expect("no panic").entry((tenant.clone(), letter)).or_default() += 1;
            async move { Ok(ToolResult::text(format!("{tenant} has sent"))) }
        })
        .with_plain("pay", |call| async move {
            let tenant = tenant(&call.ctx);
            let mut db = current::<Postgres>().await?;
            let pay = sqlx::query("insert into payments values ($1, $2)").bind(&tenant);
            pay.bind(call.args["cents"].as_i64()).execute(&mut *db).await.map_err(failed)?;
            Ok(ToolResult::text(format!("{tenant} has paid")))
        })
        .with_read_only("sign", |call| async move {
            let session = call.ctx.session().ok_or_else(|| McpError::internal("there is nobody to ask"))?;
            session.call("elicitation/create", json!({ "message": "Do you agree?" })).await?;
            Ok(ToolResult::text(format!("{} agrees", tenant(&call.ctx))))
        })
}

/// The calls of one connection in a round: a call with an effect has a key of this round and tenant.
fn calls(desk: &Desk, round: i64) -> [(&'static str, Value); 6] {
    let key = format!("{}-{round}", desk.tenant);
    [
        ("read", json!({ "page": round })),
        ("price", json!({ "article": round })),
        ("remember", json!({ "round": round })),
        ("send", json!({ "letter": round, "idempotency_key": key })),
        ("pay", json!({ "cents": round, "idempotency_key": key })),
        ("sign", json!({ "contract": round })),
    ]
}

/// Calls until there is an answer. An unknown outcome or a temporary refusal is no answer.
async fn answer(server: &impl McpHandler, desk: &Arc<Desk>, (tool, args): (&str, Value)) {
    let ctx = desk.ctx();
    loop {
        let called = timeout(HUNG, server.call_tool(tool, args.clone(), &ctx)).await;
        let answer = called.unwrap_or_else(|_| panic!("`{tool}` of {} hung", desk.name));
        let Some(failure) = outcome::failure(&answer) else {
            let answer = answer.expect("no failure");
            assert!(answer.first_text().is_some_and(|text| text.starts_with(desk.tenant)), "{desk:?}: {answer:?}");
            return;
        };
        let text = failure.message();
        let is_unknown = ["not known", "may or may not", "still running"].iter().any(|word| text.contains(word));
        assert!(failure.is_temporary() || is_unknown, "{tool}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn all_answer(server: &impl McpHandler, desks: &[Arc<Desk>], round: i64) {
    join_all(desks.iter().flat_map(|desk| calls(desk, round).map(|call| answer(server, desk, call)))).await;
}

/// A place that a call does not give back makes all later calls of its caller and tool wait.
fn limits(redis: &RedisConnection) -> LimitedTool {
    let one_by_one = Concurrency::new(1).with_queue(100).with_max_wait(HUNG);
    LimitedTool::new()
        .with_concurrency(Per::PrincipalAndTool, one_by_one)
        .with_rate(Per::Principal, Rate::per_second(1_000))
        .with_backend(RedisBackend::new(redis.clone()))
        .with_replicas(1)
        .with_timeout(HUNG)
}

/// A place that a probe does not give back makes all later calls of its tool fail.
fn breakers() -> BreakerTool {
    BreakerTool::new().with_pause(Duration::from_millis(100)).with_slow_calls(Duration::from_secs(2))
}

async fn whole(
    pool: &PgPool,
    redis: &RedisConnection,
    office: &ScriptedServer,
    audit: &AuditTool,
) -> impl McpHandler + use<> {
    SqlBackend::ensure_schema(pool).await.expect("a table of sessions");
    TransactionalTool::ensure_schema(pool).await.expect("a table of keys");
    let second_level = RedisLevel::new(redis.clone()).with_subscriber(redis);
    let transactor = Transactor::new(pool.clone()).with_timeout(Duration::from_secs(3));
    let inner = (
        RetryTool::new(),
        breakers(),
        limits(redis),
        IdempotentTool::new(idempotent::SqlBackend::new(pool.clone())).only(["send"]),
        TransactionalTool::new(transactor).only(["pay"]).with_idempotency(Idempotency::new()),
    );
    let outer = (
        audit.clone(),
        OutputTool::new().with_spill(Spill::new()),
        ValidatedTool::new(),
        SessionStore::postgres(pool.clone()).with_mode(SessionMode::Principal).only(["remember"]),
        CachedTool::new().with_second_level(second_level),
        BatchedTool::new().allow_skipped_effects(["price"]),
    );
    outer.layer(inner.layer(office.clone()))
}

/// Returns whether the pool lends all of its connections, and Redis answers, after both stopped answering.
async fn is_whole(pool: &PgPool, redis: &RedisConnection) {
    let all =
        timeout(HUNG, async { while !join_all((0..4).map(|_| pool.acquire())).await.iter().all(Result::is_ok) {} });
    assert!(all.await.is_ok(), "a connection to PostgreSQL is lost for good");
    let answers =
        timeout(HUNG, async { while redis::cmd("PING").query_async::<()>(&mut redis.clone()).await.is_err() {} });
    assert!(answers.await.is_ok(), "the connection to Redis stays silent");
}

async fn every_tenant_gets_its_own_answers_and_single_effects() {
    let database = Database::postgres().await;
    let direct = PgPool::connect(&database.url()).await.expect("a pool");
    sqlx::query("create table payments (tenant text, cents bigint)").execute(&direct).await.expect("a table");
    let redis_server = PrivateRedis::start();
    let to_redis = Proxy::to(redis_server.socket()).await;
    let (to_postgres, through) = Proxy::to_postgres(&direct.connect_options()).await;
    // Fewer connections than calls, and sessions, keys and transactions all need them.
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(3));
    let pool = pool.connect_with(through).await.expect("the way is open");
    let redis = RedisConnection::open(&to_redis.redis_url()).expect("an address");
    let (sent, desks) = (Sent::default(), desks());
    SqlTable::ensure_schema(&pool).await.expect("a table of events");
    let audit = AuditTool::new().with_buffer(Buffered::new(SqlTable::new(&pool)));
    let events = audit.handle();
    let server = whole(&pool, &redis, &office(&sent), &audit).await;

    all_answer(&server, &desks, 1).await;
    for round in 2..=3 {
        to_postgres.silence();
        to_redis.silence();
        // The phone leaves during all of its calls.
        let leaving = join_all(calls(&desks[1], round).map(|(tool, args)| {
            let (server, ctx) = (server.clone(), desks[1].ctx());
            async move { timeout(Duration::from_millis(20), server.call_tool(tool, args, &ctx)).await.is_ok() }
        }));
        let stay = [Arc::clone(&desks[0]), Arc::clone(&desks[2])];
        tokio::join!(leaving, all_answer(&server, &stay, round));
    }
    all_answer(&server, &desks, 4).await;
    assert!(timeout(HUNG, events.flush()).await.is_ok(), "events wait for a connection");
    is_whole(&pool, &redis).await;

    let recorded: i64 =
        sqlx::query_scalar("select count(*) from mcp_patterns_audit").fetch_one(&direct).await.expect("it counts");
    assert_eq!((recorded.cast_unsigned(), events.stats().lost), (events.stats().events, 0), "one row for each call");
    let paid: Vec<(String, i64, i64)> =
        sqlx::query_as("select tenant, cents, count(*) from payments group by tenant, cents order by 1, 2")
            .fetch_all(&direct)
            .await
            .expect("it counts");
    let once = |tenant: &str| (1..=4).map(|round| (tenant.to_owned(), round, 1)).collect::<Vec<_>>();
    assert_eq!(paid, [once("acme"), once("globex")].concat());
    let sent = sent.lock().expect("no panic").clone();
    assert_eq!(sent.len(), 8, "each letter of each tenant: {sent:?}");
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
    assert!(desks.iter().all(|desk| desk.asked.load(Ordering::SeqCst) >= 2), "each client is asked itself: {desks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_get_their_own_answers_and_single_effects_although_both_backends_stop_answering() {
    patiently(every_tenant_gets_its_own_answers_and_single_effects()).await;
}
