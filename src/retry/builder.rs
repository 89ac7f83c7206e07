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
    /// The tools whose questions may be repeated.
    pub(super) repeats_questions: Arc<BTreeSet<String>>,
    pub(super) retry_if: Option<Predicate>,
    pub(super) on_retry: Option<Hook>,
    pub(super) emits_meta: bool,
    pub(super) plan: Plan<Arc<ToolPlan>>,
}

type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;
type Hook = Arc<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

/// A call that is about to be made again.
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a> {
    /// The tool.
    pub tool: &'a str,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// The failure of this attempt.
    pub failure: Failure<'a>,
    /// The delay before the next attempt.
    pub delay: Duration,
}

impl RetryTool {
    /// Creates a layer that makes up to three attempts with full jitter, for read-only and idempotent tools. See the
    /// [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            policy: RetryPolicy::new(),
            selection: Selection::new(),
            repeats_questions: Arc::default(),
            retry_if: None,
            on_retry: None,
            emits_meta: true,
            plan: Plan::default(),
        }
    }

    selectors!();

    /// Acts on these tools too, although a second call may repeat their effect.
    ///
    /// A failure does not prove that nothing happened: a tool that timed out may have charged the card.
    pub fn allow_repeated_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selection.opt_in(tools);
        self
    }

    /// Retries these tools also after an attempt that has asked its client: the user sees the same question again.
    ///
    /// Without this setting, an attempt that has sent a question is the last one. See [the manual](super#tools-that-ask-their-client).
    pub fn allow_repeated_questions(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.repeats_questions).extend(tools.into_iter().map(Into::into));
        self
    }

    policy_setters!(|this| this.policy);

    /// Retries the failures for which `predicate` returns true, instead of the temporary ones. A failure that an inner layer gave up on
    /// is never retried.
    pub fn retry_if(mut self, predicate: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.retry_if = Some(Arc::new(predicate));
        self
    }

    /// Calls `hook` before each delay.
    pub fn on_retry(mut self, hook: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(hook));
        self
    }

    /// Adds nothing to the `_meta` of a success. A failure still has the number of attempts, for outer layers.
    pub fn without_meta(mut self) -> Self {
        self.emits_meta = false;
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
            .field("repeats_questions", &self.repeats_questions)
            .finish_non_exhaustive()
    }
}
