//! Who may share what: the [`Scope`] of everything that layers keep between calls.

use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{Principal, RequestContext};

use crate::canonical::{encode, encode_str};

/// Who shares what a layer keeps between calls.
///
/// The access token, the client's name for itself, `_meta` and the request id never take part: tokens change while the
/// user stays the same, and the others are whatever the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Scope {
    /// Calls of one authenticated user: the subject, with its issuer and tenant where they are known. All callers who are
    /// not authenticated share one partition.
    #[default]
    Principal,
    /// Calls within one MCP session, and within one session of a `SessionStore` that stands further out. A call without a
    /// session shares with nobody.
    Session,
    /// Everybody. For what is the same for every user.
    Public,
}

/// The claims that name a tenant, as the large identity providers spell them: Microsoft Entra (`tid`), Auth0 (`org_id`),
/// and the plain words.
const TENANT_CLAIMS: [&str; 4] = ["tid", "org_id", "tenant_id", "tenant"];

/// The part of the callers that `scope` lets share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Partition<'a> {
    Everybody,
    Principal(Caller<'a>),
    /// A session belongs to whoever opened it: named by another, it is another.
    Session {
        transport: Option<&'a str>,
        kept: Option<Arc<str>>,
        caller: Caller<'a>,
    },
}

/// Who calls: a subject, with what makes it unique.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Caller<'a> {
    subject: Option<&'a str>,
    issuer: Option<&'a str>,
    tenant: Option<&'a Value>,
}

impl<'a> Partition<'a> {
    /// Returns the partition of the caller, or `None` where it shares with nobody.
    pub(crate) fn of(scope: Scope, ctx: &'a RequestContext) -> Option<Self> {
        match scope {
            Scope::Public => Some(Self::Everybody),
            Scope::Session => {
                let (transport, kept) = (ctx.session_id(), kept_session());
                let has_one = transport.is_some() || kept.is_some();
                has_one.then(|| Self::Session { transport, kept, caller: Caller::of(ctx) })
            }
            Scope::Principal => Some(Self::Principal(Caller::of(ctx))),
        }
    }
}

/// The session that a `SessionStore` further out has found for the call. Unlike the transport's, it may be named by a handle.
fn kept_session() -> Option<Arc<str>> {
    #[cfg(feature = "session")]
    return crate::session::current_id();
    #[cfg(not(feature = "session"))]
    return None;
}

impl<'a> Caller<'a> {
    pub(crate) fn of(ctx: &'a RequestContext) -> Self {
        Self {
            subject: ctx.subject(),
            issuer: ctx.principal().and_then(|principal| principal.issuer.as_deref()),
            tenant: ctx.principal().and_then(tenant),
        }
    }
}

impl Partition<'_> {
    /// Appends the partition to a key.
    pub(crate) fn encode(&self, key: &mut Vec<u8>) {
        match self {
            Self::Everybody => key.push(b'*'),
            Self::Principal(caller) => {
                key.push(b'@');
                caller.encode(key);
            }
            Self::Session { transport, kept, caller } => {
                key.push(b'%');
                encode_optional(*transport, key);
                encode_optional(kept.as_deref(), key);
                caller.encode(key);
            }
        }
    }
}

impl Caller<'_> {
    pub(crate) fn encode(&self, key: &mut Vec<u8>) {
        encode_optional(self.subject, key);
        encode_optional(self.issuer, key);
        encode(self.tenant.unwrap_or(&Value::Null), key);
    }
}

fn encode_optional(name: Option<&str>, key: &mut Vec<u8>) {
    match name {
        Some(name) => encode_str(name, key),
        None => encode(&Value::Null, key),
    }
}

fn tenant(principal: &Principal) -> Option<&Value> {
    TENANT_CLAIMS.iter().find_map(|claim| principal.claims.get(*claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ctx(principal: Principal) -> RequestContext {
        RequestContext::with_id("1").with_principal(principal)
    }

    #[test]
    fn a_principal_is_its_subject_issuer_and_tenant() {
        let plain = ctx(Principal::new("ada"));
        let issuer = ctx(Principal::new("ada").with_issuer("https://id.example"));
        let tenant = ctx(Principal::new("ada").with_claim("tid", json!("acme")));
        let partitions =
            [&plain, &issuer, &tenant].map(|ctx| Partition::of(Scope::Principal, ctx).expect("always shared"));
        assert_ne!(partitions[0], partitions[1]);
        assert_ne!(partitions[0], partitions[2]);
        assert_ne!(partitions[1], partitions[2]);
    }

    #[test]
    fn what_the_client_says_of_itself_does_not_count() {
        let one = RequestContext::with_id("1").with_client_id("a").with_metadata("k", 1);
        let two = RequestContext::with_id("2").with_client_id("b").with_metadata("k", 2);
        assert_eq!(Partition::of(Scope::Principal, &one), Partition::of(Scope::Principal, &two));
    }

    #[test]
    fn a_user_named_like_nobody_is_not_nobody() {
        let user = RequestContext::with_id("1").with_user_id("");
        assert_ne!(
            Partition::of(Scope::Principal, &user),
            Partition::of(Scope::Principal, &RequestContext::with_id("1"))
        );
    }

    #[test]
    fn a_call_without_a_session_shares_with_nobody_in_session_scope() {
        assert_eq!(Partition::of(Scope::Session, &RequestContext::with_id("1")), None);
    }
}
