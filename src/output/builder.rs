//! The setters of the layer.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::handle::{Handle, Handled};
use super::plan::ToolPlan;
use super::redaction::Redaction;
use super::settings::{Bounds, Settings};
use super::spill::Spill;
use super::store::Store;
use crate::Identity;
use crate::selection::{Plan, Selection, selectors};

/// Bounds what tools answer. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct OutputTool {
    pub(super) settings: Arc<Settings>,
    pub(super) selection: Selection,
    pub(super) plan: Plan<Arc<ToolPlan>>,
    /// The answers that are kept whole, if they are kept at all.
    pub(super) store: Option<Store>,
    pub(super) handled: Arc<Handled>,
}

/// As many as 25,000 tokens of English have, which is where common clients cut an answer themselves.
const MAX_BYTES: usize = 100_000;

impl OutputTool {
    /// Creates a layer that bounds the answers of every tool to 100,000 bytes. See the [defaults](super#defaults).
    pub fn new() -> Self {
        let settings = Settings {
            bounds: Bounds { bytes: MAX_BYTES, items: None },
            hints: BTreeMap::new(),
            may_be_cut: BTreeSet::new(),
            redaction: None,
            unredacted: BTreeSet::new(),
            spill: None,
            identity: Identity::new(),
            emits_meta: true,
        };
        Self {
            settings: Arc::new(settings),
            selection: Selection::new(),
            plan: Plan::default(),
            store: None,
            handled: Arc::default(),
        }
    }

    selectors!();

    /// Sets how many bytes the content and the structured content of an answer may have, as they are sent. Default: 100,000.
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.settings_mut().bounds.bytes = bytes;
        self
    }

    /// Sets how many content blocks an answer may have. The sentence about what is left out, and the link, count too. Default: any
    /// number.
    pub fn with_max_items(mut self, items: usize) -> Self {
        self.settings_mut().bounds.items = Some(items);
        self
    }

    /// Says how to ask this tool for less, for the sentence in an answer that was cut. It continues "To get less, …": for example "pass a
    /// smaller `limit`".
    pub fn with_hint(mut self, tool: impl Into<String>, hint: impl Into<String>) -> Self {
        self.settings_mut().hints.insert(tool.into(), hint.into());
        self
    }

    /// Keeps the answers above the bounds whole, as resources that only their callers can read.
    pub fn with_spill(mut self, spill: Spill) -> Self {
        self.settings_mut().spill = Some(spill);
        self
    }

    /// Cuts the answers of these tools too, although they are not read-only: the rest of such an answer cannot be asked for again.
    pub fn allow_cut(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings_mut().may_be_cut.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Replaces each text of an answer by the one that the function returns for the tool and the text. A second call replaces the function.
    ///
    /// It runs before anything is cut or kept, and must not panic. See [the manual](super#redaction) for the texts that it gets.
    pub fn with_redaction(
        mut self,
        redaction: impl for<'a> Fn(&str, &'a str) -> Cow<'a, str> + Send + Sync + 'static,
    ) -> Self {
        self.settings_mut().redaction = Some(Redaction::new(redaction));
        self
    }

    /// Leaves the structured content of these tools as it is. Their texts are still redacted.
    ///
    /// It is for tools whose `outputSchema` constrains strings, and whose structured content has nothing to hide.
    pub fn without_redaction_of_structure(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings_mut().unredacted.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Sets how callers are distinguished. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Adds nothing to the `_meta` of answers.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().emits_meta = false;
        self
    }

    /// Returns a handle to the counters, which stays valid after the layer is put on a server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.handled))
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Default for OutputTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for OutputTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputTool")
            .field("bounds", &self.settings.bounds)
            .field("spill", &self.settings.spill)
            .field("redaction", &self.settings.redaction.is_some())
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}
