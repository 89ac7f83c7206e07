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
use rmcp::{ErrorData, RoleServer, ServerHandler};
use turbomcp_core::McpError;

use super::server::Client;
use crate::cached::Reads;
use crate::rmcp_server::{Failed, RmcpServer};
use crate::{CachedTool, Layer, Scope};

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
        let mut result = ReadResourceResult::new(vec![ResourceContents::text(count.to_string(), request.uri)]);
        result.ttl_ms = Some(60_000);
        result.cache_scope = Some(CacheScope::Private);
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
