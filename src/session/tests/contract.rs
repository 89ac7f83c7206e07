//! Every backend passes the contract suite.

use std::future::ready;

#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
use super::backends::{postgres, redis, sqlite};
use super::*;
use crate::testing::session_backend_contract;

#[tokio::test]
async fn the_backend_in_memory_passes_the_contract_suite() {
    session_backend_contract(|| ready(MemoryBackend::new())).await;
}

#[tokio::test]
async fn a_backend_behind_a_pointer_passes_the_contract_suite() {
    session_backend_contract(|| ready(Arc::new(Spy::new()) as Arc<dyn Backend>)).await;
}

#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod shared {
    use super::*;

    #[tokio::test]
    async fn the_backend_in_redis_passes_the_contract_suite() {
        session_backend_contract(redis).await;
    }

    #[tokio::test]
    async fn the_backend_in_sqlite_passes_the_contract_suite() {
        let (backend, _file) = sqlite().await;
        session_backend_contract(|| ready(backend.clone())).await;
    }

    #[tokio::test]
    async fn the_backend_in_postgres_passes_the_contract_suite() {
        let postgres = postgres().await;
        session_backend_contract(|| ready(postgres.clone())).await;
    }
}
