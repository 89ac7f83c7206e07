//! A proxy between a client and a server of a test, which drops or delays data.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// Forwards bytes to a server until the test stops it. Its sockets stay open while the runtime of the test runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    wire: Arc<Wire>,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) enum Upstream {
    Socket(PathBuf),
    Address(String),
}

impl From<PathBuf> for Upstream {
    fn from(socket: PathBuf) -> Self {
        Self::Socket(socket)
    }
}

impl From<String> for Upstream {
    fn from(address: String) -> Self {
        Self::Address(address)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Upstream {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Socket(socket) => Box::new(UnixStream::connect(socket).await?),
            Self::Address(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

#[derive(Debug, Default)]
struct Wire {
    state: watch::Sender<State>,
    /// The delay of the next reply.
    delay_once: Mutex<Option<Duration>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    accepted: usize,
    /// Connections up to this number forward nothing.
    silent: usize,
    /// Connections up to this number forward no replies.
    mute: usize,
    /// Connections up to this number are reset.
    reset: usize,
    /// New connections are reset.
    is_refusing: bool,
    /// The delay of every reply.
    delay: Duration,
}

impl Proxy {
    /// Listens for clients of a server.
    pub(crate) async fn to(upstream: impl Into<Upstream>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let (port, wire) = (listener.local_addr().expect("it is bound").port(), Arc::<Wire>::default());
        tokio::spawn(Arc::clone(&wire).accept(listener, upstream.into()));
        Self { port, wire }
    }

    /// Listens for clients of a PostgreSQL. Also returns the options of a connection through the proxy.
    #[cfg(feature = "postgres")]
    pub(crate) async fn to_postgres(options: &PgConnectOptions) -> (Self, PgConnectOptions) {
        let proxy = Self::to(format!("{}:{}", options.get_host(), options.get_port())).await;
        let through = options.clone().host("127.0.0.1").port(proxy.port).ssl_mode(PgSslMode::Disable);
        (proxy, through)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address for a client of Redis.
    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns how many connections were made.
    pub(crate) fn accepted(&self) -> usize {
        self.wire.state.borrow().accepted
    }

    /// From now on, the existing connections forward nothing, and neither end is closed. New connections work.
    pub(crate) fn silence(&self) {
        self.wire.state.send_modify(|state| state.silent = state.accepted);
    }

    /// From now on, the existing connections forward no replies. Requests arrive.
    pub(crate) fn mute(&self) {
        self.wire.state.send_modify(|state| state.mute = state.accepted);
    }

    /// Resets the existing connections, except those that forward nothing.
    pub(crate) fn reset(&self) {
        self.wire.state.send_modify(|state| state.reset = state.accepted);
    }

    /// Resets new connections at once, or stops doing so.
    pub(crate) fn refuse(&self, is_refusing: bool) {
        self.wire.state.send_modify(|state| state.is_refusing = is_refusing);
    }

    /// Delays every reply, and the data after it.
    pub(crate) fn delay(&self, delay: Duration) {
        self.wire.state.send_modify(|state| state.delay = delay);
    }

    /// Delays the next reply, and the data after it on the connection.
    pub(crate) fn delay_once(&self, delay: Duration) {
        *self.wire.delay_once.lock().unwrap_or_else(PoisonError::into_inner) = Some(delay);
    }
}

impl Wire {
    async fn accept(self: Arc<Self>, listener: TcpListener, upstream: Upstream) {
        while let Ok((client, _)) = listener.accept().await {
            self.state.send_modify(|state| state.accepted += 1);
            let State { accepted, is_refusing, .. } = *self.state.borrow();
            let (wire, upstream) = (Arc::clone(&self), upstream.clone());
            tokio::spawn(async move {
                // Without a server, the proxy refuses connections.
                match upstream.connect().await {
                    Ok(server) if !is_refusing => wire.pass(accepted, client, server).await,
                    _ => reset(&client),
                }
            });
        }
    }

    /// Forwards in both directions, until one of them has ended.
    async fn pass(&self, number: usize, mut client: TcpStream, server: Box<dyn Stream>) {
        let mut state = self.state.subscribe();
        let is_reset = {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), split(server));
            tokio::select! {
                () = self.pass_on(number, from_client, to_server, false) => false,
                () = self.pass_on(number, from_server, to_client, true) => false,
                () = until_reset(number, &mut state) => true,
            }
        };
        if is_reset {
            reset(&client);
        }
    }

    async fn pass_on(
        &self,
        number: usize,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        is_answer: bool,
    ) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut bytes).await;
            if is_answer {
                let once = self.delay_once.lock().unwrap_or_else(PoisonError::into_inner).take();
                let delay = once.unwrap_or_default() + self.state.borrow().delay;
                sleep(delay).await;
            }
            let State { silent, mute, .. } = *self.state.borrow();
            if number <= silent || is_answer && number <= mute {
                // Nothing is closed, either.
                return std::future::pending().await;
            }
            let Ok(read @ 1..) = read else { return };
            if to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    }
}

async fn until_reset(number: usize, state: &mut watch::Receiver<State>) {
    // The sender lives as long as the proxy's tasks, so this is no error.
    let _ = state.wait_for(|state| state.silent < number && number <= state.reset).await;
}

fn reset(connection: &TcpStream) {
    // It is reset when it is dropped. If this fails, it is closed in the usual way.
    let _ = connection.set_zero_linger();
}
