//! Turns calls that are made at the same time into one.

mod answers;
mod batcher;
mod call;
mod dispatch;
mod handle;
mod instruments;
mod layer;
mod queue;
mod settings;
pub use answers::{Answers, BatchError};
pub use batcher::{Batcher, Stats};
pub use call::Call;
pub use handle::Handle;
pub use layer::BatchedTool;

#[cfg(test)]
mod tests;
