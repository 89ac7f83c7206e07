//! Every backend passes the contract suite.

use super::shared::{postgres, redis, sqlite};
use super::*;
use crate::testing::idempotency_backend_contract;

#[tokio::test]
async fn the_store_in_memory_passes_the_contract_suite() {
    idempotency_backend_contract(|| ready(MemoryBackend::new())).await;
}

#[tokio::test]
async fn a_store_behind_a_pointer_passes_the_contract_suite() {
    idempotency_backend_contract(|| ready(Arc::new(MemoryBackend::new()) as Arc<dyn Backend>)).await;
}

#[tokio::test]
async fn the_store_in_redis_passes_the_contract_suite() {
    idempotency_backend_contract(redis).await;
}

#[tokio::test]
async fn the_store_in_sqlite_passes_the_contract_suite() {
    let (backend, _file) = sqlite().await;
    idempotency_backend_contract(|| ready(backend.clone())).await;
}

#[tokio::test]
async fn the_store_in_postgres_passes_the_contract_suite() {
    let postgres = postgres().await;
    idempotency_backend_contract(|| ready(postgres.clone())).await;
}
