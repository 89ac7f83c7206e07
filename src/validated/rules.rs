use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use turbomcp_core::{McpError, RequestContext};

use super::VALIDATION;
use super::typed::decode;
use super::violation::Violation;
use super::violations::Collector;
use crate::masked::error_id;

/// The context of a rule: the request, and the violations that the rule reports.
///
/// A rule gets the transaction of the call, if there is one, as the tool does: `transactional::current::<Postgres>()`.
#[derive(Debug, Clone)]
pub struct RuleContext {
    request: Arc<RequestContext>,
    refused: Arc<Mutex<Vec<Violation>>>,
}

impl RuleContext {
    /// Returns the context of the request, with the caller and the session.
    #[must_use]
    pub fn request(&self) -> &RequestContext {
        &self.request
    }

    /// Reports a violation, which rejects the call. Its pointer is relative to the value that the rule gets.
    pub fn refuse(&self, violation: Violation) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
    }
}

/// The error of a rule that could not decide, because a service that it needs failed. Any error becomes one with `?`.
///
/// An [`McpError`] is returned to the caller unchanged. Any other error is logged, and the caller reads that the input cannot be
/// checked at the moment.
#[derive(Debug)]
pub struct RuleError(Box<dyn std::error::Error + Send + Sync>);

impl<E: std::error::Error + Send + Sync + 'static> From<E> for RuleError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl RuleError {
    fn into_answer(self, tool: &str) -> McpError {
        let source = match self.0.downcast::<McpError>() {
            Ok(error) => return *error,
            Err(source) => source,
        };
        // The transaction must learn of a conflict, whatever happens to the error.
        #[cfg(feature = "transactional")]
        let source = match source.downcast::<sqlx::Error>() {
            Ok(error) => Box::new(crate::transactional::TransactionError::from(*error)),
            Err(source) => source,
        };
        #[cfg(feature = "transactional")]
        if let Some(error) = source.downcast_ref::<crate::transactional::TransactionError>() {
            // The error is already in the log.
            let answer = McpError::from(error.clone());
            return match error.id() {
                Some(id) if answer.kind == turbomcp_core::ErrorKind::Internal => cannot_be_checked(id),
                None if answer.kind == turbomcp_core::ErrorKind::Internal => McpError::unavailable(answer.message),
                _ => answer,
            };
        }
        let id = error_id();
        tracing::warn!(error = %source, tool, id, "a rule failed");
        cannot_be_checked(&id)
    }
}

fn cannot_be_checked(id: &str) -> McpError {
    McpError::unavailable(format!("The input cannot be checked at the moment (error {id})"))
        .with_data(json!({ VALIDATION: "rule_failed" }))
}

type RuleFuture = BoxFuture<'static, Result<(), RuleError>>;

/// A rule, whatever the type of its input.
#[derive(Clone)]
pub(super) struct Rule(Arc<RuleFn>);

type RuleFn = dyn Fn(&Value, RuleContext) -> Result<RuleFuture, Violation> + Send + Sync;

impl Rule {
    pub(super) fn new<T, F>(rule: impl Fn(T, RuleContext) -> F + Send + Sync + 'static) -> Self
    where
        T: DeserializeOwned,
        F: Future<Output = Result<(), RuleError>> + Send + 'static,
    {
        Self(Arc::new(move |value, context| Ok(rule(decode(value)?, context).boxed())))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rule")
    }
}

/// Runs all rules concurrently, each on its own part of the input, in the task of the call.
pub(super) async fn ask<'a>(
    rules: impl Iterator<Item = (&'a Rule, &'a str, &'a Value)>,
    tool: &str,
    ctx: &RequestContext,
    found: &mut Collector,
) -> Result<(), McpError> {
    let request = Arc::new(ctx.clone());
    let mut asked = Vec::new();
    for (rule, pointer, value) in rules {
        let context = RuleContext { request: Arc::clone(&request), refused: Arc::default() };
        let judged = match (rule.0)(value, context.clone()) {
            Ok(judged) => judged,
            Err(violation) => {
                context.refuse(violation);
                async { Ok(()) }.boxed()
            }
        };
        asked.push(async move { (judged.await, context, pointer) });
    }
    let mut failed = None;
    for (judged, context, pointer) in join_all(asked).await {
        if let Err(error) = judged {
            let answer = error.into_answer(tool);
            failed.get_or_insert(answer);
        }
        let refused = std::mem::take(&mut *context.refused.lock().unwrap_or_else(PoisonError::into_inner));
        refused.into_iter().for_each(|violation| found.push(violation.below(pointer)));
    }
    match failed {
        // A violation holds even if another rule failed.
        Some(failed) if found.is_empty() => Err(failed),
        _ => Ok(()),
    }
}
