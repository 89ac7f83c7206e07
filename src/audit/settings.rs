//! The settings of the layer.

use std::collections::BTreeMap;

use super::arguments::Redaction;
use super::outputs::Outputs;
use super::principal::Principals;
use crate::Identity;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) outputs: Outputs,
    pub(super) principals: Principals,
    /// The JSON pointers of each tool.
    pub(super) arguments: BTreeMap<String, Vec<String>>,
    pub(super) redaction: Option<Redaction>,
    pub(super) max_argument_bytes: usize,
    pub(super) identity: Identity,
}

/// The most bytes of recorded arguments by default.
const MAX_ARGUMENT_BYTES: usize = 4 << 10;

impl Settings {
    pub(super) fn new() -> Self {
        Self {
            outputs: Outputs::default(),
            principals: Principals::Named,
            arguments: BTreeMap::new(),
            redaction: None,
            max_argument_bytes: MAX_ARGUMENT_BYTES,
            identity: Identity::new(),
        }
    }
}
