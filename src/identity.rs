//! Sharing between callers: the [`Scope`] of data that layers keep between calls, and the [`Identity`] that distinguishes callers.

mod instance;
#[cfg(feature = "audit")]
mod named;
mod partition;
mod rights;
#[cfg(any(feature = "batched", feature = "breaker", feature = "limited", feature = "output", feature = "retry"))]
mod share;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::RequestContext;

#[cfg(feature = "rmcp")]
pub(crate) use self::instance::mark_instance;
#[cfg(feature = "audit")]
pub(crate) use self::named::Named;
pub(crate) use self::partition::{Partition, UNREAD_CREDENTIALS};
#[cfg(any(feature = "batched", feature = "limited"))]
pub(crate) use self::share::share_of;
use crate::ConfigError;

/// The callers who share data that a layer keeps between calls.
///
/// The access token, the client's name, `_meta` and the request id never count: tokens change while the user stays the same, and the
/// client sets the others freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Scope {
    /// Calls of one authenticated user, as the [`Identity`] distinguishes users: by subject, issuer and tenant. All callers who
    /// are not authenticated share one partition. Only calls with the same rights share answers.
    #[default]
    Principal,
    /// Calls within one MCP session, and within one session of a `SessionStore` further out. A call without a session shares with no
    /// other call.
    Session,
    /// All callers, with any rights. For data that is the same for every user.
    Public,
}

/// Distinguishes callers. Create one and give it to every layer that shares data between calls.
///
/// Two properties decide who shares data:
///
/// - **The caller**: the subject, its issuer, and every claim that names a tenant. Cached answers, batches, sessions and
///   idempotency keys belong to this caller.
/// - **The caller's rights**: the roles and scopes of the token. Only calls with the same rights share cached answers and batches:
///   an answer for an administrator's token never reaches a viewer's token of the same user. Sessions and idempotency keys do not
///   depend on rights, so that they survive a token with other scopes.
///
/// The order and the repetition of roles and scopes do not count. `"read write"` in the claims `scope` and `scp` is
/// the same as `["write", "read"]`.
///
/// # Example
///
/// ```
/// use mcp_patterns::{CachedTool, Identity, Layer, SessionStore, testing::ScriptedServer};
/// use serde_json::json;
/// use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
/// use turbomcp_core::Principal;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let crm = ScriptedServer::new("crm").with_read_only("customers", |call| async move {
///     let claims = call.ctx.principal().map(|principal| principal.claims.clone());
///     Ok(ToolResult::text(format!(
///         "customers of {}",
///         claims.unwrap_or_default()["workspace"]
///     )))
/// });
/// let identity = Identity::new().with_tenant_claim("workspace");
/// let server = (
///     SessionStore::in_memory().optional().with_identity(identity.clone()),
///     CachedTool::new().with_identity(identity),
/// )
///     .layer(crm);
///
/// for workspace in ["acme", "globex"] {
///     let ada = Principal::new("ada").with_claim("workspace", json!(workspace));
///     let answer = server
///         .call_tool("customers", json!({}), &RequestContext::new().with_principal(ada))
///         .await?;
///     assert_eq!(
///         answer.first_text(),
///         Some(format!("customers of \"{workspace}\"").as_str())
///     );
/// }
/// # Ok(()) }
/// ```
///
/// # Defaults
///
/// - tenant: the claims `tid`, `tenant_id`, `tenant`, `org_id` and `organization`, all that are present
/// - rights: the principal's roles, and the claims `scope`, `scp`, `scopes`, `roles`, `role`, `permissions`, `groups`,
///   `entitlements`, `authorities`, `authorization_details`, `wids`, `cognito:groups`, `realm_access` and `resource_access`
/// - partition: the subject and its issuer; all anonymous callers share one, unless they are distinguished [by their
///   session](Self::with_anonymous_by_session)
/// - a request that has an `Authorization` header, but no principal, is one of an unknown caller: unless a partition of yours says who it
///   is, it shares nothing outside of [`Scope::Public`], and idempotency keys and sessions by principal are refused
///
/// A claim that is `null`, or an empty list of rights, counts as absent.
#[derive(Clone, Default)]
#[must_use = "an identity does nothing until it is given to a layer"]
pub struct Identity(Arc<Settings>);

