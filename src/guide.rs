//! Topics that concern more than one layer: the [order](ordering) of layers, what they know of the [tools](catalogues), the
//! [logs and metrics](tracing), [versions and stability](versions), and the [patterns] of production servers, each with the faults of the
//! snippet that is usually copied.

#[cfg(feature = "full")]
#[doc = include_str!("../docs/patterns.md")]
pub mod patterns {}

#[doc = include_str!("../docs/ordering.md")]
pub mod ordering {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/catalogues.md")]
pub mod catalogues {}

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

#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}

#[doc = include_str!("../docs/tracing.md")]
pub mod tracing {}

#[cfg(feature = "full")]
#[doc = include_str!("../docs/versions.md")]
pub mod versions {}
