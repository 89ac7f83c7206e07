//! Staging and production: the same server, with the same name, on the same backends.

use mcp_patterns::cached::{self, MemoryLevel, SecondLevelStats};
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent;
use mcp_patterns::session::{MemoryBackend, SessionMode};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{
    BatchedTool, CachedTool, ConfigError, IdempotentTool, Identity, Layer, SessionStore, TransactionalTool, TryLayer,
};
use serde_json::json;
use sqlx::SqlitePool;
use turbomcp_core::McpHandler;

use super::sharing::{Shared, ada, call, office};
use super::shop::database;

/// The backends that all environments share.
struct Backends {
    level: MemoryLevel,
    store: idempotent::MemoryBackend,
    sessions: MemoryBackend,
    pool: SqlitePool,
}

impl Backends {
    async fn new() -> Self {
        let pool = database().await.expect("a database");
        TransactionalTool::ensure_schema(&pool).await.expect("a table");
        Self {
            level: MemoryLevel::new(),
            store: idempotent::MemoryBackend::new(),
            sessions: MemoryBackend::new(),
            pool,
        }
    }

    fn layers(&self) -> Layers {
        Layers {
            sessions: SessionStore::new(self.sessions.clone()).with_mode(SessionMode::Principal),
            cached: CachedTool::new().with_second_level(self.level.clone()),
            idempotent: IdempotentTool::new(self.store.clone()).only(["send"]),
            transactional: TransactionalTool::new(self.pool.clone()).only(["pay"]).with_idempotency(Idempotency::new()),
        }
    }
}

/// The layers with a backend.
struct Layers {
    sessions: SessionStore,
    cached: CachedTool,
    idempotent: IdempotentTool,
    transactional: TransactionalTool<sqlx::Sqlite>,
}

impl Layers {
    fn in_namespace(self, namespace: &str) -> Self {
        Self {
            sessions: self.sessions.with_namespace(namespace),
            cached: self.cached.with_namespace(namespace),
            idempotent: self.idempotent.with_namespace(namespace),
            transactional: self.transactional.with_namespace(namespace),
        }
    }

    fn on(self, script: ScriptedServer) -> (impl McpHandler, cached::Handle) {
        let handle = self.cached.handle();
        let sessions = self.sessions.only(["note", "notes"]);
        ((sessions, self.cached, self.idempotent, self.transactional).layer(script), handle)
    }
}

fn level(cache: &cached::Handle) -> SecondLevelStats {
    cache.stats().second_level.expect("there is a second level")
}

/// Lets background work run until `is_done`.
async fn until(what: &str, is_done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not in time: {what}");
}

/// The data that the same user finds in one environment after storing it in another.
async fn shared(production: Layers, staging: Layers) -> Shared {
    let (script, who) = (office(), ada());
    let (production, cache) = production.on(script.clone());
    let (staging, _) = staging.on(script.clone());
    until("invalidations are heard", || level(&cache).is_subscribed).await;
    let looked = call(&production, "look", json!({}), &who).await;
    until("the answer is in the second level", || level(&cache).puts == 1).await;
    call(&production, "note", json!({ "text": "secret" }), &who).await;
    let key = || json!({ "idempotency_key": "1" });
    let (sent, paid) = (call(&production, "send", key(), &who).await, call(&production, "pay", key(), &who).await);
    Shared {
        answer: call(&staging, "look", json!({}), &who).await == looked,
        batch: false,
        session: call(&staging, "notes", json!({}), &who).await == "secret",
        key: call(&staging, "send", key(), &who).await == sent,
        payment: call(&staging, "pay", key(), &who).await == paid,
    }
}

const EVERYTHING: Shared = Shared { answer: true, batch: false, session: true, key: true, payment: true };
const NOTHING: Shared = Shared { answer: false, batch: false, session: false, key: false, payment: false };

#[tokio::test]
async fn environments_with_different_namespaces_share_nothing_on_the_same_backends() {
    let on = Backends::new().await;
    let (production, staging) = (on.layers().in_namespace("production"), on.layers().in_namespace("staging"));
    assert_eq!(shared(production, staging).await, NOTHING);
    let on = Backends::new().await;
    assert_eq!(shared(on.layers(), on.layers().in_namespace("staging")).await, NOTHING);
}

#[tokio::test]
async fn replicas_with_the_same_namespace_or_none_share_everything() {
    let on = Backends::new().await;
    assert_eq!(shared(on.layers(), on.layers()).await, EVERYTHING);
    let on = Backends::new().await;
    let replica = || on.layers().in_namespace("production");
    assert_eq!(shared(replica(), replica()).await, EVERYTHING);
}

#[tokio::test]
async fn a_namespace_or_a_claim_without_a_name_is_refused_by_every_layer() {
    let on = Backends::new().await;
    let refused = |layered: Result<(), ConfigError>, layer: &str, setting: &str| {
        let mistake = layered.expect_err("a mistake").to_string();
        assert!(mistake.starts_with(&format!("{layer}::{setting}: ")), "{mistake}");
        assert!(mistake.contains("empty") && mistake.contains("remove this setting"), "{mistake}");
    };
    macro_rules! refused {
        ($($layer:literal: $new:expr),*) => {$(
            refused($new.with_namespace("").try_layer(office()).map(|_| ()), $layer, "with_namespace");
            let identity = Identity::new().with_tenant_claim("");
            refused($new.with_identity(identity).try_layer(office()).map(|_| ()), $layer, "with_identity");
        )*};
    }
    refused! {
        "SessionStore": on.layers().sessions,
        "CachedTool": on.layers().cached,
        "IdempotentTool": on.layers().idempotent,
        "TransactionalTool": on.layers().transactional
    }
    let batched = BatchedTool::new().only(["join"]).with_identity(Identity::new().with_tenant_claim(""));
    refused(batched.try_layer(office()).map(|_| ()), "BatchedTool", "with_identity");
}