/// Behind an `Arc`, since several layers have it and are cloned for each request.
#[derive(Clone, Default)]
struct Settings {
    tenant_claims: BTreeSet<String>,
    rights_claims: BTreeSet<String>,
    ignores_rights: bool,
    anonymous_by_session: bool,
    partition: Option<Arc<PartitionOf>>,
}

type PartitionOf = dyn Fn(&RequestContext) -> Value + Send + Sync;

impl Identity {
    /// Creates an identity with the [defaults](Self#defaults).
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a claim that names a tenant. The same user in two tenants is two callers.
    pub fn with_tenant_claim(mut self, claim: impl Into<String>) -> Self {
        self.settings_mut().tenant_claims.insert(claim.into());
        self
    }

    /// Adds a claim that lists rights, such as `https://example.com/roles`. The order of a list does not count; a string is one
    /// right.
    pub fn with_rights_claim(mut self, claim: impl Into<String>) -> Self {
        self.settings_mut().rights_claims.insert(claim.into());
        self
    }

    /// Shares cached answers and batches between all tokens of a caller, with any rights. Only for servers whose answers do not depend on
    /// the caller's rights.
    pub fn without_rights(mut self) -> Self {
        self.settings_mut().ignores_rights = true;
        self
    }

    /// Distinguishes callers who are not authenticated by their MCP session, instead of treating them as one caller.
    ///
    /// Use it for servers on a network without authorization: then no layer gives one client the data of another. In return, the data of
    /// a caller ends with the session: a key that is used again over another connection is a new key, and may take effect again. Calls
    /// without a session, which no transport makes, share one partition.
    pub fn with_anonymous_by_session(mut self) -> Self {
        self.settings_mut().anonymous_by_session = true;
        self
    }

    /// Distinguishes callers by the value that `partition` returns, instead of by subject and issuer. The order of object keys does not
    /// count.
    ///
    /// Calls with equal partitions are calls of one caller: they share answers, sessions and idempotency keys. Tenants stay
    /// separate in any case, and only calls with the same rights share answers.
    ///
    /// ```
    /// use mcp_patterns::{CachedTool, Identity};
    /// use serde_json::json;
    ///
    /// // A gateway in front of the server names the workspace in a header.
    /// let identity = Identity::new().with_partition(|ctx| {
    ///     let issuer = ctx.principal().and_then(|principal| principal.issuer.as_deref());
    ///     json!([ctx.subject(), issuer, ctx.header("x-workspace")])
    /// });
    /// let cached = CachedTool::new().with_identity(identity);
    /// ```
    pub fn with_partition<P: Into<Value>>(
        mut self,
        partition: impl Fn(&RequestContext) -> P + Send + Sync + 'static,
    ) -> Self {
        self.settings_mut().partition = Some(Arc::new(move |ctx| partition(ctx).into()));
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.0)
    }

    pub(crate) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        let refuse = |reason: &str| Err(ConfigError::invalid(layer, "with_identity", reason));
        if self.0.tenant_claims.contains("") {
            return refuse("`with_tenant_claim` has an empty name: name the claim, or remove this setting");
        }
        if self.0.rights_claims.contains("") {
            return refuse("`with_rights_claim` has an empty name: name the claim, or remove this setting");
        }
        if self.0.ignores_rights && !self.0.rights_claims.is_empty() {
            return refuse("`with_rights_claim` has no effect with `without_rights`: remove one of the two");
        }
        if self.0.anonymous_by_session && self.0.partition.is_some() {
            return refuse(
                "`with_anonymous_by_session` has no effect with `with_partition`: let the function return the session where \
                 there is no subject, or remove one of the two",
            );
        }
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.0;
        f.debug_struct("Identity")
            .field("tenant_claims", &settings.tenant_claims)
            .field("rights_claims", &settings.rights_claims)
            .field("ignores_rights", &settings.ignores_rights)
            .field("anonymous_by_session", &settings.anonymous_by_session)
            .field("partition", &settings.partition.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests;
