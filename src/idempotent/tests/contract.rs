//! Every backend keeps the contract.

use super::shared::{postgres, redis, sqlite};
use super::*;
use crate::testing::idempotency_backend_contract;

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    idempotency_backend_contract(|| ready(MemoryBackend::new())).await;
}

#[tokio::test]
async fn a_store_behind_a_pointer_keeps_the_contract() {
    idempotency_backend_contract(|| ready(Arc::new(MemoryBackend::new()) as Arc<dyn Backend>)).await;
}

#[tokio::test]
async fn the_store_in_redis_keeps_the_contract() {
    idempotency_backend_contract(redis).await;
}

#[tokio::test]
async fn the_store_in_sqlite_keeps_the_contract() {
    let (backend, _file) = sqlite().await;
    idempotency_backend_contract(|| ready(backend.clone())).await;
}

#[tokio::test]
async fn the_store_in_postgres_keeps_the_contract() {
    let postgres = postgres().await;
    idempotency_backend_contract(|| ready(postgres.clone())).await;
}
