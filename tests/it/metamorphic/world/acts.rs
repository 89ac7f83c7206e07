//! What the tools read, write and ask.

use std::sync::atomic::Ordering;

use mcp_patterns::session::Session;
use turbomcp_core::{ErrorKind, McpResult};

use super::{Caller, Inner, Running, asks_a_person, depends_on_client};
use crate::metamorphic::log::Visits;
use crate::metamorphic::requests::{Op, Request, WAYS_TO_ASK};

impl Inner {
    /// Reads or writes, and says what.
    pub(super) async fn act(&self, running: &Running<'_>, request: Request, caller: &Caller<'_>) -> McpResult<String> {
        let topic = &self.versions[usize::from(request.topic) % self.versions.len()];
        match request.op {
            Op::Visit | Op::Seen => return self.visit(running, request.op).await,
            Op::Ask => {
                running.note(|execution| {
                    execution.has_asked = depends_on_client(&request, caller);
                    execution.has_questioned = asks_a_person(&request);
                });
                let way = WAYS_TO_ASK[usize::from(request.n) % WAYS_TO_ASK.len()];
                return caller.ask(way).await.map_err(|error| running.error(error.kind, &error.message));
            }
            Op::Book | Op::Balance => return self.book(running, request.op).await,
            Op::Update => {
                let version = topic.fetch_add(1, Ordering::SeqCst) + 1;
                let now = self.log.stamp();
                running.note(|execution| execution.effect = Some(now));
                caller.note_update(request.uri()).await;
                return Ok(format!("version {version}"));
            }
            Op::Varies if caller.is_viewer() => return Ok("nothing was done".into()),
            op if op.has_effect() => {
                let now = self.log.stamp();
                running.note(|execution| execution.effect = Some(now));
                return Ok("done".into());
            }
            _ => {}
        }
        let (version, now) = (topic.load(Ordering::SeqCst), self.log.stamp());
        running.note(|execution| execution.read = now);
        let who = caller.principal().map(|principal| (&principal.subject, &principal.roles));
        Ok(format!("version {version} of {} for {who:?}", request.topic))
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
