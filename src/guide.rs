//! What concerns more than one layer.

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[cfg(feature = "validated")]
#[cfg_attr(docsrs, doc(cfg(feature = "validated")))]
#[doc = include_str!("../docs/validation.md")]
pub mod validation {}
