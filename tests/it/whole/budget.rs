//! The budgets: the size of a call's future, and the allocations of a call, for each layer, each pair and all of them.
//!
//! The figures are upper bounds, close to the measured values. A change that exceeds one adds data to a future, or to
//! the heap, that each call through the layer pays for.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mcp_patterns::cached::Reads;
use mcp_patterns::limited::{Concurrency, Per, Rate};
use mcp_patterns::output::Spill;
use mcp_patterns::{AuditTool, BatchedTool, BreakerTool, Layer, LimitedTool, Middleware, OutputTool, layer};
use serde_json::{Value, json};
use sqlx::SqlitePool;
use tokio::runtime::{Builder, Runtime};
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpHandler, McpResult, McpSession, RequestContext, SessionFuture};
use turbomcp_types::ToolResult;

use super::shop::{self, Shop, ada, args, batched, cached, idempotent, own, retry, session, validated};

/// Takes each of the servers.
trait Visit {
    fn visit<H: McpHandler>(&mut self, layers: &[&'static str], server: H);
}

/// Visits each layer alone and each pair in the documented order, in front of `$server`.
macro_rules! each_layer_and_pair {
    ($visitor:expr, $server:expr;) => {};
    ($visitor:expr, $server:expr; $outer:ident $($inner:ident)*) => {
        $visitor.visit(&[stringify!($outer)], $outer().layer($server));
        $($visitor.visit(&[stringify!($outer), stringify!($inner)], ($outer(), $inner()).layer($server));)*
        each_layer_and_pair!($visitor, $server; $($inner)*);
    };
}

fn visit_all<H: McpHandler>(visitor: &mut impl Visit, pool: &SqlitePool, server: &H) {
    let transactional = || shop::transactional(pool);
    each_layer_and_pair!(visitor, server.clone();
        audit output own validated session cached batched retry breaker limited idempotent transactional);
}

/// A breaker that also watches for slow calls.
fn breaker() -> BreakerTool {
    BreakerTool::new().with_slow_calls(Duration::from_secs(60)).only(["stock"])
}

/// Records each call of one tool, as a function receives it.
fn audit() -> AuditTool {
    AuditTool::new().only(["stock"]).with_arguments("stock", ["/id"]).with_sink(|event| {
        black_box(event);
    })
}

/// All limits, and so high that they let every call through.
fn limited() -> LimitedTool {
    let (rate, concurrency) = (Rate::per_second(1_000_000), Concurrency::new(1_000).with_queue(1_000));
    [Per::Tool, Per::Principal, Per::PrincipalAndTool]
        .into_iter()
        .fold(LimitedTool::new(), |limits, per| limits.with_rate(per, rate).with_concurrency(per, concurrency))
        .with_timeout(Duration::from_secs(60))
        .only(["stock"])
}

/// All settings, and bounds that every answer is within.
fn output() -> OutputTool {
    OutputTool::new().with_max_items(10).with_spill(Spill::new()).with_redaction(|_, text| text.into()).only(["stock"])
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn future_size(server: &impl McpHandler) -> usize {
    size_of_val(&server.call_tool("ring", Value::Null, &ada()))
}

/// The most bytes that a layer adds to the future of a call.
fn size_budget(layer: &str) -> usize {
    match layer {
        // An `async` body, with the arguments.
        "own" => 128,
        // Their work on a call is on the heap.
        _ => 16,
    }
}

/// Checks the sizes of futures against the budgets.
struct Sizes {
    inner: usize,
}

impl Visit for Sizes {
    fn visit<H: McpHandler>(&mut self, layers: &[&'static str], server: H) {
        let over = future_size(&server) - self.inner;
        let budget = layers.iter().copied().map(size_budget).sum();
        assert!(
            over <= budget,
            "{layers:?} add {over} bytes to a future of {}, at most {budget} are allowed",
            self.inner
        );
    }
}

/// Holds much data while the call below runs.
#[derive(Debug, Clone)]
struct Bulky;

impl Middleware for Bulky {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let bulk = [0_u8; 16 << 10];
        let result = inner.call_tool(name, args, ctx).await;
        black_box(&bulk);
        result
    }
}

#[test]
fn a_layer_adds_the_same_few_bytes_to_a_calls_future_whatever_is_inside() {
    let runtime = runtime();
    let pool = runtime.block_on(shop::database()).expect("a database");
    let bulky = layer(Bulky).layer(Shop);
    assert!(future_size(&bulky) > 16 << 10, "it would not show what is kept twice");
    visit_all(&mut Sizes { inner: future_size(&Shop) }, &pool, &Shop);
    visit_all(&mut Sizes { inner: future_size(&bulky) }, &pool, &bulky);
}

#[test]
fn the_future_of_a_call_through_all_layers_stays_under_a_kilobyte_and_a_half() {
    let runtime = runtime();
    let pool = runtime.block_on(shop::database()).expect("a database");
    let size = future_size(&shop::whole(&pool));
    assert!(size <= 1536, "{size} bytes");
}

/// A kind of call.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    tool: &'static str,
    /// Whether each call has different arguments.
    differs: bool,
    /// The layer without which the tool fails.
    needs: Option<&'static str>,
}

/// Listed separately, since its database works in another thread, which is not counted.
const PAYMENT: Kind = Kind { name: "payment", tool: "pay", differs: true, needs: Some("transactional") };

const KINDS: [Kind; 8] = [
    Kind { name: "idle", tool: "ring", differs: false, needs: None },
    Kind { name: "hit", tool: "article", differs: false, needs: None },
    Kind { name: "miss", tool: "article", differs: true, needs: None },
    Kind { name: "valid", tool: "register", differs: false, needs: None },
    Kind { name: "batch of one", tool: "price", differs: true, needs: None },
    Kind { name: "no retry", tool: "stock", differs: true, needs: None },
    Kind { name: "session", tool: "remember", differs: true, needs: Some("session") },
    Kind { name: "key", tool: "send", differs: true, needs: Some("idempotent") },
];

/// Allocations and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Allocated {
    count: u64,
    bytes: u64,
}

impl std::iter::Sum for Allocated {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self { count: sum.count + one.count, bytes: sum.bytes + one.bytes })
    }
}

