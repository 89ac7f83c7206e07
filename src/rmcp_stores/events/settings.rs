use std::time::Duration;

use crate::ConfigError;

#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) max_events: u32,
    pub(super) max_bytes: usize,
    pub(super) poll_interval: Duration,
    pub(super) backend_timeout: Duration,
    pub(super) lease: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60 * 60),
            max_events: 1_000,
            max_bytes: 4 << 20,
            poll_interval: Duration::from_secs(1),
            backend_timeout: Duration::from_secs(2),
            lease: Duration::from_secs(30),
        }
    }
}

impl Settings {
    pub(super) fn check(&self, name: &'static str) -> Result<(), ConfigError> {
        ConfigError::check_timeout(name, "with_ttl", self.ttl)?;
        ConfigError::check_positive(name, "with_max_events", self.max_events)?;
        ConfigError::check_positive(name, "with_max_bytes", self.max_bytes)?;
        ConfigError::check_timeout(name, "with_poll_interval", self.poll_interval)?;
        ConfigError::check_timeout(name, "with_backend_timeout", self.backend_timeout)?;
        ConfigError::check_timeout(name, "with_lease", self.lease)
    }
}
