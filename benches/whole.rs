//! The cost of calls through stacks of the real layers: time, allocations, bytes and the size of the future.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --bench whole -- STACK CALL TIMES` makes one kind of call that often and does nothing else, for tools that count
//! instructions.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocation_counter::measure;
use mcp_patterns::Layer;
use serde_json::Value;
use sqlx::SqlitePool;
use tokio::runtime::{Builder, Runtime};
use turbomcp::McpHandler;

use rows::Row;
use shop::Shop;

#[path = "support/rows.rs"]
mod rows;
#[path = "../tests/it/whole/shop.rs"]
mod shop;

/// A kind of call.
#[derive(Clone, Copy)]
struct Call {
    name: &'static str,
    tool: &'static str,
    /// Whether each call has different arguments.
    differs: bool,
    /// The stacks that are compared.
    stacks: &'static [&'static str],
}

const EACH: &[&str] = &[
    "bare",
    "own",
    "validated",
    "session",
    "cached",
    "batched",
    "retry",
    "idempotent",
    "transactional",
    "two",
    "whole",
];

const CALLS: [Call; 8] = [
    Call { name: "idle", tool: "ring", differs: false, stacks: EACH },
    Call { name: "hit", tool: "article", differs: false, stacks: &["bare", "cached", "two", "whole"] },
    Call { name: "miss", tool: "article", differs: true, stacks: &["bare", "cached", "two", "whole"] },
    Call { name: "valid", tool: "register", differs: false, stacks: &["bare", "validated", "whole"] },
    Call { name: "session", tool: "remember", differs: true, stacks: &["session", "whole"] },
    Call { name: "batch of one", tool: "price", differs: true, stacks: &["bare", "batched", "whole"] },
    Call { name: "no retry", tool: "stock", differs: true, stacks: &["bare", "retry", "whole"] },
    Call { name: "key", tool: "send", differs: true, stacks: &["bare", "idempotent", "whole"] },
];

impl Call {
    /// Returns the arguments of one call after the other.
    fn args(self) -> impl Fn() -> Value + Clone + Send + Sync {
        let next = Arc::new(AtomicUsize::new(1));
        move || shop::args(self.tool, if self.differs { next.fetch_add(1, Ordering::Relaxed) } else { 0 })
    }
}

/// Takes each of the servers.
trait Visit {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H);
}

fn stacks(pool: &SqlitePool, visitor: &mut impl Visit) {
    visitor.visit("bare", Shop);
    visitor.visit("own", shop::own().layer(Shop));
    visitor.visit("validated", shop::validated().layer(Shop));
    visitor.visit("session", shop::session().layer(Shop));
    visitor.visit("cached", shop::cached().layer(Shop));
    visitor.visit("batched", shop::batched().layer(Shop));
    visitor.visit("retry", shop::retry().layer(Shop));
    visitor.visit("idempotent", shop::idempotent().layer(Shop));
    visitor.visit("transactional", shop::transactional(pool).layer(Shop));
    visitor.visit("two", (shop::validated(), shop::cached()).layer(Shop));
    visitor.visit("whole", shop::whole(pool));
}

/// Makes calls of one kind through one stack.
struct Once<'a> {
    runtime: &'a Runtime,
    stack: String,
    call: Call,
    times: usize,
}

impl Visit for Once<'_> {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H) {
        if self.stack != stack {
            return;
        }
        let (ctx, args) = (shop::ada(), self.call.args());
        self.runtime.block_on(async {
            for _ in 0..self.times {
                let result = server.call_tool(self.call.tool, args(), &ctx).await.expect("an answer");
                assert!(!black_box(&result).is_error());
            }
        });
    }
}

/// Counts the allocations of calls of a kind, and creates rows to be timed.
struct Counts<'a> {
    runtime: &'a Runtime,
    call: Call,
    rows: Vec<Row>,
}

impl Visit for Counts<'_> {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H) {
        /// A cache sometimes runs maintenance, so calls differ: the median is the usual call.
        const COUNTED: usize = 501;
        let call = self.call;
        if !call.stacks.contains(&stack) {
            return;
        }
        let (ctx, args) = (shop::ada(), call.args());
        let once = |args| drop(self.runtime.block_on(server.call_tool(call.tool, args, &ctx)));
        let mut counted: Vec<_> = (0..COUNTED)
            .map(|_| {
                let args = args();
                let count = measure(|| once(args));
                (count.count_total, count.bytes_total)
            })
            .collect();
        counted.sort_unstable();
        let (count, bytes) = counted[COUNTED / 2];
        let size = size_of_val(&server.call_tool(call.tool, Value::Null, &ctx));
        println!("{:<14} {stack:<14} {count:>12} {bytes:>10} {size:>10}", call.name);
        self.rows.push(Row::new(stack, 1, args, async move |args| server.call_tool(call.tool, args, &ctx).await));
    }
}

/// Times the clone of a server, which a transport makes for each request.
struct Clones(Vec<Row>);

impl Visit for Clones {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H) {
        self.0.push(Row::new(stack, 1, || (), async move |()| server.clone()));
    }
}

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let pool = runtime.block_on(shop::database()).expect("a database in memory");
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if let (Some(stack), Some(call), Some(times)) = (arguments.next(), arguments.next(), arguments.next()) {
        let call = *CALLS.iter().find(|known| known.name == call).expect("the name of a kind of call");
        let times = times.parse().expect("a number of calls");
        assert!(call.stacks.contains(&stack.as_str()), "`{stack}` is none of {:?}", call.stacks);
        return stacks(&pool, &mut Once { runtime: &runtime, stack, call, times });
    }
    println!("{:<14} {:<14} {:>12} {:>10} {:>10}", "call", "stack", "allocations", "bytes", "future");
    let rows: Vec<_> = CALLS
        .into_iter()
        .map(|call| {
            let mut counts = Counts { runtime: &runtime, call, rows: Vec::new() };
            stacks(&pool, &mut counts);
            (call, counts.rows)
        })
        .collect();
    if !rows::is_measured() {
        return;
    }
    for (call, rows) in &rows {
        print(call.name, rows);
    }
    let mut clones = Clones(Vec::new());
    stacks(&pool, &mut clones);
    print("clone", &clones.0);
}

fn print(name: &str, rows: &[Row]) {
    let times = rows::side_by_side(rows);
    println!("\n{name:<14} {:>10} {:>10}", "ns", "of first");
    for (row, time) in rows.iter().zip(&times) {
        println!("{:<14} {time:>10.1} {:>10.2}", row.name, time / times[0]);
    }
}
