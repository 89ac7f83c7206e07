//! The errors of calls that the layer refuses or ends.

use std::time::Duration;

use serde_json::json;
use turbomcp_core::McpError;

use super::concurrency::NoPlace;
use super::limit::Per;
use super::limits::Refused;
use crate::clock::millis;
use crate::outcome::{self, ErrorKind, LIMIT, RETRY_AFTER_MS, wait_in_words};

impl Refused {
    /// The error for the caller, who may try again later.
    pub(super) fn error(self, tool: &str) -> McpError {
        match self {
            Self::Rate { per, retry_after } => {
                let millis = millis(retry_after);
                let whose = match per {
                    Per::Tool => format!("`{tool}` is called too often"),
                    Per::Principal => "You make too many calls".to_owned(),
                    Per::PrincipalAndTool => format!("You call `{tool}` too often"),
                };
                let sentence = format!("{whose}: try again in {}. Nothing was done", wait_in_words(millis));
                let error = McpError::rate_limited(sentence).with_data(json!({ RETRY_AFTER_MS: millis }));
                outcome::marked(LIMIT, "rate", error)
            }
            Self::Concurrency { why: NoPlace::Cancelled, .. } => {
                let sentence = "The call was cancelled while it waited for its turn; nothing was done by it";
                outcome::marked(LIMIT, "cancelled", McpError::cancelled(sentence))
            }
            Self::Concurrency { per, why } => {
                let (kind, whose) = match per {
                    Per::Tool => (ErrorKind::ServerOverloaded, format!("`{tool}` is busy with other calls")),
                    Per::Principal => {
                        (ErrorKind::RateLimited, "Too many of your calls run at the same time".to_owned())
                    }
                    Per::PrincipalAndTool => {
                        (ErrorKind::RateLimited, format!("Too many of your calls of `{tool}` run at the same time"))
                    }
                };
                let (word, waited) = match why {
                    NoPlace::Waited => ("waited", ", and this one has waited as long as it may"),
                    NoPlace::Busy | NoPlace::Cancelled => ("busy", ""),
                };
                let sentence = format!("{whose}{waited}: try again later. Nothing was done");
                outcome::marked(LIMIT, word, McpError::new(kind, sentence))
            }
        }
    }
}

/// The error of a call that was ended after its timeout.
pub(super) fn timed_out(after: Duration, is_read_only: bool) -> McpError {
    let mut error = outcome::timed_out(after);
    if !is_read_only {
        error.message.push_str(": the call was ended, and may or may not have taken effect");
    }
    outcome::marked(LIMIT, "timed_out", error)
}
