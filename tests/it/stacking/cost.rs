//! The cost of layers for a call that they do not act on: no listing, no allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use mcp_patterns::cached::Reads;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{CachedTool, Layer, Middleware, RetryTool, boxed, layer};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use turbomcp::prelude::*;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types::{ServerCapabilities, Tool};

/// Counts the listings of the server below.
#[derive(Clone, Debug, Default)]
struct CountListings(Arc<AtomicUsize>);

impl CountListings {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Middleware for CountListings {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        self.0.fetch_add(1, Ordering::SeqCst);
        inner.list_tools()
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        self.0.fetch_add(1, Ordering::SeqCst);
        inner.list_tools_for(ctx)
    }
}

#[derive(Deserialize, JsonSchema)]
struct Question {
    /// The person in question.
    name: String,
    /// How often.
    times: u32,
}

/// A server with one tool of each name, every other one of them read-only.
macro_rules! server_of {
    ($server:ident: $($read_only:ident $plain:ident)+) => {
        #[derive(Clone)]
        struct $server;

        #[server(name = "fifty", version = "1.0.0")]
        impl $server {
            $(
                /// Answers the question.
                #[tool(read_only = true)]
                async fn $read_only(&self, question: Question) -> McpResult<String> {
                    Ok(question.name.repeat(question.times as usize))
                }

                /// Answers the question.
                #[tool]
                async fn $plain(&self, question: Question) -> McpResult<String> {
                    Ok(question.name.repeat(question.times as usize))
                }
            )+
        }
    };
}

server_of! { Fifty:
    r00 p00 r01 p01 r02 p02 r03 p03 r04 p04 r05 p05 r06 p06 r07 p07 r08 p08 r09 p09 r10 p10 r11 p11 r12 p12
    r13 p13 r14 p14 r15 p15 r16 p16 r17 p17 r18 p18 r19 p19 r20 p20 r21 p21 r22 p22 r23 p23 r24 p24
}

/// Sees every call and changes nothing.
#[derive(Clone, Debug)]
struct Own;

impl Middleware for Own {}

fn six_layers<H: McpHandler>(server: H) -> impl McpHandler {
    (
        CachedTool::new(),
        RetryTool::new(),
        layer(Own),
        layer(Some(CachedTool::new())),
        layer(None::<RetryTool>),
        layer(Own),
    )
        .layer(server)
}

fn call(tool: &str, times: usize) -> Value {
    let question = json!({ "question": { "name": "Ada", "times": times } });
    json!({ "jsonrpc": "2.0", "id": times, "method": "tools/call", "params": { "name": tool, "arguments": question } })
}

#[tokio::test(start_paused = true)]
async fn a_call_never_lists_the_tools_of_the_server_below() {
    let listings = CountListings::default();
    let server = six_layers(layer(listings.clone()).layer(Fifty));
    assert_eq!(server.list_tools().len(), 50);

    let before = listings.count();
    for times in 1..=100 {
        for tool in ["r07", "p07", "nobody"] {
            let answer = server.handle_request(call(tool, times), RequestContext::new()).await.expect("an answer");
            assert_eq!(answer.get("error").is_some(), tool == "nobody", "{answer}");
        }
    }
    assert_eq!(listings.count(), before);
}

fn scripted() -> ScriptedServer {
    (0..50).fold(ScriptedServer::new("fifty"), |server, number| {
        server.with_read_only(&format!("r{number:02}"), |_| async { Ok(ToolResult::text("read")) })
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_scripted_server_never_lists_its_tools() {
    let script = scripted();
    let server = six_layers(script.clone());
    let before = script.listings();
    for times in 1..=100 {
        let answer = server.call_tool("r07", json!({ "times": times }), &RequestContext::new()).await;
        answer.expect("an answer");
    }
    assert_eq!(script.listings(), before);
    assert_eq!(script.calls("r07"), 100);
}

/// The router asks for the capabilities on every call.
#[tokio::test(start_paused = true)]
async fn a_request_to_a_scripted_server_never_lists_its_tools() {
    let script = scripted();
    let server = six_layers(script.clone());
    let before = script.listings();
    for times in 1..=100 {
        let answer = server.handle_request(call("r07", times), RequestContext::new()).await.expect("an answer");
        assert!(answer.get("result").is_some(), "{answer}");
    }
    assert_eq!(script.listings(), before);
}

/// Each layer reads the catalogue once, when it is applied; a listing is passed on, not repeated.
#[tokio::test(start_paused = true)]
async fn a_listing_asks_the_server_below_once() {
    let listings = CountListings::default();
    let server = six_layers(layer(listings.clone()).layer(Fifty));
    assert_eq!(listings.count(), 3, "one for each layer of this crate in the stack");
    server.list_tools();
    assert_eq!(listings.count(), 4);
    server.list_tools_for(&RequestContext::new());
    assert_eq!(listings.count(), 5);
}

/// A server that allocates almost nothing, so that allocations of a layer are visible.
#[derive(Clone, Debug)]
struct Lean;

impl McpHandler for Lean {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("lean", "1.0.0")
    }

    fn server_capabilities(&self) -> ServerCapabilities {
        ServerCapabilities::default()
    }

    fn list_tools(&self) -> Vec<Tool> {
        vec![Tool::new("plain", "says nothing about itself")]
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, _: &'a str, _: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        Ok(ToolResult::default())
    }

    async fn read_resource<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::default())
    }

    async fn get_prompt<'a>(&'a self, _: &'a str, _: Option<Value>, _: &'a RequestContext) -> McpResult<PromptResult> {
        Ok(PromptResult::default())
    }
}

