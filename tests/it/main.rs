//! What a client sees of the example servers.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why and stops")]

mod boxed;
mod catalogue;
mod client;
mod corpus;
mod counter;
mod durations;
mod faults;
mod forwarding;
mod lives;
mod metamorphic;
mod outcome;
mod private;
mod reading;
mod seed;
mod selection;
mod session;
mod stacking;
mod support;
mod telemetry;
mod tour;
mod transfer;
mod users;
mod weather;
mod whole;
mod wrong_clock;
