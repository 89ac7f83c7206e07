//! mcp
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cancellation;
pub mod canonical;
mod error;
mod identity;
pub mod middleware;
pub mod outcome;
pub mod selection;
mod telemetry;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

#[cfg(feature = "cached")]
pub mod cached;
#[cfg(feature = "retry")]
pub mod retry;

#[cfg(feature = "cached")]
pub use cached::CachedTool;
pub use error::ConfigError;
pub use identity::Scope;
pub use middleware::{Layered, Middleware, MiddlewareLayer, TryLayer, layer};
#[cfg(feature = "retry")]
pub use retry::RetryTool;
pub use tower_layer::Layer;
