//! Refuses calls of tools whose backend fails: [`BreakerTool`].

mod breakers;
mod builder;
mod describe;
mod handle;
mod layer;
mod plan;
mod refusal;
mod result;

pub use builder::BreakerTool;
pub use handle::{Handle, Stats, Status, Transition};

pub use crate::circuit::{Reason, State, Window};

/// The name of the layer in errors.
const LAYER: &str = "BreakerTool";

#[cfg(test)]
mod tests;
