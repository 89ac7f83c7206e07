//! How long answers are kept whole, and how many.

use std::time::Duration;

use super::LAYER;
use crate::ConfigError;
use crate::clock::is_too_short;
use crate::explain::{bytes, time};

/// What a kept answer costs besides its bytes.
pub(super) const ENTRY_BYTES: usize = 512;

/// Where an answer above the bounds stays whole, for [`OutputTool::with_spill`](super::OutputTool::with_spill): in the memory of this
/// process.
///
/// A kept answer is never removed before its time. While there is no room, further answers are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to a layer"]
pub struct Spill {
    pub(super) ttl: Duration,
    pub(super) max_bytes: usize,
    pub(super) max_bytes_per_principal: Option<usize>,
}

impl Spill {
    /// Keeps answers for 15 minutes, in at most 64 MiB, of which one principal has at most a quarter.
    pub const fn new() -> Self {
        Self { ttl: Duration::from_secs(15 * 60), max_bytes: 64 << 20, max_bytes_per_principal: None }
    }

    /// Sets how long an answer can be read. Default: 15 minutes.
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how many bytes all kept answers have together. Default: 64 MiB.
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many bytes the kept answers of one principal have. Anonymous callers share by connection. Default: a quarter of all.
    pub const fn with_max_bytes_per_principal(mut self, bytes: usize) -> Self {
        self.max_bytes_per_principal = Some(bytes);
        self
    }

    /// The share of a principal.
    pub(super) fn share(self) -> usize {
        self.max_bytes_per_principal.unwrap_or(self.max_bytes / 4).min(self.max_bytes)
    }

    /// Checks the settings, for answers that have more bytes than `bound`.
    pub(super) fn check(self, bound: usize) -> Result<(), ConfigError> {
        let invalid = |reason: String| Err(ConfigError::invalid(LAYER, "with_spill", reason));
        if is_too_short(self.ttl) {
            return invalid("no answer could ever be read: set a `with_ttl` of some minutes".to_owned());
        }
        let least = bound.saturating_add(ENTRY_BYTES);
        if self.share() <= least {
            return invalid(format!(
                "a principal may keep {}, which is too little for any answer above `with_max_bytes`: allow more than {}",
                bytes(self.share()),
                bytes(least)
            ));
        }
        Ok(())
    }

    pub(super) fn in_words(self) -> String {
        let Self { ttl, max_bytes, .. } = self;
        format!("{}, up to {}, {} per principal", time(ttl), bytes(max_bytes), bytes(self.share()))
    }
}

impl Default for Spill {
    fn default() -> Self {
        Self::new()
    }
}
