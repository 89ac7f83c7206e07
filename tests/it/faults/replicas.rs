//! Two processes of one example over one backend, each with its own clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::CallToolResult;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Transport};
use crate::wrong_clock::OnWrongClock;

pub(super) const REPLICAS: usize = 2;

/// How long a call may take before it counts as hung. It bounds a failure and measures nothing.
const HUNG: Duration = Duration::from_secs(180);

pub(super) struct Replicas {
    example: &'static str,
    args: Vec<String>,
    replicas: [Mutex<Replica>; REPLICAS],
}

#[derive(Default)]
struct Replica {
    server: Option<OnWrongClock>,
    /// The error of its clock, in seconds.
    wrong_by: i64,
}

impl Replicas {
    pub(super) async fn start(example: &'static str, args: Vec<String>) -> Self {
        let replicas = Self { example, args, replicas: Default::default() };
        for replica in 0..REPLICAS {
            replicas.begin(replica).await;
        }
        replicas
    }

    async fn begin(&self, number: usize) {
        let by = format!("{:+}s", self.replica(number).wrong_by);
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let server = OnWrongClock::start(&by, self.example, Transport::Http, &args).await;
        self.replica(number).server = Some(server);
    }

    fn replica(&self, number: usize) -> MutexGuard<'_, Replica> {
        self.replicas[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn url(&self, number: usize) -> Option<String> {
        self.replica(number).server.as_ref().map(|server| server.url().to_owned())
    }

    /// Kills it, and starts a replacement.
    pub(super) async fn kill(&self, number: usize) {
        drop(self.replica(number).server.take());
        self.begin(number).await;
    }

    /// Stops it (`SIGSTOP`) for this long.
    pub(super) async fn pause(&self, number: usize, time: Duration) {
        let signal = |name| {
            if let Some(server) = &self.replica(number).server {
                server.signal(name);
            }
        };
        signal("STOP");
        sleep(time).await;
        signal("CONT");
    }

    /// Sets its clock wrong by this many seconds.
    pub(super) fn step_clock(&self, number: usize, seconds: i64) {
        let mut replica = self.replica(number);
        replica.wrong_by = seconds;
        if let Some(server) = &replica.server {
            server.set(&format!("{seconds:+}s"));
        }
    }
}

/// A caller of one replica, who switches to the other when it does not answer.
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

    /// Calls only this replica.
    pub(super) fn only(mut self, replica: usize) -> Self {
        self.only = Some(replica);
        self
    }

    /// Calls a tool once. Returns `None` without an answer: the outcome of the call is then unknown.
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
