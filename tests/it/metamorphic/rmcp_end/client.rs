//! The clients at the other end of the connections.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, InitializeRequestParams, JsonRpcMessage, NumberOrString, ProgressToken, RequestId,
    ServerJsonRpcMessage,
};
use rmcp::service::{RequestContext, RunningService, serve_directly};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::At;
use crate::metamorphic::callers::{CONNECTIONS, answer, capabilities};
use crate::metamorphic::log::{Log, Notice};

/// Hangs up on a call.
type HangUp = Arc<dyn Fn() + Send + Sync>;

/// What serves a connection gets no requests: they are made without it.
struct Nobody;

impl ServerHandler for Nobody {}

/// The connections of all clients. Their ends at the server belong to no server in particular: all replicas have the same sessions.
pub(in crate::metamorphic) struct Connections {
    log: Arc<Log>,
    seed: u64,
    open: Vec<Connected>,
}

type Connected = RunningService<RoleServer, Nobody>;

impl Connections {
    pub(in crate::metamorphic) fn new(log: &Arc<Log>, seed: u64) -> Self {
        let open = (0..CONNECTIONS.len()).map(|at| connect(at, Arc::clone(log), None)).collect();
        Self { log: Arc::clone(log), seed, open }
    }

    /// The context of a request on this connection.
    pub(in crate::metamorphic) fn context(&self, at: usize, id: String) -> RequestContext<RoleServer> {
        let mut ctx = RequestContext::new(RequestId::String(id.into()), self.open[at].peer().clone());
        ctx.extensions.insert(At(at));
        if let Some(session) = CONNECTIONS[at].session_id {
            let request = http::Request::builder().header("mcp-session-id", format!("{}-{session}", self.seed));
            ctx.extensions.insert(request.body(()).expect("a request").into_parts().0);
        }
        ctx
    }

    /// Opens another connection of the same session, whose client hangs up as soon as it is asked.
    pub(in crate::metamorphic) fn hanging_up(
        &self,
        ctx: &mut RequestContext<RoleServer>,
        at: usize,
    ) -> impl Send + use<> {
        let token = ctx.ct.clone();
        let connected = connect(at, Arc::clone(&self.log), Some(Arc::new(move || token.cancel())));
        ctx.peer = connected.peer().clone();
        connected
    }
}

/// The token of the progress of a call.
pub(in crate::metamorphic) fn token(number: usize) -> ProgressToken {
    ProgressToken(NumberOrString::Number(number as i64))
}

fn connect(at: usize, log: Arc<Log>, hangs_up: Option<HangUp>) -> Connected {
    let (answers, answered) = mpsc::unbounded_channel();
    // Without a session there is no handshake.
    let handshake = CONNECTIONS[at].has_client.then(|| {
        let client = json!({"name": CONNECTIONS[at].name, "version": "1"});
        let handshake =
            json!({"protocolVersion": "2025-11-25", "capabilities": capabilities(at), "clientInfo": client});
        serde_json::from_value::<InitializeRequestParams>(handshake).expect("a handshake")
    });
    serve_directly(Nobody, Wire { at, log, hangs_up, answers, answered }, handshake)
}

/// The wire to a client.
struct Wire {
    at: usize,
    log: Arc<Log>,
    hangs_up: Option<HangUp>,
    answers: mpsc::UnboundedSender<ClientJsonRpcMessage>,
    answered: mpsc::UnboundedReceiver<ClientJsonRpcMessage>,
}

fn parts(message: &impl Serialize) -> (String, Value) {
    let mut message = serde_json::to_value(message).expect("a message");
    (message["method"].as_str().expect("a method").to_owned(), message["params"].take())
}

impl Transport<RoleServer> for Wire {
    type Error = Infallible;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        match message {
            JsonRpcMessage::Request(request) => {
                let (method, _) = parts(&request.request);
                let (at, hangs_up, answers) = (self.at, self.hangs_up.clone(), self.answers.clone());
                tokio::spawn(async move {
                    sleep(Duration::from_millis(2)).await;
                    let refused = |why: &'static str| {
                        ClientJsonRpcMessage::error(ErrorData::internal_error(why, None), Some(request.id.clone()))
                    };
                    let is_asked = CONNECTIONS[at].answers || method == "roots/list";
                    let answer = match &hangs_up {
                        Some(hang_up) => {
                            hang_up();
                            refused("the client has gone")
                        }
                        None if !CONNECTIONS[at].has_client || !is_asked => refused("the client does not answer"),
                        None => {
                            let answer = serde_json::from_value(answer(at, &method)).expect("an answer");
                            ClientJsonRpcMessage::response(answer, request.id.clone())
                        }
                    };
                    let _ = answers.send(answer);
                });
            }
            JsonRpcMessage::Notification(notification) if CONNECTIONS[self.at].has_client => {
                let (method, params) = parts(&notification.notification);
                self.log.hear(Notice { at: self.log.stamp(), connection: self.at, method, params });
            }
            _ => {}
        }
        ready(Ok(()))
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.answered.recv().await
    }

    async fn close(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
