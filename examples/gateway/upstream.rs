//! A server of any language behind this process: its tools, resources and prompts, as a server of rmcp.

use futures_util::StreamExt;
use mcp_patterns::rmcp_server::{Failed, McpError};
use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::*;
use rmcp::service::{NotificationContext, Peer, PeerRequestOptions, RequestContext, RequestHandle, RunningService};
use rmcp::service::{RoleClient, RoleServer, ServiceError};
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, ErrorData, ServerHandler, ServiceExt};

use crate::settings::Address;

/// The client of the upstream server.
pub(crate) struct Client(ProgressDispatcher);

impl ClientHandler for Client {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.handle_notification(progress).await;
    }
}

/// Passes each request on.
#[derive(Clone)]
pub(crate) struct Upstream {
    peer: Peer<RoleClient>,
    progress: ProgressDispatcher,
    config: ServerConfig,
}

/// Connects to the server. The connection is open as long as the first value is not dropped.
pub(crate) async fn connect(
    address: Address,
) -> Result<(RunningService<RoleClient, Client>, Upstream), Box<dyn std::error::Error>> {
    let progress = ProgressDispatcher::new();
    let client = Client(progress.clone());
    let running = match address {
        Address::Command(command) => {
            let mut process = tokio::process::Command::new(&command[0]);
            process.args(&command[1..]);
            let process = TokioChildProcess::new(process).map_err(|error| format!("`{}`: {error}", command[0]))?;
            client.serve(process).await
        }
        Address::Url(url) => client.serve(StreamableHttpClientTransport::from_uri(url)).await,
    };
    let running = running.map_err(|error| format!("the server behind it does not answer: {error}"))?;
    let info = running.peer_info().ok_or("the upstream server has not introduced itself")?;
    // Subscriptions, log levels and tasks are not passed on.
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = info.capabilities.tools.as_ref().map(|_| ToolsCapability::default());
    capabilities.resources = info.capabilities.resources.as_ref().map(|_| ResourcesCapability::default());
    capabilities.prompts = info.capabilities.prompts.as_ref().map(|_| PromptsCapability::default());
    capabilities.completions = info.capabilities.completions.clone();
    let mut config = ServerConfig::new(capabilities);
    config.server_info = info.server_info.clone().unwrap_or(config.server_info);
    config.instructions = info.instructions.clone();
    let upstream = Upstream { peer: running.peer().clone(), progress, config };
    Ok((running, upstream))
}

impl ServerHandler for Upstream {
    fn get_info(&self) -> ServerConfig {
        self.config.clone()
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.peer.list_tools(page).await.map_err(failed)
    }

    /// Passes progress on, and cancels the call if the caller does, or leaves.
    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(call));
        let sent = self.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let mut call = Call(Some(sent.map_err(failed)?));
        let Some(handle) = &mut call.0 else { return Err(failed(ServiceError::UnexpectedResponse)) };
        let mut progress = self.progress.subscribe(handle.progress_token.clone()).await;
        let answered = loop {
            tokio::select! {
                biased;
                Some(mut news) = progress.next() => if let Some(token) = ctx.meta.get_progress_token() {
                    news.progress_token = token;
                    let _ = ctx.peer.notify_progress(news).await;
                },
                answered = &mut handle.rx => break answered,
                () = ctx.ct.cancelled() => return Err(Failed(McpError::cancelled("The call was cancelled")).into()),
            }
        };
        call.0 = None;
        match answered.unwrap_or(Err(ServiceError::TransportClosed)).map_err(failed)? {
            ServerResult::CallToolResult(result) => Ok(CallToolResponse::Complete(result)),
            ServerResult::InputRequiredResult(question) => Ok(CallToolResponse::InputRequired(question)),
            _ => Err(failed(ServiceError::UnexpectedResponse)),
        }
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.peer.list_resources(page).await.map_err(failed)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        self.peer.list_resource_templates(page).await.map_err(failed)
    }

    async fn read_resource(
        &self,
        resource: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.peer.read_resource_once(resource).await.map_err(failed)
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.peer.list_prompts(page).await.map_err(failed)
    }

    async fn get_prompt(
        &self,
        prompt: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.peer.get_prompt_once(prompt).await.map_err(failed)
    }

    async fn complete(
        &self,
        argument: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.peer.complete(argument).await.map_err(failed)
    }
}

/// A call of the upstream server, which is cancelled if this is dropped before its answer.
struct Call(Option<RequestHandle<RoleClient>>);

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            tokio::spawn(call.cancel(Some("the caller does not wait any more".to_owned())));
        }
    }
}

/// An error of the upstream server stays as it is. Any other one is temporary, and a layer may call again.
fn failed(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        error => {
            eprintln!("the upstream server: {error}");
            Failed(McpError::unavailable("The server behind this one does not answer")).into()
        }
    }
}
