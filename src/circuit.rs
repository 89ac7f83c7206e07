//! The circuit breaker: refuses calls of what fails, and tries it again after a pause.
//!
//! `BreakerTool`, the second level of the cache and the rates in Redis share it. It knows neither calls nor tools.

#![cfg_attr(not(feature = "breaker"), allow(unreachable_pub, reason = "only `breaker` exports them"))]

mod engine;
mod recent;
mod rules;
mod state;

#[cfg(test)]
mod tests;

pub(crate) use self::engine::{Circuit, Permit, Refused};
pub(crate) use self::recent::Failed;
pub(crate) use self::rules::Rules;
pub use self::rules::Window;
pub(crate) use self::state::Change;
pub use self::state::{Reason, State};
