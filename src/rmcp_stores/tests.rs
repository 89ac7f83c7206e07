//! What the stores guarantee, on every backend.

mod contract;
mod events;
mod owners;
mod sessions;

use std::time::Duration;

use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use serde_json::json;
use sqlx::{Postgres, Sqlite};

use super::*;
use crate::AnyRedisConnection;
use crate::testing::databases::{self, SqliteFile};

const MINUTE: Duration = Duration::from_secs(60);

/// A wait of a test that is longer has failed.
const LONGEST: Duration = Duration::from_secs(20);

/// Runs a check on every kind of store.
macro_rules! on_every_store {
    ($($name:ident => $check:ident;)*) => {
        mod redis_ { $(#[tokio::test] async fn $name() { super::$check(super::super::redis().await).await; })* }
        mod postgres_ { $(#[tokio::test] async fn $name() { super::$check(super::super::postgres().await).await; })* }
        mod sqlite_ {
            $(#[tokio::test] async fn $name() {
                let (store, _file) = super::super::sqlite().await;
                super::$check(store).await;
            })*
        }
    };
}
use on_every_store;

async fn redis() -> RedisEventStore {
    RedisEventStore::new(AnyRedisConnection::from_redis_1(databases::redis().await))
        .with_prefix("mcp-patterns:test:rmcp-events:")
        .with_ttl(10 * MINUTE)
}

async fn postgres() -> SqlEventStore<Postgres> {
    let pool = databases::postgres().await;
    SqlEventStore::ensure_schema(&pool).await.unwrap();
    SqlEventStore::new(pool)
}

async fn sqlite() -> (SqlEventStore<Sqlite>, SqliteFile) {
    let file = databases::sqlite().await;
    SqlEventStore::ensure_schema(&file.pool).await.unwrap();
    SqlEventStore::ensure_schema(&file.pool).await.expect("an existing table is unchanged");
    (SqlEventStore::new(file.pool.clone()), file)
}

/// A notification with a text.
fn notification(text: &str) -> ServerSseMessage {
    let message = json!({"jsonrpc": "2.0", "method": "notifications/custom", "params": {"text": text}});
    ServerSseMessage::from_message(serde_json::from_value(message).unwrap())
}

/// The answer to a request.
fn answer() -> ServerSseMessage {
    ServerSseMessage::from_message(serde_json::from_value(json!({"jsonrpc": "2.0", "id": 1, "result": {}})).unwrap())
}

fn text(event: &ServerSseMessage) -> String {
    let message = serde_json::to_value(event.message.as_deref().unwrap()).unwrap();
    message["params"]["text"].as_str().unwrap_or("the answer").to_owned()
}
