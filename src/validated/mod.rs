//! Placeholder until the manual is written.

mod defaults;
mod hints;
mod layer;
mod limits;
mod plan;
mod references;
mod rules;
mod schema;
mod sentences;
mod typed;
mod violation;
pub use layer::ValidatedTool;
pub use limits::Limits;
pub use rules::{RuleContext, RuleError};
pub use schema::{Schema, SchemaError};
pub use violation::{Violation, Violations};

/// The entry of an error's data that says what was wrong.
pub const VALIDATION: &str = "mcp-patterns/validation";

#[cfg(test)]
mod tests;
