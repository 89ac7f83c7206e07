//! The caller of an execution, as the server of each SDK knows it.

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ResourceUpdatedNotificationParam, ServerRequest};
use rmcp::service::{Peer, RequestContext as RmcpContext, ServiceError};
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpResult, Principal, RequestContext};
use turbomcp_types::CreateMessageRequest;

use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::requests::is_viewer;
use crate::metamorphic::rmcp_end::At;
use crate::rmcp_answers::error_of;

/// The context of a request.
pub(in crate::metamorphic) enum Caller<'a> {
    Turbomcp(&'a RequestContext),
    Rmcp(&'a RmcpContext<RoleServer>),
}

impl Caller<'_> {
    /// The call that it comes from, if it comes from one.
    pub(super) fn origin(&self) -> Option<usize> {
        let number = |id: &str| id.strip_prefix("call ").and_then(|number| number.parse().ok());
        match self {
            Self::Turbomcp(ctx) => number(&ctx.request_id),
            Self::Rmcp(ctx) => number(&ctx.id.to_string()),
        }
    }

    pub(super) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Turbomcp(ctx) => ctx.principal(),
            Self::Rmcp(ctx) => CONNECTIONS[ctx.extensions.get::<At>()?.0].principal.as_ref(),
        }
    }

    /// As in [`Connection`](crate::metamorphic::callers::Connection).
    pub(super) fn session_id(&self) -> Option<String> {
        match self {
            Self::Turbomcp(ctx) => Some(ctx.session_id()?.rsplit_once('-')?.1.to_owned()),
            Self::Rmcp(ctx) => CONNECTIONS[ctx.extensions.get::<At>()?.0].session_id.map(str::to_owned),
        }
    }

    pub(in crate::metamorphic) fn is_viewer(&self) -> bool {
        is_viewer(self.principal())
    }

    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::Turbomcp(ctx) => ctx.is_cancelled(),
            Self::Rmcp(ctx) => ctx.ct.is_cancelled(),
        }
    }

    pub(super) async fn report(&self, progress: f64, total: f64) {
        match self {
            Self::Turbomcp(ctx) => drop(ctx.report_progress(progress, Some(total), None).await),
            Self::Rmcp(ctx) => {
                if let Some(token) = ctx.meta.get_progress_token() {
                    let progress = ProgressNotificationParam::new(token, progress).with_total(total);
                    let _ = ctx.peer.notify_progress(progress).await;
                }
            }
        }
    }

    pub(super) async fn note_update(&self, uri: String) {
        match self {
            Self::Turbomcp(ctx) => drop(ctx.notify_resource_updated(uri).await),
            Self::Rmcp(ctx) => {
                let _ = ctx.peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await;
            }
        }
    }

    /// Whether layers see that a tool asks what its client can do.
    pub(super) fn is_seen_to_read_capabilities(&self) -> bool {
        matches!(self, Self::Turbomcp(_))
    }

    /// Asks in this way.
    pub(super) async fn ask(&self, way: &'static str) -> McpResult<String> {
        match self {
            Self::Turbomcp(ctx) => ask(way, ctx).await,
            Self::Rmcp(ctx) => match way {
                "spawned" => {
                    let asked = tokio::spawn(ask_peer("elicit", ctx.peer.clone())).await;
                    asked.unwrap_or_else(|_| Err(McpError::internal("the task has panicked")))
                }
                way => ask_peer(way, ctx.peer.clone()).await,
            },
        }
    }
}

fn form() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}}})
}

fn message() -> Value {
    json!({"messages": [{"role": "user", "content": {"type": "text", "text": "Who are you?"}}], "maxTokens": 9})
}

async fn ask(way: &str, ctx: &RequestContext) -> McpResult<String> {
    Ok(match way {
        "elicit" => format!("{:?}", ctx.elicit_form("Who are you?", form()).await?.content),
        "spawned" => {
            let ctx = ctx.clone();
            let asked = tokio::spawn(async move { ctx.elicit_form("Who are you?", form()).await }).await;
            format!("{:?}", asked.map_err(|_| McpError::internal("the task has panicked"))??.content)
        }
        "sample" => {
            let request: CreateMessageRequest =
                serde_json::from_value(message()).map_err(|error| McpError::internal(error.to_string()))?;
            format!("{:?}", ctx.sample(request).await?.content)
        }
        "roots" => format!("{:?}", ctx.list_roots().await?),
        "capabilities" => match ctx.session() {
            Some(session) => format!("{:?}", session.client_capabilities().await?.map(|can| can.elicitation.is_some())),
            None => "no client".into(),
        },
        _ => "nobody was asked".into(),
    })
}

async fn ask_peer(way: &'static str, peer: Peer<RoleServer>) -> McpResult<String> {
    let request = match way {
        "elicit" => {
            json!({"method": "elicitation/create", "params": {"message": "Who are you?", "requestedSchema": form()}})
        }
        "sample" => json!({"method": "sampling/createMessage", "params": message()}),
        "roots" => json!({"method": "roots/list"}),
        "capabilities" => {
            let can = peer.peer_info().map(|info| info.capabilities.elicitation.is_some());
            return Ok(format!("{can:?}"));
        }
        _ => return Ok("nobody was asked".into()),
    };
    let request: ServerRequest = serde_json::from_value(request).expect("a request");
    match peer.send_request(request).await {
        Ok(answer) => Ok(format!("{answer:?}")),
        Err(ServiceError::McpError(error)) => Err(error_of(error)),
        Err(ServiceError::Cancelled { .. }) => Err(McpError::cancelled("the question was cancelled")),
        Err(error) => Err(McpError::transport(error.to_string())),
    }
}
