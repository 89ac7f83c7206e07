//! The handle of a session, as clients see it: the argument of each tool, and the tools that open and close a session.

use std::time::Duration;

use serde_json::{Map, Value, json};
use turbomcp_core::ToolAnnotations;
use turbomcp_types::Tool;

use super::SessionError;
use super::settings::Settings;
use crate::arguments::LayerArgument;

/// The tools that the layer adds where sessions have handles.
pub(super) const OPEN: &str = "open_session";
pub(super) const CLOSE: &str = "close_session";

/// Says whether a tool of this name is one of the layer's own.
pub(super) fn is_own(tool: &str) -> bool {
    tool == OPEN || tool == CLOSE
}

/// Returns the argument that the layer adds to the tools.
pub(super) fn argument(settings: &Settings) -> LayerArgument {
    let argument = LayerArgument::new(&settings.argument, handle_schema(settings.is_optional));
    if settings.is_optional { argument } else { argument.required() }
}

/// Takes the handle out of a call. A value that is no text is an unknown handle.
pub(super) fn take(settings: &Settings, args: &mut Value) -> Option<Result<String, SessionError>> {
    match args.as_object_mut()?.remove(&settings.argument)? {
        Value::Null => None,
        Value::String(handle) => Some(Ok(handle)),
        _ => Some(Err(SessionError::Unknown)),
    }
}

pub(super) fn open_tool(settings: &Settings) -> Tool {
    let mut kept = format!("{} after it was last used", human(settings.idle_timeout));
    if let Some(timeout) = settings.absolute_timeout {
        kept.push_str(&format!(", and for {} at most", human(timeout)));
    }
    let description = format!(
        "Opens a session, in which this server keeps data for later calls. Returns the session id: pass it to them as \
         `{}`. The session is kept for {kept}. Close it with `{CLOSE}` when it is not needed any more.",
        settings.argument
    );
    let mut tool = Tool::new(OPEN, description);
    tool.input_schema.properties = Some(Map::new().into());
    tool.annotations = Some(annotations(false, false));
    tool
}

pub(super) fn close_tool(settings: &Settings) -> Tool {
    let mut tool = Tool::new(CLOSE, "Closes a session and deletes its data.");
    // The argument is the tool's own: no layer takes it out.
    let schema = tool.input_schema.add_property(&settings.argument, handle_schema(false));
    tool.input_schema = schema.require_property(&settings.argument);
    tool.annotations = Some(annotations(true, true));
    tool
}

fn handle_schema(is_optional: bool) -> Value {
    let whether = if is_optional { "Optional: the" } else { "The" };
    let description = format!("{whether} session id that `{OPEN}` returned");
    json!({ "type": "string", "description": description })
}

/// Returns the annotations of the layer's own tools.
fn annotations(destructive: bool, idempotent: bool) -> ToolAnnotations {
    ToolAnnotations {
        read_only_hint: Some(false),
        destructive_hint: Some(destructive),
        idempotent_hint: Some(idempotent),
        open_world_hint: Some(false),
        ..Default::default()
    }
}

/// Writes a time in the largest unit that it is a multiple of.
fn human(time: Duration) -> String {
    let secs = time.as_secs();
    let (number, unit) = match secs {
        0 => (u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "millisecond"),
        _ if secs.is_multiple_of(86_400) => (secs / 86_400, "day"),
        _ if secs.is_multiple_of(3600) => (secs / 3600, "hour"),
        _ if secs.is_multiple_of(60) => (secs / 60, "minute"),
        _ => (secs, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}
