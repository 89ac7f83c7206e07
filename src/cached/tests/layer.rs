mod clients;
mod context;
mod defaults;
mod failures;
mod handle;
mod identity;
mod invalidation;
mod macro_server;
mod meta;
#[cfg(feature = "metrics")]
mod metrics;
mod peers;
mod progress;
mod resources;
mod selection;
mod settings;
mod unrelated;
mod writes;

use super::*;
