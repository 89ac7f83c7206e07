//! What the layers do not keep yet. Each `false` stops the oracle from asking for it: whoever mends it makes it `true`.

/// A tool that asks its client, or reads what the client can do, answers that client alone.
pub(super) const ASKING_IS_NOT_SHARED: bool = false;

/// Whoever waits for shared work hears of its progress.
pub(super) const SHARED_WORK_REPORTS_PROGRESS: bool = false;

/// A tool that was in no listing yet is checked, and its keys are honoured.
pub(super) const UNLISTED_TOOLS_ARE_KNOWN: bool = false;

/// Where callers see different definitions of a tool, each caller's own decides.
pub(super) const DEFINITIONS_ARE_PER_CALLER: bool = false;
