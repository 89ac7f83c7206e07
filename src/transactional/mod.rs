//! T
mod current;
mod dialect;
mod error;
mod layer;
mod open;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod records;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transactor;
pub use current::{Connection, after_commit, current, set_rollback_only};
pub use dialect::{Dialect, Fault};
pub use error::{TRANSACTION, TransactionError, failed};
pub use layer::TransactionalTool;
pub use options::{Isolation, Propagation};
pub use records::IDEMPOTENCY_SCHEMA;
pub use transactor::Transactor;

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests;
