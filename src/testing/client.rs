//! A client, as a tool finds it in its context.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpError, McpResult, McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

/// A connection of a client that answers every question with its name.
#[derive(Debug)]
pub(crate) struct Client {
    name: &'static str,
    /// No other client has it: turbomcp keeps minimum levels and counts of logs by session, and tests run in parallel.
    session_id: String,
    asked: Mutex<Vec<String>>,
    told: Mutex<Vec<(String, Value)>>,
    /// Questions wait for this gate.
    answers: Semaphore,
    is_shy: AtomicBool,
    is_stuck: AtomicBool,
}

impl Client {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        static CLIENTS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            name,
            session_id: format!("{name}-{}", CLIENTS.fetch_add(1, Ordering::Relaxed)),
            asked: Mutex::default(),
            told: Mutex::default(),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
            is_shy: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
        })
    }

    /// Gives no answer before [`answer`](Self::answer).
    pub(crate) fn thinking(name: &'static str) -> Arc<Self> {
        let client = Self::new(name);
        client.answers.forget_permits(Semaphore::MAX_PERMITS);
        client
    }

    pub(crate) fn answer(&self) {
        self.answers.add_permits(1);
    }

    /// Supports no questions.
    pub(crate) fn shy(name: &'static str) -> Arc<Self> {
        let client = Self::new(name);
        client.is_shy.store(true, Ordering::SeqCst);
        client
    }

    /// Has a connection that blocks on every notification.
    pub(crate) fn stuck(name: &'static str) -> Arc<Self> {
        let client = Self::new(name);
        client.is_stuck.store(true, Ordering::SeqCst);
        client
    }

    /// The context of a call over this connection, with the name as the progress token.
    pub(crate) fn ctx(self: &Arc<Self>, user: &str) -> RequestContext {
        self.quiet_ctx(user).with_progress_token(json!(self.name))
    }

    /// The context of a call without a progress token.
    pub(crate) fn quiet_ctx(self: &Arc<Self>, user: &str) -> RequestContext {
        let session: Arc<dyn McpSession> = Arc::clone(self) as _;
        let ctx = RequestContext::http().with_session_id(&self.session_id).with_session(session);
        ctx.with_principal(Principal::new(user))
    }

    /// Returns the questions that the client got.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    /// Returns the progress that the client received under its token: value, total and message.
    pub(crate) fn progress(&self) -> Vec<(f64, Option<f64>, Option<String>)> {
        let heard = |params: Value| {
            assert_eq!(params["progressToken"], json!(self.name), "a token of the client's own");
            let message = params["message"].as_str().map(str::to_owned);
            (params["progress"].as_f64().expect("a number"), params["total"].as_f64(), message)
        };
        self.told("notifications/progress").into_iter().map(heard).collect()
    }

    /// The numbers of [`progress`](Self::progress).
    pub(crate) fn steps(&self) -> Vec<f64> {
        self.progress().into_iter().map(|(step, ..)| step).collect()
    }

    /// The parameters of all notifications by one method.
    pub(crate) fn told(&self, method: &str) -> Vec<Value> {
        let told = self.told.lock().expect("no panic");
        told.iter().filter(|(by, _)| by == method).map(|(_, params)| params.clone()).collect()
    }
}

impl McpSession for Client {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        let capabilities = match self.is_shy.load(Ordering::SeqCst) {
            true => json!({}),
            false => json!({ "elicitation": { "form": {} }, "sampling": {}, "roots": {} }),
        };
        Box::pin(async { Ok(Some(serde_json::from_value(capabilities).expect("capabilities"))) })
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        Box::pin(async { Ok(Some(ProtocolVersion::LATEST.clone())) })
    }

    fn call<'a>(&'a self, method: &'a str, _: Value) -> SessionFuture<'a, Value> {
        self.asked.lock().expect("no panic").push(method.to_owned());
        Box::pin(async move {
            self.answers.acquire().await.map_err(|_| McpError::transport("gone"))?.forget();
            Ok(match method {
                "roots/list" => json!({ "roots": [{ "uri": format!("file:///home/{}", self.name) }] }),
                "sampling/createMessage" => json!({
                    "role": "assistant", "model": "m", "content": { "type": "text", "text": self.name }
                }),
                _ => json!({ "action": "accept", "content": { "name": self.name } }),
            })
        })
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        Box::pin(async move {
            if self.is_stuck.load(Ordering::SeqCst) {
                return pending().await;
            }
            self.told.lock().expect("no panic").push((method.to_owned(), params));
            Ok(())
        })
    }
}

/// Asks the client for a name in a form.
pub(crate) async fn ask_name(ctx: &RequestContext) -> McpResult<String> {
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    let answer = ctx.elicit_form("Your name?", schema).await?;
    let content: BTreeMap<String, String> = serde_json::from_value(answer.content.unwrap_or_default())?;
    content.get("name").cloned().ok_or_else(|| McpError::invalid_params("no name"))
}

/// Asks the client in the way of this name.
pub(crate) async fn ask_by(way: &str, ctx: &RequestContext) -> McpResult<String> {
    match way {
        "elicit" => ask_name(ctx).await,
        "sample" => {
            let request =
                json!({ "maxTokens": 9, "messages": [{ "role": "user", "content": { "type": "text", "text": "?" } }] });
            let answer = ctx.sample(serde_json::from_value(request)?).await?;
            Ok(serde_json::to_value(answer.content)?["text"].as_str().unwrap_or_default().to_owned())
        }
        "roots" => Ok(ctx.list_roots().await?[0].uri.to_string()),
        "capabilities" => Ok(format!("{:?}", session(ctx)?.client_capabilities().await?)),
        // turbomcp reads the capabilities before each of its own requests.
        "by itself" => Ok(session(ctx)?.call("x/question", json!({})).await?.to_string()),
        _ => Ok(format!("{:?}", session(ctx)?.protocol_version().await?)),
    }
}

fn session(ctx: &RequestContext) -> McpResult<&Arc<dyn McpSession>> {
    ctx.session().ok_or_else(|| McpError::internal("no session"))
}
