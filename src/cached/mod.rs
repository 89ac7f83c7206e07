//! Cache.
mod cache;
mod flight;
mod generations;
mod handle;
mod key;
mod layer;
mod store;
pub use cache::{Cache, LoadError, Stats};
pub use handle::{Handle, Warmed};
pub use layer::CachedTool;

#[cfg(test)]
mod tests;
