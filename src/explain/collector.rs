//! How the layers of a stack learn of each other: each of them says what it does while a listing passes.
//!
//! A listing is synchronous, so that all of it happens in one thread: whatever is between two layers (a composite, a boxed server, a
//! handler of the user's) only has to list in the same thread. A mark in the `_meta` of each tool says which tool of the inner layers
//! it is, since a composite renames the tools. Where the mark is lost, the name says it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use turbomcp_core::McpHandler;
use turbomcp_types::Tool;

use super::description::{Description, Role};
use super::orders::{Repeated, WrongOrder, repeated_role, wrong_order};
use super::text;
use super::warning::Warning;
use crate::arguments::{TRACE, listing, remove_trace};

thread_local! {
    static IS_ACTIVE: Cell<bool> = const { Cell::new(false) };
    static COLLECTOR: RefCell<Option<Collector>> = const { RefCell::new(None) };
}

/// What is known of the layers that a listing has passed.
pub(super) struct Collector {
    /// Marks of other listings do not count.
    nonce: String,
    pub(super) layers: Vec<Passed>,
    traces: Vec<Trace>,
    pub(super) warnings: Vec<Warning>,
    /// The last listing that a layer made of the handler below while it was put on.
    bound: Option<Vec<Tool>>,
}

/// A layer that the listing has passed.
pub(super) struct Passed {
    /// Its address: a handler may list twice.
    address: usize,
    /// `None` until the listing leaves the layer, and for a layer that is transparent.
    pub(super) description: Option<Description>,
}

/// The layers that a tool has passed, from inside out.
pub(super) type Trace = Vec<Step>;

#[derive(Clone)]
pub(super) struct Step {
    /// The index of the layer.
    pub(super) layer: usize,
    /// The tool's name there.
    pub(super) tool: String,
}

impl Collector {
    fn new() -> Self {
        let half = || RandomState::new().hash_one(TRACE);
        Self {
            nonce: format!("{:016x}{:016x}", half(), half()),
            layers: Vec::new(),
            traces: Vec::new(),
            warnings: Vec::new(),
            bound: None,
        }
    }

    fn enter(&mut self, address: usize) -> usize {
        self.layers.iter().position(|layer| layer.address == address).unwrap_or_else(|| {
            self.layers.push(Passed { address, description: None });
            self.layers.len() - 1
        })
    }

    /// Notes what a layer does with the tools that it lists. `first` is the first trace of the layers in it. In a server that `is_empty`,
    /// no layer is idle yet. Returns the warnings.
    fn leave(
        &mut self,
        layer: usize,
        first: usize,
        description: Description,
        tools: &mut [Tool],
        is_empty: bool,
    ) -> Vec<Warning> {
        let mut mistakes = BTreeMap::<Mistake, Vec<String>>::new();
        let names = self.names(first, tools);
        for tool in tools.iter_mut() {
            let trace = self.trace(tool, layer, first, &names);
            for mistake in self.mistakes(&description, &tool.name, &self.traces[trace]) {
                mistakes.entry(mistake).or_default().push(tool.name.clone());
            }
            self.traces[trace].push(Step { layer, tool: tool.name.clone() });
            let mark = format!("{}:{trace}", self.nonce);
            tool.meta.get_or_insert_default().insert(TRACE.to_owned(), Value::String(mark));
        }
        let idle = description.idle().filter(|_| !is_empty).map(|idle| Warning::Idle {
            layer: description.name().to_owned(),
            reason: idle.reason.clone(),
            fix: idle.fix.clone(),
        });
        let used = description.idle().is_none();
        let unused = description.unused().iter().filter(|_| used).map(|(unused, tools)| Warning::Unused {
            layer: description.name().to_owned(),
            setting: unused.setting,
            tools: tools.clone(),
            fix: unused.fix,
        });
        let name = |layer: usize| self.layers[layer].description.as_ref().map_or("", Description::name).to_owned();
        let outside = || description.name().to_owned();
        let wrong = mistakes.into_iter().filter_map(|(mistake, tools)| match mistake.kind()? {
            Kind::Order(order) => Some(Warning::WrongOrder {
                outside: outside(),
                inside: name(mistake.inside),
                tools,
                reason: order.reason,
            }),
            Kind::Repeated(repeated) => Some(Warning::Repeated {
                outside: outside(),
                inside: name(mistake.inside),
                role: repeated.role,
                tools,
                reason: repeated.reason,
            }),
        });
        let found: Vec<_> = idle.into_iter().chain(unused).chain(wrong).collect();
        found.iter().for_each(|warning| {
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        });
        match &mut self.layers[layer].description {
            Some(known) => known.add(description),
            unknown => *unknown = Some(description),
        }
        found
    }

