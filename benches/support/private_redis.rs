//! A private Redis of a benchmark, which can be killed, hung, slowed and restarted.

use std::io::{BufRead, BufReader, Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

/// A server on a socket in its own directory. Both are deleted with it.
pub(crate) struct PrivateRedis {
    child: Child,
    dir: PathBuf,
}

impl PrivateRedis {
    /// Fails if there is no `redis-server`.
    pub(crate) fn start() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("mcp-patterns-bench-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&dir)?;
        match launch(&dir) {
            Ok(child) => Ok(Self { child, dir }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.child = launch(&self.dir)?;
        Ok(())
    }

    /// Sends the process a signal, such as `-STOP` or `-CONT`.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(Error::other("the signal was not sent")) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }
}

fn launch(dir: &Path) -> Result<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"])
        .args(["--logfile", "", "--daemonize", "no"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let log = child.stdout.take().ok_or_else(|| Error::other("it has no log"))?;
    let mut lines = BufReader::new(log).lines().map_while(Result::ok);
    if !lines.any(|line| line.contains("accept connections")) {
        return Err(Error::other("redis-server did not come up"));
    }
    // The rest of the log must be read, or the pipe fills.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(child)
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// How a proxy treats replies.
#[derive(Default)]
pub(crate) struct Wire {
    /// In milliseconds.
    pub(crate) delay: AtomicU64,
    pub(crate) is_garbage: AtomicBool,
}

/// Stands in front of the server at `socket` until the program ends, and forwards replies as `wire` says.
pub(crate) async fn proxy(socket: PathBuf, wire: Arc<Wire>) -> Result<redis::Client> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            // While it returns garbage, no client may reconnect: a manager of redis 1.8 that gets garbage in its
            // handshake never tries again.
            if wire.is_garbage.load(Ordering::SeqCst) {
                continue;
            }
            let Ok(far) = UnixStream::connect(&socket).await else { continue };
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(pass_on(from_near, to_far, Arc::default()));
            tokio::spawn(pass_on(from_far, to_near, Arc::clone(&wire)));
        }
    });
    redis::Client::open(format!("redis://127.0.0.1:{port}")).map_err(Error::other)
}

async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: Arc<Wire>) {
    const GARBAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n$5\r\nabc";
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if let delay @ 1.. = wire.delay.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let answer = if wire.is_garbage.load(Ordering::SeqCst) { GARBAGE } else { &bytes[..read] };
        if to.write_all(answer).await.is_err() {
            return;
        }
    }
}
