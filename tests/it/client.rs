//! Starts an example server as a child process and connects the official SDK's client to it.

use std::{
    env::{self, consts::EXE_SUFFIX},
    io::{self, BufRead, PipeReader},
    path::PathBuf,
    pin::pin,
    process::{ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use rmcp::{
    ClientLifecycleMode, ClientServiceExt, ServiceError, ServiceExt,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotificationParam, ClientRequest,
        GetPromptRequestParams, ProtocolVersion, ReadResourceRequestParams, ServerPeerInfo, ServerResult, Tool,
    },
    service::{ClientInitializeError, PeerRequestOptions, RequestHandle, RoleClient, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};
use tokio::{
    io::{BufReader, duplex, split},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
    time::timeout,
};
use turbomcp::{McpHandler, RequestContext};
use turbomcp_server::transport::LineTransportRunner;

/// How long a test may take before it counts as hung. It bounds a failure and measures nothing.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// The text on stderr, before its address, when a server accepts HTTP.
const LISTENING: &str = "listening on ";

/// Runs each test, an `async fn(Transport)`, over stdio and over HTTP.
macro_rules! over_stdio_and_http {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use $crate::client::{Transport, patiently};

            #[tokio::test]
            async fn over_stdio() {
                patiently(super::$test(Transport::Stdio)).await;
            }

            #[tokio::test]
            async fn over_http() {
                patiently(super::$test(Transport::Http)).await;
            }
        }
    )+};
}
pub(crate) use over_stdio_and_http;

/// Runs a test and fails it if it hangs, so that later tests still run.
pub(crate) async fn patiently(test: impl Future<Output = ()>) {
    // Pinned here, the test is dropped by the panic below, and its server then shows its log.
    let mut test = pin!(test);
    if timeout(TEST_TIMEOUT, &mut test).await.is_err() {
        panic!("the test was not done after {TEST_TIMEOUT:?}");
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Stdio,
    Http,
}

/// A running example. It is killed when dropped; a test that fails shows what it wrote to stderr.
#[derive(Debug)]
pub(crate) struct Server {
    example: &'static str,
    child: Child,
    link: Link,
    log: Log,
}

#[derive(Debug)]
enum Link {
    Pipes(Option<(ChildStdout, ChildStdin)>),
    Url(String),
}

impl Server {
    /// Starts an example and waits until it can be connected to.
    pub(crate) async fn start(example: &'static str, transport: Transport, args: &[&str]) -> Self {
        Self::start_in(&[], example, transport, args).await
    }

    /// Starts an example with these additional environment variables.
    pub(crate) async fn start_in(
        environment: &[(&str, &str)],
        example: &'static str,
        transport: Transport,
        args: &[&str],
    ) -> Self {
        let (reader, writer) = io::pipe().expect("no pipe for stderr");
        let mut command = Command::new(executable(example));
        command.envs(environment.iter().copied()).args(args).env_remove("RUST_LOG").stderr(writer).kill_on_drop(true);
        match transport {
            Transport::Stdio => command.stdin(Stdio::piped()).stdout(Stdio::piped()),
            Transport::Http => command.args(["--http", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null()),
        };
        let mut child = command.spawn().expect("the example does not start");
        // The command holds a writing end of the pipe, and the log ends when the last one is closed.
        drop(command);

        let pipes = child.stdout.take().zip(child.stdin.take());
        let mut server = Self { example, child, link: Link::Pipes(pipes), log: Log::read(reader) };
        if let Transport::Http = transport {
            server.link = Link::Url(server.log.address().await);
        }
        server
    }

    /// Connects a new client and initializes its session. Over stdio there is only one.
    pub(crate) async fn connect(&mut self) -> Client {
        self.connect_with(None).await
    }

    /// Connects a client that presents this bearer token over HTTP.
    pub(crate) async fn connect_as(&mut self, token: &str) -> Client {
        self.connect_with(Some(token)).await
    }

    async fn connect_with(&mut self, token: Option<&str>) -> Client {
        match &mut self.link {
            Link::Pipes(pipes) => {
                let pipes = pipes.take().expect("stdio serves one client");
                Client(().serve(pipes).await.expect("the session is not initialized"))
            }
            Link::Url(url) => Client::over_http(url, token).await,
        }
    }

    /// The server's HTTP address.
    pub(crate) fn url(&self) -> &str {
        match &self.link {
            Link::Url(url) => url,
            Link::Pipes(_) => panic!("the server has no URL"),
        }
    }

    /// The process, as long as it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The server's output on stderr so far.
    pub(crate) fn log(&self) -> String {
        self.log.text.borrow().clone()
    }

    /// Asks the server to stop, as a service manager does.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().expect("the server has ended already");
        let sent =
            std::process::Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().expect("no shell");
        assert!(sent.success(), "the signal was not sent: {sent}");
    }

    /// Waits for the server to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.expect("the server has no status")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            // The log ends when the process does. It may have ended before, which is no error here.
            let _ = self.child.start_kill();
            eprintln!("--- stderr of {}:\n{}---", self.example, self.log.whole());
        }
    }
}

