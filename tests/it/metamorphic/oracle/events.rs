//! The audit around a stack: one event for each call, with the end that its caller got.

use std::collections::{BTreeMap, BTreeSet};

use mcp_patterns::audit::{End as Recorded, Event};
use serde_json::Value;
use turbomcp_core::ErrorKind;

use super::Judge;
use crate::metamorphic::callers::CONNECTIONS;
use crate::metamorphic::log::{Answer, End, Form, Made, Said};
use crate::metamorphic::plan::{Leaves, Sdk};

impl<'a> Judge<'a> {
    pub(super) fn events(&mut self) {
        let history = self.history;
        let ids: BTreeSet<_> = history.events.iter().map(|event| &event.id).collect();
        if ids.len() < history.events.len() {
            self.fault("each event has an id of its own", format!("{} of {}", ids.len(), history.events.len()));
        }
        let mut of_calls = BTreeMap::<_, Vec<_>>::new();
        for event in &history.events {
            of_calls.entry(event.request_id.as_deref().unwrap_or_default()).or_default().push(event);
        }
        for (number, made) in history.calls.iter().enumerate() {
            let events = of_calls.remove(format!("call {number}").as_str()).unwrap_or_default();
            // A future that is never polled is no call.
            let expected = made.call.request.op.is_tool() && made.call.leaves != Leaves::Polls(0);
            match events[..] {
                [] if !expected => {}
                [event] if expected => self.event(number, made, event),
                _ => self.fault("a call has one event", format!("call {number}: {made:?}, {events:?}")),
            }
        }
        if !of_calls.is_empty() {
            self.fault("an event is one of a call", format!("{of_calls:?}"));
        }
    }

    fn event(&mut self, number: usize, made: &'a Made, event: &'a Event) {
        let wrong = match &made.end {
            // The edge of rmcp may still have work to do when the layers have ended.
            End::Dropped if self.stack.sdk == Sdk::Rmcp => false,
            End::Dropped => !matches!(event.end, Recorded::Left | Recorded::Cancelled),
            End::Panicked => event.end != Recorded::Panicked,
            End::Unending => true,
            End::Answered(answer) => !self.is_recorded(number, answer, event),
        };
        let subject = CONNECTIONS[made.call.connection].principal.as_ref().map(|principal| &principal.subject);
        let recorded = event.principal.as_ref().and_then(|principal| principal.subject.as_ref());
        if wrong || subject != recorded || event.tool != made.call.request.op.name() {
            self.fault("an event has the end that the caller got", format!("call {number}: {made:?}, {event:?}"));
        }
        self.saw(match event.end {
            Recorded::Answered => "an event: answered",
            Recorded::Hit => "an event: hit",
            Recorded::Stale => "an event: stale",
            Recorded::Replayed => "an event: replayed",
            Recorded::Refused => "an event: refused",
            Recorded::Failed => "an event: failed",
            Recorded::Cancelled => "an event: cancelled",
            Recorded::TimedOut => "an event: timed out",
            Recorded::Left => "an event: left",
            Recorded::Panicked => "an event: panicked",
            _ => "an event: another end",
        });
    }

    fn is_recorded(&self, number: usize, answer: &Answer, event: &Event) -> bool {
        let attempts = answer.mark("mcp-patterns/attempts").and_then(Value::as_u64);
        let is_end = match &answer.said {
            Said::Text(_) => {
                let status = answer.mark("mcp-patterns/cache").and_then(|mark| mark["status"].as_str());
                let expected = match status {
                    Some("hit") => Recorded::Hit,
                    Some("stale") => Recorded::Stale,
                    _ if answer.word("mcp-patterns/idempotency") == Some("replayed") => Recorded::Replayed,
                    _ => Recorded::Answered,
                };
                event.end == expected
            }
            Said::Failure { kind, form, .. } => {
                let words = words(answer, *form);
                match event.end {
                    Recorded::TimedOut => words.contains(&"timed_out"),
                    Recorded::Cancelled => *kind == Some(ErrorKind::Cancelled),
                    // The server itself said nothing, and was not called for this caller, but for a tool that asked for a session.
                    Recorded::Refused => {
                        answer.said.execution().is_none()
                            && event.layer.is_some()
                            && (event.layer.as_deref() == Some("session")
                                || self.executions_of(number).next().is_none())
                    }
                    Recorded::Failed => *kind != Some(ErrorKind::Cancelled) && !words.contains(&"timed_out"),
                    _ => false,
                }
            }
        };
        is_end && event.kind == answer.said.kind() && event.attempts == attempts
    }
}

/// The reasons of layers in the data of an error.
fn words(answer: &Answer, form: Form) -> Vec<&str> {
    let data = match form {
        Form::Error => Some(&answer.meta),
        Form::Result => answer.meta.get("io.turbomcp/errorData").and_then(Value::as_object),
    };
    let marks = data.into_iter().flatten().filter(|(name, _)| name.starts_with("mcp-patterns/"));
    marks.filter_map(|(_, word)| word.as_str()).collect()
}
