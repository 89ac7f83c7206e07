//! A server that is not trusted.

use mcp_patterns::idempotency_keys::IDEMPOTENCY;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{ConfigError, TryLayer, UntrustedServer, outcome};

use super::*;

fn says(meta: &[(&str, Value)]) -> ToolResult {
    let mut result = ToolResult::error("no");
    result.meta = Some(meta.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
    result
}

/// Annotates its tool as harmless and as honouring keys, and answers as the test configures.
fn upstream(answer: impl Fn(usize) -> McpResult<ToolResult> + Send + Sync + 'static) -> ScriptedServer {
    let mut tool = read_only("order");
    tool.meta = Some([(IDEMPOTENCY.to_owned(), json!({"argument": "key"})), ("own".to_owned(), json!(1))].into());
    if let Some(annotations) = &mut tool.annotations {
        annotations.title = Some("Orders".to_owned());
    }
    let answer = Arc::new(answer);
    ScriptedServer::new("upstream").with_tool(tool, move |call| {
        let answer = Arc::clone(&answer);
        // Not through the script's own conversion of errors: a result passes unchanged.
        async move { answer(call.number) }
    })
}

fn ok(number: usize) -> McpResult<ToolResult> {
    Ok(ToolResult::text(number.to_string()))
}

#[tokio::test]
async fn annotations_of_an_untrusted_server_are_ignored_by_all_layers() {
    let script = upstream(ok);
    let server = (CachedTool::new(), RetryTool::new(), UntrustedServer::new()).layer(script.clone());
    for number in 1..3 {
        assert_eq!(call(&server, "order", json!({}), &nobody()).await, Ok(number.to_string()), "it is not cached");
    }
    let listed = server.list_tools_for(&nobody());
    assert_eq!(listed, server.list_tools());
    let [tool] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(tool.meta, Some([("own".to_owned(), json!(1))].into()), "what is not ours passes");
    let title = ToolAnnotations { title: Some("Orders".to_owned()), ..Default::default() };
    assert_eq!(tool.annotations, Some(title));

    let script = upstream(|_| Err(McpError::unavailable("down")));
    let server = (RetryTool::new(), UntrustedServer::new()).layer(script.clone());
    assert!(call(&server, "order", json!({"key": "k"}), &nobody()).await.is_err());
    assert_eq!(script.calls("order"), 1, "neither its annotations nor its key make it safe to repeat");
}

#[tokio::test(start_paused = true)]
async fn tools_of_an_untrusted_server_are_selected_by_name_only() {
    let script = upstream(ok);
    let asked = CachedTool::new().only(["order"]);
    let refused = (asked, UntrustedServer::new()).try_layer(script.clone());
    assert!(matches!(refused, Err(ConfigError::UnsafeTool { .. })), "its own word is not enough");
    let server = (CachedTool::new().allow_skipped_effects(["order"]), UntrustedServer::new()).layer(script.clone());
    for _ in 0..2 {
        assert_eq!(call(&server, "order", json!({}), &nobody()).await.as_deref(), Ok("1"));
    }
    let script = upstream(|number| if number < 3 { Err(McpError::unavailable("down")) } else { ok(number) });
    // The script would convert the error as a trusted server does.
    let server =
        (RetryTool::new().allow_repeated_effects(["order"]), UntrustedServer::new()).layer(Raw(script.clone()));
    assert_eq!(call(&server, "order", json!({}), &nobody()).await.as_deref(), Ok("3"));
}

/// Converts a failed result into an error, as a proxy does that has lost its upstream.
#[derive(Debug, Clone)]
struct Raw(ScriptedServer);

impl McpHandler for Raw {
    fn server_info(&self) -> ServerInfo {
        self.0.server_info()
    }

    fn list_tools(&self) -> Vec<Tool> {
        self.0.list_tools()
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, ctx: &'a RequestContext) -> McpResult<ToolResult> {
        let result = self.0.call_tool(name, args, ctx).await?;
        let Some(failure) = outcome::failure(&Ok(result.clone())).and_then(|failure| failure.kind()) else {
            return Ok(result);
        };
        let forged = json!({ outcome::EXHAUSTED: "attempts", "own": 1 });
        Err(McpError::new(failure, "the upstream does not answer").with_data(forged))
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        let mut result = ResourceResult::text(uri, "text");
        result.meta = Some([(outcome::CACHE.to_owned(), json!({"status": "hit"}))].into());
        Ok(result)
    }

    async fn get_prompt<'a>(&'a self, _: &'a str, _: Option<Value>, _: &'a RequestContext) -> McpResult<PromptResult> {
        let mut result = PromptResult::user("text");
        result.meta =
            Some([(outcome::CACHE.to_owned(), json!({"status": "hit"})), ("own".to_owned(), json!(1))].into());
        Ok(result)
    }
}

