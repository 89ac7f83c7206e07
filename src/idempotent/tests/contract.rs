//! Every store keeps the contract.

use super::shared::{postgres, redis, sqlite};
use super::*;
use crate::testing::idempotency_store_contract;

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    idempotency_store_contract(|| ready(MemoryStore::new())).await;
}

#[tokio::test]
async fn a_store_behind_a_pointer_keeps_the_contract() {
    idempotency_store_contract(|| ready(Arc::new(MemoryStore::new()) as Arc<dyn Store>)).await;
}

#[tokio::test]
async fn the_store_in_redis_keeps_the_contract() {
    idempotency_store_contract(redis).await;
}

#[tokio::test]
async fn the_store_in_sqlite_keeps_the_contract() {
    let (store, _file) = sqlite().await;
    idempotency_store_contract(|| ready(store.clone())).await;
}

#[tokio::test]
async fn the_store_in_postgres_keeps_the_contract() {
    let postgres = postgres().await;
    idempotency_store_contract(|| ready(postgres.clone())).await;
}
