//! The recording of one call: it ends with one event, also if the call is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tokio::time::Instant;
use turbomcp_core::{McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::arguments::Arguments;
use super::builder::AuditTool;
use super::end::{End, Ending};
use super::event::{Event, new_id};
use super::plan::ToolPlan;
use super::queue::Room;
use super::text::{bounded, json_bytes};
use super::trace_id::trace_id;
use crate::canonical::sha256;
use crate::clock::time_of_day;

/// The recording of one call. If it is dropped before its end, the caller has left.
pub(super) struct Recording<'a> {
    layer: &'a AuditTool,
    tool: &'a str,
    ctx: &'a RequestContext,
    time: SystemTime,
    began: Instant,
    arguments: Arguments,
    is_over: bool,
}

impl<'a> Recording<'a> {
    pub(super) fn begin(layer: &'a AuditTool, tool: &'a str, args: &Value, ctx: &'a RequestContext) -> Self {
        let (time, began) = (time_of_day(), Instant::now());
        Self { layer, tool, ctx, time, began, arguments: Arguments::unrecorded(args), is_over: false }
    }

    /// Records what the settings allow of the arguments.
    pub(super) fn take_arguments(&mut self, plan: &ToolPlan, args: &Value) {
        let settings = &self.layer.settings;
        let (redaction, max) = (settings.redaction.as_ref(), settings.max_argument_bytes);
        self.arguments.record(self.tool, args, &plan.recorded, redaction, max as u64);
    }

    /// The layer does not act on the call.
    pub(super) fn discard(mut self) {
        self.is_over = true;
    }

    /// The call ends with this result. Waits for room in the buffers, if the settings say so.
    pub(super) async fn end(mut self, result: &McpResult<ToolResult>) {
        let outputs = &self.layer.settings.outputs;
        let rooms = if outputs.must_wait() { Box::pin(outputs.rooms()).await } else { Vec::new() };
        self.write(Ending::of(result), result.as_ref().ok().map(json_bytes), rooms);
    }

    /// The call panicked.
    pub(super) fn panicked(mut self) {
        self.write(Ending::without_result(End::Panicked), None, Vec::new());
    }

    fn write(&mut self, ending: Ending, answer_bytes: Option<u64>, rooms: Vec<Option<Room>>) {
        self.is_over = true;
        let (layer, ctx) = (self.layer, self.ctx);
        // A function of the user's may be asked, and this may be a drop during a panic.
        let principal = || layer.settings.principals.of(&layer.settings.identity, ctx);
        let principal = catch_unwind(AssertUnwindSafe(principal)).ok().flatten();
        let arguments = std::mem::take(&mut self.arguments);
        let event = Event {
            id: new_id(self.time),
            time: self.time,
            duration: self.began.elapsed(),
            tool: bounded(self.tool),
            end: ending.end,
            layer: ending.layer,
            reason: ending.reason,
            kind: ending.kind,
            attempts: ending.attempts,
            principal,
            session: ctx.session_id().map(|session| sha256(session.as_bytes())),
            request_id: Some(ctx.request_id()).filter(|id| !id.is_empty()).map(bounded),
            trace_id: trace_id(ctx),
            arguments: arguments.value,
            arguments_omitted: arguments.is_omitted,
            argument_bytes: arguments.bytes,
            answer_bytes,
        };
        layer.handled.events.add();
        layer.settings.outputs.record(&Arc::new(event), rooms, &layer.handled.panicked);
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let end = if self.ctx.is_cancelled() { End::Cancelled } else { End::Left };
            self.write(Ending::without_result(end), None, Vec::new());
        }
    }
}
