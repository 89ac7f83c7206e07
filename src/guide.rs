//! What concerns more than one layer.

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}
