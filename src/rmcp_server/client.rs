//! The caller's own client, as layers see it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use rmcp::model::{ServerNotification, ServerRequest};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle};
use rmcp::{RoleServer, model};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use turbomcp_core::{McpError, McpResult, McpSession, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

use super::convert::{by_json, error_of_service};

/// The client of one call. Its questions are asked in the task of the call: rmcp sends them with the answer to the call's request.
pub(super) struct Client {
    peer: Peer<RoleServer>,
    /// `None` where there is no call: then the client is asked at once.
    questions: Option<mpsc::UnboundedSender<Question>>,
}

/// A request to the client.
pub(super) struct Question {
    request: ServerRequest,
    reply: oneshot::Sender<McpResult<Value>>,
}

impl Client {
    /// Creates the client of a call, and the questions to [answer](answering) while it runs.
    pub(super) fn of_call(peer: Peer<RoleServer>) -> (Self, mpsc::UnboundedReceiver<Question>) {
        let (questions, asked) = mpsc::unbounded_channel();
        (Self { peer, questions: Some(questions) }, asked)
    }

    /// Creates the client of a connection, outside of any call.
    pub(super) fn of_connection(peer: Peer<RoleServer>) -> Self {
        Self { peer, questions: None }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl McpSession for Client {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        let capabilities = self.peer.peer_info().and_then(|info| by_json(&info.capabilities));
        Box::pin(async { Ok(capabilities) })
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        let version = self.peer.peer_info().and_then(|info| by_json(&info.protocol_version));
        Box::pin(async { Ok(version) })
    }

    fn call<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, Value> {
        Box::pin(async move {
            let request = serde_json::from_value(message(method, params))?;
            let Some(questions) = &self.questions else {
                return ask(&self.peer, request, std::future::pending()).await;
            };
            let (reply, replied) = oneshot::channel();
            let gone = || McpError::cancelled(format!("The call has ended, so its client is not asked for {method}"));
            questions.send(Question { request, reply }).map_err(|_| gone())?;
            replied.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        Box::pin(async move {
            let notification: ServerNotification = serde_json::from_value(message(method, params))?;
            self.peer.send_notification(notification).await.map_err(error_of_service)
        })
    }
}

/// A message in the form in which rmcp reads it.
fn message(method: &str, params: Value) -> Value {
    let mut message = Map::from_iter([("method".to_owned(), Value::from(method))]);
    if !params.is_null() {
        message.insert("params".to_owned(), params);
    }
    Value::Object(message)
}

/// Runs a call, and asks its client what the call wants to know.
pub(super) async fn answering<F: Future>(
    call: F,
    peer: &Peer<RoleServer>,
    mut questions: mpsc::UnboundedReceiver<Question>,
) -> F::Output {
    let mut call = pin!(call);
    // Most calls ask nothing.
    let mut open: Option<FuturesUnordered<_>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(end) = call.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        while let Poll::Ready(Some(question)) = questions.poll_recv(cx) {
            open.get_or_insert_default().push(async move {
                let Question { request, mut reply } = question;
                let answer = ask(peer, request, reply.closed()).await;
                // Nobody waits for it if the asker has gone.
                let _ = reply.send(answer);
            });
        }
        while let Some(open) = &mut open
            && let Poll::Ready(Some(())) = open.poll_next_unpin(cx)
        {}
        Poll::Pending
    })
    .await
}

/// Asks the client, until it answers or `gone` ends. Then, and if it is dropped, the client is told that nobody waits.
async fn ask(peer: &Peer<RoleServer>, request: ServerRequest, gone: impl Future<Output = ()>) -> McpResult<Value> {
    let sent = peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
    let mut asked = CancelOnDrop(Some(sent.map_err(error_of_service)?));
    let Some(handle) = &mut asked.0 else { return Err(crate::outcome::aborted()) };
    let answer = match select(&mut handle.rx, pin!(gone)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => return Err(crate::outcome::cancelled()),
    };
    asked.0 = None;
    let answer: model::ClientResult =
        answer.unwrap_or(Err(rmcp::service::ServiceError::TransportClosed)).map_err(error_of_service)?;
    Ok(serde_json::to_value(answer)?)
}

/// A question whose answer nobody waits for is cancelled.
struct CancelOnDrop(Option<RequestHandle<RoleServer>>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                // A closed connection needs no cancellation.
                let _ = handle.cancel(Some("The call has ended".to_owned())).await;
            });
        }
    }
}
