//! Retries.
mod budget;
mod delays;
mod layer;
mod policy;
mod progress;
pub use crate::cancellation::Cancellation;
pub use budget::Budget;
pub use delays::Delays;
#[cfg(feature = "backoff")]
pub use delays::from_backoff;
#[cfg(feature = "backon")]
pub use delays::from_backon;
pub use layer::{RetryEvent, RetryTool};
pub use policy::{Jitter, RetryPolicy, Retryable, Verdict};

#[cfg(test)]
mod tests;
