//! A peer that hands everything to a session, and thereby to the layers: [`ForwardingPeer`].
//!
//! A server of rmcp asks its client, and sends it progress, through a `Peer`. Layers see what passes through the session of a call: so that
//! the answer to a question is given to no other caller, a call that has asked is not made again, and progress rises through retries. So the
//! server gets a peer whose transport is that session.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{Either, select};
use rmcp::model::{
    ClientJsonRpcMessage, InitializeRequestParams, JsonRpcMessage, ProgressNotificationParam, RequestId,
    ServerJsonRpcMessage, ServerNotification,
};
use rmcp::service::{Peer, RunningService, serve_directly};
use rmcp::transport::Transport;
use rmcp::{RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::subscriber::{NoSubscriber, with_default};
use turbomcp_core::{McpError, McpResult, McpSession};

use super::convert::error_to_rmcp;

/// The service of the peer. It gets no requests.
struct Nobody;

impl ServerHandler for Nobody {}

/// A peer, and the session that it forwards to.
pub(super) struct ForwardingPeer {
    target: Arc<Target>,
    service: RunningService<RoleServer, Nobody>,
}

struct Target(Mutex<(Arc<dyn McpSession>, Option<Value>)>);

impl Target {
    fn lock(&self) -> MutexGuard<'_, (Arc<dyn McpSession>, Option<Value>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> Arc<dyn McpSession> {
        Arc::clone(&self.lock().0)
    }

    /// Says whether this is progress of the call that is forwarded, and not of one that has ended.
    fn is_current(&self, progress: &ProgressNotificationParam) -> bool {
        let token = serde_json::to_value(&progress.progress_token).ok();
        token.is_some() && self.lock().1 == token
    }
}

impl ForwardingPeer {
    /// Creates a peer for a call with this progress token, and a client with this handshake. It spawns a task, which ends when the peer is
    /// dropped.
    pub(super) fn new(
        session: Arc<dyn McpSession>,
        token: Option<Value>,
        info: Option<InitializeRequestParams>,
    ) -> Self {
        let target = Arc::new(Target(Mutex::new((session, token))));
        let (answers, answered) = mpsc::unbounded_channel();
        let forward = Forward { target: Arc::clone(&target), answers, answered, open: Arc::default() };
        // It may live longer than the call, so it is no part of the call's span. And it is no service that starts.
        let service = with_default(NoSubscriber::new(), || serve_directly(Nobody, forward, info));
        Self { target, service }
    }

    pub(super) fn peer(&self) -> &Peer<RoleServer> {
        self.service.peer()
    }

    /// Forwards to this session from now on, with the progress of this token.
    pub(super) fn forward_to(&self, session: Arc<dyn McpSession>, token: Option<Value>) {
        *self.target.lock() = (session, token);
    }
}

impl fmt::Debug for ForwardingPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardingPeer").finish_non_exhaustive()
    }
}

/// The transport of the peer.
struct Forward {
    target: Arc<Target>,
    answers: mpsc::UnboundedSender<ClientJsonRpcMessage>,
    answered: mpsc::UnboundedReceiver<ClientJsonRpcMessage>,
    /// The requests without an answer, to cancel them.
    open: Arc<Mutex<HashMap<RequestId, oneshot::Sender<()>>>>,
}

impl Forward {
    fn open(&self) -> MutexGuard<'_, HashMap<RequestId, oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits a message into its method and its parameters.
fn parts(message: &impl Serialize) -> McpResult<(String, Value)> {
    let mut message = serde_json::to_value(message)?;
    match message.get("method").and_then(Value::as_str).map(str::to_owned) {
        Some(method) => Ok((method, message.get_mut("params").map(Value::take).unwrap_or_default())),
        None => Err(McpError::internal("A message to the client has no method")),
    }
}

impl Transport<RoleServer> for Forward {
    type Error = Infallible;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let session = self.target.session();
        match message {
            JsonRpcMessage::Request(request) => {
                let (answers, open) = (self.answers.clone(), Arc::clone(&self.open));
                let (cancel, cancelled) = oneshot::channel();
                self.open().insert(request.id.clone(), cancel);
                Either::Left(Either::Left(async move {
                    let id = request.id;
                    let answer = async {
                        let (method, params) = parts(&request.request)?;
                        let answer = session.call(&method, params).await?;
                        Ok::<_, McpError>(serde_json::from_value(answer)?)
                    };
                    let answer = match select(pin!(answer), cancelled).await {
                        Either::Left((answer, _)) => Some(answer),
                        // The tool does not wait any more.
                        Either::Right(_) => None,
                    };
                    open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                    let answer = answer.map(|answer| match answer {
                        Ok(result) => ClientJsonRpcMessage::response(result, id),
                        Err(error) => ClientJsonRpcMessage::error(error_to_rmcp(error), Some(id)),
                    });
                    if let Some(answer) = answer {
                        // Without a receiver, the peer is gone.
                        let _ = answers.send(answer);
                    }
                    Ok(())
                }))
            }
            JsonRpcMessage::Notification(notification) => {
                let notification = notification.notification;
                if let ServerNotification::CancelledNotification(cancelled) = &notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // The session cancels its own request to the client.
                    drop(self.open().remove(id));
                    return Either::Right(ready(Ok(())));
                }
                if let ServerNotification::ProgressNotification(progress) = &notification
                    && !self.target.is_current(&progress.params)
                {
                    return Either::Right(ready(Ok(())));
                }
                Either::Left(Either::Right(async move {
                    if let Ok((method, params)) = parts(&notification) {
                        // A lost connection is no concern of the tool.
                        let _ = session.notify(&method, params).await;
                    }
                    Ok(())
                }))
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => Either::Right(ready(Ok(()))),
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.answered.recv().await
    }

    async fn close(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
