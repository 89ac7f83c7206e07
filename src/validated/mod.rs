//! Rejects a call with invalid arguments, and lists every violation and how to correct it: [`ValidatedTool`] for whole tool calls,
//! [`Schema`] and [`Limits`] inside a tool.
//!
//! Use it on every server: the specification demands that inputs are validated, and a model corrects its call if the error is precise.
//! The tool need not repeat these checks. The layer does not replace a condition that must hold when the tool writes (stock that is not
//! oversold): such a condition belongs in the statement itself.
//!
//! A call passes four stages: limits on its size, the tool's own `inputSchema`, types with rules of their own
//! ([`validator::Validate`](https://docs.rs/validator)), and business rules, which may query the database. The result of a tool is
//! checked against its `outputSchema`.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features validated,testing
//! cargo add turbomcp serde_json
//! cargo add serde --features derive
//! cargo add schemars@1
//! cargo add validator@0.21 --features derive
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, ValidatedTool};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use turbomcp::prelude::*;
//! use validator::Validate;
//!
//! #[derive(Debug, Deserialize, JsonSchema, Validate)]
//! struct UserRegistration {
//!     #[validate(length(min = 3, max = 20))]
//!     username: String,
//!     #[validate(email)]
//!     email: String,
//!     #[validate(range(min = 18, max = 120))]
//!     age: i32,
//!     #[validate(length(min = 8))]
//!     password: String,
//! }
//!
//! #[derive(Clone)]
//! struct Users;
//!
//! #[server(name = "users", version = "1.0.0")]
//! impl Users {
//!     /// Registers a user.
//!     #[tool]
//!     async fn register(&self, data: UserRegistration) -> McpResult<String> {
//!         Ok(format!("User {} registered successfully", data.username))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ValidatedTool::new().typed::<UserRegistration>("register").layer(Users);
//!
//! let args = serde_json::json!({
//!     "data": {"username": "al", "email": "nonsense", "age": 36, "password": "12345678"},
//! });
//! let refused = server.call_tool("register", args, &RequestContext::new()).await?;
//! assert!(refused.is_error());
//! assert_eq!(
//!     refused.first_text(),
//!     Some(
//!         "`data.email` must be an email address\n\
//!          `data.username` must have at least 3 characters"
//!     ),
//! );
//! # Ok(()) }
//! ```
//!
//! # Example: business rules, limits, and messages of your own
//!
//! ```
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::validated::{Limits, RuleContext, Violation};
//! use mcp_patterns::{Layer, ValidatedTool};
//! use serde::Deserialize;
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     product: String,
//!     quantity: u32,
//! }
//! async fn stock_of(_: &str) -> std::io::Result<u32> {
//!     Ok(3)
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("shop")
//!     .with_plain("order", |_| async { Ok(ToolResult::text("ordered")) });
//! let server = ValidatedTool::new()
//!     .rule("order", |order: Order, cx: RuleContext| async move {
//!         // An error here is `unavailable`, and no violation.
//!         let stock = stock_of(&order.product).await?;
//!         if stock < order.quantity {
//!             cx.refuse(
//!                 Violation::new("out_of_stock", format!("Only {stock} units available"))
//!                     .at("quantity"),
//!             );
//!         }
//!         Ok(())
//!     })
//!     .with_limits(Limits::new().with_max_bytes(64 * 1024))
//!     .with_message("required", |violation| format!("`{}` fehlt", violation.path()))
//!     .layer(script);
//!
//! let ctx = RequestContext::new();
//! let refused =
//!     server.call_tool("order", json!({"product": "tea", "quantity": 5}), &ctx).await?;
//! assert_eq!(refused.first_text(), Some("`quantity`: Only 3 units available"));
//! let refused = server.call_tool("order", json!({"product": "tea"}), &ctx).await?;
//! assert_eq!(refused.first_text(), Some("`quantity` fehlt"));
//! # Ok(()) }
//! ```
//!
//! # Defaults
//!
//! - tools: every one. A tool that is in no listing yet is [looked up](crate::guide::catalogues), and rejected if its caller's listing
//!   does not have it, unless [unlisted tools are allowed](ValidatedTool::allow_unlisted_tools). If callers see different schemas, each
//!   call is checked against the schema of its caller
//! - limits: 1 MiB in all and 512 KiB in one string, 32 levels, 50,000 values, 10,000 in one array, 1,000 properties of one
//!   object ([`Limits`]); the first limit that is exceeded ends the check
//! - schema: compiled when the layer is put on; JSON Schema 2020-12 unless its `$schema` says otherwise; patterns match in linear
//!   time, nothing is fetched
//! - formats: all that JSON Schema defines are asserted, in every draft; [`Formats`] excludes some or all of them. A UUID has its
//!   dashes, a time its offset. A name that JSON Schema does not define (`uint32`) has no effect
//! - no parameters: a tool that takes none declares that with `"additionalProperties": false` (the specification's form) or with empty
//!   `properties` (the form of turbomcp's macro). The one exception is the schema that `Tool::new` makes if its author has given none:
//!   `type`, `additionalProperties: false` and the `$schema` of 2020-12, and nothing else. It says nothing about the arguments, so the
//!   tool gets any
//! - types and rules: none. A type is checked even if the schema has rejected something, a rule only if everything else is valid. A
//!   struct without a field that is a property of its place is an error when the layer is put on
//! - coercion: none; `"18"` is not an integer
//! - defaults of the schema: not filled in, unless [requested](ValidatedTool::with_defaults)
//! - violations: up to 1,000 are found, 20 are listed; an unknown name comes with the nearest known one
//! - the result of a tool: checked if it has `structuredContent` and the tool has an `outputSchema`
//!
//! # Order
//!
//! Outside of all layers but a limit on calls: a rejected call loads no cache, claims no key and begins no transaction. [Arguments of
//! inner layers](crate::arguments), such as an idempotency key or a session handle, are removed before the schema, the types and the
//! rules see the call; the layer that they belong to checks them. Rules see the transaction of the call only inside a
//! [`TransactionalTool`](crate::TransactionalTool); each rejected call then costs a transaction. See [the
//! guide](crate::guide::ordering).
//!
//! # Errors
//!
//! | problem | the answer: a result with `isError`, of the kind |
//! | --- | --- |
//! | invalid input | `invalid_params`: one sentence per violation, and in `_meta["io.turbomcp/errorData"]` under `mcp-patterns/validation` the list `violations` of `pointer`, `code`, `message`, `expected` and `hint`, with the number `omitted`, and `complete: false` if the search ended before everything was found |
//! | unknown tool | the protocol error of the server itself: tool not found, -32602 |
//! | the tools cannot be listed | the protocol error `unavailable`; no tool was called |
//! | a rule failed | `unavailable`, with an id that is also in the log; an [`McpError`](turbomcp_core::McpError) of the rule is returned unchanged |
//! | invalid result of the tool | `internal`, with an id under which the log has the violations |
//! | a later schema that cannot be compiled | `internal`; the tool is not called |
//!
//! A pointer has the names on the wire: `/others/1/zipCode`. Codes are keywords of JSON Schema (`minLength`), codes of `validator`
//! (`length`), `decode` if the type cannot be read from the value, the names of limits (`max_depth`), and those of your rules. **A
//! rejected value is never repeated**, in no answer and in no log; keep to that in messages of your own. Names of properties are
//! repeated, up to 100 characters.
//!
//! A setting that cannot work, or a schema that cannot be compiled, is a [`ConfigError`](crate::ConfigError) when the layer is put on. A
//! schema with look-around or back-references in a pattern cannot be compiled: write the pattern without them, exclude the tool with
//! `except`, or serve all such tools without their schemas ([`allow_invalid_schemas`](ValidatedTool::allow_invalid_schemas)).
//!
//! # Cost
//!
//! A valid call costs the verdict of `jsonschema`. The report for an invalid call is bounded: it reads at most 64 times the
//! size of the input, four times what the verdict read, and 20,000 values more. It ends after 1,000 errors, those of alternatives
//! included; if it ended early, the answer says so. Only listed violations get a message, and the hints of an answer compare at
//! most 200,000 pairs of letters. If a pointer is longer than 64 KiB, the answer only says that the input does not match.
//!
//! The verdict takes time in proportion to the input, whatever the schema, with a factor that the schema determines. These keywords
//! make the factor large:
//!
//! | in the schema | cost for each | bounded by |
//! | --- | --- | --- |
//! | `enum` with values that are not all strings, or fewer than ten | value there: a comparison with each option | the options |
//! | `uniqueItems` below `uniqueItems` | level: everything below it once more | `max_depth` |
//! | `anyOf`, `oneOf`, `allOf`, `if`, `dependentSchemas` | value there: each alternative | the alternatives; results of recursive ones are remembered for each object |
//! | `unevaluatedProperties`, `unevaluatedItems` | level: the other keywords about it once more | `max_depth` |
//! | `pattern`, `format` | text: linear in its length | `max_string_bytes` |
//!
//! The cost of a rule or of a `custom` function of a type is not bounded.
//!
//! # Cancellation
//!
//! A call that is dropped drops its rules. A call that is cancelled while it waits for them ends within 50 ms, and the tool is not
//! called. A rule has no time limit. A panic in a rule unwinds to the caller.
//!
//! # When the backend fails
//!
//! Limits, schemas and types need no backend. If a rule fails, the layer fails closed: the tool is not called.
//!
//! # What is counted and logged
//!
//! The counter (feature `metrics`) `mcp_patterns_validation_total` by `tool` and `outcome`: `valid`, `refused`, `rule_failed`,
//! `bad_output`. Each call logs an event (debug) with `tool` and `validation`. A rule that failed is logged as a warning, and a result
//! that does not match its output schema as an error, both with the id in the answer.

mod builder;
mod call;
mod checks;
mod defaults;
mod describe;
mod fields;
mod formats;
mod hints;
mod layer;
mod limits;
mod messages;
mod meter;
mod metered;
mod patterns;
mod phrases;
mod plan;
mod pointer;
mod report;
mod rules;
mod schema;
mod settings;
mod typed;
mod violation;
mod violations;
mod walk;
pub use builder::ValidatedTool;
pub use formats::Formats;
pub use limits::Limits;
pub use rules::{RuleContext, RuleError};
pub use schema::{Schema, SchemaError};
pub use violation::Violation;
pub use violations::Violations;

const LAYER: &str = "ValidatedTool";

/// The entry of an error's data with the violations, or with the reason for another failure.
pub const VALIDATION: &str = "mcp-patterns/validation";

#[cfg(test)]
mod tests;
