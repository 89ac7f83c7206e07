//! What to read when. The manual of a layer is its module; these pages concern more than one.
//!
//! **Before the first server**
//!
//! 1. [The crate's page](crate): a server with a cache and retries, and the list of layers.
//! 2. [Ordering]: which layer is outside of which, with counted calls.
//! 3. [Recipes]: authorization, logging, a stack in a struct, settings from the environment.
//!
//! **Before the first users**
//!
//! 4. [Testing a server](testing_a_server): callers, time, databases.
//! 5. [Deploying]: HTTP and principals, replicas, pools, Redis, timeouts, shutdown.
//! 6. [Tracing]: logs, spans and metrics, and what to set an alarm on.
//!
//! **When something is not as expected**, print [`explain(&server)`](crate::explain()) first.
//!
//! 7. [Troubleshooting]: each message, its cause and its fix; the compiler's messages too.
//! 8. [Reliability]: what a fault does, and for how long.
//! 9. [Catalogues]: tools that come later, that callers see differently, or that are not yours.
//!
//! **When a layer is missing**
//!
//! 10. [Writing a layer](writing_a_layer).
//!
//! **When the server is one of the official SDK**
//!
//! 11. [With rmcp](with_rmcp).
//!
//! **The patterns of production servers**, each with the faults of the snippet that is usually copied, and the same server from this crate:
//! [all seventeen](patterns), by family: [state and sessions](sessions), [caching], [validation], [workflows], [transactions], [retries] and
//! [batching].
//!
//! **Before an upgrade**: [versions and stability](versions).
//!
//! # How to run an example
//!
//! An example without a `main` is the body of one. Its types and their `impl` blocks may stand there, too:
//!
//! ```
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // The lines of the example.
//!     Ok(())
//! }
//! ```
//!
//! The commands at the top of the page add the crates that its examples use.
//!
//! [Ordering]: ordering
//! [Recipes]: recipes
//! [Deploying]: deploying
//! [Tracing]: tracing
//! [Troubleshooting]: troubleshooting
//! [Reliability]: reliability
//! [Catalogues]: catalogues

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/rmcp.md")]
pub mod with_rmcp {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/recipes.md")]
pub mod recipes {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/testing-a-server.md")]
pub mod testing_a_server {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/deploying.md")]
pub mod deploying {}

#[doc = include_str!("../docs/tracing.md")]
pub mod tracing {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/catalogues.md")]
pub mod catalogues {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/writing-a-layer.md")]
pub mod writing_a_layer {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/patterns.md")]
pub mod patterns {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/sessions.md")]
pub mod sessions {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/caching.md")]
pub mod caching {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/validation.md")]
pub mod validation {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/workflows.md")]
pub mod workflows {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/transactions.md")]
pub mod transactions {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/retries.md")]
pub mod retries {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/batching.md")]
pub mod batching {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/versions.md")]
pub mod versions {}
