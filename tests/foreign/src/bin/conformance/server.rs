//! The fixtures. Tools that only answer are annotated read-only. Tools that ask or notify their client are not, since a
//! client that gets a cached answer receives no question and no notification.

#![expect(non_snake_case, reason = "the suite names an argument so, and the macro drops the attribute of a method")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use turbomcp::prelude::*;

use crate::{asking, content};

/// The suite expects a definition of this name.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "address")]
struct Address {
    street: Option<String>,
    city: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fixtures {
    /// The session and the resource of each subscription.
    subscriptions: Arc<Mutex<HashSet<(String, String)>>>,
}

#[server(name = "mcp-patterns-conformance", version = "1.0.0")]
impl Fixtures {
    /// Answers a text.
    #[tool(read_only = true, open_world = false)]
    async fn test_simple_text(&self) -> String {
        "This is a simple text response for testing.".into()
    }

    /// Answers an image.
    #[tool(read_only = true, open_world = false)]
    async fn test_image_content(&self) -> ToolResult {
        content::image()
    }

    /// Answers a sound.
    #[tool(read_only = true, open_world = false)]
    async fn test_audio_content(&self) -> ToolResult {
        content::audio()
    }

    /// Answers a resource.
    #[tool(read_only = true, open_world = false)]
    async fn test_embedded_resource(&self) -> ToolResult {
        content::embedded()
    }

    /// Answers a text, an image and a resource.
    #[tool(read_only = true, open_world = false)]
    async fn test_multiple_content_types(&self) -> ToolResult {
        content::mixed()
    }

    /// Fails.
    #[tool(read_only = true, open_world = false)]
    async fn test_error_handling(&self) -> McpResult<String> {
        Err(McpError::internal("This tool intentionally returns an error for testing"))
    }

    /// Has a schema with definitions.
    #[tool(read_only = true, open_world = false)]
    async fn json_schema_2020_12_tool(&self, name: Option<String>, address: Option<Address>) -> String {
        let place = address.and_then(|address| address.city.or(address.street));
        format!("{} of {}", name.as_deref().unwrap_or("nobody"), place.as_deref().unwrap_or("nowhere"))
    }

    /// Logs three messages to its client.
    #[tool(idempotent = true, destructive = false, open_world = false)]
    async fn test_tool_with_logging(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::log(ctx).await
    }

    /// Reports progress three times.
    #[tool(idempotent = true, destructive = false, open_world = false)]
    async fn test_tool_with_progress(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::progress(ctx).await
    }

    /// Logs to its client, over a stream that a server may end before the answer.
    #[tool(idempotent = true, destructive = false, open_world = false)]
    async fn test_reconnection(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::log(ctx).await
    }

    /// Asks its client's model.
    #[tool]
    async fn test_sampling(
        &self,
        #[description("What the model is asked")] prompt: String,
        ctx: &RequestContext,
    ) -> McpResult<String> {
        asking::sample(prompt, ctx).await
    }

    /// Asks its client's user.
    #[tool]
    async fn test_elicitation(
        &self,
        #[description("What the user is asked")] message: String,
        ctx: &RequestContext,
    ) -> McpResult<String> {
        asking::elicit(&message, asking::user(), json!(["username", "email"]), ctx).await
    }

    /// Asks its client's user, and proposes the answers.
    #[tool]
    async fn test_elicitation_sep1034_defaults(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::elicit("Please check these values", asking::defaults(), json!([]), ctx).await
    }

    /// Asks its client's user to choose.
    #[tool]
    async fn test_elicitation_sep1330_enums(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::elicit("Please choose", asking::enums(), json!([]), ctx).await
    }

    /// A text.
    #[resource("test://static-text", mime_type = "text/plain")]
    async fn static_text(&self, uri: String, _ctx: &RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::text(uri, "This is the content of the static text resource."))
    }

    /// An image.
    #[resource("test://static-binary", mime_type = "image/png")]
    async fn static_binary(&self, uri: String, _ctx: &RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::binary(uri, content::PNG, "image/png"))
    }

    /// A resource to subscribe to.
    #[resource("test://watched-resource", mime_type = "text/plain")]
    async fn watched(&self, uri: String, _ctx: &RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::text(uri, "This never changes."))
    }

    /// A resource for each id.
    #[resource("test://template/{id}/data", mime_type = "application/json")]
    async fn template(&self, uri: String, _ctx: &RequestContext) -> McpResult<ResourceResult> {
        let id = uri.trim_start_matches("test://template/").trim_end_matches("/data");
        let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
        Ok(ResourceResult::text(&uri, data.to_string()))
    }

    /// A text.
    #[prompt]
    async fn test_simple_prompt(&self, _ctx: &RequestContext) -> PromptResult {
        PromptResult::user("This is a simple prompt for testing.")
    }

    /// A text with its arguments in it.
    #[prompt]
    async fn test_prompt_with_arguments(
        &self,
        #[description("The first argument")] arg1: String,
        #[description("The second argument")] arg2: String,
        _ctx: &RequestContext,
    ) -> PromptResult {
        PromptResult::user(format!("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))
    }

    /// A resource.
    #[prompt]
    async fn test_prompt_with_embedded_resource(
        &self,
        #[description("The resource to embed")] resourceUri: String,
        _ctx: &RequestContext,
    ) -> PromptResult {
        let resource = Content::resource(resourceUri, "Embedded resource content for testing.");
        content::prompt(resource, "Please process the embedded resource above.")
    }

    /// An image.
    #[prompt]
    async fn test_prompt_with_image(&self, _ctx: &RequestContext) -> PromptResult {
        content::prompt(Content::image(content::PNG, "image/png"), "Please analyze the image above.")
    }

    #[completion]
    async fn complete(&self, params: Value) -> McpResult<Value> {
        let typed = params["argument"]["value"].as_str().unwrap_or_default();
        let values: Vec<_> = ["test one", "test two"].into_iter().filter(|value| value.starts_with(typed)).collect();
        Ok(json!({ "completion": { "total": values.len(), "values": values, "hasMore": false } }))
    }

    #[subscribe]
    async fn subscribe(&self, uri: String, ctx: &RequestContext) -> McpResult<()> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).insert(subscription(uri, ctx));
        Ok(())
    }

    #[unsubscribe]
    async fn unsubscribe(&self, uri: String, ctx: &RequestContext) -> McpResult<()> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).remove(&subscription(uri, ctx));
        Ok(())
    }
}

fn subscription(uri: String, ctx: &RequestContext) -> (String, String) {
    (ctx.session_id().unwrap_or_default().to_owned(), uri)
}
