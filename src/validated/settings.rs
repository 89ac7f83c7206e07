//! The settings of the layer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::fields::Fields;
use super::formats::Formats;
use super::limits::Limits;
use super::rules::Rule;
use super::typed::TypedError;
use super::violation::Violation;
use crate::Identity;

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) limits_for: BTreeMap<String, Limits>,
    pub(super) checks: Vec<Check>,
    pub(super) names: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) messages: BTreeMap<String, Message>,
    pub(super) max_violations: usize,
    pub(super) formats: Formats,
    pub(super) allows_invalid_schemas: bool,
    pub(super) fills_defaults: bool,
    pub(super) hints: bool,
    pub(super) checks_output: bool,
    pub(super) allows_unlisted: bool,
    pub(super) identity: Identity,
}

pub(super) type Message = Arc<dyn Fn(&Violation) -> String + Send + Sync>;

/// A check beyond the schema, as it was set.
#[derive(Clone)]
pub(super) enum Check {
    Typed { tool: String, place: Place, fields: Fields, check: TypedCheck },
    Rule { tool: String, place: Place, fields: Fields, rule: Rule },
}

pub(super) type TypedCheck = fn(&Value) -> Result<(), TypedError>;

/// The part of the arguments that a check is about.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The only parameter, if it is an object; otherwise all arguments.
    Inferred,
    Parameter(String),
}

impl Check {
    pub(super) fn tool(&self) -> &str {
        match self {
            Self::Typed { tool, .. } | Self::Rule { tool, .. } => tool,
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed { tool, place, .. } => {
                f.debug_struct("Typed").field("tool", tool).field("place", place).finish()
            }
            Self::Rule { tool, place, .. } => f.debug_struct("Rule").field("tool", tool).field("place", place).finish(),
        }
    }
}