    /// The traces of the layers further in by the last name of their tool, if they are needed: the first of each name.
    fn names(&self, first: usize, tools: &[Tool]) -> HashMap<String, usize> {
        if self.traces.len() == first || tools.iter().all(|tool| self.marked(tool, first).is_some()) {
            return HashMap::new();
        }
        let name = |(at, trace): (usize, &Trace)| Some((trace.last()?.tool.clone(), first + at));
        self.traces[first..].iter().enumerate().rev().filter_map(name).collect()
    }

    /// The trace that the mark of a tool names, if it is one of the layers further in.
    fn marked(&self, tool: &Tool, first: usize) -> Option<usize> {
        let (nonce, trace) = tool.meta.as_ref()?.get(TRACE)?.as_str()?.split_once(':')?;
        let trace = trace.parse().ok()?;
        (nonce == self.nonce && (first..self.traces.len()).contains(&trace)).then_some(trace)
    }

    /// The trace of a tool that a layer lists, without a step for this layer.
    fn trace(&mut self, tool: &Tool, layer: usize, first: usize, names: &HashMap<String, usize>) -> usize {
        let known = self.marked(tool, first).or_else(|| names.get(&tool.name).copied());
        let trace = match known {
            Some(known) if self.traces[known].last().is_none_or(|last| last.layer != layer) => return known,
            // One tool is listed under two names.
            Some(known) => self.traces[known].iter().filter(|step| step.layer != layer).cloned().collect(),
            None => Trace::new(),
        };
        self.traces.push(trace);
        self.traces.len() - 1
    }

    /// What is wrong with a layer outside of those that the tool has passed.
    fn mistakes(&self, outside: &Description, tool: &str, trace: &Trace) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut in_transaction = false;
        for &role in outside.roles(tool) {
            in_transaction |= role == Role::Transaction;
        }
        for step in trace.iter().rev() {
            let Some(inside) = self.layers[step.layer].description.as_ref() else { continue };
            let may_need_transaction = inside.of_tool(&step.tool).is_some_and(|acts| acts.may_need_transaction);
            for &outer in outside.roles(tool) {
                for &inner in inside.roles(&step.tool) {
                    let is_meant = inner == Role::Validate && in_transaction && may_need_transaction;
                    let mistake = Mistake { inside: step.layer, outer, inner };
                    if !is_meant && mistake.kind().is_some() {
                        mistakes.push(mistake);
                    }
                }
                // The retries repeat only what has a key, and do not see that of a layer further out.
                if outer == Role::Idempotency && inside.role() == Role::Retry && inside.leaves_out(&step.tool) {
                    mistakes.push(Mistake { inside: step.layer, outer, inner: Role::Retry });
                }
            }
            in_transaction |= inside.roles(&step.tool).contains(&Role::Transaction);
        }
        mistakes
    }

    /// The layers that a listed tool has passed, from outside in.
    pub(super) fn passed_by(&self, tool: &Tool) -> impl Iterator<Item = &Step> {
        let trace = self.marked(tool, 0).map(|trace| &self.traces[trace]);
        trace.into_iter().flatten().rev()
    }
}

/// A pair of roles that is wrong with a layer further in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mistake {
    inside: usize,
    outer: Role,
    inner: Role,
}

