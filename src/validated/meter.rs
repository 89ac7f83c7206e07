//! Counts and limits how much the validator reads.

use std::cell::Cell;

use jsonschema::ValidationError;
use serde_json::Value;

/// The number of bytes that count as one step.
pub(super) const BYTES_PER_STEP: usize = 16;

/// The number of steps that an error counts for.
const STEPS_PER_ERROR: u64 = 32;

/// Stands for the value in an error that was made within the limit, which would otherwise copy the value.
static MADE: Value = Value::Bool(true);

/// Stands for every value beyond the limit, and for the value in an error that was made there.
pub(super) static NOTHING: Value = Value::Null;

/// A counter of reads with a limit.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u64>,
    max_steps: Cell<u64>,
    errors: Cell<usize>,
    max_errors: usize,
    /// The number of steps that the pointer of an error counts for.
    steps_per_pointer: u64,
}

impl Meter {
    pub(super) fn unbounded() -> Self {
        Self::new(u64::MAX, usize::MAX, 0)
    }

    /// Creates a meter that allows this many steps and errors. `longest_pointer` is the length of the longest pointer, in bytes.
    pub(super) fn new(max_steps: u64, max_errors: usize, longest_pointer: usize) -> Self {
        let steps_per_pointer = (longest_pointer / BYTES_PER_STEP) as u64;
        Self {
            steps: Cell::new(0),
            max_steps: Cell::new(max_steps),
            errors: Cell::new(0),
            max_errors,
            steps_per_pointer,
        }
    }

    /// Returns the number of steps: one for each value read, and one for each 16 bytes of text.
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Returns whether the limit is exceeded.
    pub(super) fn is_over(&self) -> bool {
        self.steps.get() > self.max_steps.get()
    }

    pub(super) fn spend(&self, steps: u64) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    pub(super) fn spend_text(&self, text: &str) {
        self.spend((text.len() / BYTES_PER_STEP) as u64);
    }

    /// Counts an error, and ends the reading after the last one that is allowed.
    pub(super) fn make_error(&self) -> &'static Value {
        if self.is_over() {
            return &NOTHING;
        }
        self.errors.set(self.errors.get() + 1);
        self.spend(STEPS_PER_ERROR + self.steps_per_pointer);
        if self.errors.get() > self.max_errors {
            self.max_steps.set(0);
            return &NOTHING;
        }
        &MADE
    }
}

/// Returns whether an error was made within the limit. Later ones are not true.
pub(super) fn is_true(error: &ValidationError<'_>) -> bool {
    !error.instance().is_null()
}
