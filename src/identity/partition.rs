//! The group of callers that share data in a scope, and its form in a key.

use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{Principal, RequestContext};

use super::instance::instance;
use super::{Identity, Scope};
use crate::canonical::{encode, encode_str};
use crate::scope;
use crate::telemetry::Warning;

/// Why a call is refused that needs to know its caller, for a message.
pub(crate) const UNREAD_CREDENTIALS: &str = "the request has credentials, but the server does not say whose they are: set \
                                             `RmcpServer::with_principal`, or the authorization of another transport";

/// The group of callers that share data in a scope.
pub(crate) enum Partition<'a> {
    Everybody,
    Principal(Caller<'a>),
    /// A session belongs to its opener: the same name from another caller is another session.
    Session {
        transport: Option<&'a str>,
        kept: Option<Arc<str>>,
        caller: Caller<'a>,
    },
    /// The part of a group whose calls one instance of the server answers.
    Instance {
        instance: &'a Value,
        within: Box<Self>,
    },
}

/// The caller: its distinguishing part, the tenants, and the rights.
pub(crate) struct Caller<'a> {
    identity: &'a Identity,
    principal: Option<&'a Principal>,
    who: Who<'a>,
}

enum Who<'a> {
    Subject {
        subject: Option<&'a str>,
        issuer: Option<&'a str>,
    },
    /// An anonymous caller on this connection.
    Anonymous {
        session: &'a str,
    },
    /// The result of the user's own function. On the heap, since it is rare and large.
    Chosen(Box<Value>),
}

/// Ends a list in a key. No encoded value begins with it.
pub(super) const END: u8 = b'.';

impl Identity {
    /// Returns the partition of the caller, or `None` if it shares with no other call.
    pub(crate) fn partition<'a>(&'a self, scope: Scope, ctx: &'a RequestContext) -> Option<Partition<'a>> {
        let partition = match scope {
            Scope::Public => Some(Partition::Everybody),
            _ if self.is_unknown_caller(ctx) => {
                static UNREAD: Warning = Warning::new();
                if let Some(unsaid) = UNREAD.due() {
                    tracing::warn!(
                        unsaid,
                        "the credentials of a call were not read, so it shares nothing: say who calls"
                    );
                }
                None
            }
            Scope::Session => {
                let (transport, kept) = (ctx.session_id(), scope::session_id());
                let has_one = transport.is_some() || kept.is_some();
                has_one.then(|| Partition::Session { transport, kept, caller: self.caller(ctx) })
            }
            Scope::Principal => Some(Partition::Principal(self.caller(ctx))),
        };
        match instance(ctx) {
            None => partition,
            Some(instance) => partition.map(|within| Partition::Instance { instance, within: Box::new(within) }),
        }
    }

    /// Says whether the request has credentials, and nothing says whose they are. Such a caller is not anonymous.
    pub(crate) fn is_unknown_caller(&self, ctx: &RequestContext) -> bool {
        self.0.partition.is_none() && ctx.subject().is_none() && ctx.header("authorization").is_some()
    }

    pub(crate) fn caller<'a>(&'a self, ctx: &'a RequestContext) -> Caller<'a> {
        let principal = ctx.principal();
        let session = ctx.session_id().filter(|_| self.0.anonymous_by_session);
        let who = match (&self.0.partition, ctx.subject(), session) {
            (Some(partition), ..) => Who::Chosen(Box::new(partition(ctx))),
            (None, None, Some(session)) => Who::Anonymous { session },
            (None, subject, _) => {
                Who::Subject { subject, issuer: principal.and_then(|principal| principal.issuer.as_deref()) }
            }
        };
        Caller { identity: self, principal, who }
    }

