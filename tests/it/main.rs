//! The example servers, as a client sees them.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why and stops")]

mod both_sdks;
mod boxed;
mod catalogue;
mod client;
mod corpus;
mod counter;
mod durations;
mod explain;
mod faults;
mod forwarding;
mod gateway;
mod house;
mod lives;
mod metamorphic;
mod outcome;
mod pages;
#[expect(clippy::unwrap_used, reason = "the tests in the library have it, too")]
#[path = "../../src/testing/private_postgres.rs"]
mod private_postgres;
#[expect(dead_code, clippy::unwrap_used, reason = "the tests in the library have it, too")]
#[path = "../../src/testing/private_redis.rs"]
mod private_redis;
#[expect(dead_code, reason = "the tests in the library have it, too")]
#[path = "../../src/testing/proxy.rs"]
mod proxy;
mod reading;
mod refusals;
mod rmcp_answers;
mod rmcp_cost;
mod rmcp_examples;
mod rmcp_listings;
mod rmcp_sharing;
mod rmcp_stores;
mod rmcp_unchanged;
mod seed;
mod selection;
mod session;
mod small;
mod stacking;
mod support;
mod telemetry;
mod tour;
mod transfer;
mod users;
mod weather;
mod whole;
mod wrong_clock;
