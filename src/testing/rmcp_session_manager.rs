use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{Stream, StreamExt};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientJsonRpcMessage, ContentBlock, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, serve_server};
use rmcp::transport::TransportAdapterIdentity;
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A manager that needs longer than this, and the time after which a replica counts as dead, hangs.
const LONGEST: Duration = Duration::from_secs(30);

/// Checks that an rmcp [`SessionManager`] answers a call whose replica has died, and panics where it does not.
///
/// It calls `start_replica` for each replica, and drops a manager where its replica dies. They share their records. A client is told that
/// a replica is dead after `lease`: give the shortest that works, since the checks wait for it.
///
/// ```
/// use std::time::Duration;
/// use mcp_patterns::rmcp_stores::{ReplicaSessionManager, SqlEventStore};
/// use mcp_patterns::testing::rmcp_session_manager_contract;
/// use sqlx::sqlite::SqlitePoolOptions;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool =
///     SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// SqlEventStore::ensure_schema(&pool).await?;
/// let lease = Duration::from_millis(500);
/// let events = SqlEventStore::new(pool).with_lease(lease);
/// let replica = || async { ReplicaSessionManager::new(events.clone()) };
/// rmcp_session_manager_contract(lease, replica).await;
/// # Ok(()) }
/// ```
pub async fn rmcp_session_manager_contract<M: SessionManager, F: Future<Output = M>>(
    lease: Duration,
    start_replica: impl Fn() -> F,
) {
    a_call_whose_replica_has_died_is_an_error(&start_replica).await;
    clients_that_resume_at_once_get_one_error(&start_replica).await;
    a_call_whose_replica_lives_is_answered(lease, &start_replica).await;
    an_answer_outlives_its_replica(lease, &start_replica).await;
}

async fn a_call_whose_replica_has_died_is_an_error<M: SessionManager, F: Future<Output = M>>(start: &impl Fn() -> F) {
    for request in [json!(7), json!("a-text"), json!(-1)] {
        let (one, two) = (Replica::start(start().await).await, start().await);
        let call = one.call(&request).await;
        let session = one.die();
        let error = rest(&two, &session, &call).await;
        assert_eq!(error.len(), 1, "the stream ends with one message: {error:?}");
        assert!(error[0].1["error"]["code"].is_i64(), "the message is an error: {error:?}");
        assert_eq!(error[0].1["id"], request, "it is the answer to the request");
        assert_eq!(rest(&two, &session, &call).await, error, "whoever resumes later gets it, too");
        assert_eq!(rest(&start().await, &session, &call).await, error, "at each replica");
    }
}

async fn clients_that_resume_at_once_get_one_error<M: SessionManager, F: Future<Output = M>>(start: &impl Fn() -> F) {
    let one = Replica::start(start().await).await;
    let call = one.call(&json!(1)).await;
    let session = one.die();
    let others = [start().await, start().await];
    let got = join_all((0..8).map(|client| rest(&others[client % 2], &session, &call))).await;
    assert!(got.iter().all(|events| events == &got[0]), "all get the same: {got:?}");
    assert_eq!(got[0].len(), 1, "one error: {got:?}");
}

async fn a_call_whose_replica_lives_is_answered<M: SessionManager, F: Future<Output = M>>(
    lease: Duration,
    start: &impl Fn() -> F,
) {
    let (one, two) = (Replica::start(start().await).await, start().await);
    let call = one.call(&json!(1)).await;
    let session = one.id.clone();
    let (events, ()) = tokio::join!(rest(&two, &session, &call), async {
        sleep(3 * lease).await;
        one.tool.add_permits(1);
    });
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].1["result"].is_object(), "a long call is no dead one: {events:?}");
}

async fn an_answer_outlives_its_replica<M: SessionManager, F: Future<Output = M>>(
    lease: Duration,
    start: &impl Fn() -> F,
) {
    let (one, two) = (Replica::start(start().await).await, start().await);
    let call = one.call(&json!(1)).await;
    one.tool.add_permits(1);
    let answer = rest(&two, &one.id, &call).await;
    assert!(answer[0].1["result"].is_object(), "{answer:?}");
    let session = one.die();
    sleep(2 * lease).await;
    assert_eq!(rest(&two, &session, &call).await, answer, "no error takes its place");
}

/// A process with a session of one client.
struct Replica<M> {
    manager: Arc<M>,
    id: SessionId,
    service: JoinHandle<()>,
    /// Each permit lets a call end.
    tool: Arc<Semaphore>,
}

impl<M: SessionManager> Replica<M> {
    async fn start(manager: M) -> Self {
        let manager = Arc::new(manager);
        let (id, transport) = checked(manager.create_session().await);
        let tool = Arc::new(Semaphore::new(0));
        let server = Server(Arc::clone(&tool));
        let service = tokio::spawn(async move {
            if let Ok(running) = serve_server::<_, _, _, TransportAdapterIdentity>(server, transport).await {
                let _ = running.waiting().await;
            }
        });
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "contract", "version": "1"},
        }});
        checked(manager.initialize_session(&id, message(initialize)).await);
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        checked(manager.accept_message(&id, message(initialized)).await);
        Self { manager, id, service, tool }
    }

    /// Begins a call, and returns the id of the first event of its stream.
    async fn call(&self, request: &Value) -> String {
        let call = json!({"jsonrpc": "2.0", "id": request, "method": "tools/call", "params": {"name": "wait"}});
        let stream = checked(self.manager.create_stream(&self.id, message(call)).await);
        let first = timeout(LONGEST, pin!(stream).next()).await.ok().flatten();
        let first = first.unwrap_or_else(|| panic!("the stream of a call begins with an event"));
        first.event_id.unwrap_or_else(|| panic!("the first event has an id, so that a client can resume the stream"))
    }

    fn die(self) -> SessionId {
        self.service.abort();
        self.id
    }
}

/// Resumes a stream, and returns its later events until its end: their ids and messages.
async fn rest<M: SessionManager>(manager: &M, session: &SessionId, last: &str) -> Vec<(Option<String>, Value)> {
    let stream = checked(manager.resume(session, last.to_owned()).await);
    let events = timeout(LONGEST, collect(stream)).await;
    events.unwrap_or_else(|_| panic!("the stream of a call whose replica is dead hangs"))
}

async fn collect(stream: impl Stream<Item = ServerSseMessage>) -> Vec<(Option<String>, Value)> {
    let json = |event: &ServerSseMessage| serde_json::to_value(event.message.as_deref()).unwrap_or_default();
    stream.map(|event| (event.event_id.clone(), json(&event))).collect().await
}

fn message(message: Value) -> ClientJsonRpcMessage {
    serde_json::from_value(message).unwrap_or_else(|error| panic!("a message of the client: {error}"))
}

fn checked<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A server whose tool waits until the check lets it end.
struct Server(Arc<Semaphore>);

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}
