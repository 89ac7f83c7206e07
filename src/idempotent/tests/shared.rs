//! Many callers and several replicas on one backend of each kind.

use futures_util::future::join_all;
use sqlx::{Postgres, Sqlite};

use super::*;
use crate::testing::databases::{self, SqliteFile, new_name};

pub(super) async fn redis() -> RedisBackend {
    in_redis(databases::redis().await).with_prefix("mcp-patterns:test:")
}

pub(super) async fn postgres() -> SqlBackend<Postgres> {
    let pool = databases::postgres().await;
    SqlBackend::ensure_schema(&pool).await.unwrap();
    SqlBackend::new(pool)
}

pub(super) async fn sqlite() -> (SqlBackend<Sqlite>, SqliteFile) {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    SqlBackend::ensure_schema(&file.pool).await.expect("an existing table stays as it is");
    (SqlBackend::new(file.pool.clone()), file)
}

/// A layer with long timeouts: a busy machine must not fail the test.
fn replica(backend: impl Backend, post: &ScriptedServer) -> impl McpHandler {
    layer(backend).with_wait(secs(60)).with_backend_timeout(secs(30)).layer(post.clone())
}

async fn a_hundred_callers_with_one_key(one: impl Backend, other: impl Backend) {
    let (post, key) = (post(), new_name());
    let replicas = [Either::A(replica(one, &post)), Either::B(replica(other, &post))];
    let answers = join_all((0..100).map(|number| {
        let (replica, key) = (replicas[number % 2].clone(), key.clone());
        tokio::spawn(async move { replica.send(&key).await })
    }))
    .await;
    let (mut replayed, mut first) = (0, 0);
    for answer in answers {
        let answer = answer.unwrap();
        match told(&answer) {
            Value::Null => first += 1,
            told => {
                assert_eq!(told, "replayed");
                replayed += 1;
            }
        }
        assert_eq!(unmarked(answer), sent(1));
    }
    assert_eq!((first, replayed), (1, 99));
    assert_eq!(post.calls("send"), 1);

    // Neither replica takes the key for another call, and another user's key is another key.
    for replica in &replicas {
        let other = replica.call(json!({"to": "bob", "idempotency_key": key}), &RequestContext::new()).await;
        assert_eq!(told(&other), "key_reused");
    }
    assert_eq!(post.calls("send"), 1);
    let ada = RequestContext::new().with_user_id("ada");
    let answer = replicas[0].call(json!({"to": "ada", "idempotency_key": key}), &ada).await;
    assert_eq!((text(&answer), told(&answer)), ("sent 2".into(), Value::Null));
}

/// Two servers of two types as one type.
#[derive(Clone)]
enum Either<A, B> {
    A(A),
    B(B),
}

impl<A: McpHandler, B: McpHandler> Either<A, B> {
    async fn send(&self, key: &str) -> McpResult<ToolResult> {
        self.call(json!({"to": "ada", "idempotency_key": key}), &RequestContext::new()).await
    }

    async fn call(&self, args: Value, ctx: &RequestContext) -> McpResult<ToolResult> {
        match self {
            Self::A(server) => server.call_tool("send", args, ctx).await,
            Self::B(server) => server.call_tool("send", args, ctx).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_with_one_key_have_one_effect_in_memory() {
    let backend = MemoryBackend::new();
    a_hundred_callers_with_one_key(backend.clone(), backend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_with_one_key_have_one_effect_with_redis() {
    a_hundred_callers_with_one_key(redis().await, redis().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_with_one_key_have_one_effect_with_sqlite() {
    let (backend, _file) = sqlite().await;
    a_hundred_callers_with_one_key(backend.clone(), backend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_with_one_key_have_one_effect_with_postgres() {
    a_hundred_callers_with_one_key(postgres().await, postgres().await).await;
}

/// A replica that died while a call ran: its claim exists, its lease has ended, and no answer will ever be recorded.
async fn the_claim_of_a_dead_replica_is_ambiguous_on_other_replicas(backend: impl Backend + Clone) {
    let (dead, alive, key) = (post(), post(), new_name());
    let dying = layer(Dying(backend.clone())).layer(dead.clone());
    assert_eq!(told(&send(&dying, &key).await), "not_recorded");

    let survivor = layer(backend);
    let handle = survivor.handle();
    let server = survivor.layer(alive.clone());
    for _ in 0..2 {
        assert!(is_ambiguous(&send(&server, &key).await));
    }
    assert_eq!((dead.calls("send"), alive.calls("send")), (1, 0));
    handle.resolve(&RequestContext::new(), "send", &key, Resolution::Done(ToolResult::text("seen"))).await.unwrap();
    let answer = send(&server, &key).await;
    assert_eq!((text(&answer), told(&answer)), ("seen".into(), json!("replayed")));
    assert_eq!(alive.calls("send"), 0);
}

/// A backend whose claims expire at once and get no answer.
struct Dying<S>(S);

#[async_trait]
impl<S: Backend> Backend for Dying<S> {
    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        self.0.claim(Claim { lease: Duration::ZERO, ..claim }).await
    }

    async fn renew(&self, _: Owner<'_>, _: Duration) -> Result<bool, BackendError> {
        Ok(true)
    }

    async fn complete(&self, _: Owner<'_>, _: &str, _: Duration) -> Result<bool, BackendError> {
        Ok(false)
    }

    async fn release(&self, _: Owner<'_>) -> Result<bool, BackendError> {
        Ok(false)
    }

    async fn abandon(&self, _: Owner<'_>) -> Result<bool, BackendError> {
        Ok(false)
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        self.0.resolve(id, record, ttl).await
    }
}

#[tokio::test]
async fn the_claim_of_a_dead_replica_in_redis_is_ambiguous_on_other_replicas() {
    the_claim_of_a_dead_replica_is_ambiguous_on_other_replicas(redis().await).await;
}

#[tokio::test]
async fn the_claim_of_a_dead_replica_in_sqlite_is_ambiguous_on_other_replicas() {
    let (backend, _file) = sqlite().await;
    the_claim_of_a_dead_replica_is_ambiguous_on_other_replicas(backend).await;
}

#[tokio::test]
async fn the_claim_of_a_dead_replica_in_postgres_is_ambiguous_on_other_replicas() {
    the_claim_of_a_dead_replica_is_ambiguous_on_other_replicas(postgres().await).await;
}
