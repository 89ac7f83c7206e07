//! Replicas, and the proxy in front of them.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{once, unfold};
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::process::Process;
use super::server::{Server, Tool};
use super::stores::Place;

/// A wait of a test that is longer has failed.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// What replicas keep in common.
#[derive(Clone, Copy)]
pub(super) enum Kept<'a> {
    Nothing,
    Sessions(&'a Place),
    All(&'a Place),
}

/// Which replica gets a request.
#[derive(Clone, Copy)]
pub(super) enum Route {
    /// The next one.
    RoundRobin,
    /// This one.
    To(usize),
    /// The one that opened its session.
    Sticky,
}

/// A replica in the memory of the test.
#[derive(Clone)]
pub(super) struct Memory {
    handle: Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>,
    stop: Arc<dyn Fn() + Send + Sync>,
}

impl Memory {
    pub(super) async fn start(name: String, tool: &Arc<Tool>, kept: Kept<'_>) -> Self {
        let server = Server { name, tool: Arc::clone(tool) };
        let mut config = StreamableHttpServerConfig::default().with_sse_retry(Some(Duration::from_millis(20)));
        match kept {
            Kept::Nothing => Self::of(server, LocalSessionManager::default(), config),
            Kept::Sessions(place) => {
                config.session_store = Some(place.of_replica().await.0);
                Self::of(server, LocalSessionManager::default(), config)
            }
            Kept::All(place) => {
                let (sessions, manager) = place.of_replica().await;
                config.session_store = Some(sessions);
                Self::of(server, manager, config)
            }
        }
    }

    fn of<M: SessionManager>(server: Server, manager: M, config: StreamableHttpServerConfig) -> Self {
        let stop = config.cancellation_token.clone();
        let service = StreamableHttpService::new(move || Ok(server.clone()), Arc::new(manager), config);
        let handle = move |request| -> BoxFuture<'static, Response> {
            let service = service.clone();
            Box::pin(async move { service.handle(request).await.map(Body::new) })
        };
        Self { handle: Arc::new(handle), stop: Arc::new(move || stop.cancel()) }
    }

    pub(super) fn app(self) -> Router {
        Router::new().fallback(move |request: Request| (self.handle)(request))
    }
}

enum Replica {
    Memory(Memory),
    Process(Process),
}

/// Replicas behind a proxy.
pub(super) struct Fleet {
    url: String,
    proxy: Arc<Proxy>,
    tool: Arc<Tool>,
}

struct Proxy {
    replicas: Mutex<Vec<Replica>>,
    next: AtomicUsize,
    route: Mutex<Route>,
    /// The replicas that opened the sessions.
    openers: Mutex<BTreeMap<String, usize>>,
    /// False while the proxy refuses every request, as one without a server does.
    accepts: watch::Sender<bool>,
    /// The number of cuts so far.
    cuts: watch::Sender<usize>,
    refused: AtomicUsize,
    /// Each request that a replica has answered: the replica, and what it was.
    seen: watch::Sender<Vec<(usize, String)>>,
}

impl Fleet {
    pub(super) async fn start(kept: Kept<'_>) -> Self {
        let tool = Tool::new(|| ());
        let mut replicas = Vec::new();
        for number in 0..2 {
            replicas.push(Replica::Memory(Memory::start(format!("replica {number}"), &tool, kept).await));
        }
        Self::of(replicas, tool).await
    }

    /// Starts each replica in a process of its own.
    pub(super) async fn of_processes(place: &Place) -> Self {
        let tool = Tool::new(|| ());
        let mut replicas = Vec::new();
        for number in 0..2 {
            replicas.push(Replica::Process(Process::start(&format!("replica {number}"), place, &tool).await));
        }
        Self::of(replicas, tool).await
    }

