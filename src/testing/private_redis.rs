//! A private Redis of one test, which can be killed, hung and restarted.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server on a socket in a directory that is deleted with the test.
pub(crate) struct PrivateRedis {
    child: Child,
    dir: PathBuf,
    options: Vec<String>,
}

impl PrivateRedis {
    /// Starts a server that writes every command to disk before it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server that writes to disk only on `SAVE`.
    pub(crate) fn start_on_request() -> Self {
        Self::start_with(&["--save", "", "--enable-debug-command", "yes"])
    }

    fn start_with(options: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("mcp-patterns-redis-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&dir).unwrap();
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        Self { child: launch(&dir, &options), dir, options }
    }

    /// Ends the server at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = launch(&self.dir, &self.options);
    }

    /// Stops the process (`SIGSTOP`): its socket accepts commands, and no reply comes.
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

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }

    pub(crate) fn command(&self, args: &[&str]) -> redis::Value {
        let mut connection = self.client().get_connection().expect("a connection");
        let mut command = redis::cmd(args[0]);
        args[1..].iter().for_each(|arg| {
            command.arg(*arg);
        });
        command.query(&mut connection).expect("an answer")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "the signal was sent");
    }
}

fn launch(dir: &Path, options: &[String]) -> Child {
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "redis.sock", "--logfile", "", "--daemonize", "no"])
        .args(options)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let log = BufReader::new(child.stdout.take().unwrap());
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("accept connections")), "it came up");
    // The rest of the log must be read, or the pipe fills.
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

fn replica_of(port: &str) -> PrivateRedis {
    PrivateRedis::start_with(&["--save", "", "--replicaof", "127.0.0.1", port])
}

/// A primary and its replica, and an address that leads to the current primary.
pub(crate) struct Replicated {
    primary: Option<PrivateRedis>,
    pub(crate) replica: PrivateRedis,
    port: String,
    address: PathBuf,
}

impl Replicated {
    pub(crate) fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let primary = PrivateRedis::start_with(&["--save", "", "--port", &port, "--repl-diskless-sync-delay", "0"]);
        let replica = replica_of(&port);
        let address = replica.dir.join("primary.sock");
        std::os::unix::fs::symlink(primary.dir.join("redis.sock"), &address).unwrap();
        let replicated = Self { primary: Some(primary), replica, port, address };
        replicated.catch_up();
        replicated
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(format!("redis+unix://{}?protocol=resp3", self.address.display())).unwrap()
    }

    /// Starts one more replica, and waits until it has all data of the primary.
    pub(crate) fn start_another(&self) -> PrivateRedis {
        let another = replica_of(&self.port);
        self.wait_for(&another);
        another
    }

    /// Waits until the replica has all data of the primary.
    pub(crate) fn catch_up(&self) {
        self.wait_for(&self.replica);
    }

    fn wait_for(&self, replica: &PrivateRedis) {
        let mark = format!("{:016x}", fastrand::u64(..));
        self.primary.as_ref().expect("no failover yet").command(&["SET", "mark", &mark]);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while replica.command(&["GET", "mark"]) != redis::Value::BulkString(mark.clone().into_bytes()) {
            assert!(std::time::Instant::now() < until, "the replica does not catch up");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// From now on, the replica receives no writes.
    pub(crate) fn fall_behind(&self) {
        self.catch_up();
        self.replica.command(&["REPLICAOF", "127.0.0.1", "1"]);
    }

    /// Ends the primary, and promotes the replica.
    pub(crate) fn fail_over(&mut self) {
        self.replica.command(&["REPLICAOF", "NO", "ONE"]);
        let new = self.address.with_extension("new");
        std::os::unix::fs::symlink(self.replica.dir.join("redis.sock"), &new).unwrap();
        std::fs::rename(&new, &self.address).unwrap();
        self.primary = None;
    }
}
