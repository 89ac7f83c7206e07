//! The gateway, in front of servers that know nothing of the layers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::*;
use rmcp::service::{NotificationContext, PeerRequestOptions, RequestContext};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt, schemars, tool, tool_handler,
    tool_router,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::client::{Server, Transport, error_text, executable, patiently, text};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Numbers {
    a: i32,
    b: i32,
}

/// A server that somebody else has written: its tools have no annotations.
#[derive(Clone)]
struct Theirs {
    tool_router: ToolRouter<Self>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    sums: AtomicUsize,
    plain: AtomicUsize,
    cancelled: AtomicUsize,
}

#[tool_router]
impl Theirs {
    #[tool(description = "Adds")]
    async fn sum(&self, Parameters(Numbers { a, b }): Parameters<Numbers>) -> String {
        self.counts.sums.fetch_add(1, Ordering::SeqCst);
        (a + b).to_string()
    }

    #[tool(description = "Counts its calls")]
    async fn plain(&self) -> String {
        self.counts.plain.fetch_add(1, Ordering::SeqCst).to_string()
    }

    #[tool(description = "Reports its progress, and does not end")]
    async fn endless(&self, ctx: RequestContext<RoleServer>) -> Result<String, ErrorData> {
        if let Some(token) = ctx.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, 1.0).with_message("begun");
            ctx.peer
                .notify_progress(progress)
                .await
                .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        }
        ctx.ct.cancelled().await;
        self.counts.cancelled.fetch_add(1, Ordering::SeqCst);
        Ok("cancelled".to_owned())
    }
}

#[tool_handler(router = self.tool_router, name = "theirs", version = "1.0.0")]
impl ServerHandler for Theirs {
    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match request.uri.as_str() {
            "note://1" => Ok(ReadResourceResult::new(vec![ResourceContents::text("a note", request.uri)]).into()),
            _ => Err(ErrorData::resource_not_found("there is no such note", None)),
        }
    }
}

/// Serves it, and returns its address.
async fn theirs() -> (String, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let server = Theirs { tool_router: Theirs::tool_router(), counts: Arc::clone(&counts) };
    let sessions = Arc::new(LocalSessionManager::default());
    let service =
        StreamableHttpService::new(move || Ok(server.clone()), sessions, StreamableHttpServerConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    let app = axum::Router::new().nest_service("/mcp", service);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, counts)
}

/// The progress that a client hears of.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Option<String>>>>);

impl ClientHandler for Heard {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.lock().expect("no panic").push(progress.message);
    }
}

/// A file of settings, deleted at the end.
struct File(PathBuf);

