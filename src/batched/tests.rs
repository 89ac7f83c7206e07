//! The guarantees of batches, by subject.

mod cancellation;
#[cfg(all(feature = "cached", feature = "session"))]
mod clients;
mod equal_calls;
mod failures;
mod full;
mod groups;
mod layer;
mod macro_server;
#[cfg(feature = "metrics")]
mod metrics;
mod model;
mod sending;
#[cfg(feature = "session")]
mod sessions;
mod settings;
mod shared_calls;
mod shares;
mod shutdown;
mod splitting;
mod threads;
#[cfg(feature = "transactional")]
mod transactions;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::{BatchError, Batcher};
use crate::outcome::{self, ErrorKind};
use crate::testing::{ScriptedServer, Token};

/// The batches that a bulk function received.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<Mutex<Vec<Vec<u64>>>>);

impl Sent {
    fn note(&self, batch: &[u64]) -> usize {
        let mut sent = self.0.lock().expect("no panic");
        sent.push(batch.to_vec());
        sent.len()
    }

    fn all(&self) -> Vec<Vec<u64>> {
        self.0.lock().expect("no panic").clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.all().iter().map(Vec::len).collect()
    }

    fn keys(&self) -> Vec<u64> {
        let mut keys = self.all().concat();
        keys.sort_unstable();
        keys
    }
}

/// Answers each number with ten times as much, after `work`.
fn tenfold_after<F>(
    sent: &Sent,
    work: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> impl Fn(Vec<u64>) -> futures_util::future::BoxFuture<'static, Vec<McpResult<u64>>> + Send + Sync + 'static
where
    F: Future<Output = ()> + Send + 'static,
{
    let sent = sent.clone();
    move |keys| {
        sent.note(&keys);
        let work = work();
        Box::pin(async move {
            work.await;
            keys.into_iter().map(|key| Ok(key * 10)).collect()
        })
    }
}

/// A batcher that answers each number with ten times as much, 10 ms later.
fn tenfold(sent: &Sent) -> Batcher<u64, u64> {
    Batcher::new(tenfold_after(sent, || tokio::time::sleep(Duration::from_millis(10))))
}

/// Like [`tenfold`], but each batch waits at the gate.
fn tenfold_gated(gate: &Gate, sent: &Sent) -> Batcher<u64, u64> {
    let gate = gate.clone();
    Batcher::new(tenfold_after(sent, move || {
        let gate = gate.clone();
        async move { gate.pass().await }
    }))
}

/// Makes a call in a task of its own.
fn load(batcher: &Batcher<u64, u64>, key: u64) -> JoinHandle<McpResult<u64>> {
    let batcher = batcher.clone();
    tokio::spawn(async move { batcher.load(&(), key).await })
}

/// Makes calls, all at the same time, and returns the answers.
async fn load_all(batcher: &Batcher<u64, u64>, keys: impl IntoIterator<Item = u64>) -> Vec<McpResult<u64>> {
    join_all(keys.into_iter().map(|key| batcher.load(&(), key))).await
}

/// Returns the numbers, and panics on a failure.
fn numbers(answers: Vec<McpResult<u64>>) -> Vec<u64> {
    answers.into_iter().map(|answer| answer.expect("a number")).collect()
}

fn kind<T: std::fmt::Debug>(result: McpResult<T>) -> ErrorKind {
    result.expect_err("a failure").kind
}

fn nobody() -> RequestContext {
    RequestContext::new()
}

fn user(subject: &str) -> RequestContext {
    nobody().with_user_id(subject)
}

fn text(result: &McpResult<ToolResult>) -> &str {
    let failure = outcome::failure(result);
    assert!(failure.is_none(), "{result:?}");
    result.as_ref().ok().and_then(ToolResult::first_text).expect("a text")
}

/// The kind and the text of a failure.
fn failed(result: &McpResult<ToolResult>) -> (Option<ErrorKind>, String) {
    let failure = outcome::failure(result).expect("a failure");
    (failure.kind(), failure.message().to_owned())
}

/// The size of the batch, from the result's `_meta`.
fn size(result: &McpResult<ToolResult>) -> Option<u64> {
    result.as_ref().ok()?.meta.as_ref()?.get(outcome::BATCH)?["size"].as_u64()
}

/// A gate at which batches wait until the test releases them, one by one.
#[derive(Debug, Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    async fn pass(&self) {
        self.0.acquire().await.expect("the gate stays").forget();
    }

    fn open_for(&self, batches: usize) {
        self.0.add_permits(batches);
    }
}

/// Lets all tasks run as far as they can. The clock is paused: it advances only when no task can run.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
