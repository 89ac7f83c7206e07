//! The orders that are wrong, by the roles of two layers that act on the same tool. `docs/ordering.md` has the same table.

use super::description::Role;

/// An order of two layers that is wrong for a tool that both act on.
pub(super) struct WrongOrder {
    pub(super) outside: Role,
    pub(super) inside: Role,
    pub(super) reason: &'static str,
}

/// Two layers of one role that act on the same tool.
pub(super) struct Repeated {
    pub(super) role: Role,
    pub(super) reason: &'static str,
}

const fn wrong(outside: Role, inside: Role, reason: &'static str) -> WrongOrder {
    WrongOrder { outside, inside, reason }
}

pub(super) const WRONG_ORDERS: [WrongOrder; 31] = [
    wrong(Role::Output, Role::Audit, "an answer is recorded as it was before its bounds"),
    wrong(Role::Validate, Role::Audit, "a call that is rejected is not recorded"),
    wrong(Role::Session, Role::Audit, "a call that is refused for lack of a session is not recorded"),
    wrong(Role::Cache, Role::Audit, "a hit is not recorded"),
    wrong(
        Role::Batch,
        Role::Audit,
        "one call is recorded for all that share it, and none that a bulk function answers",
    ),
    wrong(Role::Retry, Role::Audit, "each attempt is recorded, and not the call"),
    wrong(Role::Breaker, Role::Audit, "a call that an open breaker refuses is not recorded"),
    wrong(Role::Limit, Role::Audit, "a call above a limit is not recorded"),
    wrong(Role::Idempotency, Role::Audit, "a replay is not recorded"),
    wrong(Role::Transaction, Role::Audit, "a call is recorded before its transaction ends, which may fail"),
    wrong(
        Role::Cache,
        Role::Output,
        "a hit has a link that has expired, and that only the caller can read whose call filled the cache",
    ),
    wrong(Role::Batch, Role::Output, "a bulk function bypasses the bounds and the redaction"),
    wrong(Role::Idempotency, Role::Output, "a replay has a link that has expired"),
    wrong(
        Role::Transaction,
        Role::Output,
        "an answer is kept before its transaction commits, and a replay has a link that has expired",
    ),
    wrong(Role::Cache, Role::Validate, "a call with invalid arguments costs a load that fails"),
    wrong(Role::Batch, Role::Validate, "a call with invalid arguments joins a batch"),
    wrong(Role::Retry, Role::Validate, "the retries do not learn of a tool that the validation looks up"),
    wrong(Role::Cache, Role::Session, "a hit ends the call before its session is looked up"),
    wrong(
        Role::Batch,
        Role::Cache,
        "a call that the cache could answer joins a batch, and a bulk function bypasses the cache",
    ),
    wrong(
        Role::Retry,
        Role::Cache,
        "the failure of one load reaches all callers who wait for it, and each of them repeats it",
    ),
    wrong(Role::Breaker, Role::Cache, "an open breaker refuses calls that the cache could answer"),
    wrong(
        Role::Breaker,
        Role::Retry,
        "the breaker sees one failure for all attempts of a call, and an open one stops no attempt of a call that it has let through",
    ),
    wrong(Role::Transaction, Role::Cache, "a transaction shares no answers, so the cache answers no call"),
    wrong(Role::Transaction, Role::Session, "a call that is refused for lack of a session costs a transaction"),
    wrong(Role::Transaction, Role::Breaker, "a call that is refused by an open breaker costs a transaction"),
    wrong(
        Role::Transaction,
        Role::Limit,
        "a call that waits for its turn holds a transaction, and one that is refused costs a transaction",
    ),
    wrong(Role::Transaction, Role::Batch, "a call inside a transaction runs alone, so no call is batched"),
    wrong(
        Role::Retry,
        Role::Batch,
        "the failure of one shared call reaches all its callers, and each of them repeats it",
    ),
    wrong(Role::Idempotency, Role::Retry, "the retries do not see the key, so a failed call is not repeated under it"),
    wrong(Role::Transaction, Role::Retry, "the writes of a failed attempt stay in the transaction"),
    wrong(Role::Transaction, Role::Validate, "a call that is rejected costs a transaction"),
];

const fn repeated(role: Role, reason: &'static str) -> Repeated {
    Repeated { role, reason }
}

pub(super) const REPEATED: [Repeated; 7] = [
    repeated(Role::Audit, "each call has two events, with different ids"),
    repeated(Role::Output, "the outer one cuts the sentence and the link of the inner one"),
    repeated(Role::Session, "the tool finds only the session of the inner one"),
    repeated(Role::Cache, "an answer is kept twice, and stays stale in one of them until both are invalidated"),
    repeated(Role::Batch, "a call waits in two queues"),
    repeated(Role::Retry, "the outer one does not repeat a failure that the inner one has given up"),
    repeated(Role::Idempotency, "a call needs a key for each of them"),
];

/// Returns what is wrong if a layer with the role `outside` is outside of one with the role `inside`.
pub(super) fn wrong_order(outside: Role, inside: Role) -> Option<&'static WrongOrder> {
    WRONG_ORDERS.iter().find(|order| (order.outside, order.inside) == (outside, inside))
}

/// Returns what is wrong with two layers of this role.
pub(super) fn repeated_role(role: Role) -> Option<&'static Repeated> {
    REPEATED.iter().find(|repeated| repeated.role == role)
}
