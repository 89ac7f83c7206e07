//! Whom a call with a key comes from, as far as others may know.

use turbomcp_core::RequestContext;

use crate::canonical::sha256;

/// Who made a call, and over which connection: hashes, since they leave the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    pub(crate) caller: String,
    pub(crate) connection: Option<String>,
    is_anonymous: bool,
}

impl Origin {
    pub(super) fn new(caller: &[u8], ctx: &RequestContext) -> Self {
        Self {
            caller: sha256(caller),
            connection: ctx.session_id().map(|session| sha256(session.as_bytes())),
            is_anonymous: ctx.subject().is_none(),
        }
    }

    /// What tells anonymous callers apart, who are one caller otherwise.
    #[cfg(feature = "idempotent")]
    pub(crate) fn anonymous_connection(&self) -> Option<&str> {
        self.connection.as_deref().filter(|_| self.is_anonymous)
    }
}
