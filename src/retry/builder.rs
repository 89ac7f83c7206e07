//! The settings of the layer, and their setters.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::plan::ToolPlan;
use super::policy::{RetryPolicy, policy_setters};
use crate::outcome::Failure;
use crate::selection::{Plan, Selection, selectors};

/// Calls a tool again after a temporary failure. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct RetryTool {
    pub(super) policy: RetryPolicy,
    pub(super) selection: Selection,
    /// The tools whose questions may be asked again.
    pub(super) asking: Arc<BTreeSet<String>>,
    pub(super) temporary: Option<Predicate>,
    pub(super) on_retry: Option<Hook>,
    pub(super) tells: bool,
    pub(super) plan: Plan<Arc<ToolPlan>>,
}

type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;
type Hook = Arc<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

/// A call is about to be made again.
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a> {
    /// The tool.
    pub tool: &'a str,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// How it failed.
    pub failure: Failure<'a>,
    /// How long the next attempt waits.
    pub delay: Duration,
}

impl RetryTool {
    /// Up to three attempts with full jitter, for read-only and idempotent tools. See the [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            policy: RetryPolicy::new(),
            selection: Selection::new(),
            asking: Arc::default(),
            temporary: None,
            on_retry: None,
            tells: true,
            plan: Plan::default(),
        }
    }

    selectors!();

    /// Acts on these tools too, although calling them twice may have their effect twice.
    ///
    /// A failure does not prove that nothing happened: a tool that timed out may have charged the card.
    pub fn allow_repeated_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selection.opt_in(tools);
        self
    }

    /// Calls these tools again also after an attempt that has asked its client: the user sees the same question once more.
    ///
    /// Otherwise, an attempt that has sent a question is the last one. See [the manual](super#tools-that-ask-their-client).
    pub fn allow_repeated_questions(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.asking).extend(tools.into_iter().map(Into::into));
        self
    }

    policy_setters!(|this| this.policy);

    /// Replaces the judgement which failures are temporary. A failure that an inner layer gave up on never is.
    pub fn with_temporary(mut self, temporary: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.temporary = Some(Arc::new(temporary));
        self
    }

    /// Calls `hook` before each wait for another attempt.
    pub fn on_retry(mut self, hook: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(hook));
        self
    }

    /// Says nothing in the `_meta` of a success. A failure still says how often it was tried, to layers further out.
    pub fn without_meta(mut self) -> Self {
        self.tells = false;
        self
    }
}

impl Default for RetryTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RetryTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryTool")
            .field("policy", &self.policy)
            .field("selection", &self.selection)
            .field("asking", &self.asking)
            .finish_non_exhaustive()
    }
}
