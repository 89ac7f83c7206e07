//! Resources and prompts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmcp::model::{
    CacheScope, ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, PromptMessage,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ResourceContents, Role, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use turbomcp_core::McpError;

use super::server::Client;
use crate::cached::Reads;
use crate::rmcp_server::{Failed, RmcpServer, RmcpStack};
use crate::{CachedTool, Layer, OutputTool, Scope};

#[derive(Clone, Default)]
struct Library {
    reads: Arc<AtomicU32>,
}

impl ServerHandler for Library {
    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let count = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        if request.uri == "lib://down" {
            return Err(Failed(McpError::unavailable("down")).into());
        }
        let has_hints = request.uri != "lib://silent";
        let mut result = ReadResourceResult::new(vec![ResourceContents::text(count.to_string(), request.uri)]);
        if has_hints {
            result.ttl_ms = Some(60_000);
            result.cache_scope = Some(CacheScope::Private);
        }
        Ok(result.into())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let count = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let text = ContentBlock::text(format!("{}: {count}", request.name));
        let mut result = GetPromptResult::new(vec![PromptMessage::new(Role::Assistant, text)]);
        result.description = Some("A prompt".into());
        Ok(result.into())
    }

    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_resources().enable_prompts().build();
        info
    }
}

async fn read(stack: &impl ServerHandler, client: &super::sharing::Peer, uri: &str) -> ReadResourceResult {
    match stack.read_resource(ReadResourceRequestParams::new(uri), client.context()).await.unwrap() {
        ReadResourceResponse::Complete(result) => result,
        other => panic!("not complete: {other:?}"),
    }
}

#[tokio::test]
async fn a_kept_resource_may_be_kept_by_clients_for_the_rest_of_its_time() {
    let client = super::sharing::Peer::connect().await;
    tokio::time::pause();
    let library = Library::default();
    let reads = Reads::new().with_ttl(Duration::from_secs(300));
    let stack = CachedTool::new().with_resources(reads).layer(RmcpServer::new(library.clone()));
    let outer = CachedTool::new().with_scope(Scope::Public).layer(stack.clone());
    let first = read(&stack, &client, "lib://a").await;
    assert_eq!((first.ttl_ms, first.cache_scope), (Some(60_000), Some(CacheScope::Private)));
    for (wait, rest) in [(10, 50_000), (20, 30_000), (40, 0)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        let kept = read(&outer, &client, "lib://a").await;
        assert_eq!((kept.ttl_ms, kept.cache_scope), (Some(rest), Some(CacheScope::Private)));
        assert_eq!(kept.contents, first.contents);
        assert!(kept.meta.unwrap().0.keys().all(|key| key == crate::outcome::CACHE));
    }
    assert_eq!(library.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn on_request_the_cache_says_how_long_a_client_may_keep_a_resource_unless_the_server_does() {
    let client = super::sharing::Peer::connect().await;
    tokio::time::pause();
    let reads = Reads::new().with_ttl(Duration::from_secs(300)).with_scope(Scope::Public).with_cache_hints();
    let stack = CachedTool::new().with_resources(reads).layer(RmcpServer::new(Library::default()));
    for (age, silent, own) in [(0, 300_000, 60_000), (100, 200_000, 0)] {
        tokio::time::advance(Duration::from_secs(age)).await;
        let silently = read(&stack, &client, "lib://silent").await;
        assert_eq!((silently.ttl_ms, silently.cache_scope), (Some(silent), Some(CacheScope::Public)));
        assert!(silently.meta.unwrap().0.keys().all(|key| key == crate::outcome::CACHE));
        let of_server = read(&stack, &client, "lib://a").await;
        assert_eq!((of_server.ttl_ms, of_server.cache_scope), (Some(own), Some(CacheScope::Private)));
    }
    let of_session = stack.around(Library::default());
    let kept = read(&of_session, &client, "lib://silent").await;
    assert_eq!(kept.cache_scope, Some(CacheScope::Private), "another server of `around` answers otherwise");
}

#[tokio::test]
async fn prompts_are_kept_and_failures_are_not() {
    let library = Library::default();
    let stack = CachedTool::new()
        .with_resources(Reads::new())
        .with_prompts(Reads::new())
        .layer(RmcpServer::new(library.clone()));
    let client = Client::connect(&stack, "Ada").await;
    for _ in 0..2 {
        let prompt = client.service.get_prompt(GetPromptRequestParams::new("poem")).await.unwrap();
        assert_eq!(prompt.description.as_deref(), Some("A prompt"));
        assert_eq!(prompt.messages, [PromptMessage::new(Role::Assistant, ContentBlock::text("poem: 1"))]);
    }
    for _ in 0..2 {
        let failed = client.service.read_resource(ReadResourceRequestParams::new("lib://down")).await.unwrap_err();
        assert!(failed.to_string().contains("down"), "{failed}");
    }
    assert_eq!(library.reads.load(Ordering::SeqCst), 3);
}

/// A server without capabilities.
#[derive(Clone)]
struct Bare;

impl ServerHandler for Bare {}

#[tokio::test]
async fn a_server_without_resources_declares_them_if_a_layer_has_some() {
    for (output, has_resources) in
        [(OutputTool::new(), false), (OutputTool::new().with_spill(crate::output::Spill::new()), true)]
    {
        let stack = output.layer(RmcpServer::new(Bare));
        assert_eq!(stack.get_info().capabilities.resources.is_some(), has_resources);
        let (near, far) = tokio::io::duplex(4096);
        let served = tokio::spawn(async move { stack.serve(far).await.expect("a client").waiting().await });
        let client = ().serve(near).await.expect("a server");
        let declared = &client.peer_info().expect("an answer").capabilities;
        assert_eq!((declared.resources.is_some(), declared.tools.is_some()), (has_resources, false));
        client.cancel().await.expect("it ends");
        served.await.expect("no panic").expect("it ends");
    }
}
