use serde_json::{Value, json};
use turbomcp_core::{McpError, McpResult, RequestContext};
use turbomcp_types::Tool;

use super::IDEMPOTENCY;
use crate::outcome;

/// The longest key.
pub(super) const MAX_KEY_CHARS: usize = 255;

/// Where a call carries its key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// An argument of the tool, added to its schema.
    Argument(String),
    /// An entry of `ctx.metadata`.
    Metadata(String),
    /// An entry of `ctx.headers`. Upper and lower case do not matter.
    Header(String),
}

impl KeySource {
    /// Reads what an inner layer [advertised](Idempotency::advertise).
    pub(crate) fn of(tool: &Tool) -> Option<Self> {
        let source = tool.meta.as_ref()?.get(IDEMPOTENCY)?.as_object()?;
        let (kind, name) = source.iter().next()?;
        let name = name.as_str()?.to_owned();
        match kind.as_str() {
            "argument" => Some(Self::Argument(name)),
            "metadata" => Some(Self::Metadata(name)),
            "header" => Some(Self::Header(name)),
            _ => None,
        }
    }

    /// What [`of`](Self::of) reads.
    pub(super) fn advertised(&self) -> Value {
        match self {
            Self::Argument(name) => json!({ "argument": name }),
            Self::Metadata(name) => json!({ "metadata": name }),
            Self::Header(name) => json!({ "header": name }),
        }
    }

    /// Says whether a call carries a key.
    pub(crate) fn is_given(&self, args: &Value, ctx: &RequestContext) -> bool {
        match self {
            Self::Argument(name) => args.get(name).is_some_and(Value::is_string),
            Self::Metadata(name) => ctx.get_metadata(name).is_some_and(Value::is_string),
            Self::Header(name) => ctx.header(name).is_some(),
        }
    }

    pub(super) fn take(&self, args: &mut Value, ctx: &RequestContext) -> McpResult<Option<String>> {
        let found = match self {
            Self::Argument(name) => args.as_object_mut().and_then(|args| args.remove(name)),
            Self::Metadata(name) => ctx.get_metadata(name).cloned(),
            Self::Header(name) => ctx.header(name).map(Value::from),
        };
        match found {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(key)) if is_key(&key) => Ok(Some(key)),
            Some(_) => Err(key_invalid(format!(
                "An idempotency key has 1 to {MAX_KEY_CHARS} characters, each a letter, a digit or one of - _ . :"
            ))),
        }
    }

    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Argument(name) => format!("give the argument `{name}`"),
            Self::Metadata(name) => format!("its metadata has no `{name}`"),
            Self::Header(name) => format!("send the header `{name}`"),
        }
    }
}

pub(super) fn key_invalid(sentence: String) -> McpError {
    outcome::marked(IDEMPOTENCY, "key_invalid", McpError::invalid_params(sentence))
}

fn is_key(key: &str) -> bool {
    (1..=MAX_KEY_CHARS).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}
