//! Layers that act on resources and prompts stack like those that act on tools.

use mcp_patterns::{Layer, Middleware, MiddlewareLayer, TryLayer, layer};
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult};

use super::echo;

/// Appends a letter to the requested name, and answers with the name if there is no server below.
#[derive(Clone, Copy, Debug)]
enum Letter {
    Appends(char),
    Answers,
}
use Letter::{Answers, Appends};

impl Middleware for Letter {
    async fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> McpResult<ResourceResult> {
        match self {
            Appends(letter) => inner.read_resource(&format!("{uri}{letter}"), ctx).await,
            Answers => Ok(ResourceResult::text(uri, uri)),
        }
    }

    async fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        match self {
            Appends(letter) => inner.get_prompt(&format!("{name}{letter}"), args, ctx).await,
            Answers => Ok(PromptResult::user(format!("{name} {}", args.unwrap_or_default()))),
        }
    }
}

fn letter(letter: char) -> MiddlewareLayer<Letter> {
    layer(Appends(letter))
}

async fn read(server: &impl McpHandler, uri: &str) -> Value {
    let answer = server.read_resource(uri, &RequestContext::new()).await.expect("an answer");
    json!(answer)["contents"][0]["text"].clone()
}

async fn prompt(server: &impl McpHandler, name: &str, args: Option<Value>) -> Value {
    let answer = server.get_prompt(name, args, &RequestContext::new()).await.expect("an answer");
    json!(answer)["messages"][0]["content"]["text"].clone()
}

#[tokio::test]
async fn the_first_layer_of_a_tuple_is_the_outermost() {
    let server = (letter('a'), letter('b'), layer(Answers)).layer(echo());
    assert_eq!(read(&server, "x").await, "xab");
    assert_eq!(prompt(&server, "x", Some(json!([1]))).await, "xab [1]");
    let server = (letter('b'), letter('a'), layer(Answers)).try_layer(echo()).expect("nothing is wrong");
    assert_eq!(read(&server, "x").await, "xba");
    assert_eq!(prompt(&server, "x", None).await, "xba null");
}

#[tokio::test]
async fn an_optional_layer_acts_as_some_and_is_transparent_as_none() {
    let server = (layer(Some(Appends('a'))), layer(None::<Letter>), layer(Some(Answers))).layer(echo());
    assert_eq!(read(&server, "x").await, "xa");
    assert_eq!(prompt(&server, "x", Some(json!([1]))).await, "xa [1]");
}

#[tokio::test]
async fn a_layer_that_overrides_neither_method_asks_the_server_below() {
    /// Sees every request and changes nothing.
    #[derive(Clone, Debug)]
    struct Own;
    impl Middleware for Own {}

    let server = (layer(Own), letter('a')).layer(echo());
    let missing = |error: McpError| (error.kind, error.message);
    let resource = server.read_resource("x", &RequestContext::new()).await.expect_err("there is none");
    assert_eq!(missing(resource), missing(McpError::resource_not_found("xa")));
    let prompt = server.get_prompt("x", None, &RequestContext::new()).await.expect_err("there is none");
    assert_eq!(missing(prompt), missing(McpError::prompt_not_found("xa")));
}
