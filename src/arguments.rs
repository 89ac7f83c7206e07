//! Arguments that layers add to the tools of a server: an idempotency key, the handle of a session, or one of your own layer.
//!
//! The layer adds the argument in each listing that passes it ([`LayerArgument::add_to`]) and takes it out of each call
//! ([`LayerArgument::take`]), so the tool never sees it. Layers further out learn of it from the same listings
//! ([`LayerArguments::of`]). They take it out before they look at the arguments, and put it back before they go on: a
//! [`ValidatedTool`](crate::ValidatedTool) checks what the tool's author asked for, and a [`CachedTool`](crate::CachedTool) or a
//! [`BatchedTool`](crate::BatchedTool) compares it.
//!
//! # What clients are told
//!
//! The argument is a property of the tool's schema, optional or required. Where the author's schema is a plain object, the schema
//! that is listed accepts exactly what the stack accepts. A schema that refers to another, combines several or restricts the names
//! or the number of properties is rewritten so that the argument fits in. Where that cannot be said exactly, the
//! schema that is listed accepts more than the author's, never less; the layers of the stack still check the author's own.
//!
//! A tool of [`Tool::new`] without a schema says nothing about its arguments, and still says nothing with one more.
//!
//! # Who is believed
//!
//! Only layers of the same stack. What the layers tell each other in a listing has a secret of this process in it, and is removed
//! before the listing leaves the outermost layer. So a server behind a proxy cannot declare one of its arguments to be a
//! layer's, and have it pass by the validation or the key of a cache.
//!
//! It reaches through composites and boxed handlers, and through handlers of your own that list the tools of the handler
//! below in the same thread. Where it does not arrive, layers further out check the argument as a part of the schema that is listed.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::arguments::LayerArgument;
//! use mcp_patterns::{ConfigError, Layer, Middleware, ValidatedTool, layer};
//! use serde_json::{Value, json};
//! use turbomcp::{McpHandler, McpResult, RequestContext, Tool, ToolResult};
//! # use turbomcp::prelude::*;
//!
//! /// Lets a caller ask what a tool would do.
//! #[derive(Clone)]
//! struct DryRun;
//!
//! impl DryRun {
//!     fn argument() -> LayerArgument {
//!         LayerArgument::new("dry_run", json!({"type": "boolean", "description": "Only say what would be done."}))
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
//!     fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
//!         Self::add_to(inner.list_tools_for(ctx))
//!     }
//!
//!     async fn call_tool<'a, H: McpHandler>(
//!         &'a self, inner: &'a H, name: &'a str, mut args: Value, ctx: &'a RequestContext,
//!     ) -> McpResult<ToolResult> {
//!         match Self::argument().take(&mut args) {
//!             Some(Value::Bool(true)) => Ok(ToolResult::text(format!("{name} would be called with {args}"))),
//!             _ => inner.call_tool(name, args, ctx).await,
//!         }
//!     }
//! }
//!
//! # #[derive(Clone)] struct Shop;
//! # #[server(name = "shop", version = "1.0.0")]
//! # impl Shop {
//! #     /// Buys tea.
//! #     #[tool] async fn buy(&self, grams: u32) -> McpResult<String> { Ok(format!("{grams} g of tea")) }
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let server = (ValidatedTool::new(), layer(DryRun)).layer(Shop);
//!
//! // Validated without `dry_run`, of which the schema of `buy` knows nothing.
//! let dry = server.call_tool("buy", json!({"grams": 50, "dry_run": true}), &RequestContext::new()).await?;
//! assert_eq!(dry.first_text(), Some(r#"buy would be called with {"grams":50}"#));
//! # Ok::<(), turbomcp::McpError>(()) }).unwrap();
//! ```
//!
//! [`Tool::new`]: turbomcp_types::Tool::new

mod add;
mod mark;
mod mentions;
mod widen;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_types::{Tool, ToolInputSchema};

use crate::ConfigError;
use crate::canonical::{encode, encode_str};
use crate::hints::Hints;
use crate::references::References;

pub(crate) use self::mark::{list, listing};

/// An argument that a layer adds to tools, and takes out of their calls.
#[derive(Debug, Clone)]
#[must_use]
pub struct LayerArgument {
    name: String,
    schema: Value,
    is_required: bool,
    is_in_keys: bool,
}

impl LayerArgument {
    /// Creates an optional argument. The `schema` of its value tells a model what to give.
    pub fn new(name: impl Into<String>, schema: Value) -> Self {
        Self { name: name.into(), schema, is_required: false, is_in_keys: true }
    }

    /// Tells clients that each call must give it.
    pub fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Says that what a read-only tool answers does not depend on it: calls that differ in nothing else are the same call for a
    /// cache or a batch further out.
    pub fn not_in_keys(mut self) -> Self {
        self.is_in_keys = false;
        self
    }

