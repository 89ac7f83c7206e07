//! What concerns more than one layer.

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[cfg(feature = "batched")]
#[cfg_attr(docsrs, doc(cfg(feature = "batched")))]
#[doc = include_str!("../docs/batching.md")]
pub mod batching {}
