//! The caller of a call with a key, as far as others may know.

use turbomcp_core::RequestContext;

use crate::canonical::sha256;

/// Who made a call, and over which connection: hashes, since they leave the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    #[cfg(feature = "idempotent")]
    pub(crate) caller: String,
    pub(crate) connection: Option<String>,
    #[cfg(feature = "idempotent")]
    is_anonymous: bool,
}

impl Origin {
    #[cfg_attr(not(feature = "idempotent"), expect(unused_variables, reason = "a database has room for all callers"))]
    pub(super) fn new(caller: &[u8], ctx: &RequestContext) -> Self {
        Self {
            #[cfg(feature = "idempotent")]
            caller: sha256(caller),
            connection: ctx.session_id().map(|session| sha256(session.as_bytes())),
            #[cfg(feature = "idempotent")]
            is_anonymous: ctx.subject().is_none(),
        }
    }

    /// Distinguishes anonymous callers, who otherwise are one caller.
    #[cfg(feature = "idempotent")]
    pub(crate) fn anonymous_connection(&self) -> Option<&str> {
        self.connection.as_deref().filter(|_| self.is_anonymous)
    }
}
