//! How a call and its result are checked.

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
use super::violations::{Collector, Violations};
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
            let reason = format!("`{name}` cannot be called: its schema cannot be compiled");
            return Ok(McpError::internal(reason).to_tool_result());
        }
        // In a block of its own and on the heap, so that the future of a valid call stays small.
        let admitted = {
            self.check_input(&plan, &mut args).map_err(|violations| {
                self.check_input_by_own(Arc::clone(&plan), violations, mem::take(&mut args), inner, ctx).boxed()
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
            // On the heap, so that the future of a call without rules stays small.
            if let Some(answer) = Box::pin(self.ask_rules(&plan, &args, ctx)).await {
                return Ok(answer);
            }
        }
        plan.count(Outcome::Valid);
        of_layers.put_back(&mut args);
        self.check_output(&plan, inner.call_tool(name, args, ctx).await)
    }

    /// Checks rejected arguments again by the caller's own definition of the tool, if the definition was that of another caller.
    /// Returns the answer if the call is rejected.
    async fn check_input_by_own<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        violations: Violations,
        mut args: Value,
        inner: &H,
        ctx: &RequestContext,
    ) -> Result<(Arc<ToolPlan>, Value, Taken), ToolResult> {
        let Some(own) = self.own_plan(&plan, inner, ctx).await else { return Err(self.refusal(&plan, violations)) };
        match self.check_input(&own, &mut args) {
            Ok(of_layers) => Ok((own, args, of_layers)),
            Err(violations) => Err(self.refusal(&own, violations)),
        }
    }

    /// Runs all checks but the rules. On success `args` has the tool's own arguments only; on a violation it is unchanged.
    fn check_input(&self, plan: &ToolPlan, args: &mut Value) -> Result<Taken, Violations> {
        if args.is_null() {
            *args = Value::Object(Map::new());
        }
        plan.limits.check(args)?;
        let of_layers = plan.arguments.take(args);
        let mut found = Collector::new(self.settings.max_violations);
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

    /// Runs the rules, and returns the answer if the call is rejected.
    async fn ask_rules(&self, plan: &ToolPlan, args: &Value, ctx: &RequestContext) -> Option<ToolResult> {
        let mut found = Collector::new(self.settings.max_violations);
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
            (Ok(()), Err(violations)) => Some(self.refusal(plan, violations)),
            (Err(error), _) => {
                plan.count(Outcome::RuleFailed);
                Some(error.to_tool_result())
            }
        }
    }

    /// Returns the answer to a rejected call.
    fn refusal(&self, plan: &ToolPlan, mut violations: Violations) -> ToolResult {
        plan.count(Outcome::Refused);
        for violation in violations.iter_mut() {
            if let Some(message) = self.settings.messages.get(violation.code()) {
                violation.replace_message(message(violation));
            }
        }
        McpError::from(violations).to_tool_result()
    }

    /// Checks the result of the tool. A violation is a bug of the server, so the caller reads only that there is one.
    fn check_output(&self, plan: &ToolPlan, result: McpResult<ToolResult>) -> McpResult<ToolResult> {
        if outcome::failure(&result).is_some() {
            return result;
        }
        let Ok(Some(content)) = result.as_ref().map(|result| result.structured_content.as_ref()) else { return result };
        let Err(violations) = plan.check_output(content) else { return result };
        let id = error_id();
        plan.count(Outcome::BadOutput);
        tracing::error!(tool = plan.tool(), id, %violations, "a tool's answer does not match its output schema");
        let error = McpError::internal(format!(
            "The tool returned a result that does not match its output schema (error {id})"
        ));
        Ok(error.with_data(json!({ VALIDATION: "bad_output" })).to_tool_result())
    }
}

/// Suggests an argument of an inner layer for an unknown name that is close to it. The schema does not have these arguments.
fn suggest_of_layers(plan: &ToolPlan, given: &Taken, hints: &mut Hints, violations: &mut Violations) {
    for violation in violations.iter_mut().filter(|violation| violation.hint().is_none()) {
        let is_unknown = matches!(violation.code(), "additionalProperties" | "unevaluatedProperties");
        let at_top = violation.pointer().strip_prefix('/').filter(|name| is_unknown && !name.contains('/'));
        let not_given = || plan.arguments.names().filter(|name| given.get(name).is_none());
        let hint = at_top.and_then(|name| hints.nearest(name, not_given()));
        violation.suggest(hint);
    }
}
