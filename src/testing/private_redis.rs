//! A Redis of a test's own, to be killed, hung and brought back.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server on a socket in a directory that goes with the test. It writes every command to disk before it answers.
pub(crate) struct PrivateRedis {
    child: Child,
    dir: PathBuf,
}

impl PrivateRedis {
    pub(crate) fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("mcp-patterns-redis-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&dir).unwrap();
        Self { child: launch(&dir), dir }
    }

    /// Ends the server at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = launch(&self.dir);
    }

    /// Stops the process where it is: its socket takes commands, and nothing answers.
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(format!("{}?protocol=resp3", self.url())).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}/redis.sock", self.dir.display())
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "the signal was sent");
    }
}

fn launch(dir: &Path) -> Child {
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "redis.sock", "--appendonly", "yes", "--appendfsync", "always"])
        .args(["--logfile", "", "--daemonize", "no"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let log = BufReader::new(child.stdout.take().unwrap());
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("accept connections")), "it came up");
    // The rest of the log has to go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
