//! What becomes of a call, and of its answer.

use std::mem;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use serde_json::{Map, Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::VALIDATION;
use super::builder::ValidatedTool;
use super::hints::Hints;
use super::plan::{Outcome, ToolPlan};
use super::rules;
use super::violations::{Found, Violations};
use crate::arguments::Taken;
use crate::cancellation::cancelled;
use crate::masked::error_id;
use crate::outcome;

impl ValidatedTool {
    pub(super) async fn validate<H: McpHandler>(
        &self,
        mut plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        if !plan.is_usable() {
            plan.count(Outcome::Refused);
            let reason = format!("`{name}` cannot be called: its schema is not one that can be checked");
            return Ok(McpError::internal(reason).to_tool_result());
        }
        // In a block of its own and on the heap, so that a valid call does not carry it along.
        let admitted = {
            self.admit(&plan, &mut args).map_err(|violations| {
                self.admit_by_own(Arc::clone(&plan), violations, mem::take(&mut args), inner, ctx).boxed()
            })
        };
        let of_layers = match admitted {
            Ok(of_layers) => of_layers,
            Err(by_own) => match by_own.await {
                Ok((own, admitted, of_layers)) => {
                    (plan, args) = (own, admitted);
                    of_layers
                }
                Err(answer) => return Ok(answer),
            },
        };
        if plan.has_rules() {
            // On the heap, so that a call without rules does not carry them along.
            if let Some(answer) = Box::pin(self.ask_rules(&plan, &args, ctx)).await {
                return Ok(answer);
            }
        }
        plan.count(Outcome::Valid);
        of_layers.put_back(&mut args);
        self.release(&plan, inner.call_tool(name, args, ctx).await)
    }

    /// Checks what the definition refuses by the caller's own, where the definition was another caller's, who was told something
    /// else. Returns the answer if the call ends here.
    async fn admit_by_own<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        violations: Violations,
        mut args: Value,
        inner: &H,
        ctx: &RequestContext,
    ) -> Result<(Arc<ToolPlan>, Value, Taken), ToolResult> {
        let Some(own) = self.own_plan(&plan, inner, ctx).await else { return Err(self.refuse(&plan, violations)) };
        match self.admit(&own, &mut args) {
            Ok(of_layers) => Ok((own, args, of_layers)),
            Err(violations) => Err(self.refuse(&own, violations)),
        }
    }

    /// Checks what can be checked without asking anybody, and leaves the tool's own arguments in `args`. Where it refuses them, they
    /// are all there still.
    fn admit(&self, plan: &ToolPlan, args: &mut Value) -> Result<Taken, Violations> {
        if args.is_null() {
            *args = Value::Object(Map::new());
        }
        plan.limits.check(args)?;
        let of_layers = plan.arguments.take(args);
        let mut found = Found::new(self.settings.max_violations.get());
        let mut hints = if self.settings.hints { Hints::new() } else { Hints::off() };
        plan.find(args, &mut hints, &mut found);
        match found.into_result() {
            Ok(()) => Ok(of_layers),
            Err(mut violations) => {
                if self.settings.hints {
                    suggest_of_layers(plan, &of_layers, &mut hints, &mut violations);
                }
                of_layers.put_back(args);
                Err(violations)
            }
        }
    }

    /// Asks the rules, and returns the answer if the call ends here.
    async fn ask_rules(&self, plan: &ToolPlan, args: &Value, ctx: &RequestContext) -> Option<ToolResult> {
        let mut found = Found::new(self.settings.max_violations.get());
        let asked = {
            let asked = pin!(rules::ask(plan.rules(args), plan.tool(), ctx, &mut found));
            match select(pin!(cancelled(ctx)), asked).await {
                Either::Left(((), _)) => {
                    let error = McpError::cancelled("The call was cancelled; nothing was done");
                    Err(outcome::marked(VALIDATION, "cancelled", error))
                }
                Either::Right((asked, _)) => asked,
            }
        };
        match (asked, found.into_result()) {
            (Ok(()), Ok(())) => None,
            (Ok(()), Err(violations)) => Some(self.refuse(plan, violations)),
            (Err(error), _) => {
                plan.count(Outcome::RuleFailed);
                Some(error.to_tool_result())
            }
        }
    }

    /// The answer to a call that is not made.
    fn refuse(&self, plan: &ToolPlan, mut violations: Violations) -> ToolResult {
        plan.count(Outcome::Refused);
        for violation in violations.iter_mut() {
            if let Some(message) = self.settings.messages.get(violation.code()) {
                violation.replace_message(message(violation));
            }
        }
        McpError::from(violations).to_tool_result()
    }

    /// Checks what the tool answers. That is the server's to keep, so the caller learns no more than that it did not.
    fn release(&self, plan: &ToolPlan, result: McpResult<ToolResult>) -> McpResult<ToolResult> {
        if outcome::failure(&result).is_some() {
            return result;
        }
        let Ok(Some(content)) = result.as_ref().map(|result| result.structured_content.as_ref()) else { return result };
        let Err(violations) = plan.check_output(content) else { return result };
        let id = error_id();
        plan.count(Outcome::BadOutput);
        tracing::error!(tool = plan.tool(), id, %violations, "a tool's answer does not match its output schema");
        let error = McpError::internal(format!("The tool's answer was not what it must be (error {id})"));
        Ok(error.with_data(json!({ VALIDATION: "bad_output" })).to_tool_result())
    }
}

/// Suggests an argument of a layer that was not given, where a name is not known that comes close to it. The schema does not
/// have it.
fn suggest_of_layers(plan: &ToolPlan, given: &Taken, hints: &mut Hints, violations: &mut Violations) {
    for violation in violations.iter_mut().filter(|violation| violation.hint().is_none()) {
        let is_unknown = matches!(violation.code(), "additionalProperties" | "unevaluatedProperties");
        let at_top = violation.pointer().strip_prefix('/').filter(|name| is_unknown && !name.contains('/'));
        let not_given = || plan.arguments.names().filter(|name| given.get(name).is_none());
        let hint = at_top.and_then(|name| hints.nearest(name, not_given()));
        violation.suggest(hint);
    }
}
