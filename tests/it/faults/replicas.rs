//! Two processes of one example over one backend, each with a clock of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::CallToolResult;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Server, Transport};
use crate::support::Folder;

pub(super) const REPLICAS: usize = 2;

/// How long a call may take before it counts as hung. It bounds a failure and measures nothing.
const HUNG: Duration = Duration::from_secs(60);

/// The library that makes a program believe in another time of day.
fn fake_time() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.is_file()).expect("libfaketime is missing; install faketime")
}

pub(super) struct Replicas {
    example: &'static str,
    args: Vec<String>,
    library: PathBuf,
    folder: Folder,
    servers: [Mutex<Option<(Server, String)>>; REPLICAS],
}

impl Replicas {
    pub(super) async fn start(example: &'static str, args: Vec<String>) -> Self {
        let (library, folder) = (fake_time(), Folder::new());
        let replicas = Self { example, args, library, folder, servers: Default::default() };
        for replica in 0..REPLICAS {
            replicas.step_clock(replica, 0);
            replicas.begin(replica).await;
        }
        replicas
    }

    async fn begin(&self, replica: usize) {
        let clock = self.folder.path().join(replica.to_string());
        let clock = clock.to_str().expect("a path");
        let variables = [
            ("LD_PRELOAD", self.library.to_str().expect("a path")),
            ("FAKETIME_TIMESTAMP_FILE", clock),
            ("FAKETIME_NO_CACHE", "1"),
            // Time that is measured goes on as it did.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let server = Server::start_in(&variables, self.example, Transport::Http, &args).await;
        let url = server.url().to_owned();
        *self.server(replica) = Some((server, url));
    }

    fn server(&self, replica: usize) -> MutexGuard<'_, Option<(Server, String)>> {
        self.servers[replica].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn url(&self, replica: usize) -> Option<String> {
        self.server(replica).as_ref().map(|(_, url)| url.clone())
    }

    /// Kills it, and starts another one in its place.
    pub(super) async fn kill(&self, replica: usize) {
        drop(self.server(replica).take());
        self.begin(replica).await;
    }

    /// Stops it where it is, for so long.
    pub(super) async fn pause(&self, replica: usize, time: Duration) {
        let signal = |name| {
            if let Some((server, _)) = &*self.server(replica) {
                server.signal(name);
            }
        };
        signal("STOP");
        sleep(time).await;
        signal("CONT");
    }

    /// Sets its clock so many seconds off the right time.
    pub(super) fn step_clock(&self, replica: usize, seconds: i64) {
        let (clock, next) = (self.folder.path().join(replica.to_string()), self.folder.path().join("next"));
        // In one step: a program that reads half of it stops.
        fs::write(&next, format!("{seconds:+}s\n")).expect("a file");
        fs::rename(&next, &clock).expect("a file");
    }
}

/// Somebody who calls one replica, and another one when that does not answer.
pub(super) struct Caller<'a> {
    replicas: &'a Replicas,
    calls: &'a AtomicUsize,
    token: Option<&'static str>,
    rng: fastrand::Rng,
    only: Option<usize>,
    client: Option<Client>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(replicas: &'a Replicas, calls: &'a AtomicUsize, token: Option<&'static str>, seed: u64) -> Self {
        Self { replicas, calls, token, rng: fastrand::Rng::with_seed(seed), only: None, client: None }
    }

    /// Calls this replica, and no other one.
    pub(super) fn only(mut self, replica: usize) -> Self {
        self.only = Some(replica);
        self
    }

    /// Calls a tool once. Nothing if there was no answer: nobody knows then what became of the call.
    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> Option<CallToolResult> {
        let called = timeout(HUNG, self.call_one(tool, arguments.clone()));
        let answer = called.await.unwrap_or_else(|_| panic!("`{tool}` hung with {arguments}"));
        self.calls.fetch_add(1, Ordering::SeqCst);
        if answer.is_none() {
            self.client = None;
            sleep(Duration::from_millis(30)).await;
        }
        answer
    }

    async fn call_one(&mut self, tool: &str, arguments: Value) -> Option<CallToolResult> {
        if self.client.is_none() {
            let replica = self.only.unwrap_or_else(|| self.rng.usize(..REPLICAS));
            let url = self.replicas.url(replica)?;
            self.client = Client::try_over_http(&url, self.token).await.ok();
        }
        self.client.as_ref()?.try_call(tool, arguments).await.ok()
    }
}
