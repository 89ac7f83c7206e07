//! The tools, resources and prompts.

use std::time::Duration;

use schemars::JsonSchema;
use turbomcp::prelude::*;

use crate::state::{Observed, State};
use crate::{asking, failing, gallery, slow, state};

/// The resource that a tool changes.
pub(crate) const NOTE: &str = "driven://note";

/// The weather of a city.
#[derive(Debug, Serialize, JsonSchema)]
struct Weather {
    city: String,
    celsius: f64,
    hours: Vec<i32>,
    warning: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Driven {
    state: State,
}

#[server(name = "driven", version = "1.0.0", instructions = "Each tool does one thing that a layer could get wrong.")]
impl Driven {
    /// Greets somebody.
    #[tool(read_only = true)]
    async fn greet(&self, name: String) -> McpResult<String> {
        Ok(format!("Hello, {name}!"))
    }

    /// Answers with structured content.
    #[tool(read_only = true)]
    async fn weather(&self, city: String) -> McpResult<Json<Weather>> {
        Ok(Json(Weather { city, celsius: 21.5, hours: vec![9, 12, 15], warning: None }))
    }

    /// Answers with every kind of content.
    #[tool(read_only = true)]
    async fn gallery(&self) -> McpResult<ToolResult> {
        Ok(gallery::gallery())
    }

    /// Squares a number, a few milliseconds later.
    #[tool(read_only = true)]
    async fn square(&self, n: i64) -> McpResult<i64> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(n * n)
    }

    /// Reports each step as progress.
    #[tool(read_only = false, destructive = false)]
    async fn count(&self, steps: u32, step_ms: u64, ctx: &RequestContext) -> McpResult<String> {
        slow::count(steps, step_ms, ctx).await
    }

    /// Reports each step as progress.
    #[tool(read_only = true)]
    async fn count_read(&self, steps: u32, step_ms: u64, ctx: &RequestContext) -> McpResult<String> {
        slow::count(steps, step_ms, ctx).await
    }

    /// Reports progress, and fails with a temporary failure the first time.
    #[tool(read_only = false, destructive = false, idempotent = true)]
    async fn count_again(&self, key: String, ctx: &RequestContext) -> McpResult<String> {
        slow::count_again(&key, &self.state, ctx).await
    }

    /// Waits until the time is over or the caller has left.
    #[tool(read_only = false, destructive = false)]
    async fn wait(&self, key: String, ms: u64, ctx: &RequestContext) -> McpResult<String> {
        slow::wait(&key, ms, &self.state, ctx).await
    }

    /// Waits until the time is over or the caller has left.
    #[tool(read_only = true)]
    async fn wait_read(&self, key: String, ms: u64, ctx: &RequestContext) -> McpResult<String> {
        slow::wait(&key, ms, &self.state, ctx).await
    }

    /// Returns the outcomes of the calls of a key. Not annotated, since it must run each time.
    #[tool]
    async fn observed(&self, key: String) -> McpResult<Json<Observed>> {
        Ok(Json(self.state.observed(&key)))
    }

    /// Asks the caller's user.
    #[tool(read_only = false, destructive = false)]
    async fn elicit(&self, question: String, ctx: &RequestContext) -> McpResult<String> {
        asking::elicit(&question, ctx).await
    }

    /// Asks the caller's user.
    #[tool(read_only = true)]
    async fn elicit_read(&self, question: String, ctx: &RequestContext) -> McpResult<String> {
        asking::elicit(&question, ctx).await
    }

    /// Asks the caller's model.
    #[tool(read_only = false, destructive = false)]
    async fn sample(&self, prompt: String, ctx: &RequestContext) -> McpResult<String> {
        asking::sample(&prompt, ctx).await
    }

    /// Asks the caller's model.
    #[tool(read_only = true)]
    async fn sample_read(&self, prompt: String, ctx: &RequestContext) -> McpResult<String> {
        asking::sample(&prompt, ctx).await
    }

    /// Asks the caller for its roots.
    #[tool(read_only = false, destructive = false)]
    async fn roots(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::roots(ctx).await
    }

    /// Asks the caller for its roots.
    #[tool(read_only = true)]
    async fn roots_read(&self, ctx: &RequestContext) -> McpResult<String> {
        asking::roots(ctx).await
    }

    /// Logs three messages to the caller.
    #[tool(read_only = false, destructive = false)]
    async fn log(&self, topic: String, ctx: &RequestContext) -> McpResult<String> {
        asking::log(&topic, ctx).await
    }

    /// Logs three messages to the caller.
    #[tool(read_only = true)]
    async fn log_read(&self, topic: String, ctx: &RequestContext) -> McpResult<String> {
        asking::log(&topic, ctx).await
    }

