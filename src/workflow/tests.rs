//! The guarantees of the workflows, by subject.

mod cancellation;
mod chain;
mod degrade;
mod fallback;
mod gather;
mod masked;
#[cfg(feature = "metrics")]
mod metrics;
mod saga;
mod settings;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use turbomcp_core::{ErrorKind, McpError, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::*;
use crate::retry::{Jitter, RetryPolicy};
use crate::testing::{Token, Traced};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn down() -> McpError {
    McpError::unavailable("connect to 10.0.0.7:5432: refused")
}

/// Answers `data` after `after`.
async fn slow<T>(after: Duration, data: T) -> McpResult<T> {
    sleep(after).await;
    Ok(data)
}

/// Fails after `after`.
async fn failing<T>(after: Duration, error: McpError) -> McpResult<T> {
    sleep(after).await;
    Err(error)
}

async fn hanging<T>() -> McpResult<T> {
    std::future::pending().await
}

/// Is not ready at first: a separate await point.
async fn pause() {
    let mut waited = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Polls a future that many times, then drops it. Returns its output if it ended before.
fn polled<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

/// The entry of an error's data.
fn data(error: &McpError, key: &str) -> Value {
    error.data().and_then(|data| data.get(key)).cloned().unwrap_or_default()
}

/// The events, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Logs that it is dropped before it is [done](Dropped::done).
    fn guard(&self, name: &str) -> Dropped {
        Dropped(self.clone(), format!("{name} dropped"))
    }

    /// An action that logs its beginning and its end.
    async fn act<T>(self, name: &'static str, value: T) -> McpResult<T> {
        self.push(name);
        pause().await;
        Ok(value)
    }

    /// A compensation that logs that it ran.
    fn undo(&self, name: &str) -> impl Future<Output = McpResult<()>> + Send + 'static + use<> {
        let (log, entry) = (self.clone(), format!("undo {name}"));
        async move {
            pause().await;
            log.push(entry);
            Ok(())
        }
    }
}

struct Dropped(Log, String);

impl Dropped {
    fn done(mut self) {
        self.1.clear();
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if !self.1.is_empty() {
            self.0.push(self.1.as_str());
        }
    }
}