/// Counts the allocations of the second run of `work`; the first run fills the one-time caches.
///
/// It is polled in place: in a debug build, `block_on` moves a future of more than two kilobytes into a box.
fn allocations<F: Future<Output = ()>>(work: impl Fn() -> F) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let done = || work().now_or_never().expect("nothing to wait for");
    done();
    allocation_counter::measure(done).count_total
}

async fn call_plain(server: &impl McpHandler, ctx: &RequestContext, tool: &str) {
    std::hint::black_box(server.call_tool(tool, Value::Null, ctx).await).expect("an answer");
}

#[test]
fn six_layers_that_do_not_act_add_no_allocation_to_a_call() {
    let ctx = &RequestContext::new();
    let bare = allocations(|| call_plain(&Lean, ctx, "plain"));
    let server = &six_layers(Lean);
    assert_eq!(allocations(|| call_plain(server, ctx, "plain")), bare);
    assert_eq!(allocations(|| call_plain(server, ctx, "never listed")), bare);
}

/// Also if a cache caches others.
#[test]
fn layers_that_do_not_act_add_no_allocation_to_a_resource_or_a_prompt() {
    async fn ask(server: &impl McpHandler, ctx: &RequestContext) {
        std::hint::black_box(server.read_resource("docs://one", ctx).await).expect("an answer");
        std::hint::black_box(server.get_prompt("greet", None, ctx).await).expect("an answer");
    }
    let ctx = &RequestContext::new();
    let bare = allocations(|| ask(&Lean, ctx));
    let server = &six_layers(Lean);
    assert_eq!(allocations(|| ask(server, ctx)), bare);
    let others = CachedTool::new().with_resources(Reads::new().when(|uri| uri == "other"));
    let server = &(layer(Own), others.with_prompts(Reads::new().when(|name| name == "other")), layer(Own)).layer(Lean);
    assert_eq!(allocations(|| ask(server, ctx)), bare);
}

#[test]
fn six_layers_that_do_not_act_add_no_allocation_to_a_call_of_a_macro_server() {
    async fn ask(server: &impl McpHandler, ctx: &RequestContext) {
        let question = json!({ "question": { "name": "Ada", "times": 2 } });
        let answer = server.call_tool("p07", question, ctx).await.expect("an answer");
        assert_eq!(answer.first_text(), Some("AdaAda"));
    }
    let ctx = &RequestContext::new();
    let server = &six_layers(Fifty);
    assert_eq!(allocations(|| ask(server, ctx)), allocations(|| ask(&Fifty, ctx)));
}

/// For the future of the server and its layers, for any number of layers.
#[test]
fn a_boxed_server_adds_one_allocation_to_a_call() {
    let ctx = &RequestContext::new();
    let bare = allocations(|| call_plain(&Lean, ctx, "plain"));
    let (alone, inside, around) = (&boxed(Lean), &boxed(six_layers(Lean)), &six_layers(boxed(Lean)));
    assert_eq!(allocations(|| call_plain(alone, ctx, "plain")), bare + 1);
    assert_eq!(allocations(|| call_plain(inside, ctx, "plain")), bare + 1);
    assert_eq!(allocations(|| call_plain(around, ctx, "plain")), bare + 1);
}

#[test]
fn a_boxed_server_adds_no_allocation_to_a_listing() {
    async fn list(server: &impl McpHandler) {
        drop(std::hint::black_box((server.list_tools(), server.server_info())));
    }
    let boxed = boxed(Lean);
    assert_eq!(allocations(|| list(&boxed)), allocations(|| list(&Lean)));
}

/// turbomcp clones the server for each request.
#[test]
fn cloning_six_layers_allocates_nothing() {
    let server = six_layers(Lean);
    let clone = || drop(std::hint::black_box(server.clone()));
    clone();
    assert_eq!(allocation_counter::measure(clone).count_total, 0);
}

#[test]
fn cloning_a_boxed_server_allocates_nothing() {
    let server = boxed(scripted());
    let clone = || drop(std::hint::black_box(server.clone()));
    assert_eq!(allocation_counter::measure(clone).count_total, 0);
}

/// Settings do not increase the cost of a clone.
#[test]
fn cloning_a_layer_with_many_settings_allocates_nothing() {
    let cached = CachedTool::new().except(["plain"]).with_ttl_for("plain", std::time::Duration::from_secs(1));
    let cached = cached.with_resources(Reads::new().with_tags(|uri, _| [uri.to_owned()])).with_prompts(Reads::new());
    let retry = RetryTool::new().except(["plain"]);
    let server = (cached, retry).layer(Lean);
    let clone = || drop(std::hint::black_box(server.clone()));
    clone();
    assert_eq!(allocation_counter::measure(clone).count_total, 0);
}
