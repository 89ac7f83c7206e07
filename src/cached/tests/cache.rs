pub(super) mod behind;
mod engine;
mod interleavings;
mod panics;
mod races;
mod single_flight;
mod warm;

use super::*;
