//! Arguments that layers add to the tools of a server: an idempotency key, the handle of a session, or an argument of your own layer.
//!
//! The layer adds the argument in each listing that passes it ([`LayerArgument::add_to`]) and removes it from each call
//! ([`LayerArgument::take`]), so the tool never sees it. Layers further out learn of it from the same listings
//! ([`LayerArguments::of`]). They remove it before they read the arguments, and put it back before they call the inner handler: a
//! [`ValidatedTool`](crate::ValidatedTool) checks only the author's arguments, and a [`CachedTool`](crate::CachedTool) or a
//! [`BatchedTool`](crate::BatchedTool) compares the added one too.
//!
//! # The schema that clients see
//!
//! The argument is a property of the tool's schema, optional or required. Where the author's schema is a plain object, the listed schema
//! accepts exactly the calls that the stack accepts. A schema that refers to another, combines several, or restricts the names
//! or the number of properties is rewritten so that it accepts the argument. Where no schema expresses that exactly, the
//! listed schema accepts more than the author's, never less. The layers of the stack still check the author's own.
//!
//! A tool of [`Tool::new`] without a schema has no schema afterwards either.
//!
//! # Trust
//!
//! A layer trusts only layers of the same stack. The mark with which layers announce an argument contains a secret of this process, and
//! is removed before the listing leaves the outermost layer. So a server behind a proxy cannot declare one of its own arguments to be
//! a layer's, to bypass the validation or the key of a cache.
//!
//! The mark passes composites and boxed handlers, and handlers of your own that list the tools of the handler below in the same
//! thread. Where it does not arrive, layers further out check the argument as a part of the listed schema.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::arguments::LayerArgument;
//! use mcp_patterns::{ConfigError, Layer, Middleware, ValidatedTool, layer};
//! use serde_json::{Value, json};
//! use turbomcp::{McpHandler, McpResult, RequestContext, Tool, ToolResult};
//! use turbomcp::prelude::*;
//!
//! /// Lets a caller ask what a tool would do.
//! #[derive(Clone)]
//! struct DryRun;
//!
//! impl DryRun {
//!     fn argument() -> LayerArgument {
//!         LayerArgument::new(
//!             "dry_run",
//!             json!({"type": "boolean", "description": "Only say what would be done."}),
//!         )
//!     }
//!
//!     fn add_to(mut tools: Vec<Tool>) -> Vec<Tool> {
//!         tools.iter_mut().for_each(|tool| drop(Self::argument().add_to(tool)));
//!         tools
//!     }
//! }
//!
//! impl Middleware for DryRun {
//!     fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
//!         Self::argument().check("DryRun", "new", &inner.list_tools())?;
//!         Ok(self)
//!     }
//!
//!     fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
//!         Self::add_to(inner.list_tools())
//!     }
//!
//!     fn list_tools_for<H: McpHandler>(
//!         &self,
//!         inner: &H,
//!         ctx: &RequestContext,
//!     ) -> Vec<Tool> {
//!         Self::add_to(inner.list_tools_for(ctx))
//!     }
//!
//!     async fn call_tool<'a, H: McpHandler>(
//!         &'a self,
//!         inner: &'a H,
//!         name: &'a str,
//!         mut args: Value,
//!         ctx: &'a RequestContext,
//!     ) -> McpResult<ToolResult> {
//!         match Self::argument().take(&mut args) {
//!             Some(Value::Bool(true)) => {
//!                 Ok(ToolResult::text(format!("{name} would be called with {args}")))
//!             }
//!             _ => inner.call_tool(name, args, ctx).await,
//!         }
//!     }
//! }
//!
//! #[derive(Clone)]
//! struct Shop;
//! #[server(name = "shop", version = "1.0.0")]
//! impl Shop {
//!     /// Buys tea.
//!     #[tool]
//!     async fn buy(&self, grams: u32) -> McpResult<String> {
//!         Ok(format!("{grams} g of tea"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = (ValidatedTool::new(), layer(DryRun)).layer(Shop);
//!
//! // Validated without `dry_run`, which the schema of `buy` does not have.
//! let dry = server
//!     .call_tool("buy", json!({"grams": 50, "dry_run": true}), &RequestContext::new())
//!     .await?;
//! assert_eq!(dry.first_text(), Some(r#"buy would be called with {"grams":50}"#));
//! # Ok(()) }
//! ```
//!
//! [`Tool::new`]: turbomcp_types::Tool::new

