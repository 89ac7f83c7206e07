//! Limits the time, the number and the rate of calls: [`LimitedTool`].

mod builder;
mod concurrency;
mod describe;
mod handle;
mod layer;
mod limits;
mod plan;
mod rate;
mod refusal;

pub use builder::LimitedTool;
pub use concurrency::Concurrency;
pub use handle::{Handle, Stats};
pub use limits::Per;
pub use rate::Rate;

/// The name of the layer in errors.
const LAYER: &str = "LimitedTool";

/// Entry of an error's data: why a call was refused or ended: `rate`, `busy`, `waited`, `cancelled` or `timed_out`.
pub const LIMIT: &str = "mcp-patterns/limit";

#[cfg(test)]
mod tests;
