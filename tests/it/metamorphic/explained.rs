//! What a random stack says of itself: nothing is wrong with it, but where its plan repeats a layer or moves a cache.

use std::collections::BTreeSet;

use mcp_patterns::explain;
use mcp_patterns::explain::Warning;
use turbomcp_core::McpHandler;

use super::plan::{Kind, Layered, Setting, Stack};
use super::requests::Op;

/// Panics if the stack has another warning than its plan asks for, or lacks one.
pub(super) fn check(stack: &Stack, server: &impl McpHandler) {
    let explanation = explain(server);
    // The drawn settings of two caches that share the tools name all of them.
    let is_order = |warning: &&Warning| !matches!(warning, Warning::Unused { .. });
    let mut found: Vec<_> = explanation.warnings().iter().filter(is_order).map(found).collect();
    let mut expected = expected(stack);
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{:?}\n{explanation}", stack.layers);
    let layers = stack.layers.iter().filter(|layer| stack.has_database() || layer.kind != Kind::Transactional);
    // The audit is around all of them.
    assert_eq!(explanation.layers().len(), 1 + layers.count(), "{:?}\n{explanation}", stack.layers);
}

/// Two layers, the outer one first, and the tools that are their mistake.
type Pair = (String, String, BTreeSet<String>);

fn found(warning: &Warning) -> Pair {
    match warning {
        Warning::WrongOrder { outside, inside, tools, .. } | Warning::Repeated { outside, inside, tools, .. } => {
            (outside.clone(), inside.clone(), tools.iter().cloned().collect())
        }
        other => panic!("not expected: {other}"),
    }
}

fn expected(stack: &Stack) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (at, outside) in stack.layers.iter().enumerate() {
        for inside in &stack.layers[at + 1..] {
            let names = match (outside.kind, inside.kind) {
                (Kind::Retry, Kind::Retry) => ["RetryTool", "RetryTool"],
                (Kind::Cached, Kind::Cached) => ["CachedTool", "CachedTool"],
                // A cache that was moved.
                (Kind::Batched, Kind::Cached) => ["BatchedTool", "CachedTool"],
                (Kind::Cached, Kind::Session) => ["CachedTool", "SessionStore"],
                _ => continue,
            };
            let both: BTreeSet<_> = Op::TOOLS
                .into_iter()
                .filter(|op| acts_on(stack, outside, *op) && acts_on(stack, inside, *op))
                .map(|op| op.name().to_owned())
                .collect();
            if !both.is_empty() {
                pairs.push((names[0].to_owned(), names[1].to_owned(), both));
            }
        }
    }
    pairs
}

/// Whether the layer acts on the tool, as the plain listing shows it at the start.
fn acts_on(stack: &Stack, layer: &Layered, op: Op) -> bool {
    // The plain listing is that of a viewer, for whom `Varies` changes nothing.
    let is_read_only = op.is_read_only() || op == Op::Varies;
    let has_keys = |kind: Kind| stack.layers.iter().any(|layer| layer.kind == kind);
    match layer.kind {
        Kind::Retry => {
            let is_keyed = match op {
                Op::Book => stack.has_database() && has_keys(Kind::Transactional),
                _ => op.takes_key() && has_keys(Kind::Idempotent),
            };
            is_listed(stack, op)
                && (is_read_only || op.is_idempotent() || is_keyed || layer.has(Setting::AllowRepeated(op)))
        }
        Kind::Cached => is_listed(stack, op) && is_read_only && layer.keeps(op),
        Kind::Batched => op == Op::Price || layer.has(Setting::Only(op)),
        Kind::Session => matches!(op, Op::Visit | Op::Seen),
        _ => false,
    }
}

fn is_listed(stack: &Stack, op: Op) -> bool {
    match op {
        Op::Late => false,
        Op::Book | Op::Balance => stack.has_database(),
        _ => true,
    }
}
