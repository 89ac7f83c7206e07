//! The settings of the layer.

use std::collections::{BTreeMap, BTreeSet};

use super::redaction::Redaction;
use super::spill::Spill;
use crate::Identity;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) bounds: Bounds,
    pub(super) hints: BTreeMap<String, String>,
    /// The tools that are not read-only, and whose answers may be cut nevertheless.
    pub(super) may_be_cut: BTreeSet<String>,
    pub(super) redaction: Option<Redaction>,
    /// The tools whose structured content is not redacted.
    pub(super) unredacted: BTreeSet<String>,
    pub(super) spill: Option<Spill>,
    pub(super) identity: Identity,
    pub(super) emits_meta: bool,
}

/// What an answer may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) items: Option<usize>,
}

impl Settings {
    /// The tools that a setting names, each with the setting.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let hints = self.hints.keys().map(|tool| ("with_hint", tool));
        let cut = self.may_be_cut.iter().map(|tool| ("allow_cut", tool));
        let unredacted = self.unredacted.iter().map(|tool| ("without_redaction_of_structure", tool));
        hints.chain(cut).chain(unredacted).map(|(setting, tool)| (setting, tool.as_str()))
    }
}