enum Kind {
    Order(&'static WrongOrder),
    Repeated(&'static Repeated),
}

impl Mistake {
    fn kind(self) -> Option<Kind> {
        match wrong_order(self.outer, self.inner) {
            Some(order) => Some(Kind::Order(order)),
            None if self.outer == self.inner => repeated_role(self.outer).map(Kind::Repeated),
            None => None,
        }
    }
}

/// Collects until it is dropped. A listing that is being collected continues afterwards.
struct Collecting {
    before: Option<Collector>,
}

impl Collecting {
    fn begin() -> Self {
        IS_ACTIVE.set(true);
        Self { before: COLLECTOR.replace(Some(Collector::new())) }
    }

    fn end(self) -> Option<Collector> {
        COLLECTOR.take()
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        let before = self.before.take();
        IS_ACTIVE.set(before.is_some());
        COLLECTOR.replace(before);
    }
}

fn with<R>(run: impl FnOnce(&mut Collector) -> R) -> Option<R> {
    COLLECTOR.with_borrow_mut(|collector| collector.as_mut().map(run))
}

/// Collects what passes while `list` lists.
pub(super) fn collect(list: impl FnOnce() -> Vec<Tool>) -> (Vec<Tool>, Collector) {
    let collecting = Collecting::begin();
    // The marks of the tools stay.
    let tools = listing(list);
    (tools, collecting.end().unwrap_or_else(Collector::new))
}

/// A layer on its handler, as it takes part in listings.
pub(crate) struct Passing<'a> {
    pub(crate) address: usize,
    /// Whether the order of the layer has been checked.
    pub(crate) is_checked: &'a AtomicBool,
    /// Whether the server has resources or prompts.
    pub(crate) has_reads: &'a dyn Fn() -> bool,
}

/// Says whether a server has resources or prompts.
pub(crate) fn has_reads<H: McpHandler>(server: &H) -> bool {
    !(server.list_resources().is_empty()
        && server.list_resource_templates().is_empty()
        && server.list_prompts().is_empty())
}

/// Runs `list`, which lists the tools through the layer, and notes what the layer does with them if somebody wants to know.
///
/// A layer that was put on before there were tools is checked in the first listing that has some.
pub(crate) fn pass(
    layer: &Passing<'_>,
    list: impl FnOnce() -> Vec<Tool>,
    describe: impl FnOnce(&[Tool]) -> Description,
) -> Vec<Tool> {
    let is_collected = IS_ACTIVE.get();
    if !is_collected && layer.is_checked.load(Ordering::Relaxed) {
        return list();
    }
    let _collecting = (!is_collected).then(Collecting::begin);
    let place = with(|collector| (collector.enter(layer.address), collector.traces.len()));
    let mut tools = list();
    if let Some((place, first)) = place {
        check(layer, place, first, &mut tools, describe);
    }
    if !is_collected {
        tools.iter_mut().for_each(remove_trace);
    }
    tools
}

fn check(
    layer: &Passing<'_>,
    place: usize,
    first: usize,
    tools: &mut [Tool],
    describe: impl FnOnce(&[Tool]) -> Description,
) {
    let description = describe(tools);
    if description.is_transparent() {
        layer.is_checked.store(true, Ordering::Relaxed);
        return;
    }
    let is_empty = tools.is_empty() && !(description.idle().is_some() && (layer.has_reads)());
    let found = with(|collector| collector.leave(place, first, description, tools, is_empty)).unwrap_or_default();
    if !is_empty && !layer.is_checked.swap(true, Ordering::Relaxed) {
        found.iter().for_each(|warning| tracing::warn!(%warning, "a stack of layers has a mistake"));
    }
}

/// Lists the tools for a layer that is being put on `inner`.
///
/// The layer is checked with this listing, so that it needs no second one.
pub(crate) fn list_for_bind<H: McpHandler>(inner: &H) -> Vec<Tool> {
    let tools = inner.list_tools();
    if IS_ACTIVE.get() {
        let listed = tools.clone();
        with(|collector| collector.bound = Some(listed));
    }
    tools
}

/// Puts a layer on: `bind` binds it to `inner`, then it is checked against the layers further in, and logged. Returns the layer, and
/// whether it is checked already.
pub(crate) fn put_on<M, E, H: McpHandler>(
    inner: &H,
    bind: impl FnOnce() -> Result<M, E>,
    describe: impl Fn(&M, &[Tool]) -> Description,
) -> Result<(M, AtomicBool), E> {
    let _collecting = Collecting::begin();
    let layer = listing(bind)?;
    let bound = with(|collector| collector.bound.take()).flatten();
    if bound.is_none() {
        let description = describe(&layer, &[]);
        if !description.needs_tools() {
            log(&description, None);
            return Ok((layer, AtomicBool::new(true)));
        }
    }
    let mut tools = bound.unwrap_or_else(|| listing(|| inner.list_tools()));
    let is_checked = AtomicBool::new(false);
    // No other layer has this address.
    if let Some(place) = with(|collector| collector.enter(0)) {
        let passing = Passing { address: 0, is_checked: &is_checked, has_reads: &|| has_reads(inner) };
        check(&passing, place, 0, &mut tools, |tools| {
            let description = describe(&layer, tools);
            log(&description, Some(tools));
            description
        });
    }
    Ok((layer, is_checked))
}

/// Logs that a layer was put on. Without tools, it acts on every tool.
fn log(description: &Description, tools: Option<&[Tool]>) {
    if description.is_transparent() {
        return;
    }
    let names = tools.map(|tools| {
        let names = tools.iter().map(|tool| tool.name.as_str());
        names.filter(|tool| description.acts_on(tool)).collect::<Vec<_>>()
    });
    let (layer, tools) = (description.name(), names.as_ref().map(Vec::len));
    let names = names.map_or_else(|| "every tool".to_owned(), |names| text::names(names.into_iter()));
    tracing::info!(layer, tools, names, "a layer was put on");
}
