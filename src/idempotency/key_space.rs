use crate::{ConfigError, Identity};

/// What keeps the keys of a layer apart from those of other servers, and each caller's from those of the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySpace {
    /// The name of the server that the layer is on.
    pub(crate) server: String,
    pub(crate) namespace: Option<String>,
    pub(crate) identity: Identity,
}

impl KeySpace {
    pub(crate) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        ConfigError::check_namespace(layer, self.namespace.as_deref())?;
        self.identity.check(layer)
    }
}
