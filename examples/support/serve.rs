//! Serves an example over stdio or HTTP: the flags, the log, the listener and its end.

use std::{
    fmt,
    future::ready,
    io::{self, IsTerminal, stderr},
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Method,
    middleware::{self, Next},
    response::Response,
};
use futures_util::StreamExt;
use mcp_patterns::explain;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use turbomcp::{
    BearerRejection, BearerTokenValidator, HttpAuthorization, McpHandler, ServerBuilder, ServerConfig, Transport,
    ValidationFuture,
};
use turbomcp_core::auth::Principal;

/// How long running requests may take once the server is stopped.
const DRAIN: Duration = Duration::from_secs(5);

/// The flags for the address of a server, or for an explanation of its layers.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Serve HTTP at this address (port 0 takes a free port) instead of stdio
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,

    /// Let in over HTTP only who presents this bearer token, as the user of this name. May be given several times; for trying
    /// things out, since a real server asks an identity provider
    #[arg(long = "user", value_name = "NAME=TOKEN", requires = "http")]
    users: Vec<User>,

    /// Print what each layer does with which tool, and exit
    #[arg(long)]
    explain: bool,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080")
}

/// The error that ends an example: a text that `main` prints unchanged.
pub struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// An allowed caller, and the caller's token.
#[derive(Clone)]
struct User {
    name: String,
    token: String,
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(user: &str) -> Result<Self, Self::Err> {
        match user.split_once('=') {
            Some((name, token)) if !name.is_empty() && !token.is_empty() => {
                Ok(Self { name: name.into(), token: token.into() })
            }
            _ => Err("write it as `name=token`"),
        }
    }
}

impl fmt::Debug for User {
    /// The token is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Knows users by their tokens.
struct Users(Vec<User>);

impl BearerTokenValidator for Users {
    fn validate<'a>(&'a self, token: &'a str) -> ValidationFuture<'a> {
        let user = self.0.iter().find(|user| user.token == token);
        let principal = user.map(|user| Principal::new(&user.name));
        Box::pin(ready(principal.ok_or_else(|| BearerRejection::InvalidToken("it is nobody's".into()))))
    }
}

/// Sends the log to stderr, because stdout belongs to the protocol.
///
/// `RUST_LOG` sets the log level; the default is `info`.
pub fn init_logging() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal()).with_env_filter(filter).init();
}

/// Serves `handler` until its client disconnects (stdio) or a signal comes (HTTP), or only explains its layers.
///
/// # Errors
///
/// When the address cannot be bound, when the handler refuses to start or to stop, and when
/// the transport breaks.
pub async fn serve<H: McpHandler>(handler: H, args: &ServeArgs) -> Result<(), Failure> {
    bind(args).await?.serve(handler).await
}

/// Binds the address, if there is one. A server that works before its first call binds it before that.
///
/// # Errors
///
/// When the address cannot be bound.
pub async fn bind(args: &ServeArgs) -> Result<Bound, Failure> {
    let listener = match args.http.filter(|_| !args.explain) {
        // Not the builder binds it, because it does not report the port that it got for port 0.
        Some(addr) => {
            let listener = TcpListener::bind(addr).await;
            Some(listener.map_err(|error| Failure(format!("cannot listen on {addr}: {error}")))?)
        }
        None => None,
    };
    Ok(Bound { listener, args: args.clone() })
}

/// The flags, and the address that they ask for.
#[derive(Debug)]
pub struct Bound {
    listener: Option<TcpListener>,
    args: ServeArgs,
}

impl Bound {
    /// Serves `handler` like [`serve`].
    ///
    /// # Errors
    ///
    /// When the handler refuses to start or to stop, and when the transport breaks.
    pub async fn serve<H: McpHandler>(self, handler: H) -> Result<(), Failure> {
        if self.args.explain {
            print!("{}", explain(&handler));
            return Ok(());
        }
        match self.listener {
            Some(listener) => serve_http(handler, listener, &self.args.users).await,
            None => {
                let server = ServerBuilder::new(handler).transport(Transport::stdio());
                Ok(server.serve().await?)
            }
        }
    }
}

async fn serve_http<H: McpHandler>(handler: H, listener: TcpListener, users: &[User]) -> Result<(), Failure> {
    handler.on_initialize().await?;
    let mut server = ServerBuilder::new(handler.clone());
    if !users.is_empty() {
        let url = format!("http://{}", listener.local_addr()?);
        let authorization = HttpAuthorization::new(format!("{url}/mcp"), url, Users(users.to_vec()));
        server = server.with_config(ServerConfig::builder().authorization(authorization).build());
    }
    let served = run_http(server, listener).await;
    handler.on_shutdown().await?;
    served
}

async fn run_http<H: McpHandler>(server: ServerBuilder<H>, listener: TcpListener) -> Result<(), Failure> {
    let addr = listener.local_addr()?;
    let signalled = stop_signal()?;
    let (stop, stopped) = watch::channel(false);
    let app = close_streams_on_stop(server.into_axum_router(), stopped.clone());
    let serving = axum::serve(
        listener,
        // The origin check lets a request without `Origin` pass only when it knows the peer
        // and the peer is local.
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(until_stopped(stopped));
    let mut serving = tokio::spawn(serving.into_future());
    tracing::info!("listening on http://{addr}/mcp");

    tokio::select! {
        ended = &mut serving => return Ok(ended??),
        () = signalled => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    match timeout(DRAIN, &mut serving).await {
        Ok(ended) => Ok(ended??),
        Err(_) => {
            serving.abort();
            tracing::warn!("stopped with requests still under way");
            Ok(())
        }
    }
}

/// Ends the open event streams of clients, which would otherwise use the whole time to drain.
fn close_streams_on_stop(app: Router, stopped: watch::Receiver<bool>) -> Router {
    async fn close(State(stopped): State<watch::Receiver<bool>>, request: Request, next: Next) -> Response {
        let is_stream = request.method() == Method::GET;
        let response = next.run(request).await;
        if !is_stream {
            return response;
        }
        response.map(|body| {
            let until = Box::pin(until_stopped(stopped));
            Body::from_stream(body.into_data_stream().take_until(until))
        })
    }
    app.layer(middleware::from_fn_with_state(stopped, close))
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender was dropped, and the server has ended.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Listens for Ctrl-C and SIGTERM from now on; the future ends with the first of them.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Listens for Ctrl-C; the future ends with it.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C is not handled");
            std::future::pending::<()>().await;
        }
    })
}
