//! The error of a step that would wait for its own transaction.

use std::error::Error;
use std::fmt;

/// A step that would wait for its own transaction.
#[derive(Debug)]
pub(crate) struct WaitsForItself;

impl fmt::Display for WaitsForItself {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the transaction of this call holds the only connection of the pool, or the write lock of the database: give sessions \
             and keys a pool on another database, or write sessions `in_transactions`",
        )
    }
}

impl Error for WaitsForItself {}
