//! How much the validator reads, and how much it may.

use std::cell::Cell;

use jsonschema::ValidationError;
use serde_json::Value;

/// How many bytes are read in the time of one step.
pub(super) const BYTES_PER_STEP: usize = 16;

/// The steps that it takes to make an error.
const STEPS_PER_ERROR: u64 = 32;

/// What an error that was made within the bounds says of its value, which it would otherwise copy.
static MADE: Value = Value::Bool(true);

/// What is read past the bounds, and what an error that was made of it says of its value.
pub(super) static NOTHING: Value = Value::Null;

/// How much was read, and how much may be.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u64>,
    max_steps: Cell<u64>,
    errors: Cell<usize>,
    max_errors: usize,
    /// What the place of an error takes to be written.
    steps_per_place: u64,
}

impl Meter {
    pub(super) fn unbounded() -> Self {
        Self::new(u64::MAX, usize::MAX, 0)
    }

    /// A meter that lets no more be read, and no more errors be made. `longest_place` is the number of bytes of the longest place.
    pub(super) fn new(max_steps: u64, max_errors: usize, longest_place: usize) -> Self {
        let steps_per_place = (longest_place / BYTES_PER_STEP) as u64;
        Self { steps: Cell::new(0), max_steps: Cell::new(max_steps), errors: Cell::new(0), max_errors, steps_per_place }
    }

    /// How much was read: a step is a value looked at, or 16 bytes of a text.
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Whether there was more to read than there may be.
    pub(super) fn is_over(&self) -> bool {
        self.steps.get() > self.max_steps.get()
    }

    pub(super) fn spend(&self, steps: u64) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    pub(super) fn spend_text(&self, text: &str) {
        self.spend((text.len() / BYTES_PER_STEP) as u64);
    }

    /// Counts an error, and ends the reading with the last that may be.
    pub(super) fn make_error(&self) -> &'static Value {
        if self.is_over() {
            return &NOTHING;
        }
        self.errors.set(self.errors.get() + 1);
        self.spend(STEPS_PER_ERROR + self.steps_per_place);
        if self.errors.get() > self.max_errors {
            self.max_steps.set(0);
            return &NOTHING;
        }
        &MADE
    }
}

/// Whether an error was made while its value was still read. Later ones say nothing true.
pub(super) fn is_true(error: &ValidationError<'_>) -> bool {
    !error.instance().is_null()
}
