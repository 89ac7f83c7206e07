//! A proxy between a client and a server of a test, that loses or delays what passes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

/// Passes bytes on to a server, until it is told not to. Its sockets stay open while the runtime of the test runs.
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    accepted: AtomicUsize,
    /// Connections up to this number pass nothing on.
    silent: AtomicUsize,
    /// Those pass no answers on.
    mute: AtomicUsize,
    /// For every answer, in milliseconds.
    delay: AtomicU64,
    once: Mutex<Option<Duration>>,
}

impl Proxy {
    /// Listens for clients of the server at this socket.
    pub(crate) async fn start(server: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, wire) = (listener.local_addr().expect("an address"), Arc::<Wire>::default());
        let shared = Arc::clone(&wire);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                // Without a server, the client's connection is closed at once.
                let Ok(far) = UnixStream::connect(&server).await else { continue };
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(Arc::clone(&shared).pass_on(number, from_near, to_far, false));
                tokio::spawn(Arc::clone(&shared).pass_on(number, from_far, to_near, true));
            }
        });
        Self { address, wire }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many connections were made.
    pub(crate) fn accepted(&self) -> usize {
        self.wire.accepted.load(Ordering::SeqCst)
    }

    /// From now on, nothing passes on the connections that there are. New ones work.
    pub(crate) fn silence(&self) {
        self.wire.silent.store(self.accepted(), Ordering::SeqCst);
    }

    /// From now on, no answer passes on the connections that there are. What is sent arrives.
    pub(crate) fn mute(&self) {
        self.wire.mute.store(self.accepted(), Ordering::SeqCst);
    }

    /// Delays every answer, and what comes after it.
    pub(crate) fn delay(&self, delay: Duration) {
        self.wire.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Delays the next answer, and what comes after it on the connection.
    pub(crate) fn delay_once(&self, delay: Duration) {
        *self.wire.once.lock().unwrap() = Some(delay);
    }
}

impl Wire {
    async fn pass_on(
        self: Arc<Self>,
        number: usize,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        is_answer: bool,
    ) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            if is_answer {
                let once = self.once.lock().unwrap().take().unwrap_or_default();
                tokio::time::sleep(once + Duration::from_millis(self.delay.load(Ordering::SeqCst))).await;
            }
            let lost = if is_answer { [&self.silent, &self.mute] } else { [&self.silent; 2] };
            if lost.iter().any(|lost| number <= lost.load(Ordering::SeqCst)) {
                // Nothing is closed either.
                return std::future::pending().await;
            }
            if to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    }
}
