//! What concerns more than one layer.

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[cfg(all(feature = "session", feature = "sqlite", feature = "testing"))]
#[doc = include_str!("../docs/sessions.md")]
pub mod sessions {}
