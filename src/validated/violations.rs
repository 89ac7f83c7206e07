use std::fmt;

use serde_json::{Value, json};
use turbomcp_core::McpError;

use super::VALIDATION;
use super::violation::Violation;

/// How many violations are listed, where nothing else is set.
pub(super) const MAX_LISTED: usize = 20;

/// Everything that is wrong with an input, sorted by place. At least one thing is.
#[derive(Debug, Clone, PartialEq)]
pub struct Violations {
    listed: Vec<Violation>,
    omitted: usize,
}

impl Violations {
    /// Returns the violations that are listed, by place.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.listed.iter()
    }

    /// Returns how many more there are.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Violation> {
        self.listed.iter_mut()
    }

    /// The list as machines read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "violations": self.listed.iter().map(Violation::to_json).collect::<Vec<_>>(),
            "omitted": self.omitted,
        })
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
        Self { listed: vec![violation], omitted: 0 }
    }
}

/// One sentence per line.
impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, violation) in self.listed.iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{violation}")?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(f, "\nAnd {omitted} more"),
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

/// Collects violations and keeps the first of them, by place: an input may have as many as values.
#[derive(Debug)]
pub(super) struct Found {
    kept: Vec<Violation>,
    max_listed: usize,
    count: usize,
}

impl Found {
    pub(super) fn new(max_listed: usize) -> Self {
        Self { kept: Vec::new(), max_listed, count: 0 }
    }

    pub(super) fn push(&mut self, violation: Violation) {
        self.count += 1;
        self.kept.push(violation);
        if self.kept.len() >= 8 * self.max_listed.max(8) {
            self.keep_first();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Says whether something is wrong at this very place.
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
        Err(Violations { omitted: self.count - self.kept.len(), listed: self.kept })
    }
}
