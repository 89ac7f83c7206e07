use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turbomcp_core::RequestContext;

use crate::{ConfigError, Identity};

/// Separates the keys of a layer from those of other servers, and each caller's keys from those of other callers.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySpace {
    /// The name of the server that the layer is on.
    pub(crate) server: String,
    pub(crate) namespace: Option<String>,
    pub(crate) identity: Identity,
    /// Clones of a layer share it.
    has_warned: Arc<AtomicBool>,
}

impl KeySpace {
    pub(crate) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        ConfigError::check_namespace(layer, self.namespace.as_deref())?;
        self.identity.check(layer)
    }

    /// Warns once if callers come over a network and nothing distinguishes them.
    pub(super) fn warn_if_shared(&self, tool: &str, ctx: &RequestContext) {
        if ctx.transport().is_network()
            && self.identity.is_shared_by_anonymous(ctx)
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                server = self.server,
                tool,
                transport = %ctx.transport(),
                fix = "set up authorization on the transport, or `Identity::with_anonymous_by_session` on the layer",
                "anonymous callers over a network share idempotency keys, and get each other's answers"
            );
        }
    }
}