/// Finds an example next to the test binary: `target/debug/deps/it-…` and `target/debug/examples/…`.
pub(crate) fn executable(example: &str) -> PathBuf {
    let test = env::current_exe().expect("the test binary has no path");
    let profile = test.ancestors().nth(2).expect("a target directory");
    let path = profile.join("examples").join(format!("{example}{EXE_SUFFIX}"));
    assert!(
        path.is_file(),
        "{} is missing; `cargo test` builds the examples, with `--test it` run \
         `cargo build --examples --all-features` first",
        path.display()
    );
    path
}

/// A server's output on stderr so far.
#[derive(Debug)]
struct Log {
    text: watch::Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads on its own thread, so that a full pipe never blocks the server.
    fn read(pipe: PipeReader) -> Self {
        let (sender, text) = watch::channel(String::new());
        let reader = thread::spawn(move || {
            for line in io::BufReader::new(pipe).lines().map_while(Result::ok) {
                sender.send_modify(|text| {
                    text.push_str(&line);
                    text.push('\n');
                });
            }
        });
        Self { text, reader: Some(reader) }
    }

    /// Waits for the line with the server's address.
    async fn address(&mut self) -> String {
        let text =
            self.text.wait_for(|text| listening_at(text).is_some()).await.expect("the server ended before it listened");
        listening_at(&text).expect("waited for it").to_owned()
    }

    /// Everything up to the end of the server.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // The thread cannot panic, and a log that is cut short is still worth showing.
            let _ = reader.join();
        }
        self.text.borrow().clone()
    }
}

fn listening_at(log: &str) -> Option<&str> {
    let line = log.lines().find(|line| line.contains(LISTENING))?;
    line.split_once(LISTENING)?.1.split_whitespace().next()
}

/// One session with a server.
#[derive(Debug)]
pub(crate) struct Client(RunningService<RoleClient, ()>);

impl Client {
    /// Connects to the server at this address.
    pub(crate) async fn over_http(url: &str, token: Option<&str>) -> Self {
        Self::try_over_http(url, token).await.expect("the session is not initialized")
    }

    /// Connects to the server at this address, if it answers.
    pub(crate) async fn try_over_http(url: &str, token: Option<&str>) -> Result<Self, ClientInitializeError> {
        ().serve(http(url, token)).await.map(Self)
    }

    /// Connects by the protocol 2026-07-28, which has no sessions.
    pub(crate) async fn without_session(url: &str) -> Self {
        let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
        let client = ().serve_with_lifecycle(http(url, None), modern).await;
        Self(client.expect("the server is not discovered"))
    }

    /// Connects to a server in this process, line by line as over stdio.
    pub(crate) async fn within(server: impl McpHandler) -> Self {
        let (near, far) = duplex(1 << 20);
        let (reader, writer) = split(far);
        let runner = LineTransportRunner::new(server);
        tokio::spawn(async move { runner.run(BufReader::new(reader), writer, RequestContext::stdio).await });
        Self(().serve(near).await.expect("the session is not initialized"))
    }

    /// The server's answer to `initialize`.
    pub(crate) fn server(&self) -> ServerPeerInfo {
        let info = self.0.peer_info().expect("the session is not initialized");
        (*info).clone()
    }

    pub(crate) async fn tools(&self) -> Vec<Tool> {
        self.0.list_all_tools().await.expect("no list of tools")
    }

    /// The tool of this name in the listing.
    pub(crate) async fn tool(&self, name: &str) -> Tool {
        let tools = self.tools().await;
        let tool = tools.into_iter().find(|tool| tool.name == name);
        tool.unwrap_or_else(|| panic!("`{name}` is not listed"))
    }