    /// Checks that none of `tools` has an argument of this name already: its author's, or one that a layer further in added.
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
                let reason = format!("`{}` has an argument `{}` of its own: name another one", tool.name, self.name);
                Err(ConfigError::invalid(layer, setting, reason))
            }
            None => Ok(()),
        }
    }

    /// Adds the argument to what `tool` says of itself. Returns false, and changes nothing, where the tool
    /// [has one of this name](Self::check): calls of such a tool must keep it.
    pub fn add_to(&self, tool: &mut Tool) -> bool {
        let references = references(tool);
        if mentions::mentions(&references, &self.name) {
            return false;
        }
        let own = own_schema(tool).into_owned();
        let mut added = LayerArguments::of(tool).0.map_or_else(Vec::new, |added| added.to_vec());
        tool.input_schema = add::add(&tool.input_schema, references, self);
        added.push(Added { name: self.name.as_str().into(), is_in_keys: self.is_in_keys });
        mark::write(tool, &added, &own);
        true
    }

    /// Takes the argument out of a call. `null` is as good as none.
    #[must_use]
    pub fn take(&self, args: &mut Value) -> Option<Value> {
        args.as_object_mut()?.remove(&self.name).filter(|value| !value.is_null())
    }

    /// Says whether a tool, as it was listed at or above the layer of this argument, has one of this name that is not this one.
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

/// The arguments that layers further in have added to a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerArguments(Option<Arc<[Added]>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Added {
    name: Box<str>,
    is_in_keys: bool,
}

impl LayerArguments {
    /// Reads what layers of this stack have added to `tool`, as it was listed to the layer that asks: in
    /// [`Middleware::bind`](crate::Middleware::bind), `observe_tools`, `list_tools` or `list_tools_for`.
    #[must_use]
    pub fn of(tool: &Tool) -> Self {
        match mark::read(tool) {
            Some(mark) => Self(Some(mark.added().into())),
            None => Self(None),
        }
    }

    /// Says whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added().is_empty()
    }

    /// Takes them out of a call, so that the tool's own arguments are left.
    #[must_use = "without them, the layers further in do not do what they are for"]
    pub fn take(&self, args: &mut Value) -> Taken {
        let Some(args) = args.as_object_mut() else { return Taken::default() };
        Taken(self.added().iter().filter_map(|added| args.remove_entry(&*added.name)).collect())
    }

    /// Returns the tool's own arguments, and copies them only where there are others.
    #[must_use]
    pub fn without<'a>(&self, args: &'a Value) -> Cow<'a, Value> {
        match args {
            Value::Object(entries) if entries.keys().any(|name| self.has(name)) => {
                let own = entries.iter().filter(|(name, _)| !self.has(name));
                Cow::Owned(Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect()))
            }
            _ => Cow::Borrowed(args),
        }
    }

    /// Appends those that an answer may depend on to the key of a call.
    pub(crate) fn encode<'a>(&self, given: impl Fn(&str) -> Option<&'a Value>, key: &mut Vec<u8>) {
        for added in self.added().iter().filter(|added| added.is_in_keys) {
            if let Some(value) = given(&added.name).filter(|value| !value.is_null()) {
                encode_str(&added.name, key);
                encode(value, key);
            }
        }
    }

    /// Those that are not the layer's that asks.
    pub(crate) fn except(&self, own: &LayerArgument) -> Self {
        let others: Arc<[_]> = self.added().iter().filter(|added| *added.name != *own.name).cloned().collect();
        Self(Some(others).filter(|others| !others.is_empty()))
    }

    #[cfg(feature = "validated")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.added().iter().map(|added| &*added.name)
    }

    fn has(&self, name: &str) -> bool {
        self.added().iter().any(|added| *added.name == *name)
    }

    fn added(&self) -> &[Added] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The arguments of layers that were [taken out](LayerArguments::take) of a call.
#[derive(Debug, Clone, Default)]
#[must_use = "without them, the layers further in do not do what they are for"]
pub struct Taken(Vec<(String, Value)>);

impl Taken {
    /// Puts them back, for the layers further in.
    pub fn put_back(self, args: &mut Value) {
        if let Some(args) = args.as_object_mut() {
            args.extend(self.0);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(taken, _)| taken == name).map(|(_, value)| value)
    }
}

/// Returns the schema of a tool as its author wrote it, where layers have added arguments.
#[must_use]
pub fn own_schema(tool: &Tool) -> Cow<'_, ToolInputSchema> {
    match mark::read(tool) {
        Some(mark) => Cow::Owned(mark.own_schema(&tool.input_schema)),
        None => Cow::Borrowed(&tool.input_schema),
    }
}

impl Added {
    /// An answer may depend on anything that a tool with effects is given.
    fn of(tool: &Tool, name: &str, is_in_keys: bool) -> Self {
        Self { name: name.into(), is_in_keys: is_in_keys || !Hints::of(tool).read_only }
    }
}

#[cfg(test)]
mod tests;