mod add;
mod added;
mod mark;
mod mentions;
mod widen;

use std::borrow::Cow;

use serde_json::Value;
use turbomcp_types::{Tool, ToolInputSchema};

use self::mark::Added;
use crate::ConfigError;
use crate::references::References;

pub use self::added::{LayerArguments, Taken};
pub(crate) use self::mark::{TRACE, list, listing, remove_trace};

/// An argument that a layer adds to tools and removes from their calls.
#[derive(Debug, Clone)]
#[must_use]
pub struct LayerArgument {
    name: String,
    schema: Value,
    is_required: bool,
    is_in_keys: bool,
}

impl LayerArgument {
    /// Creates an optional argument. The `schema` of its value describes it to a model.
    pub fn new(name: impl Into<String>, schema: Value) -> Self {
        Self { name: name.into(), schema, is_required: false, is_in_keys: true }
    }

    /// Makes the argument required in the listed schema.
    pub fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// States that the answers of read-only tools do not depend on it: for a cache or a batch further out, calls that differ only in it
    /// are equal.
    pub fn not_in_keys(mut self) -> Self {
        self.is_in_keys = false;
        self
    }

    /// Checks that none of `tools` already has an argument of this name: its author's, or one that a layer further in added.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] of the `setting` of `layer` that chose the name.
    pub fn check<'a>(
        &self,
        layer: &'static str,
        setting: &'static str,
        tools: impl IntoIterator<Item = &'a Tool>,
    ) -> Result<(), ConfigError> {
        match tools.into_iter().find(|tool| self.is_taken(tool)) {
            Some(tool) => {
                let name = &self.name;
                let reason = match LayerArguments::of(tool).has(name) {
                    true => format!(
                        "a layer further in already adds the argument `{name}` to `{}`: let only one of the two act on this tool, or \
                         choose another name",
                        tool.name
                    ),
                    false => format!("`{}` already has an argument `{name}`: choose another name", tool.name),
                };
                Err(ConfigError::invalid(layer, setting, reason))
            }
            None => Ok(()),
        }
    }

    /// Adds the argument to the schema of `tool`. Returns false, and changes nothing, if the tool [already has one of this
    /// name](Self::check): the layer must not remove it from calls of such a tool.
    pub fn add_to(&self, tool: &mut Tool) -> bool {
        let references = references(tool);
        if mentions::mentions(&references, &self.name) {
            return false;
        }
        let own = own_schema(tool).into_owned();
        let mut added = LayerArguments::of(tool).to_vec();
        tool.input_schema = add::add(&tool.input_schema, references, self);
        added.push(Added { name: self.name.as_str().into(), is_in_keys: self.is_in_keys });
        mark::write(tool, &added, &own);
        true
    }

    /// Removes the argument from a call and returns it. `null` counts as absent.
    #[must_use]
    pub fn take(&self, args: &mut Value) -> Option<Value> {
        args.as_object_mut()?.remove(&self.name).filter(|value| !value.is_null())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether a tool, as it was listed at or above the layer of this argument, has another argument of this
    /// name.
    pub(crate) fn is_authors(&self, tool: &Tool) -> bool {
        !LayerArguments::of(tool).has(&self.name) && self.is_taken(tool)
    }

    fn is_taken(&self, tool: &Tool) -> bool {
        mentions::mentions(&references(tool), &self.name)
    }
}

fn references(tool: &Tool) -> References {
    References::of(serde_json::to_value(&tool.input_schema).unwrap_or_default())
}

/// Returns the schema of a tool without the arguments that layers have added.
#[must_use]
pub fn own_schema(tool: &Tool) -> Cow<'_, ToolInputSchema> {
    match mark::read(tool) {
        Some(mark) => Cow::Owned(mark.own_schema(&tool.input_schema)),
        None => Cow::Borrowed(&tool.input_schema),
    }
}

#[cfg(test)]
mod tests;
