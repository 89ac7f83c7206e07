//! How a connection is opened, monitored and replaced.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, cmd};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::events::{Event, Events};
use super::settings::Settings;
use crate::clock::later;

/// The state that the clones of a connection share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) settings: Settings,
    config: AsyncConnectionConfig,
    state: Mutex<State>,
    events: Events,
}

#[derive(Default)]
struct State {
    link: Link,
    /// The number of consecutive failed attempts and connections without an answer.
    failures: u32,
    /// When the next attempt may begin.
    not_before: Option<Instant>,
    attempts: u64,
}

#[derive(Default)]
enum Link {
    #[default]
    None,
    Connecting {
        opening: Opening,
        task: AbortHandle,
        late_at: Instant,
    },
    Open(Arc<Open>),
}

/// One attempt to connect, shared by all waiting callers.
type Opening = SharedFuture<BoxFuture<'static, RedisResult<Arc<Open>>>>;

/// An open connection.
struct Open {
    connection: MultiplexedConnection,
    /// The number of consecutive commands without an answer.
    timeouts: AtomicU32,
    answers: AtomicU64,
    /// Whether a `PING` is in progress.
    is_asked: AtomicBool,
}

/// The pause before the second consecutive attempt, and the longest pause.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

impl Shared {
    pub(super) fn new(client: Client, settings: Settings) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(settings.response_timeout))
            // An attempt is bounded as a whole.
            .set_connection_timeout(None);
        let events = Events::new(client.get_connection_info().addr().to_string());
        Self { client, settings, config, state: Mutex::default(), events }
    }

    pub(super) fn address(&self) -> &str {
        self.events.address()
    }

    /// Returns the connection for one command, and the monitor of the command.
    pub(super) async fn begin(self: &Arc<Self>) -> RedisResult<(MultiplexedConnection, Call)> {
        let open = self.open().await?;
        Ok((open.connection.clone(), Call { shared: Arc::clone(self), open, is_over: false }))
    }

    /// Returns the open connection, or waits for one.
    async fn open(self: &Arc<Self>) -> RedisResult<Arc<Open>> {
        let until = later(Instant::now(), self.settings.connect_timeout);
        let mut last = None;
        loop {
            let attempt = match self.link() {
                Ok(open) => return Ok(open),
                Err(attempt) => attempt,
            };
            match timeout_at(until, attempt).await {
                Ok(Ok(open)) => return Ok(open),
                Ok(Err(error)) if error.is_io_error() => last = Some(error),
                Ok(Err(refusal)) => return Err(refusal),
                Err(_) => {
                    let why = last.map_or_else(|| "the server does not answer".to_owned(), |error| error.to_string());
                    return Err(not_connected(&why));
                }
            }
        }
    }

    /// Returns the open connection, or the running attempt to connect. Begins an attempt if none runs.
    fn link(self: &Arc<Self>) -> Result<Arc<Open>, Opening> {
        let (mut state, now) = (self.state(), Instant::now());
        match &state.link {
            Link::Open(open) => return Ok(Arc::clone(open)),
            // The end of a runtime cancels its tasks, and a task of a runtime that is not driven is overdue.
            Link::Connecting { opening, task, late_at } if !task.is_finished() && now < *late_at => {
                return Err(opening.clone());
            }
            Link::Connecting { .. } | Link::None => {}
        }
        state.attempts += 1;
        let not_before = state.not_before.unwrap_or(now).max(now);
        // It continues if its first caller leaves: others wait for it, too.
        let task = tokio::spawn(Arc::clone(self).connect(state.attempts, not_before));
        let late_at = later(not_before, self.settings.connect_timeout.saturating_mul(2));
        let (handle, opened) = (task.abort_handle(), task.map(|opened| opened.unwrap_or_else(|_| Err(cancelled()))));
        let opening = opened.boxed().shared();
        state.link = Link::Connecting { opening: opening.clone(), task: handle, late_at };
        Err(opening)
    }

    async fn connect(self: Arc<Self>, number: u64, not_before: Instant) -> RedisResult<Arc<Open>> {
        sleep_until(not_before).await;
        let connecting = self.client.get_multiplexed_async_connection_with_config(&self.config);
        let connected = timeout(self.settings.connect_timeout, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let mut state = self.state();
        match connected {
            Ok(connection) => {
                self.events.count(Event::Opened);
                let open = Arc::new(Open {
                    connection,
                    timeouts: AtomicU32::new(0),
                    answers: AtomicU64::new(0),
                    is_asked: AtomicBool::new(false),
                });
                if state.attempts == number {
                    state.link = Link::Open(Arc::clone(&open));
                }
                Ok(open)
            }
            Err(error) => {
                if state.attempts == number {
                    state.came_to_nothing();
                }
                drop(state);
                self.events.failed(&error);
                Err(error)
            }
        }
    }

    /// Makes the next command connect again. Running commands keep their connection.
    fn leave(&self, open: &Arc<Open>, event: Event) {
        let mut state = self.state();
        if !matches!(&state.link, Link::Open(current) if Arc::ptr_eq(current, open)) {
            return;
        }
        match open.answers.load(Ordering::Relaxed) {
            0 => state.came_to_nothing(),
            _ => state.link = Link::None,
        }
        drop(state);
        self.events.replaced(event);
    }

    fn timed_out(self: &Arc<Self>, open: &Arc<Open>) {
        let timeouts = open.timeouts.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if timeouts < self.settings.max_timeouts || open.is_asked.swap(true, Ordering::AcqRel) {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(Arc::clone(self).ask(Arc::clone(open)));
            }
            Err(_) => open.is_asked.store(false, Ordering::Release),
        }
    }

    /// Sends a `PING` on a connection that does not answer.
    async fn ask(self: Arc<Self>, open: Arc<Open>) {
        let answers = open.answers.load(Ordering::Relaxed);
        let mut connection = open.connection.clone();
        connection.set_response_timeout(self.settings.ping_timeout);
        match connection.send_packed_command(&cmd("PING")).await {
            // Replies come in the order of the commands: a reply to another command proves the same.
            Err(error) if error.is_timeout() && open.answers.load(Ordering::Relaxed) == answers => {
                self.leave(&open, Event::Silent);
            }
            Err(error) if error.is_unrecoverable_error() => self.leave(&open, Event::Lost),
            _ => open.timeouts.store(0, Ordering::Relaxed),
        }
        open.is_asked.store(false, Ordering::Release);
    }

    fn answered(&self, open: &Open) {
        open.timeouts.store(0, Ordering::Relaxed);
        if open.answers.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        let mut state = self.state();
        (state.failures, state.not_before) = (0, None);
        drop(state);
        self.events.works();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records that an attempt gave no working connection. The next attempt waits.
    fn came_to_nothing(&mut self) {
        let pause = PAUSES[0].saturating_mul(1 << self.failures.min(16)).min(PAUSES[1]);
        // Replicas that lost one server must not all reconnect at the same moment.
        let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + pause);
        self.link = Link::None;
    }
}

/// A sent command. If it is dropped before its end, it counts as unanswered.
pub(super) struct Call {
    shared: Arc<Shared>,
    open: Arc<Open>,
    is_over: bool,
}

impl Call {
    pub(super) fn end<T>(mut self, result: &RedisResult<T>) {
        match result {
            // The drop counts the timeout.
            Err(error) if error.is_timeout() => return,
            Err(error) if error.is_unrecoverable_error() => self.shared.leave(&self.open, Event::Lost),
            _ => self.shared.answered(&self.open),
        }
        self.is_over = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.timed_out(&self.open);
        }
    }
}

/// Nothing was sent, and nothing will be sent.
fn cancelled() -> RedisError {
    RedisError::from((ErrorKind::Client, "no connection to Redis, so nothing was sent: the runtime shuts down"))
}

/// Nothing was sent.
fn not_connected(why: &str) -> RedisError {
    io::Error::new(io::ErrorKind::ConnectionRefused, format!("no connection to Redis, so nothing was sent: {why}"))
        .into()
}