    /// Calls a tool that returns a result, successful or with `isError`.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let result = self.try_call(tool, arguments).await;
        result.unwrap_or_else(|error| panic!("`{tool}` has no result: {error}"))
    }

    /// Calls a tool and returns a protocol error as an error.
    pub(crate) async fn try_call(&self, tool: &str, arguments: Value) -> Result<CallToolResult, ServiceError> {
        self.0.call_tool(params(tool, arguments)).await
    }

    /// Reads an existing resource, as JSON.
    pub(crate) async fn read(&self, uri: &str) -> Value {
        let result = self.try_read(uri).await;
        result.unwrap_or_else(|error| panic!("`{uri}` is not read: {error}"))
    }

    /// Reads a resource and returns a protocol error as an error.
    pub(crate) async fn try_read(&self, uri: &str) -> Result<Value, ServiceError> {
        self.0.read_resource(ReadResourceRequestParams::new(uri)).await.map(|result| json!(result))
    }

    /// Gets a prompt, as JSON.
    pub(crate) async fn prompt(&self, name: &str, arguments: Option<Value>) -> Value {
        let mut params = GetPromptRequestParams::new(name);
        params.arguments = arguments.and_then(|arguments| arguments.as_object().cloned());
        let result = self.0.get_prompt(params).await;
        json!(result.unwrap_or_else(|error| panic!("there is no `{name}`: {error}")))
    }

    /// Sends a call and does not wait for its result.
    pub(crate) async fn begin(&self, tool: &str, arguments: Value) -> Call {
        let request = CallToolRequest::new(params(tool, arguments));
        let sent = self
            .0
            .send_cancellable_request(ClientRequest::CallToolRequest(request), PeerRequestOptions::no_options())
            .await;
        Call(sent.expect("the call was not sent"))
    }

    /// Closes the session; over stdio that closes the server's stdin.
    pub(crate) async fn close(mut self) {
        self.0.close().await.expect("the session does not close");
    }
}

fn http(url: &str, token: Option<&str>) -> StreamableHttpClientTransport<reqwest::Client> {
    // The SDK's own client would send loopback requests to a proxy that the environment names.
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("no HTTP client");
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.auth_header = token.map(str::to_owned);
    StreamableHttpClientTransport::with_client(http, config)
}

/// A running call.
#[derive(Debug)]
pub(crate) struct Call(RequestHandle<RoleClient>);

impl Call {
    /// Tells the server that the call is cancelled.
    pub(crate) async fn cancel(&self) {
        let params = CancelledNotificationParam::new(Some(self.0.id.clone()), Some("the user went away".to_owned()));
        let sent = self.0.peer.notify_cancelled(params).await;
        sent.expect("the cancellation was not sent");
    }

    pub(crate) async fn result(self) -> Result<CallToolResult, ServiceError> {
        match self.0.await_response().await? {
            ServerResult::CallToolResult(result) => Ok(result),
            other => panic!("not a tool result: {other:?}"),
        }
    }
}

fn params(tool: &str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else {
        panic!("arguments are an object, not {arguments}");
    };
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

/// The only text of a successful result.
#[track_caller]
pub(crate) fn text(result: &CallToolResult) -> &str {
    assert_ne!(result.is_error, Some(true), "{result:?}");
    only_text(result)
}

/// The only text of an error result.
#[track_caller]
pub(crate) fn error_text(result: &CallToolResult) -> &str {
    assert_eq!(result.is_error, Some(true), "{result:?}");
    only_text(result)
}

#[track_caller]
fn only_text(result: &CallToolResult) -> &str {
    match result.content.as_slice() {
        [content] => &content.as_text().expect("the content is text").text,
        other => panic!("one text was expected, not {other:?}"),
    }
}

/// The names and types of a tool's arguments, in the order of the schema, and which are required.
pub(crate) fn arguments(tool: &Tool) -> (Vec<(&str, &Value)>, &Value) {
    let properties = tool.input_schema["properties"].as_object();
    let properties = properties.expect("the schema has properties");
    let types = properties.iter().map(|(name, schema)| (name.as_str(), &schema["type"])).collect();
    (types, &tool.input_schema["required"])
}
