//! What concerns more than one layer.

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[doc = include_str!("../docs/workflows.md")]
pub mod workflows {}

#[doc = include_str!("../docs/retries.md")]
pub mod retries {}

#[doc = include_str!("../docs/transactions.md")]
pub mod transactions {}

#[doc = include_str!("../docs/tracing.md")]
pub mod tracing {}

#[cfg(feature = "validated")]
#[cfg_attr(docsrs, doc(cfg(feature = "validated")))]
#[doc = include_str!("../docs/validation.md")]
pub mod validation {}

#[cfg(feature = "batched")]
#[cfg_attr(docsrs, doc(cfg(feature = "batched")))]
#[doc = include_str!("../docs/batching.md")]
pub mod batching {}

#[cfg(all(feature = "session", feature = "sqlite", feature = "testing"))]
#[doc = include_str!("../docs/sessions.md")]
pub mod sessions {}

#[cfg(feature = "cached")]
#[doc = include_str!("../docs/caching.md")]
pub mod caching {}