    async fn of(replicas: Vec<Replica>, tool: Arc<Tool>) -> Self {
        let proxy = Arc::new(Proxy {
            replicas: Mutex::new(replicas),
            next: AtomicUsize::new(0),
            route: Mutex::new(Route::RoundRobin),
            openers: Mutex::default(),
            accepts: watch::Sender::new(true),
            cuts: watch::Sender::new(0),
            refused: AtomicUsize::new(0),
            seen: watch::Sender::new(Vec::new()),
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

    pub(super) fn tool(&self) -> &Tool {
        &self.tool
    }

    pub(super) fn route(&self, route: Route) {
        *self.proxy.route.lock().expect("no panic") = route;
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
    pub(super) async fn restart(&mut self, kept: Kept<'_>) {
        let mut new = Vec::new();
        for number in 0..2 {
            let name = format!("replica {number} restarted");
            new.push(Replica::Memory(Memory::start(name, &self.tool, kept).await));
        }
        for old in std::mem::replace(&mut *self.proxy.replicas.lock().expect("no panic"), new) {
            if let Replica::Memory(old) = old {
                (old.stop)();
            }
        }
    }

    /// Kills the process of the first replica with `SIGKILL`. The proxy finds out.
    pub(super) async fn kill_first(&self) {
        let first = std::mem::replace(
            &mut self.proxy.replicas.lock().expect("no panic")[0],
            Replica::Memory(Memory { handle: Arc::new(|_| Box::pin(async { no_server() })), stop: Arc::new(|| ()) }),
        );
        let Replica::Process(mut process) = first else { panic!("a process") };
        process.kill().await;
    }

    /// Waits until a replica has answered a request: the method of its message, `answer`, `GET`, `resume` or `DELETE`.
    pub(super) async fn has_seen(&self, replica: usize, what: &str) {
        let mut seen = self.proxy.seen.subscribe();
        let found = timeout(LONGEST, seen.wait_for(|seen| seen.contains(&(replica, what.to_owned())))).await;
        found.unwrap_or_else(|_| panic!("no {what} at replica {replica}")).expect("the proxy runs");
    }

    /// Returns the number of requests that a replica has refused.
    pub(super) fn refused(&self) -> usize {
        self.proxy.refused.load(Ordering::SeqCst)
    }
}

fn no_server() -> Response {
    Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).expect("an answer")
}

fn what(head: &Parts, body: &Bytes) -> String {
    if head.method != Method::POST {
        let resumes = head.headers.contains_key("last-event-id");
        return if resumes { "resume".to_owned() } else { head.method.to_string() };
    }
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    message["method"].as_str().unwrap_or("answer").to_owned()
}

impl Proxy {
    /// Returns the replicas that may get a request, in their order.
    fn candidates(&self, session: Option<&str>) -> Vec<usize> {
        let count = self.replicas.lock().expect("no panic").len();
        let opener = session.and_then(|session| self.openers.lock().expect("no panic").get(session).copied());
        match (*self.route.lock().expect("no panic"), opener) {
            (Route::To(replica), _) | (Route::Sticky, Some(replica)) => vec![replica],
            (Route::RoundRobin, _) | (Route::Sticky, None) => {
                let next = self.next.fetch_add(1, Ordering::SeqCst);
                (next..next + count).map(|number| number % count).collect()
            }
        }
    }

    async fn ask(&self, number: usize, head: &Parts, body: &Bytes) -> Response {
        let handle = match &self.replicas.lock().expect("no panic")[number] {
            Replica::Memory(memory) => Ok(Arc::clone(&memory.handle)),
            Replica::Process(process) => Err(process.url().to_owned()),
        };
        match handle {
            Ok(handle) => handle(Request::from_parts(head.clone(), Body::from(body.clone()))).await,
            Err(url) => over_http(&url, head, body).await,
        }
    }
}

/// Forwards a request to a process.
async fn over_http(url: &str, head: &Parts, body: &Bytes) -> Response {
    let request = reqwest::Client::new().request(head.method.clone(), url);
    let request = request.headers(head.headers.clone()).body(body.clone());
    let Ok(answer) = request.send().await else { return no_server() };
    let mut response = Response::builder().status(answer.status());
    response.headers_mut().expect("no error").extend(answer.headers().clone());
    let parts = unfold(Some(answer), |answer| async {
        let mut answer = answer?;
        match answer.chunk().await {
            Ok(part) => part.map(|part| (Ok(part), Some(answer))),
            Err(error) => Some((Err(error), None)),
        }
    });
    response.body(Body::from_stream(parts)).expect("an answer")
}

async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    if !*proxy.accepts.borrow() {
        return no_server();
    }
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a small request");
    let session = head.headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
    let mut cuts = proxy.cuts.subscribe();
    cuts.mark_unchanged();
    let mut response = no_server();
    for number in proxy.candidates(session) {
        response = proxy.ask(number, &head, &body).await;
        if response.status() == StatusCode::BAD_GATEWAY {
            continue; // the next replica
        }
        if let Some(opened) = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()) {
            proxy.openers.lock().expect("no panic").entry(opened.to_owned()).or_insert(number);
        }
        proxy.seen.send_modify(|seen| seen.push((number, what(&head, &body))));
        break;
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        proxy.refused.fetch_add(1, Ordering::SeqCst);
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
