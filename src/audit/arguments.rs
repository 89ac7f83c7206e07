//! The arguments that an event has.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::text::{json_bytes, json_bytes_within};
use crate::arguments::LayerArguments;

/// Returns the part of a tool's arguments that may be recorded.
pub(super) type Redaction = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// What is recorded of the arguments of a tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Recorded {
    #[default]
    Nothing,
    /// The values at these JSON pointers.
    At(Arc<[String]>),
    /// What the function of the layer returns. It never receives the arguments of layers.
    Redacted(LayerArguments),
}

/// The arguments of a call, for its event.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub(super) value: Option<Value>,
    pub(super) is_omitted: bool,
    pub(super) bytes: u64,
}

impl Arguments {
    pub(super) fn unrecorded(args: &Value) -> Self {
        Self { value: None, is_omitted: false, bytes: json_bytes(args) }
    }

    /// Adds what may be recorded, if it has at most `max` bytes.
    pub(super) fn record(
        &mut self,
        tool: &str,
        args: &Value,
        recorded: &Recorded,
        redaction: Option<&Redaction>,
        max: u64,
    ) {
        self.value = match (recorded, redaction) {
            (Recorded::At(pointers), _) => {
                let found = pointers.iter().filter_map(|pointer| Some((pointer, args.pointer(pointer)?)));
                // Before anything is copied.
                let mut left = Some(max);
                for (_, value) in found.clone() {
                    left = left.and_then(|left| Some(left - json_bytes_within(value, left)?));
                }
                left.map(|_| found.map(|(pointer, value)| (pointer.clone(), value.clone())))
                    .map(|found| Value::Object(found.collect::<Map<_, _>>()))
            }
            (Recorded::Redacted(of_layers), Some(redact)) => {
                let redacted = redact(tool, &of_layers.without(args));
                json_bytes_within(&redacted, max).map(|_| redacted)
            }
            (Recorded::Nothing | Recorded::Redacted(_), _) => return,
        };
        self.is_omitted = self.value.is_none();
    }
}

/// Says what is wrong with a JSON pointer of a list of arguments.
pub(super) fn mistake(pointer: &str) -> Option<&'static str> {
    if pointer.is_empty() {
        Some("stands for all arguments: name each one that may be recorded, or use `with_redaction`")
    } else if !pointer.starts_with('/') {
        Some("is no JSON pointer: it begins with a slash, such as `/to`")
    } else {
        None
    }
}

/// The argument that a JSON pointer leads into.
pub(super) fn argument_of(pointer: &str) -> String {
    let name = pointer.strip_prefix('/').unwrap_or(pointer).split('/').next().unwrap_or_default();
    name.replace("~1", "/").replace("~0", "~")
}
