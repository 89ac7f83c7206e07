//! Every store passes its contract suite.

use std::future::ready;

use super::*;
use crate::session::{MemoryBackend, RedisBackend, SqlBackend};
use crate::testing::{rmcp_event_store_contract, rmcp_session_manager_contract, rmcp_session_store_contract};

/// The lease of a replica.
const LEASE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn sessions_in_memory_pass_the_contract_suite() {
    rmcp_session_store_contract(|| ready(SessionStates::new(MemoryBackend::new()))).await;
}

#[tokio::test]
async fn sessions_in_redis_pass_the_contract_suite() {
    rmcp_session_store_contract(|| async {
        let connection = AnyRedisConnection::from_redis_1(databases::redis().await);
        SessionStates::new(RedisBackend::new(connection).with_prefix("mcp-patterns:test:rmcp:")).with_ttl(10 * MINUTE)
    })
    .await;
}

#[tokio::test]
async fn sessions_in_postgres_pass_the_contract_suite() {
    let pool = databases::postgres().await;
    SqlBackend::ensure_schema(&pool).await.unwrap();
    rmcp_session_store_contract(|| ready(SessionStates::new(SqlBackend::new(pool.clone())))).await;
}

#[tokio::test]
async fn sessions_in_sqlite_pass_the_contract_suite() {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    rmcp_session_store_contract(|| ready(SessionStates::new(SqlBackend::new(file.pool.clone())))).await;
}

#[tokio::test]
async fn events_in_redis_pass_the_contract_suite() {
    rmcp_event_store_contract(redis).await;
}

#[tokio::test]
async fn events_in_postgres_pass_the_contract_suite() {
    let store = postgres().await;
    rmcp_event_store_contract(|| ready(store.clone())).await;
}

#[tokio::test]
async fn events_in_sqlite_pass_the_contract_suite() {
    let (store, _file) = sqlite().await;
    rmcp_event_store_contract(|| ready(store.clone())).await;
}

#[tokio::test]
async fn calls_of_dead_replicas_on_redis_pass_the_contract_suite() {
    let store = redis().await.with_lease(LEASE);
    rmcp_session_manager_contract(LEASE, || ready(ReplicaSessionManager::new(store.clone()))).await;
}

#[tokio::test]
async fn calls_of_dead_replicas_on_postgres_pass_the_contract_suite() {
    let store = postgres().await.with_lease(LEASE);
    rmcp_session_manager_contract(LEASE, || ready(ReplicaSessionManager::new(store.clone()))).await;
}

#[tokio::test]
async fn calls_of_dead_replicas_on_sqlite_pass_the_contract_suite() {
    let (store, _file) = sqlite().await;
    let store = store.with_lease(LEASE);
    rmcp_session_manager_contract(LEASE, || ready(ReplicaSessionManager::new(store.clone()))).await;
}
