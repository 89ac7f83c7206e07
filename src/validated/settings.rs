//! What the layer is told to do.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde_json::Value;

use super::fields::Fields;
use super::formats::Formats;
use super::limits::Limits;
use super::rules::Rule;
use super::typed::Mistake;
use super::violation::Violation;
use crate::Identity;

pub(super) const LAYER: &str = "ValidatedTool";

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) limits_for: BTreeMap<String, Limits>,
    pub(super) checks: Vec<Check>,
    pub(super) names: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) messages: BTreeMap<String, Message>,
    pub(super) max_violations: NonZeroUsize,
    pub(super) formats: Formats,
    pub(super) leaves_out_bad_schemas: bool,
    pub(super) fills_defaults: bool,
    pub(super) hints: bool,
    pub(super) checks_output: bool,
    pub(super) allows_unlisted: bool,
    pub(super) identity: Identity,
}

pub(super) type Message = Arc<dyn Fn(&Violation) -> String + Send + Sync>;

/// What is asked beyond the schema, as it was set.
#[derive(Clone)]
pub(super) enum Check {
    Typed { tool: String, place: Place, fields: Fields, check: TypedCheck },
    Rule { tool: String, place: Place, fields: Fields, rule: Rule },
}

pub(super) type TypedCheck = fn(&Value) -> Result<(), Mistake>;

/// Where in the arguments a value is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the only parameter, where that is an object; else the arguments are the value.
    Obvious,
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
