//! Marks in a listing, by which layers announce their added arguments to each other.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use turbomcp_types::{Tool, ToolInputSchema};

use crate::hints::Hints;

/// An argument that a layer has added to a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) name: Box<str>,
    pub(super) is_in_keys: bool,
}

/// The entry of a tool's `_meta`. It never leaves the outermost layer.
const MARK: &str = "mcp-patterns/arguments";

/// The entry of a tool's `_meta` by which an explanation of the stack knows the tool again. Like the other one, it never leaves the
/// outermost layer.
pub(crate) const TRACE: &str = "mcp-patterns/explain";

/// The secret of a valid mark, unknown outside this process.
static SECRET: LazyLock<String> = LazyLock::new(|| {
    let half = || RandomState::new().hash_one(MARK);
    format!("{:016x}{:016x}", half(), half())
});

thread_local! {
    /// How many nested layers are listing the tools now. Listings are synchronous, so they are on one stack.
    static LISTING: Cell<usize> = const { Cell::new(0) };
}

/// Counts a listing layer until it is dropped.
struct Listing {
    is_outermost: bool,
}

impl Listing {
    fn begin() -> Self {
        let layers = LISTING.get();
        LISTING.set(layers + 1);
        Self { is_outermost: layers == 0 }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        LISTING.set(LISTING.get() - 1);
    }
}

/// Runs a closure that reads the listing of a handler below, with its marks.
pub(crate) fn listing<R>(reads: impl FnOnce() -> R) -> R {
    let _listing = Listing::begin();
    reads()
}

/// Lists the tools for outer layers. The outermost layer removes the marks.
pub(crate) fn list(list: impl FnOnce() -> Vec<Tool>) -> Vec<Tool> {
    let listing = Listing::begin();
    let mut tools = list();
    if listing.is_outermost {
        tools.iter_mut().for_each(remove);
    }
    tools
}

fn remove(tool: &mut Tool) {
    remove_entry(tool, MARK);
    remove_trace(tool);
}

/// Removes the trace of a listing that has ended.
pub(crate) fn remove_trace(tool: &mut Tool) {
    remove_entry(tool, TRACE);
}

fn remove_entry(tool: &mut Tool, name: &str) {
    if let Some(meta) = &mut tool.meta
        && meta.remove(name).is_some()
        && meta.is_empty()
    {
        tool.meta = None;
    }
}

/// The arguments that layers have added to a tool.
pub(super) struct Mark<'a> {
    tool: &'a Tool,
    entries: &'a Map<String, Value>,
}

/// Returns the mark of a tool, if layers of this process have made it.
pub(super) fn read(tool: &Tool) -> Option<Mark<'_>> {
    let entries = tool.meta.as_ref()?.get(MARK)?.as_object()?;
    let is_ours = entries.get("secret").and_then(Value::as_str) == Some(SECRET.as_str());
    is_ours.then_some(Mark { tool, entries })
}

/// Marks a tool for outer layers. Without an outer layer, the mark would never be removed.
pub(super) fn write(tool: &mut Tool, added: &[Added], own: &ToolInputSchema) {
    if LISTING.get() == 0 {
        return;
    }
    let added: Map<_, _> = added.iter().map(|added| (added.name.to_string(), added.is_in_keys.into())).collect();
    let mark = json!({"secret": *SECRET, "added": added, "own": own, "listed": tool.input_schema});
    tool.meta.get_or_insert_default().insert(MARK.to_owned(), mark);
}

impl Mark<'_> {
    pub(super) fn added(&self) -> Vec<Added> {
        let added = self.entries.get("added").and_then(Value::as_object).into_iter().flatten();
        added.map(|(name, in_keys)| Added::of(self.tool, name, in_keys == true)).collect()
    }

    /// The author's schema. If a layer in between has changed the widened schema: that schema without the added
    /// arguments.
    pub(super) fn own_schema(&self, listed: &ToolInputSchema) -> ToolInputSchema {
        let is_as_it_was =
            self.entries.get("listed").is_some_and(|was| serde_json::to_value(listed).as_ref().ok() == Some(was));
        if is_as_it_was
            && let Some(own) = self.entries.get("own").and_then(|own| serde_json::from_value(own.clone()).ok())
        {
            return own;
        }
        let mut own = listed.clone();
        for added in self.added() {
            if let Some(properties) = own.properties.as_mut().and_then(Value::as_object_mut) {
                properties.remove(&*added.name);
            }
            if let Some(required) = &mut own.required {
                required.retain(|name| **name != *added.name);
            }
        }
        own
    }
}

impl Added {
    /// The answer of a tool with effects may depend on any of its arguments.
    fn of(tool: &Tool, name: &str, is_in_keys: bool) -> Self {
        Self { name: name.into(), is_in_keys: is_in_keys || !Hints::of(tool).read_only }
    }
}