    /// The key of a caller of a listing: its identity, the user's own partition if there is one, and all rights, also
    /// [if answers do not depend on them](Identity::without_rights). It is empty for an anonymous caller.
    pub(crate) fn lister(&self, ctx: &RequestContext) -> Vec<u8> {
        let (principal, subject) = (ctx.principal(), ctx.subject());
        let who = match ctx.session_id().filter(|_| self.0.anonymous_by_session && subject.is_none()) {
            Some(session) => Who::Anonymous { session },
            None if principal.is_none() && subject.is_none() && self.0.partition.is_none() => return Vec::new(),
            None => Who::Subject { subject, issuer: principal.and_then(|principal| principal.issuer.as_deref()) },
        };
        let caller = Caller { identity: self, principal, who };
        let mut key = Vec::with_capacity(caller.size_hint());
        caller.encode(&mut key);
        self.encode_rights(principal, &mut key);
        if let Some(partition) = &self.0.partition {
            encode(&partition(ctx), &mut key);
        }
        key
    }

    /// Returns whether the caller is anonymous and not distinguished from other anonymous callers.
    #[cfg(any(feature = "idempotent", feature = "transactional"))]
    pub(crate) fn is_shared_by_anonymous(&self, ctx: &RequestContext) -> bool {
        self.0.partition.is_none() && !self.0.anonymous_by_session && ctx.subject().is_none()
    }

    pub(super) fn names_tenant(&self, claim: &str) -> bool {
        matches!(claim, "tid" | "tenant_id" | "tenant" | "org_id" | "organization")
            || self.0.tenant_claims.contains(claim)
    }
}

impl Partition<'_> {
    /// Appends the partition to the key of an answer: the caller, and the caller's rights.
    pub(crate) fn encode_with_rights(&self, key: &mut Vec<u8>) {
        self.encode(key);
        if let Some(caller) = self.caller() {
            caller.identity.encode_rights(caller.principal.filter(|_| !caller.identity.0.ignores_rights), key);
        }
    }

    fn caller(&self) -> Option<&Caller<'_>> {
        match self {
            Self::Everybody => None,
            Self::Principal(caller) | Self::Session { caller, .. } => Some(caller),
            Self::Instance { within, .. } => within.caller(),
        }
    }

    /// Returns about how long the partition is in a key, so that one allocation holds the key of most calls.
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            Self::Everybody => 1,
            Self::Principal(caller) => caller.size_hint(),
            Self::Session { transport, kept, caller } => {
                let names = [*transport, kept.as_deref()];
                names.into_iter().flatten().map(str::len).sum::<usize>() + caller.size_hint()
            }
            Self::Instance { within, .. } => 24 + within.size_hint(),
        }
    }

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
            Self::Instance { instance, within } => {
                key.push(b'#');
                encode(instance, key);
                within.encode(key);
            }
        }
    }
}

impl Caller<'_> {
    fn size_hint(&self) -> usize {
        /// The punctuation around the names.
        const FRAME: usize = 32;
        /// The tenants and rights of most tokens.
        const CLAIMS: usize = 224;
        let who = match &self.who {
            Who::Subject { subject, issuer } => subject.map_or(0, str::len) + issuer.map_or(0, str::len),
            Who::Anonymous { session } => session.len(),
            Who::Chosen(_) => 64,
        };
        let has_more =
            self.principal.is_some_and(|principal| !principal.roles.is_empty() || !principal.claims.is_empty());
        FRAME + who + if has_more { CLAIMS } else { 0 }
    }

    /// Appends the caller to a key.
    pub(crate) fn encode(&self, key: &mut Vec<u8>) {
        match &self.who {
            Who::Subject { subject, issuer } => {
                encode_optional(*subject, key);
                encode_optional(*issuer, key);
            }
            Who::Anonymous { session } => {
                key.push(b'%');
                encode_str(session, key);
            }
            Who::Chosen(partition) => {
                key.push(b'=');
                encode(partition, key);
            }
        }
        // Each tenant with the name of its claim: the `org_id` of one provider may equal the `tid` of another. A map
        // has its names in order, so equal tenants are written alike.
        let claims = self.principal.into_iter().flat_map(|principal| &principal.claims);
        for (name, value) in claims.filter(|(name, value)| !value.is_null() && self.identity.names_tenant(name)) {
            encode_str(name, key);
            encode(value, key);
        }
        key.push(END);
    }
}

fn encode_optional(name: Option<&str>, key: &mut Vec<u8>) {
    match name {
        Some(name) => encode_str(name, key),
        None => encode(&Value::Null, key),
    }
}
