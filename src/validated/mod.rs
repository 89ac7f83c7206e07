//! Ends a call with bad input at the door, with an answer that says all that is wrong and how it should be: [`ValidatedTool`]
//! for whole tool calls, [`Schema`] and [`Limits`] inside a tool.
//!
//! Use it on every server: the specification demands that inputs are validated, and a model repairs what it is told well. What
//! it checks, a tool need not check again. It does not replace what must hold when the tool writes (stock that is not oversold):
//! that is a condition of the statement itself.
//!
//! A call passes four stages: limits on its size, the tool's own `inputSchema`, types with rules of their own
//! ([`validator::Validate`](https://docs.rs/validator)), and rules of business, which may look into the database. What a tool
//! answers is held against its `outputSchema`.
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
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let server = ValidatedTool::new().typed::<UserRegistration>("register").layer(Users);
//!
//! let args = serde_json::json!({"data": {"username": "al", "email": "nonsense", "age": 36, "password": "12345678"}});
//! let refused = server.call_tool("register", args, &RequestContext::new()).await?;
//! assert!(refused.is_error());
//! assert_eq!(
//!     refused.first_text(),
//!     Some("`data.email` must be an email address\n`data.username` must have at least 3 characters"),
//! );
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: rules of business, limits, and words of your own
//!
//! ```
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::validated::{Limits, RuleContext, Violation};
//! use mcp_patterns::{Layer, ValidatedTool};
//! use serde::Deserialize;
//! use serde_json::json;
//! # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     product: String,
//!     quantity: u32,
//! }
//! # async fn stock_of(_: &str) -> std::io::Result<u32> { Ok(3) }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let script = ScriptedServer::new("shop").with_plain("order", |_| async { Ok(ToolResult::text("ordered")) });
//! let server = ValidatedTool::new()
//!     .rule("order", |order: Order, cx: RuleContext| async move {
//!         let stock = stock_of(&order.product).await?; // an error here is `unavailable`, and no violation
//!         if stock < order.quantity {
//!             cx.refuse(Violation::new("out_of_stock", format!("Only {stock} units available")).at("quantity"));
//!         }
//!         Ok(())
//!     })
//!     .with_limits(Limits::new().with_max_bytes(64 * 1024))
//!     .with_message("required", |violation| format!("`{}` fehlt", violation.path()))
//!     .layer(script);
//!
//! let ctx = RequestContext::new();
//! let refused = server.call_tool("order", json!({"product": "tea", "quantity": 5}), &ctx).await?;
//! assert_eq!(refused.first_text(), Some("`quantity`: Only 3 units available"));
//! let refused = server.call_tool("order", json!({"product": "tea"}), &ctx).await?;
//! assert_eq!(refused.first_text(), Some("`quantity` fehlt"));
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Defaults
//!
//! - tools: every one. A tool that no listing has had yet is [looked up](crate::guide::catalogues), and refused if its caller's listing
//!   does not have it, unless [unlisted tools are allowed](ValidatedTool::allow_unlisted_tools). Where callers see different schemas, each
//!   is held to an own one
//! - limits: 1 MiB in all and 512 KiB in one string, 32 levels, 50,000 values, 10,000 in one array, 1,000 properties of one
//!   object ([`Limits`]); the first that is passed ends the check
//! - schema: compiled when the layer is put on; JSON Schema 2020-12 unless its `$schema` says otherwise; patterns match in linear
//!   time, nothing is fetched
//! - formats: all that JSON Schema defines are asserted, in every draft; [`Formats`] leaves some or all of them out. A UUID has its
//!   dashes, a time its offset. A name that JSON Schema does not define (`uint32`) says nothing
//! - no parameters: a tool that takes none says so with `"additionalProperties": false` (the specification's form) or with empty
//!   `properties` (the form of turbomcp's macro). The one exception is what `Tool::new` makes where its author has given no schema:
//!   `type`, `additionalProperties: false` and the `$schema` of 2020-12, and nothing else. That says nothing about the arguments,
//!   and the tool gets any
//! - types and rules: none; a type is asked although the schema has refused something, rules only about what is valid so far. A
//!   struct of which no field is a property of its place is a mistake that is found when the layer is put on
//! - coercion: none; `"18"` is no integer
//! - defaults of the schema: not filled in, unless [asked for](ValidatedTool::with_defaults)
//! - violations: up to 1,000 are found, 20 are listed; with the nearest name where a name is unknown
//! - what a tool answers: checked where it has `structuredContent` and an `outputSchema`
//!
//! # Order
//!
//! Outside everything but a limit on calls: what is refused loads no cache, claims no key and begins no transaction. Arguments that
//! [belong to a layer](crate::arguments) further in, such as an idempotency key or the handle of a session, are taken out before the schema, the
//! types and the rules see the call, and are that layer's to check. Rules see
//! the transaction of the call only inside a [`TransactionalTool`](crate::TransactionalTool); each refused call then costs a
//! transaction. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! | what is wrong | the answer: a result with `isError`, of the kind |
//! | --- | --- |
//! | the input | `invalid_params`: one sentence per violation, and in `_meta["io.turbomcp/errorData"]` under `mcp-patterns/validation` the list `violations` of `pointer`, `code`, `message`, `expected` and `hint`, with the number `omitted`, and `complete: false` where the search ended before everything was found |
//! | the tool is not known | the protocol error of the server itself: tool not found, -32602 |
//! | the tools cannot be listed | the protocol error `unavailable`; nothing was called |
//! | a rule failed | `unavailable`, with an id that the log repeats; an [`McpError`](turbomcp_core::McpError) of the rule is the answer as it is |
//! | the tool's answer | `internal`, with an id under which the log has what was wrong |
//! | a schema that came later and cannot be compiled | `internal`; the tool is not called |
//!
//! A place is named as on the wire: `/others/1/zipCode`. Codes are keywords of JSON Schema (`minLength`), codes of `validator`
//! (`length`), `decode` for what a type cannot be read from, the names of limits (`max_depth`), and those of your rules. **A value
//! that was refused is never repeated**, in no answer and in no log; messages of your own are yours to keep so. Names of
//! properties are repeated, up to 100 characters.
//!
//! A setting that cannot work, and a schema that cannot be compiled, is a [`ConfigError`](crate::ConfigError) when the layer is
//! put on. A schema with look-around or back-references in a pattern is one: write the pattern without, leave the tool out with
//! `except`, or serve all such tools without their schemas
//! ([`with_bad_schemas_left_out`](ValidatedTool::with_bad_schemas_left_out)).
//!
//! # Cost
//!
//! A call that is valid takes what `jsonschema` takes for its verdict. What telling adds for one that is not is bounded: it reads no
//! more than 64 times what there is to read, four times what the verdict read, and 20,000 values more. It ends after 1,000
//! errors, those of alternatives included; where it ended early, the answer says so. Only what is listed is put into words, and
//! the hints of an answer compare no more than 200,000 pairs of letters. Of a place whose pointer is longer than 64 KiB, it is only
//! told that the input does not match.
//!
//! The verdict itself takes time in proportion to the input, whatever the schema, with a factor that the schema chooses. These
//! make the factor large:
//!
//! | in the schema | for each | bounded by |
//! | --- | --- | --- |
//! | `enum` with values that are not all strings, or fewer than ten | value there: a comparison with each option | the options |
//! | `uniqueItems` below `uniqueItems` | level: all below it once more | `max_depth` |
//! | `anyOf`, `oneOf`, `allOf`, `if`, `dependentSchemas` | value there: each alternative | the alternatives; of recursive ones, what was found of an object is kept |
//! | `unevaluatedProperties`, `unevaluatedItems` | level: what is said of it elsewhere once more | `max_depth` |
//! | `pattern`, `format` | text: linear in its length | `max_string_bytes` |
//!
//! A rule or a `custom` function of a type takes what its author lets it take.
//!
//! # Cancellation
//!
//! A call that is dropped drops its rules. One that is cancelled while it waits for them ends within 50 ms, and the tool is not
//! called. A rule has no time limit of its own. A panic in a rule unwinds to the caller.
//!
//! # When the backend fails
//!
//! Limits, schemas and types need none. It fails closed where a rule does: the call is not made.
//!
//! # What is counted and logged
//!
//! The counter (feature `metrics`) `mcp_patterns_validation_total` by `tool` and `outcome`: `valid`, `refused`, `rule_failed`,
//! `bad_output`. Each call logs an event (debug) with `tool` and `validation`; a rule that failed is logged as a warning, and an
//! answer that breaks its promise as an error, both with the id in the answer.

mod builder;
mod call;
mod checks;
mod defaults;
mod fields;
mod formats;
mod hints;
mod layer;
mod limits;
mod messages;
mod meter;
mod metered;
mod patterns;
mod plan;
mod pointer;
mod rules;
mod schema;
mod settings;
mod telling;
mod typed;
mod violation;
mod violations;
mod walk;
mod words;
pub use builder::ValidatedTool;
pub use formats::Formats;
pub use limits::Limits;
pub use rules::{RuleContext, RuleError};
pub use schema::{Schema, SchemaError};
pub use violation::Violation;
pub use violations::Violations;

/// The entry of an error's data that says what was wrong.
pub const VALIDATION: &str = "mcp-patterns/validation";

#[cfg(test)]
mod tests;
