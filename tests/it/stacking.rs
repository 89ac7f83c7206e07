//! The stacking of layers: order, configuration errors, cost and positions.

mod cost;
mod mistakes;
mod placement;
mod reading;
mod sixteen;
mod state;

use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{CachedTool, Layer, Middleware, MiddlewareLayer, RetryTool, TryLayer, layer};
use serde_json::{Value, json};
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

pub(crate) use state::Axum;

/// Changes the number in a call's arguments.
#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Plus(i64),
    Times(i64),
}
use Arithmetic::{Plus, Times};

impl Middleware for Arithmetic {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let number = args["number"].as_i64().expect("a number");
        let number = match self {
            Plus(summand) => number + summand,
            Times(factor) => number * factor,
        };
        inner.call_tool(name, json!({ "number": number }), ctx).await
    }
}

/// Appends a digit to the number in the answer.
#[derive(Clone, Copy, Debug)]
struct Digit(u8);

impl Middleware for Digit {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let answer = inner.call_tool(name, args, ctx).await?;
        Ok(ToolResult::text(format!("{}{}", answer.first_text().expect("a text"), self.0)))
    }
}

fn digit(digit: u8) -> MiddlewareLayer<Digit> {
    layer(Digit(digit))
}

/// A server that returns its number.
fn echo() -> ScriptedServer {
    ScriptedServer::new("echo")
        .with_plain("echo", |call| async move { Ok(ToolResult::text(call.args["number"].to_string())) })
}

async fn ask(server: &impl McpHandler, number: i64) -> i64 {
    let answer = server.call_tool("echo", json!({ "number": number }), &RequestContext::new()).await;
    answer.expect("an answer").first_text().expect("a text").parse().expect("a number")
}

#[tokio::test(start_paused = true)]
async fn the_first_layer_of_a_tuple_is_the_outermost() {
    // (4 + 2) * 2 = 12
    let server = (layer(Plus(2)), layer(Times(2))).layer(echo());
    assert_eq!(ask(&server, 4).await, 12);

    // 4 * 2 + 2 = 10
    let server = (layer(Times(2)), layer(Plus(2))).layer(echo());
    assert_eq!(ask(&server, 4).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_service_builder_stacks_in_the_same_order() {
    let server = tower::ServiceBuilder::new().layer(layer(Plus(2))).layer(layer(Times(2))).service(echo());
    assert_eq!(ask(&server, 4).await, 12);

    let server = tower::ServiceBuilder::new().layer(layer(Times(2))).layer(layer(Plus(2))).service(echo());
    assert_eq!(ask(&server, 4).await, 10);
}

#[tokio::test(start_paused = true)]
async fn nesting_by_hand_stacks_in_the_same_order() {
    let server = layer(Plus(2)).layer(layer(Times(2)).layer(echo()));
    assert_eq!(ask(&server, 4).await, 12);

    let server = layer(Times(2)).layer(layer(Plus(2)).layer(echo()));
    assert_eq!(ask(&server, 4).await, 10);
}

#[tokio::test(start_paused = true)]
async fn tuples_nest() {
    let server = (digit(1), (digit(2), digit(3)), digit(4)).layer(echo());
    assert_eq!(ask(&server, 9).await, 94321);
    let server = ((digit(1), digit(2)), (digit(3), digit(4))).try_layer(echo()).expect("nothing is wrong");
    assert_eq!(ask(&server, 9).await, 94321);
}

/// Both ways to put a tuple on a server agree, and a service builder with them.
macro_rules! stacks {
    ($($name:ident: $($digit:literal)+ => $answer:literal;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let stack = ($(digit($digit),)+);
            assert_eq!(ask(&stack.layer(echo()), 9).await, $answer);
            assert_eq!(ask(&stack.try_layer(echo()).expect("nothing is wrong"), 9).await, $answer);
            let built = tower::ServiceBuilder::new()$(.layer(digit($digit)))+.service(echo());
            assert_eq!(ask(&built, 9).await, $answer);
        }
    )+};
}

stacks! {
    one_layer_stacks: 1 => 91;
    two_layers_stack: 1 2 => 921;
    three_layers_stack: 1 2 3 => 9321;
    four_layers_stack: 1 2 3 4 => 94_321;
    five_layers_stack: 1 2 3 4 5 => 954_321;
    six_layers_stack: 1 2 3 4 5 6 => 9_654_321;
    seven_layers_stack: 1 2 3 4 5 6 7 => 97_654_321;
    eight_layers_stack: 1 2 3 4 5 6 7 8 => 987_654_321;
    nine_layers_stack: 1 2 3 4 5 6 7 8 9 => 9_987_654_321;
    ten_layers_stack: 1 2 3 4 5 6 7 8 9 1 => 91_987_654_321;
    eleven_layers_stack: 1 2 3 4 5 6 7 8 9 1 2 => 921_987_654_321;
    twelve_layers_stack: 1 2 3 4 5 6 7 8 9 1 2 3 => 9_321_987_654_321;
    thirteen_layers_stack: 1 2 3 4 5 6 7 8 9 1 2 3 4 => 94_321_987_654_321;
    fourteen_layers_stack: 1 2 3 4 5 6 7 8 9 1 2 3 4 5 => 954_321_987_654_321;
    fifteen_layers_stack: 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 => 9_654_321_987_654_321;
    sixteen_layers_stack: 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 => 97_654_321_987_654_321;
}

#[tokio::test(start_paused = true)]
async fn a_layer_of_none_is_transparent() {
    let server = (layer(Some(Plus(2))), layer(None::<Arithmetic>), layer(Some(Times(2)))).layer(echo());
    assert_eq!(ask(&server, 4).await, 12);
    let server = (layer(None::<Arithmetic>), layer(Some(Times(2)))).layer(echo());
    assert_eq!(ask(&server, 4).await, 8);
}

#[tokio::test(start_paused = true)]
async fn layers_of_the_crate_and_of_the_user_stack_together() {
    let server = (
        layer(Plus(1)),
        CachedTool::new().allow_skipped_effects(["echo"]).without_meta(),
        layer(Times(3)),
        RetryTool::new().allow_repeated_effects(["echo"]),
        layer(Some(Plus(1))),
    )
        .layer(echo());
    // (4 + 1) * 3 + 1
    assert_eq!(ask(&server, 4).await, 16);
    assert_eq!(ask(&server, 4).await, 16);
}
