//! Layers that are wrong, each in its own way: the judge finds them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mcp_patterns::{Middleware, outcome};
use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::drive::run;
use super::generate;
use super::oracle::judge;
use super::plan::{BackendKind, Kind, Layered};

/// What a layer does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// Answers everybody who asks for the same with the first answer.
    SharesAnswers,
    /// Makes each call that failed once more.
    RepeatsCalls,
    /// Says that it failed what did not.
    InventsFailures,
    /// Answers with what was answered last.
    AnswersOthers,
    /// Lets no key reach the layers that honour them.
    DropsKeys,
    /// Panics where the tool did not.
    Panics,
}

/// A layer that does it.
#[derive(Clone)]
pub(super) struct Does(pub(super) Wrong, Kept);

type Kept = Arc<Mutex<HashMap<String, McpResult<ToolResult>>>>;

impl Does {
    pub(super) fn new(wrong: Wrong) -> Self {
        Self(wrong, Kept::default())
    }
}

impl Middleware for Does {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        mut args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let Self(wrong, kept) = self;
        let key = match wrong {
            Wrong::SharesAnswers => format!("{name} {args}"),
            _ => name.to_owned(),
        };
        if matches!(wrong, Wrong::SharesAnswers | Wrong::AnswersOthers)
            && let Some(answer) = kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
        {
            return answer;
        }
        if let (Wrong::DropsKeys, Some(args)) = (wrong, args.as_object_mut()) {
            args.remove("idempotency_key");
        }
        let answer = inner.call_tool(name, args.clone(), ctx).await;
        match wrong {
            Wrong::RepeatsCalls if outcome::failure(&answer).is_some() => inner.call_tool(name, args, ctx).await,
            Wrong::InventsFailures => Err(McpError::internal("something went wrong")),
            Wrong::Panics => std::panic::resume_unwind(Box::new("a layer panics")),
            _ => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, answer.clone());
                answer
            }
        }
    }
}

/// The rules that random stacks break with such a layer outermost.
fn broken_by(wrong: Wrong) -> Vec<&'static str> {
    let mut broken: Vec<_> = (0..60)
        .flat_map(|seed| {
            let mut plan = generate::plan(seed, BackendKind::Memory);
            plan.stack.layers.insert(0, Layered { kind: Kind::Wrong(wrong), settings: Vec::new() });
            judge(&plan, &run(&plan)).faults
        })
        .map(|fault| fault.rule)
        .collect();
    broken.sort_unstable();
    broken.dedup();
    broken
}

#[test]
fn the_judge_finds_each_layer_that_is_wrong() {
    let expected: [(Wrong, &[&str]); 6] = [
        (
            Wrong::SharesAnswers,
            &[
                "an answer is shared only by callers who are the same, with the same rights",
                "an answer is not shared unless a layer shares",
                "what was invalidated is not served",
            ],
        ),
        (Wrong::RepeatsCalls, &["a call is repeated only as allowed"]),
        (Wrong::InventsFailures, &["a refusal carries a layer's mark"]),
        (Wrong::AnswersOthers, &["an answer is to what was asked"]),
        (Wrong::DropsKeys, &["a key has one effect"]),
        (Wrong::Panics, &["a panic is the caller's own"]),
    ];
    for (wrong, rules) in expected {
        let broken = broken_by(wrong);
        for rule in rules {
            assert!(broken.contains(rule), "{wrong:?} does not break \"{rule}\", only {broken:?}");
        }
    }
}
