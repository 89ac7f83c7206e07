//! A limit, and whose calls count together for it.

use super::concurrency::Concurrency;
use super::rate::Rate;

/// Whose calls count together for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Per {
    /// All calls of a tool, whoever makes them: this protects what is behind the tool.
    Tool,
    /// All calls of a principal, of any tool of the layer: nobody takes more than a share.
    Principal,
    /// The calls that a principal makes of one tool.
    PrincipalAndTool,
}

/// In the order in which places are taken: so no two calls wait for each other.
pub(super) const ALL: [Per; 3] = [Per::PrincipalAndTool, Per::Principal, Per::Tool];

/// The limits for one way to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) rate: Option<Rate>,
    pub(super) concurrency: Option<Concurrency>,
}

impl Limit {
    pub(super) const NONE: Self = Self { rate: None, concurrency: None };
}