    /// Returns the caller's identity, after a short wait.
    #[tool(read_only = true)]
    async fn who(&self, ctx: &RequestContext) -> McpResult<String> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(state::caller(ctx))
    }

    /// Fails in the requested form.
    #[tool(read_only = false, destructive = false)]
    async fn fail(&self, form: String) -> McpResult<ToolResult> {
        failing::fail(&form)
    }

    /// Fails in the requested form.
    #[tool(read_only = true)]
    async fn fail_read(&self, form: String) -> McpResult<ToolResult> {
        failing::fail(&form)
    }

    /// Fails with an error that has no kind.
    #[tool(read_only = true)]
    async fn fail_with_text(&self, text: String) -> Result<String, String> {
        Err(text)
    }

    /// Returns all parts joined. There are five, since turbomcp accepts 1 MiB in a parameter.
    #[tool(read_only = false, destructive = false)]
    async fn echo(&self, a: String, b: String, c: String, d: String, e: String) -> McpResult<String> {
        Ok([a, b, c, d, e].concat())
    }

    /// Returns all parts joined.
    #[tool(read_only = true)]
    async fn echo_read(&self, a: String, b: String, c: String, d: String, e: String) -> McpResult<String> {
        Ok([a, b, c, d, e].concat())
    }

    /// Adds to the total and returns it.
    #[tool(read_only = false, destructive = false)]
    async fn add(&self, amount: i64) -> McpResult<i64> {
        Ok(self.state.add(amount))
    }

    /// Reads the total, and returns it after a while.
    #[tool(read_only = true)]
    async fn total(&self, ms: Option<u64>) -> McpResult<i64> {
        let total = self.state.total();
        tokio::time::sleep(Duration::from_millis(ms.unwrap_or_default())).await;
        Ok(total)
    }

    /// Stores a value in the session of the call.
    #[tool(read_only = false, destructive = false)]
    async fn remember(&self, key: String, value: String, ctx: &RequestContext) -> McpResult<String> {
        self.state.sessions.of(ctx)?.set(&key, &value).await?;
        Ok(format!("Remembered {key}"))
    }

    /// Reads a value of the session of the call.
    #[tool(read_only = true)]
    async fn recall(&self, key: String, ctx: &RequestContext) -> McpResult<String> {
        let value: Option<String> = self.state.sessions.of(ctx)?.get(&key).await?;
        Ok(value.unwrap_or_else(|| "nothing".to_owned()))
    }

    /// Changes the note, and notifies the caller in every way that a server has.
    #[tool(read_only = false, destructive = false)]
    async fn change_note(&self, text: String, ctx: &RequestContext) -> McpResult<String> {
        self.state.set_note(text);
        ctx.notify_resource_updated(NOTE).await?;
        ctx.notify_resources_list_changed().await?;
        ctx.notify_prompts_list_changed().await?;
        ctx.notify_tools_list_changed().await?;
        Ok("Changed".to_owned())
    }

    /// The current note.
    #[resource("driven://note", mime_type = "text/markdown")]
    async fn note(&self, _uri: String, _ctx: &RequestContext) -> McpResult<String> {
        Ok(self.state.note())
    }

    /// Returns the reader's identity.
    #[resource("driven://who")]
    async fn reader(&self, _uri: String, ctx: &RequestContext) -> McpResult<String> {
        Ok(state::caller(ctx))
    }

    /// A page by its number.
    #[resource("driven://pages/{number}")]
    async fn page(&self, uri: String, _ctx: &RequestContext) -> McpResult<String> {
        Ok(format!("Content of {uri}"))
    }

    /// Asks for a summary.
    #[prompt]
    async fn summarise(&self, topic: String, _ctx: &RequestContext) -> McpResult<PromptResult> {
        Ok(PromptResult::user(format!("Summarise {topic}")).add_assistant("With pleasure"))
    }

    /// Completes a topic.
    #[completion]
    async fn complete_topic(&self, params: serde_json::Value) -> McpResult<serde_json::Value> {
        let begun = params["argument"]["value"].as_str().unwrap_or_default();
        let values: Vec<_> = ["rain", "rust", "snow"].into_iter().filter(|topic| topic.starts_with(begun)).collect();
        Ok(serde_json::json!({ "completion": { "values": values } }))
    }

    #[subscribe]
    async fn watch(&self, uri: String) -> McpResult<()> {
        self.state.start(&uri).finished();
        Ok(())
    }

    #[unsubscribe]
    async fn unwatch(&self, uri: String) -> McpResult<()> {
        self.state.start(&uri).cancelled();
        Ok(())
    }

    #[set_level]
    async fn set_level(&self, _level: String) -> McpResult<()> {
        Ok(())
    }
}
