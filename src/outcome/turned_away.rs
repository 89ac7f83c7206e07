//! Which failures are refusals of a layer further in: nothing behind that layer was asked.

use super::not_executed::is_marked;
use super::{BATCH, BREAKER, CATALOGUE, Failure, LIMIT, OUTPUT};

/// The marks of the layers that refuse calls before they begin.
const REFUSALS: [(&str, &str); 13] = [
    (LIMIT, "rate"),
    (LIMIT, "busy"),
    (LIMIT, "waited"),
    (LIMIT, "cancelled"),
    (BREAKER, "open"),
    (BREAKER, "half_open"),
    (BREAKER, "forced_open"),
    (BATCH, "overloaded"),
    (BATCH, "closed"),
    (CATALOGUE, "unavailable"),
    (OUTPUT, "not_redactable"),
    // Another call with the same key runs.
    ("mcp-patterns/idempotency", "in_progress"),
    ("mcp-patterns/idempotency", "overloaded"),
];

/// See [`Failure::is_turned_away`].
pub(super) fn by_a_layer(failure: &Failure<'_>) -> bool {
    is_marked(failure, &REFUSALS)
}
