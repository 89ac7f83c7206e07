//! The audit belongs outside of every other layer.

use mcp_patterns::explain::Warning;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::limited::{Per, Rate};
use mcp_patterns::{
    AuditTool, BatchedTool, BreakerTool, CachedTool, IdempotentTool, LimitedTool, OutputTool, RetryTool, SessionStore,
    TransactionalTool, ValidatedTool,
};

use super::{explained, pool};

fn audit() -> AuditTool {
    AuditTool::new().with_tracing()
}

#[tokio::test]
async fn an_audit_inside_of_any_other_layer_is_a_warning_and_outside_of_all_of_them_it_is_right() {
    let output = OutputTool::new();
    let (validated, sessions, cache) = (ValidatedTool::new(), SessionStore::in_memory(), CachedTool::new());
    let (batched, retry) = (BatchedTool::new().only(["read"]), RetryTool::new());
    let breaker = BreakerTool::new();
    let limits = LimitedTool::new().with_rate(Per::Tool, Rate::per_second(1));
    let keyed = IdempotentTool::new(MemoryBackend::new()).only(["send"]);
    let transaction = TransactionalTool::new(pool()).only(["send"]);
    macro_rules! inside {
        ($($layer:ident: $reason:literal,)*) => { [$((stringify!($layer), explained(&($layer.clone(), audit())), $reason)),*] };
    }
    let inside = inside! {
        output: "an answer is recorded as it was before its bounds",
        validated: "a call that is rejected is not recorded",
        sessions: "a call that is refused for lack of a session is not recorded",
        cache: "a hit is not recorded",
        batched: "one call is recorded for all that share it, and none that a bulk function answers",
        retry: "each attempt is recorded, and not the call",
        breaker: "a call that an open breaker refuses is not recorded",
        limits: "a call above a limit is not recorded",
        keyed: "a replay is not recorded",
        transaction: "a call is recorded before its transaction ends, which may fail",
    };
    for (layer, explanation, expected) in inside {
        let [Warning::WrongOrder { inside, reason, .. }] = explanation.warnings() else {
            panic!("{layer}: {explanation}");
        };
        assert_eq!((inside.as_str(), &**reason), ("AuditTool", expected), "{layer}");
    }
    let right =
        explained(&(audit(), output, validated, sessions, cache, batched, retry, breaker, limits, keyed, transaction));
    assert!(right.warnings().is_empty(), "{right}");
    let twice = explained(&(audit(), audit()));
    let [Warning::Repeated { reason, .. }] = twice.warnings() else { panic!("{twice}") };
    assert_eq!(&**reason, "each call has two events, with different ids");
}
