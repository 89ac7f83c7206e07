//! The clients of a fleet.

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
    ElicitationAction, ResourceUpdatedNotificationParam,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ErrorData, RoleClient, ServiceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::fleet::{Fleet, LONGEST};

pub(super) type Client = RunningService<RoleClient, User>;

/// A client that answers each question, and remembers which replicas have told it something.
#[derive(Clone, Default)]
pub(super) struct User {
    pub(super) told_by: watch::Sender<Vec<String>>,
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.capabilities = ClientCapabilities::builder().enable_elicitation().build();
        info
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({})))
    }

    async fn on_resource_updated(&self, told: ResourceUpdatedNotificationParam, _: NotificationContext<RoleClient>) {
        self.told_by.send_modify(|told_by| told_by.push(told.uri));
    }
}

pub(super) async fn connect(fleet: &Fleet) -> Client {
    let transport = StreamableHttpClientTransport::from_uri(fleet.url());
    User::default().serve(transport).await.expect("a session")
}

pub(super) fn request(tool: &'static str) -> CallToolRequestParams {
    CallToolRequestParams::new(tool)
}

pub(super) async fn call(client: &Client, tool: &'static str) -> CallToolResult {
    let answer = timeout(LONGEST, client.call_tool(request(tool))).await;
    answer.expect("the call ends").expect("an answer")
}

pub(super) fn text(result: &CallToolResult) -> String {
    result.content[0].as_text().expect("a text").text.clone()
}
