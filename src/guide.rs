//! What concerns more than one layer.

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[cfg(feature = "cached")]
#[doc = include_str!("../docs/caching.md")]
pub mod caching {}
