//! Servers of rmcp, and the proxy in front of them.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::once;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::Stores;

/// A wait of a test that is longer has failed.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// The replica of a request is the next one.
const ROUND_ROBIN: usize = usize::MAX;

pub(super) type Replica = StreamableHttpService<Server, LocalSessionManager>;

/// A server whose tool `who` names the replica, and whose tool `slow` does so once the test lets it.
#[derive(Clone)]
pub(super) struct Server {
    name: String,
    tool: Arc<Tool>,
}

/// The progress of the tool `slow`.
struct Tool {
    has_begun: Semaphore,
    is_released: Semaphore,
    has_ended: Semaphore,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "slow" {
            self.tool.has_begun.add_permits(1);
            self.tool.is_released.acquire().await.expect("it stays open").forget();
            self.tool.has_ended.add_permits(1);
        }
        Ok(CallToolResult::success(vec![ContentBlock::text(&self.name)]).into())
    }
}

/// Replicas behind a proxy.
pub(super) struct Fleet {
    url: String,
    proxy: Arc<Proxy>,
    tool: Arc<Tool>,
}

struct Proxy {
    replicas: std::sync::Mutex<Vec<Replica>>,
    next: AtomicUsize,
    pinned: AtomicUsize,
    /// False while the proxy refuses every request, as one without a server does.
    accepts: watch::Sender<bool>,
    /// The number of cuts so far.
    cuts: watch::Sender<usize>,
    refused: AtomicUsize,
    resumed: watch::Sender<Vec<usize>>,
}

async fn replica(name: String, tool: &Arc<Tool>, stores: Option<&Stores>) -> Replica {
    let server = Server { name, tool: Arc::clone(tool) };
    let mut manager = LocalSessionManager::default();
    let mut config = StreamableHttpServerConfig::default().with_sse_retry(Some(Duration::from_millis(20)));
    if let Some(stores) = stores {
        let (sessions, events) = stores.of_replica().await;
        config.session_store = Some(sessions);
        manager = manager.with_event_store(events);
    }
    StreamableHttpService::new(move || Ok(server.clone()), Arc::new(manager), config)
}

impl Fleet {
    pub(super) async fn start(stores: &Stores, count: usize) -> Self {
        Self::of(Some(stores), count).await
    }

    pub(super) async fn without_stores(count: usize) -> Self {
        Self::of(None, count).await
    }

    async fn of(stores: Option<&Stores>, count: usize) -> Self {
        let semaphore = || Semaphore::new(0);
        let tool = Arc::new(Tool { has_begun: semaphore(), is_released: semaphore(), has_ended: semaphore() });
        let mut replicas = Vec::new();
        for number in 0..count {
            replicas.push(replica(format!("replica {number}"), &tool, stores).await);
        }
        let proxy = Arc::new(Proxy {
            replicas: std::sync::Mutex::new(replicas),
            next: AtomicUsize::new(0),
            pinned: AtomicUsize::new(ROUND_ROBIN),
            accepts: watch::Sender::new(true),
            cuts: watch::Sender::new(0),
            refused: AtomicUsize::new(0),
            resumed: watch::Sender::new(Vec::new()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let app = Router::new().fallback(forward).with_state(Arc::clone(&proxy));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, proxy, tool }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn send_all_to(&self, replica: usize) {
        self.proxy.pinned.store(replica, Ordering::SeqCst);
    }

    /// Cuts the connection of every answer that has not ended.
    pub(super) fn cut_all_streams(&self) {
        self.proxy.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(super) fn refuse_all(&self) {
        self.proxy.accepts.send_replace(false);
    }

    pub(super) fn accept_all(&self) {
        self.proxy.accepts.send_replace(true);
    }

    /// Replaces every replica by a new one, with an empty memory and new connections.
    pub(super) async fn restart(&mut self, stores: &Stores) {
        let count = self.proxy.replicas.lock().expect("no panic").len();
        let mut new = Vec::new();
        for number in 0..count {
            new.push(replica(format!("replica {number} restarted"), &self.tool, Some(stores)).await);
        }
        let old = std::mem::replace(&mut *self.proxy.replicas.lock().expect("no panic"), new);
        old.iter().for_each(|replica| replica.config.cancellation_token.cancel());
    }

    pub(super) async fn has_begun(&self) {
        let begun = timeout(LONGEST, self.tool.has_begun.acquire()).await;
        begun.expect("the tool begins").expect("it stays open").forget();
    }

    pub(super) fn release(&self) {
        self.tool.is_released.add_permits(1);
    }

    pub(super) async fn has_ended(&self) {
        let ended = timeout(LONGEST, self.tool.has_ended.acquire()).await;
        ended.expect("the tool ends").expect("it stays open").forget();
    }

    /// Waits until a client has resumed a stream on a replica.
    pub(super) async fn has_resumed(&self, replica: usize) {
        let mut resumed = self.proxy.resumed.subscribe();
        let found = timeout(LONGEST, resumed.wait_for(|on| on.contains(&replica))).await;
        found.expect("a stream is resumed").expect("the proxy runs");
    }

    /// Returns the number of requests that a replica has refused.
    pub(super) fn refused(&self) -> usize {
        self.proxy.refused.load(Ordering::SeqCst)
    }
}

async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    if !*proxy.accepts.borrow() {
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).expect("an answer");
    }
    let (number, replica) = {
        let replicas = proxy.replicas.lock().expect("no panic");
        let number = match proxy.pinned.load(Ordering::SeqCst) {
            ROUND_ROBIN => proxy.next.fetch_add(1, Ordering::SeqCst) % replicas.len(),
            pinned => pinned,
        };
        (number, replicas[number].clone())
    };
    let resumes = request.headers().contains_key("last-event-id");
    let mut cuts = proxy.cuts.subscribe();
    cuts.mark_unchanged();
    let response = replica.handle(request).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        proxy.refused.fetch_add(1, Ordering::SeqCst);
    }
    if resumes {
        proxy.resumed.send_modify(|on| on.push(number));
    }
    let (head, body) = response.into_parts();
    // The connection breaks off, as it does behind a proxy that ends. The end of a stream looks otherwise.
    let cut = once(async move {
        if cuts.changed().await.is_err() {
            pending::<()>().await;
        }
        Err(axum::Error::new("cut"))
    });
    let body = futures_util::stream::select(
        Body::new(body).into_data_stream().map(Some).chain(once(async { None })),
        cut.map(Some),
    )
    .take_while(|part| std::future::ready(part.is_some()))
    .filter_map(std::future::ready);
    Response::from_parts(head, Body::from_stream(body))
}
