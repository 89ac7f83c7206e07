//! The client that a tool finds in the context of a call that several may wait for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use turbomcp_core::{McpError, McpResult, McpSession, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

use super::listener::Note;
use super::work::Work;
use crate::progress;

const LOG: &str = "notifications/message";

/// How long a notification to the starter alone may hold up the work.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// The starter's client. A question goes to it and makes the work the starter's own; progress and logs go to all who wait.
#[derive(Debug)]
pub(super) struct ClientOfWork {
    /// `None` where the starter has no client that can be asked.
    starter: Option<Arc<dyn McpSession>>,
    /// The progress token in the context of the call.
    token: Option<Value>,
    work: Arc<Work>,
}

impl ClientOfWork {
    pub(super) fn new(starter: Option<Arc<dyn McpSession>>, token: Option<Value>, work: Arc<Work>) -> Self {
        Self { starter, token, work }
    }

    /// Returns the client to ask. Noted before the question is sent, so that nobody else gets what comes of it.
    fn asked(&self, method: &str) -> McpResult<&dyn McpSession> {
        self.work.ask();
        if self.work.has_no_starter() {
            let reason =
                format!("No client can be asked for {method}: the caller does not wait for the answer any more");
            return Err(McpError::cancelled(reason));
        }
        self.starter(method)
    }

    fn starter(&self, method: &str) -> McpResult<&dyn McpSession> {
        self.starter.as_deref().ok_or_else(|| {
            McpError::capability_not_supported(format!("a client for {method}, since the caller has no session"))
        })
    }

    fn is_progress_of_work(&self, method: &str, params: &Value) -> bool {
        method == progress::METHOD && self.token.is_some() && params.get("progressToken") == self.token.as_ref()
    }
}

/// Answers at once.
fn ready<'a, T: Send + 'a>(answer: McpResult<T>) -> SessionFuture<'a, T> {
    Box::pin(async { answer })
}

impl McpSession for ClientOfWork {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        match self.asked("its capabilities") {
            Ok(client) => client.client_capabilities(),
            Err(refused) => ready(Err(refused)),
        }
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        match self.asked("its protocol version") {
            Ok(client) => client.protocol_version(),
            Err(refused) => ready(Err(refused)),
        }
    }

    fn call<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, Value> {
        match self.asked(method) {
            Ok(client) => client.call(method, params),
            Err(refused) => ready(Err(refused)),
        }
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        if self.is_progress_of_work(method, &params) {
            self.work.tell(&Note::Progress(params));
            return ready(Ok(()));
        }
        if method == LOG && !self.work.has_ended() {
            self.work.tell(&Note::Log(params));
            return ready(Ok(()));
        }
        let client = match self.starter(method) {
            Ok(client) => client,
            Err(refused) => return ready(Err(refused)),
        };
        Box::pin(async move {
            let sent = timeout(NOTIFY_TIMEOUT, client.notify(method, params)).await;
            sent.unwrap_or_else(|_| {
                Err(McpError::timeout(format!("{method} was not sent within {} s", NOTIFY_TIMEOUT.as_secs())))
            })
        })
    }
}
