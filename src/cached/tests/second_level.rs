#[cfg(feature = "redis")]
mod cluster;
mod failing_open;
#[cfg(feature = "redis")]
mod failover;
pub(super) mod fleet;
#[cfg(feature = "redis")]
pub(super) mod in_redis;
mod leases;
mod levels;
pub(super) mod model;
#[cfg(feature = "redis")]
mod outages;
#[cfg(feature = "redis")]
mod reconnects;
mod setbacks;
#[cfg(feature = "redis")]
mod silence;
mod two_caches;

use super::*;
