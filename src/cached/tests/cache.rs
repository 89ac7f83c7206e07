mod engine;
mod interleavings;
pub(super) mod lookup;
mod panics;
mod races;
mod single_flight;
mod warm;

use super::*;