/// The maximum that a layer may add to the allocations of a call.
fn budget(kind: &str, layer: &str) -> Allocated {
    let (count, bytes) = match (kind, layer) {
        ("hit", "cached") => (4, 1_650),
        // Others may wait for the call, so it has its own client and progress token, and can be handed to another task.
        ("miss", "cached") => (39, 8_300),
        // Also whether a client was asked.
        ("hit" | "no retry", "retry") => (4, 1_350),
        // A call with a client has a context that records its questions; with a progress token, each attempt has its
        // own.
        ("miss", "retry") => (19, 3_550),
        ("key", "retry") => (7, 1_400),
        ("idle", "validated") => (0, 0),
        ("valid", "validated") => (2, 512),
        // The key is taken out before the check, and put back.
        ("key", "validated") => (2, 900),
        (_, "validated") => (1, 512),
        // At each of its waiting places, a call states the caller whose share it uses, and receives notifications of
        // the work.
        ("batch of one", "batched") => (26, 7_250),
        // A record states the end of its session, and a writer the end of its wait for the backend. A step of a backend
        // stores its arguments twice, as methods of an `#[async_trait]` do.
        ("session", "session") => (27, 3_850),
        // Its work, with the permit of the call.
        ("no retry", "breaker") => (1, 500),
        // Its work, and the event with its texts and an argument.
        ("no retry", "audit") => (13, 2_100),
        // Its work, with the places that the call has.
        ("no retry", "limited") => (1, 1_300),
        // Its work, around an inner future. An answer within the bounds is neither copied nor written.
        ("no retry", "output") => (1, 500),
        // One of them is the scope entry with the call's label for the log: an error deep in a tool is logged with it.
        ("key", "idempotent") => (56, 9_180),
        _ => (0, 0),
    };
    Allocated { count, bytes }
}

/// The least allocation of many calls: in some of them, the cache also runs maintenance.
fn allocated(runtime: &Runtime, server: &impl McpHandler, kind: Kind) -> Allocated {
    allocated_by(&ada(), runtime, server, kind)
}

fn allocated_by(ctx: &RequestContext, runtime: &Runtime, server: &impl McpHandler, kind: Kind) -> Allocated {
    const CALLS: usize = 101;
    let counted = (0..CALLS)
        .map(|call| {
            // The first entry holds for all kinds that do not differ.
            let args = args(kind.tool, if kind.differs { call + 1 } else { 0 });
            let mut answer = None;
            let count = allocation_counter::measure(|| {
                // Pinned here: in a debug build, `block_on` moves a large future into a box of its own.
                let call = pin!(server.call_tool(kind.tool, args, ctx));
                answer = Some(black_box(runtime.block_on(call)));
            });
            let answer = answer.expect("the call has ended").expect("an answer");
            assert!(!answer.is_error(), "{kind:?}: {answer:?}");
            (count.count_total, count.bytes_total)
        })
        .min();
    let (count, bytes) = counted.expect("some calls");
    Allocated { count, bytes }
}

/// Checks the allocations of calls against the budgets of the layers.
struct Allocations<'a> {
    runtime: &'a Runtime,
}

impl Visit for Allocations<'_> {
    fn visit<H: McpHandler>(&mut self, layers: &[&'static str], server: H) {
        for kind in KINDS.into_iter().filter(|kind| kind.needs.is_none_or(|needed| layers.contains(&needed))) {
            let bare = if kind.needs.is_none() { allocated(self.runtime, &Shop, kind) } else { Allocated::default() };
            let seen = allocated(self.runtime, &server, kind);
            let allowed: Allocated = layers.iter().map(|layer| budget(kind.name, layer)).sum();
            // The heap data of a layer may be larger by the bytes that inner layers add to the future.
            let bytes = bare.bytes + allowed.bytes + 16 * layers.len() as u64;
            assert!(
                seen.count <= bare.count + allowed.count && seen.bytes <= bytes,
                "{}: {layers:?} allocate {seen:?}, the bare server {bare:?}, and {allowed:?} more are allowed",
                kind.name
            );
        }
    }
}

