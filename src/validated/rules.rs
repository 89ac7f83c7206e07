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
use super::violations::Found;
use crate::masked::error_id;

/// What a rule sees of the call that it judges, and where it says what is wrong with it.
///
/// The transaction of the call, where there is one, is found as in the tool: `transactional::current::<Postgres>()`.
#[derive(Debug, Clone)]
pub struct RuleContext {
    request: Arc<RequestContext>,
    refused: Arc<Mutex<Vec<Violation>>>,
}

impl RuleContext {
    /// Returns the context of the request: who calls, in which session.
    #[must_use]
    pub fn request(&self) -> &RequestContext {
        &self.request
    }

    /// Adds a violation. Its place is relative to the value that the rule is given.
    pub fn refuse(&self, violation: Violation) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
    }
}

/// Why a rule could not be judged: what it asks is down, or broken. Any error becomes one with `?`.
///
/// An [`McpError`] is the caller's answer as it is. Any other error is logged, and the caller is told that the input could not be
/// checked.
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
        // A conflict must be seen by the transaction, whatever becomes of the error.
        #[cfg(feature = "transactional")]
        let source = match source.downcast::<sqlx::Error>() {
            Ok(error) => Box::new(crate::transactional::TransactionError::from(*error)),
            Err(source) => source,
        };
        #[cfg(feature = "transactional")]
        if let Some(error) = source.downcast_ref::<crate::transactional::TransactionError>() {
            // The log has it already.
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

type Judged = BoxFuture<'static, Result<(), RuleError>>;

/// A rule, whatever it wants to be given.
#[derive(Clone)]
pub(super) struct Rule(Arc<Asked>);

type Asked = dyn Fn(&Value, RuleContext) -> Result<Judged, Violation> + Send + Sync;

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

/// Asks all rules, each about its own part of the input, at the same time and in the task of the call.
pub(super) async fn ask<'a>(
    rules: impl Iterator<Item = (&'a Rule, &'a str, &'a Value)>,
    tool: &str,
    ctx: &RequestContext,
    found: &mut Found,
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
        // What is wrong with the input is wrong with it whatever else is down.
        Some(failed) if found.is_empty() => Err(failed),
        _ => Ok(()),
    }
}
