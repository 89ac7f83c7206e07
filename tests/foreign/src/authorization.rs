//! Callers who state their own identity: enough for a server that only its own tests can reach.

use serde_json::json;
use turbomcp::{BearerRejection, BearerTokenValidator, HttpAuthorization, ValidationFuture};
use turbomcp_core::auth::Principal;

/// Accepts every token of the form `SUBJECT[.TENANT[.ROLE]]` without a check.
#[derive(Debug)]
struct Named;

impl BearerTokenValidator for Named {
    fn validate<'a>(&'a self, token: &'a str) -> ValidationFuture<'a> {
        Box::pin(async move {
            let mut parts = token.split('.');
            let Some(subject) = parts.next().filter(|subject| !subject.is_empty()) else {
                return Err(BearerRejection::InvalidToken("a token is SUBJECT[.TENANT[.ROLE]]".to_owned()));
            };
            let mut principal = Principal::new(subject);
            if let Some(tenant) = parts.next() {
                principal.claims.insert("tenant_id".to_owned(), json!(tenant));
            }
            principal.roles.extend(parts.next().map(str::to_owned));
            Ok(principal)
        })
    }
}

pub(crate) fn named(url: &str) -> HttpAuthorization {
    HttpAuthorization::new(url, "https://authorization.example.org", Named)
}
