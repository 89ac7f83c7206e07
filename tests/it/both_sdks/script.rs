//! What the server of both columns does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::rmcp::RoleServer;
use ::rmcp::model::{ProgressNotificationParam, ResourceUpdatedNotificationParam, ServerRequest};
use ::rmcp::service::{Peer, RequestContext as RmcpContext};
use mcp_patterns::outcome::Unfinished;
use mcp_patterns::session::Session;
use mcp_patterns::transactional::{self, current};
use serde_json::{Value, json};
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::Semaphore;
use turbomcp_core::{ErrorKind, McpError, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{Tool, ToolInputSchema};

use crate::rmcp_answers::error_of;

/// How a call ends.
pub(super) enum Said {
    Text(String),
    /// A result that is an error.
    Failed(McpError),
    /// An error of the protocol.
    Refused(McpError),
    Unfinished(Unfinished),
}

/// The server, and what a row observes of it.
#[derive(Clone)]
pub(super) struct Script(Arc<State>);

struct State {
    calls: Mutex<BTreeMap<String, u32>>,
    /// The calls of `slow` that may end.
    open: Semaphore,
    /// The calls of `slow` that ended before.
    ended_early: Mutex<u32>,
    pool: Option<SqlitePool>,
    has_late: AtomicBool,
    subscribers: Mutex<Vec<Subscriber>>,
}

/// Whoever has subscribed to a resource.
#[derive(Clone)]
pub(super) enum Subscriber {
    Turbomcp(Box<RequestContext>),
    Rmcp(Peer<RoleServer>),
}

/// Whoever calls, as the server of each SDK knows it.
pub(super) enum Asker<'a> {
    Turbomcp(&'a RequestContext),
    Rmcp(&'a RmcpContext<RoleServer>),
}

impl Asker<'_> {
    async fn name(&self) -> McpResult<Value> {
        let form = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let content = match self {
            Self::Turbomcp(ctx) => serde_json::to_value(ctx.elicit_form("Who are you?", form).await?)?,
            Self::Rmcp(ctx) => {
                let params = json!({"message": "Who are you?", "requestedSchema": form});
                let request = json!({"method": "elicitation/create", "params": params});
                let request: ServerRequest = serde_json::from_value(request)?;
                let answer = ctx.peer.send_request(request).await.map_err(|error| match error {
                    ::rmcp::ServiceError::McpError(error) => error_of(error),
                    error => McpError::transport(error.to_string()),
                })?;
                serde_json::to_value(answer)?
            }
        };
        Ok(content["content"]["name"].clone())
    }

    async fn can_be_asked(&self) -> McpResult<bool> {
        Ok(match self {
            Self::Turbomcp(ctx) => match ctx.session() {
                Some(session) => session.client_capabilities().await?.is_some_and(|can| can.elicitation.is_some()),
                None => false,
            },
            Self::Rmcp(ctx) => ctx.peer.peer_info().is_some_and(|info| info.capabilities.elicitation.is_some()),
        })
    }

    async fn report(&self, progress: f64) {
        match self {
            Self::Turbomcp(ctx) => drop(ctx.report_progress(progress, Some(3.0), None).await),
            Self::Rmcp(ctx) => {
                if let Some(token) = ctx.meta.get_progress_token() {
                    let progress = ProgressNotificationParam::new(token, progress).with_total(3.0);
                    let _ = ctx.peer.notify_progress(progress).await;
                }
            }
        }
    }

    async fn note_update(&self, uri: &str) {
        match self {
            Self::Turbomcp(ctx) => drop(ctx.notify_resource_updated(uri.to_owned()).await),
            Self::Rmcp(ctx) => {
                let _ = ctx.peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await;
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        match self {
            Self::Turbomcp(ctx) => ctx.is_cancelled(),
            Self::Rmcp(ctx) => ctx.ct.is_cancelled(),
        }
    }
}

fn text(args: &Value, name: &str) -> String {
    args[name].as_str().unwrap_or_default().to_owned()
}

impl Script {
    pub(super) fn new() -> Self {
        Self::with(None)
    }

    /// With a database that `book` writes to.
    pub(super) fn with(pool: Option<SqlitePool>) -> Self {
        Self(Arc::new(State {
            calls: Mutex::default(),
            open: Semaphore::new(0),
            ended_early: Mutex::default(),
            pool,
            has_late: AtomicBool::new(false),
            subscribers: Mutex::default(),
        }))
    }

    /// Adds the tool `late`.
    pub(super) fn add_late(&self) {
        self.0.has_late.store(true, Ordering::SeqCst);
    }

    /// How often the tool, resource or prompt was called.
    pub(super) fn calls(&self, name: &str) -> u32 {
        self.0.calls.lock().expect("no panic").get(name).copied().unwrap_or_default()
    }

    /// Lets this many calls of `slow` end.
    pub(super) fn open(&self, calls: usize) {
        self.0.open.add_permits(calls);
    }

    pub(super) fn ended_early(&self) -> u32 {
        *self.0.ended_early.lock().expect("no panic")
    }

    pub(super) fn count(&self, name: &str) -> u32 {
        let mut calls = self.0.calls.lock().expect("no panic");
        let count = calls.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    pub(super) async fn call(&self, tool: &str, args: &Value, asker: &Asker<'_>) -> Said {
        let number = self.count(tool);
        match self.answer(tool, args, asker, number).await {
            Ok(said) => said,
            Err(error) => Said::Failed(error),
        }
    }

    async fn answer(&self, tool: &str, args: &Value, asker: &Asker<'_>, number: u32) -> McpResult<Said> {
        let how = text(args, "how");
        Ok(Said::Text(match tool {
            "read" | "write" => format!("{tool} {}: {number}", text(args, "topic")),
            "flaky" if number < 3 => return Err(McpError::unavailable("down")),
            "fail" => {
                let kind: ErrorKind = serde_json::from_value(args["kind"].clone())?;
                let error = McpError::new(kind, format!("{kind:?} at {number}"));
                return Ok(if how == "error" { Said::Refused(error) } else { Said::Failed(error) });
            }
            "broken" if how == "error" => return Ok(Said::Refused(McpError::invalid_request("never"))),
            "broken" => return Err(McpError::invalid_request("never")),
            "send" => return Err(McpError::unavailable("down")),
            "slow" => {
                self.wait(asker).await;
                format!("slow: {number}")
            }
            "steps" => {
                for step in 1..=3 {
                    asker.report(step.into()).await;
                }
                if number == 1 {
                    return Err(McpError::unavailable("down"));
                }
                format!("steps: {number}")
            }
            "ask" => {
                self.wait(asker).await;
                format!("{} at {number}", asker.name().await?)
            }
            "capable" => format!("{} at {number}", asker.can_be_asked().await?),
            "check" => args.to_string(),
            "visit" => {
                let visits = |visits: &mut u32| {
                    *visits += 1;
                    *visits
                };
                format!("visit {}", Session::current()?.update("visits", visits).await?)
            }
            "pay" if how == "lost" => return Err(McpError::timeout("no answer")),
            "pay" if how == "slow" => {
                self.wait(asker).await;
                format!("paid: {number}")
            }
            "pay" => format!("paid: {number}"),
            "book" => {
                let mut db = current::<Sqlite>().await?;
                let insert = sqlx::query("insert into bookings values ($1)").bind(number);
                insert.execute(&mut *db).await.map_err(transactional::failed)?;
                match how.as_str() {
                    "fail" => return Err(McpError::internal("it fails")),
                    "error" => return Ok(Said::Refused(McpError::internal("it fails"))),
                    _ => format!("booked: {number}"),
                }
            }
            "update" => {
                asker.note_update("note://a").await;
                format!("updated: {number}")
            }
            "input" => return Ok(Said::Unfinished(Unfinished::InputRequired)),
            "task" => return Ok(Said::Unfinished(Unfinished::Task)),
            _ => format!("{tool}: {number}"),
        }))
    }

    async fn wait(&self, asker: &Asker<'_>) {
        /// Also if the call is dropped.
        struct Early<'a>(&'a Script, bool);
        impl Drop for Early<'_> {
            fn drop(&mut self) {
                *self.0.0.ended_early.lock().expect("no panic") += u32::from(self.1);
            }
        }
        let mut early = Early(self, true);
        while !asker.is_cancelled() {
            if let Ok(permit) = self.0.open.try_acquire() {
                permit.forget();
                early.1 = false;
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn subscribe(&self, subscriber: Subscriber) {
        self.0.subscribers.lock().expect("no panic").push(subscriber);
    }

    /// Tells all subscribers that a resource has changed.
    pub(super) async fn notify_subscribers(&self, uri: &str) {
        let subscribers = self.0.subscribers.lock().expect("no panic").clone();
        assert!(!subscribers.is_empty(), "nobody has subscribed");
        for subscriber in subscribers {
            match subscriber {
                Subscriber::Turbomcp(ctx) => ctx.notify_resource_updated(uri.to_owned()).await.expect("a client"),
                Subscriber::Rmcp(peer) => {
                    let update = ResourceUpdatedNotificationParam::new(uri);
                    peer.notify_resource_updated(update).await.expect("a client");
                }
            }
        }
    }

    /// The rows in the database.
    pub(super) async fn bookings(&self) -> Vec<u32> {
        let pool = self.0.pool.as_ref().expect("a database");
        sqlx::query_scalar("select number from bookings order by number").fetch_all(pool).await.expect("rows")
    }

    /// The tools. An administrator may check larger numbers.
    pub(super) fn tools(&self, is_admin: bool) -> Vec<Tool> {
        let tool = |name: &str, is_read_only: bool, properties: Value, required: &[&str]| {
            let mut tool = Tool::new(name, "A tool of the script");
            tool.annotations = Some(ToolAnnotations {
                read_only_hint: is_read_only.then_some(true),
                idempotent_hint: matches!(name, "input" | "task").then_some(true),
                ..ToolAnnotations::default()
            });
            tool.input_schema = ToolInputSchema {
                properties: Some(properties),
                required: Some(required.iter().map(|name| (*name).to_owned()).collect()),
                ..ToolInputSchema::default()
            };
            tool
        };
        let topic = json!({"topic": {"type": "string"}});
        let how = json!({"how": {"type": "string"}});
        let failure = json!({"how": {"type": "string"}, "kind": {"type": "string"}});
        let most = if is_admin { 99 } else { 9 };
        let numbers = json!({
            "n": {"type": "integer", "minimum": 1, "maximum": most},
            "unit": {"type": "string", "default": "m"},
        });
        let read_only = ["flaky", "broken", "slow", "steps", "ask", "capable", "input", "task"];
        let writing = ["send", "visit", "pay", "update"];
        let mut tools = vec![
            tool("read", true, topic.clone(), &["topic"]),
            tool("write", false, topic, &["topic"]),
            tool("check", true, numbers, &["n"]),
            tool("fail", false, failure, &["kind"]),
        ];
        tools.extend(read_only.map(|name| tool(name, true, how.clone(), &[])));
        tools.extend(writing.map(|name| tool(name, false, how.clone(), &[])));
        if self.0.pool.is_some() {
            tools.push(tool("book", false, how.clone(), &[]));
        }
        if self.0.has_late.load(Ordering::SeqCst) {
            tools.push(tool("late", false, how, &[]));
        }
        tools
    }
}
