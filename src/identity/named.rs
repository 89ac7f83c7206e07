//! The caller as the token names it, for a record that people read.

use serde_json::Value;
use turbomcp_core::RequestContext;

use super::Identity;

/// What distinguishes the caller, by name.
pub(crate) struct Named<'a> {
    pub(crate) subject: Option<&'a str>,
    pub(crate) issuer: Option<&'a str>,
    /// The claims that name a tenant.
    pub(crate) tenant: Vec<(&'a str, &'a Value)>,
    /// The value of the user's own function.
    pub(crate) partition: Option<Value>,
}

impl Identity {
    /// Names the caller, unless it is anonymous.
    pub(crate) fn named<'a>(&'a self, ctx: &'a RequestContext) -> Option<Named<'a>> {
        let principal = ctx.principal();
        let claims = principal.into_iter().flat_map(|principal| &principal.claims);
        let tenant = claims.filter(|(name, value)| !value.is_null() && self.names_tenant(name));
        let named = Named {
            subject: ctx.subject(),
            issuer: principal.and_then(|principal| principal.issuer.as_deref()),
            tenant: tenant.map(|(name, value)| (name.as_str(), value)).collect(),
            partition: self.0.partition.as_ref().map(|partition| partition(ctx)),
        };
        (named.subject.is_some() || named.partition.is_some()).then_some(named)
    }

    /// Returns what distinguishes the caller in one piece, as the keys of layers have it.
    pub(crate) fn encoded(&self, ctx: &RequestContext) -> Vec<u8> {
        let mut key = Vec::new();
        self.caller(ctx).encode(&mut key);
        key
    }
}