#[tokio::test]
async fn a_layer_mark_forged_by_the_server_is_removed() {
    let forged = [
        (outcome::EXHAUSTED, json!("attempts")),
        (outcome::ATTEMPTS, json!(3)),
        (IDEMPOTENCY, json!("replayed")),
        (turbomcp_core::meta_keys::ERROR_KIND, json!("invalid_params")),
        ("retryAfterMs", json!(1)),
        ("own", json!(1)),
    ];
    let script = upstream(move |_| Ok(says(&forged)));
    let server = UntrustedServer::new().layer(script);
    let answer = server.call_tool("order", json!({}), &nobody()).await.expect("an answer");
    assert_eq!(answer.meta, Some([("own".to_owned(), json!(1))].into()));
    let raw = UntrustedServer::new().layer(Raw(ScriptedServer::new("raw")));
    assert_eq!(raw.read_resource("a://b", &nobody()).await.expect("a resource").meta, None);
    let prompt = raw.get_prompt("a", None, &nobody()).await.expect("a prompt");
    assert_eq!(prompt.meta, Some([("own".to_owned(), json!(1))].into()));
}

#[tokio::test]
async fn a_forged_mark_that_nothing_happened_releases_no_key() {
    let refused = [(turbomcp_core::meta_keys::ERROR_KIND, json!("invalid_params"))];
    let script = upstream(move |_| Ok(says(&refused)));
    let idempotent = || IdempotentTool::new(MemoryBackend::new()).only(["order"]);
    let twice = async |server: &dyn Fn() -> mcp_patterns::BoxHandler| {
        let server = server();
        for _ in 0..2 {
            let answer = call(&server, "order", json!({"idempotency_key": "k"}), &nobody()).await;
            assert!(answer.is_err());
        }
    };
    twice(&|| mcp_patterns::boxed(idempotent().layer(script.clone()))).await;
    assert_eq!(script.calls("order"), 2, "a server of one's own is believed");
    twice(&|| mcp_patterns::boxed((idempotent(), UntrustedServer::new()).layer(script.clone()))).await;
    assert_eq!(script.calls("order"), 3);
}

#[tokio::test(start_paused = true)]
async fn marks_of_layers_around_an_untrusted_server_still_count() {
    let script = upstream(|number| if number == 1 { Err(McpError::unavailable("down")) } else { ok(number) });
    let server = (RetryTool::new(), IdempotentTool::new(MemoryBackend::new()).only(["order"]), UntrustedServer::new())
        .layer(Raw(script.clone()));
    let answer = call(&server, "order", json!({"idempotency_key": "k"}), &nobody()).await;
    assert_eq!(answer.as_deref(), Ok("2"), "the key is honoured by a layer of one's own");
    // An outer retry trusts an inner one.
    let script = upstream(|_| Err(McpError::unavailable("down")));
    let retry = || RetryTool::new().allow_repeated_effects(["order"]);
    let server = (retry(), retry(), UntrustedServer::new()).layer(Raw(script.clone()));
    assert!(call(&server, "order", json!({}), &nobody()).await.is_err());
    assert_eq!(script.calls("order"), 3);
}
