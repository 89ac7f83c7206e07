mod backends;
mod cached;
mod changes;
mod clocks;
mod contract;
mod failing;
#[cfg(feature = "redis")]
mod failover;
mod handles;
mod layer;
mod life;
#[cfg(feature = "redis")]
mod redis_down;
#[cfg(all(feature = "redis", feature = "sqlite"))]
mod refusals;
mod settings;
mod shares;
#[cfg(feature = "redis")]
mod silence;
mod sweeps;
mod values;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use turbomcp_core::auth::Principal;
use turbomcp_core::{ErrorKind, McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::*;
#[cfg(feature = "redis")]
use crate::AnyRedisConnection;
use crate::testing::ScriptedServer;
use crate::{Layer, TryLayer, outcome};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn nobody() -> RequestContext {
    RequestContext::new()
}

fn connection(id: &str) -> RequestContext {
    nobody().with_session_id(id)
}

fn user(name: &str) -> RequestContext {
    nobody().with_principal(Principal::new(name))
}

fn memory() -> SessionStore {
    SessionStore::in_memory()
}

/// A session of a store, by its connection.
fn session(store: &SessionStore) -> Session {
    store.of(&connection("1")).expect("the connection has a session")
}

/// A server whose `visit` counts the visits of its session, and whose `plain` uses no session.
fn museum() -> ScriptedServer {
    ScriptedServer::new("museum")
        .with_plain("visit", |_| async {
            let session = Session::current()?;
            let visits = session.update("visits", |visits: &mut u32| {
                *visits += 1;
                *visits
            });
            Ok(ToolResult::text(visits.await?.to_string()))
        })
        .with_plain("plain", |call| async move { Ok(ToolResult::text(call.args.to_string())) })
}

async fn call(server: &impl McpHandler, tool: &str, args: Value, ctx: &RequestContext) -> McpResult<ToolResult> {
    tokio::time::timeout(10 * MINUTE, server.call_tool(tool, args, ctx)).await.expect("it answers")
}

async fn visit(server: &impl McpHandler, ctx: &RequestContext) -> String {
    text(&call(server, "visit", json!({}), ctx).await)
}

#[track_caller]
fn text(result: &McpResult<ToolResult>) -> String {
    assert!(outcome::failure(result).is_none(), "{result:?}");
    result.as_ref().ok().and_then(ToolResult::first_text).expect("a text").to_owned()
}

/// The kind of a failure, and the layer's mark in it.
#[track_caller]
fn refused(result: &McpResult<ToolResult>) -> (ErrorKind, String) {
    let failure = outcome::failure(result).unwrap_or_else(|| panic!("a failure, not {result:?}"));
    let told = failure.data().and_then(|data| data[SESSION].as_str()).unwrap_or_default();
    (failure.kind().expect("a kind"), told.to_owned())
}

/// Waits until all background tasks are idle.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A backend that counts its steps, and fails as configured.
#[derive(Clone)]
struct Spy {
    backend: MemoryBackend,
    steps: Arc<[AtomicUsize; 5]>,
    fault: Arc<Mutex<Fault>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Fault {
    #[default]
    None,
    /// The step is not taken.
    Down,
    /// The step is taken, and its reply is lost.
    Deaf,
    /// No reply comes.
    Hung,
    /// Each step takes a while, as over a network.
    Slow,
    /// The delay of each reply.
    Late(Duration),
}

impl Spy {
    fn new() -> Self {
        Self { backend: MemoryBackend::new(), steps: Arc::default(), fault: Arc::default() }
    }

    fn fails(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Returns how often sessions were created, loaded, swapped, touched and deleted since the last call.
    fn steps(&self) -> [usize; 5] {
        std::array::from_fn(|step| self.steps[step].swap(0, Ordering::SeqCst))
    }

    async fn step<T>(
        &self,
        step: usize,
        taken: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        self.steps[step].fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::None => taken.await,
            Fault::Down => Err(BackendError::new("secret://password@host is down")),
            Fault::Deaf => taken.await.and(Err(BackendError::new("secret://password@host went away"))),
            Fault::Hung => std::future::pending().await,
            Fault::Slow => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=3))).await;
                taken.await
            }
            Fault::Late(after) => {
                let answer = taken.await;
                tokio::time::sleep(after).await;
                answer
            }
        }
    }
}

#[async_trait]
impl Backend for Spy {
    async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError> {
        self.step(0, self.backend.create(id, write)).await
    }

    async fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
        self.step(1, self.backend.load(id)).await
    }

    async fn compare_and_swap(&self, id: &str, expected: u64, write: Write<'_>) -> Result<Written, BackendError> {
        self.step(2, self.backend.compare_and_swap(id, expected, write)).await
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError> {
        self.step(3, self.backend.touch(id, ttl)).await
    }

    async fn delete(&self, id: &str, expected: Option<u64>) -> Result<bool, BackendError> {
        self.step(4, self.backend.delete(id, expected)).await
    }
}
