//! What the workflows promise, by subject.

mod chain;
mod degrade;
mod fallback;
mod gather;
mod left;
mod masked;
#[cfg(feature = "metrics")]
mod metrics;
mod saga;
mod settings;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use turbomcp_core::{Cancellable, ErrorKind, McpError, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::*;
use crate::retry::{Jitter, RetryPolicy};

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

/// Is not ready at first: an await point of its own.
async fn pause() {
    let mut waited = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Polls a future so many times, then drops it. Returns its output if it ended before.
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

/// What happened, in order.
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

/// What is traced on this thread while it lives.
struct Traced(
    Arc<Mutex<Vec<u8>>>,
    #[expect(dead_code, reason = "its drop ends the trace")] tracing::subscriber::DefaultGuard,
);

impl Traced {
    fn start() -> Self {
        #[derive(Clone)]
        struct Writer(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Writer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let text = Writer(Arc::default());
        let written = Arc::clone(&text.0);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || text.clone())
            .finish();
        Self(written, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A token to cancel a call with.
#[derive(Clone, Default)]
struct Token(Arc<AtomicBool>);

impl Token {
    fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn ctx(&self) -> RequestContext {
        RequestContext::new().with_cancellation_token(Arc::new(self.clone()))
    }

    async fn cancel_after(&self, after: Duration) {
        sleep(after).await;
        self.cancel();
    }
}

impl Cancellable for Token {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