impl File {
    fn new(settings: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcp-patterns-gateway-{:016x}.toml", fastrand::u64(..)));
        std::fs::write(&path, settings).expect("a file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a name in UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const ALL: &str = "
    validated = true
    [cached]
    tools = ['sum']
    seconds = 60
    [retried]
    tools = ['sum']
    attempts = 2
    [limited]
    calls_per_minute = 4
    at_once = 2
    timeout_seconds = 60";

fn by_url(url: &str, rest: &str) -> File {
    File::new(&format!("upstream.url = '{url}'\n{rest}"))
}

#[tokio::test]
async fn the_layers_act_on_the_tools_that_the_file_names() {
    patiently(async {
        let (url, counts) = theirs().await;
        let record = File::new("");
        let audited = format!("[audited]\nfile = '{}'\narguments = {{ sum = ['/a'] }}", record.path());
        let settings = by_url(&url, &format!("{ALL}\n{audited}"));
        let mut gateway = Server::start("gateway", Transport::Stdio, &[settings.path()]).await;
        let client = gateway.connect().await;
        assert_eq!(client.server().server_info.map(|info| info.name), Some("theirs".to_owned()));
        for _ in 0..10 {
            assert_eq!(text(&client.call("sum", json!({"a": 2, "b": 3})).await), "5");
        }
        let refused = client.call("sum", json!({"a": 2, "b": "three"})).await;
        assert!(error_text(&refused).contains('b'), "{refused:?}");
        assert_eq!(counts.sums.load(Ordering::SeqCst), 1, "nine were answered from the cache, one was rejected");
        for count in 0..4 {
            assert_eq!(text(&client.call("plain", json!({})).await), count.to_string());
        }
        let refused = client.call("plain", json!({})).await;
        assert!(error_text(&refused).contains("too often"), "{refused:?}");
        assert_eq!(counts.plain.load(Ordering::SeqCst), 4);
        client.close().await;
        assert!(gateway.ended().await.success());
        let record = std::fs::read_to_string(record.path()).expect("a record");
        let ends: Vec<_> = record
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
            .map(|event| (event["tool"].clone(), event["end"].clone(), event["arguments"].clone()))
            .collect();
        assert_eq!(ends.len(), 16, "one for each call: {record}");
        assert_eq!(ends[0], (json!("sum"), json!("answered"), json!({"/a": 2})));
        assert_eq!(ends[1], (json!("sum"), json!("hit"), json!({"/a": 2})));
        assert_eq!(ends[10].1, "refused");
        assert_eq!(ends[15], (json!("plain"), json!("refused"), json!(null)));
    })
    .await;
}

#[tokio::test]
async fn reads_progress_and_cancellation_pass() {
    patiently(async {
        let (url, counts) = theirs().await;
        let settings = by_url(&url, ALL);
        let mut gateway = Server::start("gateway", Transport::Http, &[settings.path()]).await;
        let client = gateway.connect().await;
        assert_eq!(client.read("note://1").await["contents"][0]["text"], "a note");
        assert!(client.try_read("note://2").await.is_err());
        client.close().await;

        let heard = Heard::default();
        let listening = heard.clone().serve(StreamableHttpClientTransport::from_uri(gateway.url())).await;
        let listening = listening.expect("a connection");
        let call = ClientRequest::CallToolRequest(CallToolRequest::new(CallToolRequestParams::new("endless")));
        let call = listening.peer().send_cancellable_request(call, PeerRequestOptions::no_options()).await;
        while heard.0.lock().expect("no panic").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        call.expect("a call").cancel(None).await.expect("it is sent");
        while counts.cancelled.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(*heard.0.lock().expect("no panic"), [Some("begun".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_a_child_process_ends_with_the_gateway_and_the_gateway_with_it() {
    patiently(async {
        let counter = executable("rmcp_counter");
        let settings = File::new(&format!("upstream.command = ['{}']", counter.display()));
        let mut gateway = Server::start("gateway", Transport::Stdio, &[settings.path()]).await;
        let client = gateway.connect().await;
        assert_eq!(text(&client.call("increment", json!({"name": "tea"})).await), "1");
        let id = gateway.id().expect("it runs");
        // Each thread has its own.
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("a list");
        let children = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("children")));
        let children: String = children.map(|children| children.expect("a list")).collect();
        let killed = Command::new("kill").args(children.split_whitespace()).status().await.expect("kill");
        assert!(killed.success());
        assert!(!gateway.ended().await.success());
        assert!(gateway.log().contains("the server behind it has ended"), "{}", gateway.log());
    })
    .await;
}

#[tokio::test]
async fn a_mistake_in_the_file_ends_the_gateway_with_a_sentence() {
    patiently(async {
        let (url, _) = theirs().await;
        let cases = [
            (by_url(&url, "[cached]\ntools = ['summ']\nseconds = 60"), "did you mean `sum`?"),
            (by_url(&url, "[cached]\ntools = ['sum']\nseconds = 0"), "CachedTool::with_ttl: must be greater than zero"),
            (by_url(&url, "[retried]\ntools = ['sum']\nattempts = 0"), "RetryTool::with_max_attempts"),
            (by_url(&url, "[audited]\nfile = '/no/such/folder/x'"), "/no/such/folder/x: No such file"),
            (by_url(&url, "[cache]\ntools = ['sum']"), "unknown field `cache`"),
            (File::new("upstream.command = []"), "upstream.command is empty: name a program"),
            (File::new("upstream.command = ['no-such-program']"), "no-such-program"),
            (File::new("validated = true"), "missing field `upstream`"),
            (by_url("http://127.0.0.1:1/mcp", ""), "the server behind it does not answer"),
            (File::new("upstream.command = ['false']"), "the server behind it does not answer"),
        ];
        for (settings, expected) in cases {
            let ended = Command::new(executable("gateway")).arg(settings.path()).output().await.expect("it starts");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(!ended.status.success() && said.starts_with("gateway: ") && said.contains(expected), "{said}");
        }
    })
    .await;
}
