//! The settings of a store, and the check of them.

use std::time::Duration;

use super::SessionMode;
use crate::{ConfigError, Identity};

/// The name of the layer in error texts.
pub(super) const LAYER: &str = "SessionStore";

/// The bytes that an empty session takes.
const MIN_BYTES: usize = 32;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) mode: SessionMode,
    pub(super) namespace: Option<String>,
    pub(super) identity: Identity,
    pub(super) argument: String,
    pub(super) is_optional: bool,
    pub(super) idle_timeout: Duration,
    pub(super) absolute_timeout: Option<Duration>,
    pub(super) max_bytes: usize,
    pub(super) max_keys: usize,
    pub(super) max_attempts: u32,
    pub(super) backend_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            mode: SessionMode::default(),
            namespace: None,
            identity: Identity::new(),
            argument: "session".to_owned(),
            is_optional: false,
            idle_timeout: HOUR,
            absolute_timeout: Some(24 * HOUR),
            max_bytes: 64 << 10,
            max_keys: 256,
            max_attempts: 64,
            backend_timeout: Duration::from_secs(2),
        }
    }
}

impl Settings {
    /// Checks what does not depend on a server.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_timeout(LAYER, "with_idle_timeout", self.idle_timeout)?;
        if let Some(timeout) = self.absolute_timeout {
            ConfigError::check_timeout(LAYER, "with_absolute_timeout", timeout)?;
        }
        ConfigError::check_timeout(LAYER, "with_backend_timeout", self.backend_timeout)?;
        ConfigError::check_positive(LAYER, "with_max_keys", self.max_keys)?;
        ConfigError::check_positive(LAYER, "with_max_attempts", self.max_attempts)?;
        ConfigError::check_positive(LAYER, "with_max_bytes", self.max_bytes)?;
        if self.max_bytes < MIN_BYTES {
            let reason = format!("must be at least {MIN_BYTES}: an empty session takes that much");
            return Err(ConfigError::invalid(LAYER, "with_max_bytes", reason));
        }
        if self.argument.is_empty() {
            return Err(ConfigError::invalid(LAYER, "with_argument", "the name is empty: give the argument a name"));
        }
        ConfigError::check_namespace(LAYER, self.namespace.as_deref())?;
        self.identity.check(LAYER)
    }
}
