//! The record of one call.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use turbomcp_core::ErrorKind;

use super::end::End;
use super::text::{millis_of, rfc_3339, whole_millis};
use crate::masked::random;

/// The record of one call. As JSON, its fields have the names and values of the [table](super#events).
///
/// No text in it is longer than 256 bytes, apart from those of [`arguments`](Self::arguments).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// A UUID of version 7. A destination that gets an event twice gets it with the same id.
    pub id: String,
    /// When the call began, by the clock of this process.
    #[serde(serialize_with = "rfc_3339")]
    pub time: SystemTime,
    /// How long the call took.
    #[serde(rename = "duration_ms", serialize_with = "whole_millis")]
    pub duration: Duration,
    /// The tool, by the name that the caller used.
    pub tool: String,
    /// How the call ended.
    pub end: End,
    /// The layer that refused the call, ended it, or had kept its failure: the name of its
    /// [mark](crate::guide::tracing#marks-in-results-and-errors), such as `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Why: the word of the mark, such as `rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The kind of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// How often a `RetryTool` called the tool, if more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// Who called. `None` for an anonymous caller, and for one whose credentials the server does not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// The SHA-256 of the id of the transport's session, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The trace id of the request's `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The arguments, as far as the settings allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// True if the arguments were too large to be recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub arguments_omitted: bool,
    /// The size of all arguments as JSON.
    pub argument_bytes: u64,
    /// The size of the result as JSON. `None` without a result: also for a protocol error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<u64>,
}

/// Who called: see [`AuditTool::with_hashed_principals`](super::AuditTool::with_hashed_principals).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Principal {
    /// The subject, as the token says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The issuer of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The claims that name a tenant, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tenant: BTreeMap<String, String>,
    /// The value of [`Identity::with_partition`](crate::Identity::with_partition).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The hash of all of these, instead of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl Principal {
    /// What stands for the caller where there is room for one text.
    pub(super) fn name(&self) -> Option<&str> {
        let [subject, hash, partition] = [&self.subject, &self.hash, &self.partition];
        subject.as_deref().or(hash.as_deref()).or(partition.as_deref())
    }
}

/// Creates the id of an event: a UUID of version 7, so that a table with these ids grows at its end.
pub(super) fn new_id(time: SystemTime) -> String {
    let random = u128::from(random()) << 64 | u128::from(random());
    let time = u128::from(millis_of(time)) << 80;
    let bits = time | 7 << 76 | (random >> 52 & 0xfff) << 64 | 2 << 62 | random & ((1 << 62) - 1);
    let mut id = String::with_capacity(36);
    for nibble in (0..32).rev() {
        if matches!(nibble, 23 | 19 | 15 | 11) {
            id.push('-');
        }
        let digit = (bits >> (4 * nibble)) as u32 & 15;
        id.extend(char::from_digit(digit, 16));
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::UNIX_EPOCH;

    use super::new_id;

    #[test]
    fn an_id_is_a_uuid_of_version_7_that_begins_with_the_time_and_is_new_each_time() {
        let time = UNIX_EPOCH + std::time::Duration::from_millis(0x0190_f1a2_b3c4);
        let ids: HashSet<_> = (0..10_000).map(|_| new_id(time)).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(id.len(), 36);
            assert!(id.starts_with("0190f1a2-b3c4-7"), "{id}");
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
            assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{id}");
        }
    }
}
