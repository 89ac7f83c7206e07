//! A server with a cached resource and a cached prompt, through a real client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mcp_patterns::cached::Reads;
use mcp_patterns::{CachedTool, Layer};
use serde_json::{Value, json};
use turbomcp::prelude::*;

use crate::client::{Client, patiently, text};

/// The pages of a site, and how often each of its functions ran.
#[derive(Clone, Default)]
struct Site {
    reads: Arc<AtomicUsize>,
    greetings: Arc<AtomicUsize>,
}

impl Site {
    fn ran(&self) -> (usize, usize) {
        (self.reads.load(Ordering::SeqCst), self.greetings.load(Ordering::SeqCst))
    }
}

#[server(name = "site", version = "1.0.0")]
impl Site {
    /// A page of the site.
    #[resource("page://{name}")]
    async fn page(&self, uri: String, _ctx: &RequestContext) -> McpResult<String> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        match uri.strip_prefix("page://") {
            Some("lost") => Err(McpError::resource_not_found(uri)),
            page => Ok(format!("{page:?}, edition {number}")),
        }
    }

    /// Greets somebody.
    #[prompt]
    async fn greet(&self, name: Option<String>, _ctx: &RequestContext) -> McpResult<String> {
        let number = self.greetings.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(format!("Greet {}, for the time {number}.", name.as_deref().unwrap_or("everybody")))
    }

    /// Publishes a page.
    #[tool]
    async fn publish(&self, page: String) -> McpResult<String> {
        Ok(format!("{page} is published"))
    }
}

fn status(answer: &Value) -> &Value {
    &answer["_meta"]["mcp-patterns/cache"]["status"]
}

#[tokio::test]
async fn a_resource_that_a_client_reads_twice_is_loaded_once_until_a_tool_writes_it() {
    patiently(async {
        let site = Site::default();
        let cached = CachedTool::new()
            .with_resources(Reads::new())
            .invalidates_resources("publish", |args| [format!("page://{}", args["page"].as_str().unwrap_or_default())]);
        let client = Client::within(cached.layer(site.clone())).await;

        let (first, second) = (client.read("page://home").await, client.read("page://home").await);
        assert_eq!(first["contents"][0]["text"], "Some(\"home\"), edition 1");
        assert_eq!(first["contents"], second["contents"]);
        assert_eq!((status(&first), status(&second)), (&json!("miss"), &json!("hit")));
        assert_eq!(site.ran().0, 1);

        client.try_read("page://lost").await.expect_err("there is none");
        client.try_read("page://lost").await.expect_err("there is none");
        assert_eq!(site.ran().0, 3, "a failure is not kept");

        assert_eq!(text(&client.call("publish", json!({"page": "home"})).await), "home is published");
        assert_eq!(client.read("page://home").await["contents"][0]["text"], "Some(\"home\"), edition 4");
    })
    .await;
}

#[tokio::test]
async fn a_prompt_that_a_client_gets_twice_is_loaded_once() {
    patiently(async {
        let site = Site::default();
        let client = Client::within(CachedTool::new().with_prompts(Reads::new()).layer(site.clone())).await;
        for (args, expected) in [
            (None, "Greet everybody, for the time 1."),
            (Some(json!({})), "Greet everybody, for the time 1."),
            (Some(json!({"name": "Ada"})), "Greet Ada, for the time 2."),
            (Some(json!({"name": "Ada"})), "Greet Ada, for the time 2."),
        ] {
            let answer = client.prompt("greet", args).await;
            assert_eq!(answer["messages"][0]["content"]["text"], expected);
        }
        assert_eq!(site.ran().1, 2);
    })
    .await;
}
