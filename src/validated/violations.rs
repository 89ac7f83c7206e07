use std::fmt;

use serde_json::{Value, json};
use turbomcp_core::McpError;

use super::VALIDATION;
use super::violation::Violation;

/// The default number of violations that are listed.
pub(super) const MAX_LISTED: usize = 20;

/// The violations of an input, sorted by place. There is at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Violations {
    listed: Vec<Violation>,
    omitted: usize,
    is_complete: bool,
}

impl Violations {
    /// Returns the listed violations, sorted by place.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.listed.iter()
    }

    /// Returns the number of violations that were found and are not listed.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Returns whether all violations were found. The search ends after 1,000 violations, and at its limit of work.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Violation> {
        self.listed.iter_mut()
    }

    /// Returns the list for machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut list = json!({
            "violations": self.listed.iter().map(Violation::to_json).collect::<Vec<_>>(),
            "omitted": self.omitted,
        });
        if !self.is_complete {
            list["complete"] = false.into();
        }
        list
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { listed: vec![violation], omitted: 0, is_complete: true }
    }
}

/// One sentence per line.
impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, violation) in self.listed.iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{violation}")?;
        }
        match (self.omitted, self.is_complete) {
            (0, true) => Ok(()),
            (omitted, true) => write!(f, "\nAnd {omitted} more"),
            (0, false) => write!(f, "\nAnd perhaps more"),
            (omitted, false) => write!(f, "\nAnd at least {omitted} more"),
        }
    }
}

impl std::error::Error for Violations {}

/// `invalid_params`: a sentence for each violation, and the list in the error's data, under [`VALIDATION`].
impl From<Violations> for McpError {
    fn from(violations: Violations) -> Self {
        Self::invalid_params(violations.to_string()).with_data(json!({ VALIDATION: violations.to_json() }))
    }
}

/// Collects violations and keeps the first ones by place, since an input may have as many violations as values.
#[derive(Debug)]
pub(super) struct Collector {
    kept: Vec<Violation>,
    max_listed: usize,
    count: usize,
    is_complete: bool,
}

impl Collector {
    pub(super) fn new(max_listed: usize) -> Self {
        Self { kept: Vec::new(), max_listed, count: 0, is_complete: true }
    }

    pub(super) fn push(&mut self, violation: Violation) {
        self.count += 1;
        self.kept.push(violation);
        if self.kept.len() >= self.max_listed.saturating_mul(2).max(64) {
            self.keep_first();
        }
    }

    /// Counts violations without a message, because the list is full.
    pub(super) fn omit(&mut self, count: usize) {
        self.count += count;
    }

    /// Notes that there may be more violations.
    pub(super) fn leave_open(&mut self) {
        self.is_complete = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn max_listed(&self) -> usize {
        self.max_listed
    }

    /// Returns whether there is a violation at exactly this place.
    pub(super) fn has(&self, pointer: &str) -> bool {
        self.kept.iter().any(|violation| violation.pointer() == pointer)
    }

    fn keep_first(&mut self) {
        self.kept.sort_by(Violation::order);
        self.kept.truncate(self.max_listed);
    }

    pub(super) fn into_result(mut self) -> Result<(), Violations> {
        if self.is_empty() {
            return Ok(());
        }
        self.keep_first();
        let omitted = self.count - self.kept.len();
        Err(Violations { omitted, listed: self.kept, is_complete: self.is_complete })
    }
}
