//! The server of each replica.

use std::sync::{Arc, Mutex};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequestParams, ElicitationSchema,
    ResourceUpdatedNotificationParam, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::fleet::LONGEST;

/// A server with these tools:
///
/// - `who` names the replica.
/// - `slow` does so once the test lets it, and says whether it was cancelled.
/// - `ask` asks its client, and says whether an answer came before the test let it end.
/// - `tell` tells its client, without a request, which replica it is.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) tool: Arc<Tool>,
}

/// The progress of a tool.
pub(super) struct Tool {
    has_begun: Semaphore,
    is_released: Semaphore,
    has_ended: Semaphore,
    last_end: Mutex<String>,
    begins: Box<dyn Fn() + Send + Sync>,
}

impl Tool {
    /// Calls `begins` at the begin of each call.
    pub(super) fn new(begins: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let semaphore = || Semaphore::new(0);
        let (has_begun, is_released, has_ended) = (semaphore(), semaphore(), semaphore());
        Arc::new(Self { has_begun, is_released, has_ended, last_end: Mutex::default(), begins: Box::new(begins) })
    }

    pub(super) fn begin(&self) {
        (self.begins)();
        self.has_begun.add_permits(1);
    }

    pub(super) fn release(&self) {
        self.is_released.add_permits(1);
    }

    pub(super) async fn has_begun(&self) {
        permit(&self.has_begun).await;
    }

    pub(super) async fn has_ended(&self) {
        permit(&self.has_ended).await;
    }

    fn end(&self, text: &str) {
        text.clone_into(&mut self.last_end.lock().expect("no panic"));
        self.has_ended.add_permits(1);
    }

    /// Returns the answer of the last call that has ended.
    pub(super) fn last_end(&self) -> String {
        self.last_end.lock().expect("no panic").clone()
    }

    async fn is_released(&self) {
        self.is_released.acquire().await.expect("it stays open").forget();
    }
}

async fn permit(semaphore: &Semaphore) {
    timeout(LONGEST, semaphore.acquire()).await.expect("the tool goes on").expect("it stays open").forget();
}

fn question() -> ElicitRequestParams {
    let requested_schema = ElicitationSchema::builder().build().expect("a schema");
    ElicitRequestParams::FormElicitationParams { meta: None, message: "Go on?".into(), requested_schema }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = &self.name;
        let text = match &*request.name {
            "who" => name.clone(),
            "tell" => {
                let told = ResourceUpdatedNotificationParam::new(name.clone());
                context.peer.notify_resource_updated(told).await.map_err(failed)?;
                name.clone()
            }
            "slow" => {
                self.tool.begin();
                let text = tokio::select! {
                    () = self.tool.is_released() => name.clone(),
                    () = context.ct.cancelled() => "cancelled".to_owned(),
                };
                self.tool.end(&text);
                text
            }
            "ask" => {
                self.tool.begin();
                tokio::select! {
                    () = self.tool.is_released() => "no answer".to_owned(),
                    answer = context.peer.create_elicitation(question()) => {
                        answer.map_err(failed)?;
                        "an answer".to_owned()
                    }
                }
            }
            unknown => return Err(ErrorData::invalid_params(format!("no tool `{unknown}`"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

fn failed(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
