//! What the tools read, write and ask.

use std::sync::atomic::Ordering;

use mcp_patterns::session::Session;
use serde_json::json;
use turbomcp_core::{ErrorKind, McpError, McpResult, RequestContext};
use turbomcp_types::CreateMessageRequest;

use super::{Inner, Running, asks_a_person, depends_on_client};
use crate::metamorphic::log::Visits;
use crate::metamorphic::requests::{Op, Request, WAYS_TO_ASK, is_viewer};

impl Inner {
    /// Reads or writes, and says what.
    pub(super) async fn act(&self, running: &Running<'_>, request: Request, ctx: &RequestContext) -> McpResult<String> {
        let topic = &self.versions[usize::from(request.topic) % self.versions.len()];
        match request.op {
            Op::Visit | Op::Seen => return self.visit(running, request.op).await,
            Op::Ask => {
                running.note(|execution| {
                    execution.has_asked = depends_on_client(&request);
                    execution.has_questioned = asks_a_person(&request);
                });
                return ask(request, ctx).await.map_err(|error| running.error(error.kind, &error.message));
            }
            Op::Book | Op::Balance => return self.book(running, request.op).await,
            Op::Update => {
                let version = topic.fetch_add(1, Ordering::SeqCst) + 1;
                let now = self.log.stamp();
                running.note(|execution| execution.effect = Some(now));
                let _ = ctx.notify_resource_updated(request.uri()).await;
                return Ok(format!("version {version}"));
            }
            Op::Varies if is_viewer(ctx) => return Ok("nothing was done".into()),
            op if op.has_effect() => {
                let now = self.log.stamp();
                running.note(|execution| execution.effect = Some(now));
                return Ok("done".into());
            }
            _ => {}
        }
        let (version, now) = (topic.load(Ordering::SeqCst), self.log.stamp());
        running.note(|execution| execution.read = now);
        Ok(format!("version {version} of {} for {:?} {:?}", request.topic, ctx.subject(), ctx.roles()))
    }

    async fn visit(&self, running: &Running<'_>, op: Op) -> McpResult<String> {
        let session = Session::current()?;
        let visits = match op {
            Op::Visit => {
                session
                    .update("visits", |visits: &mut Visits| {
                        visits.by.push(running.id);
                        visits.clone()
                    })
                    .await?
            }
            _ => session.get("visits").await?.unwrap_or_default(),
        };
        let (now, text) = (self.log.stamp(), format!("{visits:?}"));
        running.note(|execution| {
            execution.read = now;
            execution.visits = Some(visits);
            execution.handle = session.handle().map(str::to_owned);
        });
        Ok(text)
    }

    async fn book(&self, running: &Running<'_>, op: Op) -> McpResult<String> {
        let Some(books) = &self.books else { return Err(running.error(ErrorKind::Internal, "there is no database")) };
        if op == Op::Book {
            books.write(running.id).await?;
            let now = self.log.stamp();
            running.note(|execution| execution.effect = Some(now));
            return Ok("booked".into());
        }
        let now = self.log.stamp();
        let rows = books.read().await?;
        let text = format!("{rows:?}");
        running.note(|execution| {
            execution.read = now;
            execution.rows = rows;
        });
        Ok(text)
    }
}

async fn ask(request: Request, ctx: &RequestContext) -> McpResult<String> {
    let form = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    Ok(match WAYS_TO_ASK[usize::from(request.n) % WAYS_TO_ASK.len()] {
        "elicit" => format!("{:?}", ctx.elicit_form("Who are you?", form).await?.content),
        "spawned" => {
            let ctx = ctx.clone();
            let asked = tokio::spawn(async move { ctx.elicit_form("Who are you?", form).await }).await;
            format!("{:?}", asked.map_err(|_| McpError::internal("the task has panicked"))??.content)
        }
        "sample" => {
            let request = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "Who are you?"}}], "maxTokens": 9});
            let request: CreateMessageRequest =
                serde_json::from_value(request).map_err(|error| McpError::internal(error.to_string()))?;
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