fn kind(name: &str) -> Kind {
    KINDS.into_iter().find(|kind| kind.name == name).expect("a kind of call")
}

#[test]
fn an_acting_layer_stores_the_inner_call_once() {
    let runtime = runtime();
    let pool = runtime.block_on(shop::database()).expect("a database");
    let bulky = layer(Bulky).layer(Shop);
    let once = (future_size(&bulky) - future_size(&Shop)) as u64;
    macro_rules! keep_it_once {
        ($($layer:expr => $kind:expr,)*) => {$(
            let plain = allocated(&runtime, &$layer.layer(Shop), $kind);
            let large = allocated(&runtime, &$layer.layer(bulky.clone()), $kind);
            let more = large.bytes - plain.bytes;
            // A second copy costs `once` more. The rest are occasional allocations caused by a database in another
            // thread.
            assert!(more <= once + 1024, "{}: a call below that takes {once} bytes more costs {more}", stringify!($layer));
        )*};
    }
    keep_it_once! {
        validated() => kind("valid"),
        session() => kind("session"),
        cached() => kind("miss"),
        cached().invalidates("ring", ["article"]) => kind("idle"),
        BatchedTool::new().only(["stock"]) => kind("no retry"),
        retry() => kind("no retry"),
        breaker() => kind("no retry"),
        limited() => kind("no retry"),
        audit() => kind("no retry"),
        output() => kind("no retry"),
        idempotent() => kind("key"),
        shop::transactional(&pool) => PAYMENT,
    }
}

#[test]
fn the_allocations_of_a_layer_that_answers_itself_do_not_depend_on_what_is_inside() {
    let runtime = runtime();
    let bulky = layer(Bulky).layer(Shop);
    let (hit, batch) = (kind("hit"), kind("batch of one"));
    let hits =
        [allocated(&runtime, &cached().layer(Shop), hit), allocated(&runtime, &cached().layer(bulky.clone()), hit)];
    assert_eq!(hits[0], hits[1], "a hit");
    let batches =
        [allocated(&runtime, &batched().layer(Shop), batch), allocated(&runtime, &batched().layer(bulky), batch)];
    assert_eq!(batches[0], batches[1], "a batch");
}

#[test]
fn a_call_allocates_no_more_than_the_budgets_of_its_layers() {
    let runtime = runtime();
    let pool = runtime.block_on(shop::database()).expect("a database");
    let mut allocations = Allocations { runtime: &runtime };
    visit_all(&mut allocations, &pool, &Shop);
    let all = ["own", "validated", "session", "cached", "batched", "retry", "idempotent", "transactional"];
    allocations.visit(&all, shop::whole(&pool));
}

/// A client that gets no notifications.
#[derive(Debug)]
struct Client;

impl McpSession for Client {
    fn call<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, Value> {
        Box::pin(async { Ok(Value::Null) })
    }

    fn notify<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn a_cache_of_resources_copies_the_context_only_for_a_caller_with_a_session() {
    let runtime = runtime();
    let (server, hears) = (cached().layer(Shop), cached().with_resources(Reads::new()).layer(Shop));
    let with_session = ada().with_session(Arc::new(Client));
    for (kind, budget) in [("idle", Allocated { count: 4, bytes: 800 }), ("hit", Allocated::default())] {
        let kind = self::kind(kind);
        assert_eq!(allocated(&runtime, &hears, kind), allocated(&runtime, &server, kind), "without a session");
        let without = allocated_by(&with_session, &runtime, &server, kind);
        let with = allocated_by(&with_session, &runtime, &hears, kind);
        let more = Allocated { count: with.count - without.count, bytes: with.bytes - without.bytes };
        assert!(more.count <= budget.count && more.bytes <= budget.bytes, "{kind:?}: {more:?}");
    }
}

#[test]
fn a_hit_allocates_no_more_for_a_caller_with_tenants_and_rights() {
    let runtime = runtime();
    let server = cached().layer(Shop);
    let principal = Principal::new("5d1b3c0e-9f1c-4b1f-8a53-2f4f3f0f7f1c")
        .with_issuer("https://login.example.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0")
        .with_claim("tid", json!("72f988bf-86f1-41af-91ab-2d7cd011db47"))
        .with_claim("org_id", json!("org_2y3K4l5M"))
        .with_claim("scope", json!("orders:write openid profile orders:read"))
        .with_claim("groups", json!(["staff", "clerks"]))
        .with_roles(["viewer", "clerk"]);
    let without = allocated(&runtime, &server, kind("hit"));
    let with = allocated_by(&RequestContext::new().with_principal(principal), &runtime, &server, kind("hit"));
    assert_eq!(with.count, without.count, "{with:?}, without: {without:?}");
}
