//! Runs a plan and notes what happens.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, select};
use mcp_patterns::BoxHandler;
use mcp_patterns::cached::Handle;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, ReadResourceRequestParams,
    ReadResourceResponse,
};
use rmcp::service::RequestContext as RmcpContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::json;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};
use turbomcp_core::{Cancellable, McpHandler, RequestContext};

use super::backends::Backends;
use super::callers::{CONNECTIONS, Client, Token};
use super::explained;
use super::log::{Answer, End, Forget, Forgotten, History, Log, Made, Stamp, opened};
use super::plan::{BackendKind, Call, Kind, Leaves, Order, Plan, Sdk, Step};
use super::requests::{Op, Request, sees_as_viewer};
use super::rmcp_end::{Connections, Front, token};
use super::stack::{Server, build};
use super::world::{Books, World, context};
use crate::rmcp_answers::as_turbomcp;

/// A call that takes longer than that never ends. On the real clock nothing takes long.
const ENDLESS: Duration = Duration::from_secs(3600);
const ENDLESS_IN_REALITY: Duration = Duration::from_secs(100);

/// Runs the plan on a runtime of its own.
pub(super) fn run(plan: &Plan) -> History {
    let is_paused = plan.stack.backends == BackendKind::Memory;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(is_paused).build();
    let runtime = runtime.expect("a runtime");
    let history = runtime.block_on(Run::new(plan).then(Run::all));
    runtime.shutdown_background();
    history
}

struct Run<'a> {
    plan: &'a Plan,
    log: Arc<Log>,
    backends: Backends,
    worlds: Vec<World>,
    servers: Vec<Server>,
    /// The clients of servers of rmcp.
    connections: Option<Arc<Connections>>,
    /// Which of them have listed the tools to one who sees them differently.
    told_apart: Vec<bool>,
    calls: Vec<Made>,
    forgotten: Vec<Forgotten>,
    meanwhile: Vec<JoinHandle<Option<Forgotten>>>,
    settled: Vec<Stamp>,
}

impl<'a> Run<'a> {
    async fn new(plan: &'a Plan) -> Self {
        let log = Arc::new(Log::new());
        let backends = Backends::new(&plan.stack).await;
        // The cache draws from this thread's generator.
        fastrand::seed(plan.seed);
        let books = || backends.pool.clone().map(|tables| Arc::new(tables) as Arc<dyn Books>);
        let world = |environment| World::new(environment, Arc::clone(&log), plan.behaviours.clone(), books());
        let worlds: Vec<_> = (0..2).map(world).collect();
        let connections = (plan.stack.sdk == Sdk::Rmcp).then(|| Arc::new(Connections::new(&log, plan.seed)));
        let mut run = Self {
            plan,
            log,
            connections,
            backends,
            worlds,
            servers: Vec::new(),
            told_apart: vec![false; plan.stack.servers()],
            calls: Vec::new(),
            forgotten: Vec::new(),
            meanwhile: Vec::new(),
            settled: Vec::new(),
        };
        for server in 0..plan.stack.servers() {
            let server = run.build(server);
            explained::check(&plan.stack, &server.handler);
            run.servers.push(server);
        }
        run.settle(Duration::from_millis(1)).await;
        run
    }

    fn build(&self, server: usize) -> Server {
        let stack = &self.plan.stack;
        build(stack, &self.backends, &self.log, &self.worlds[stack.environment(server)], server, self.plan.seed)
    }

    async fn all(mut self) -> History {
        for step in &self.plan.script {
            match step {
                Step::Calls(calls) => self.make(calls).await,
                Step::Pause(millis) => self.settle(Duration::from_millis(*millis)).await,
                Step::Handle(server, order) => {
                    let told = self.tell(*server, *order, 0).await;
                    self.forgotten.extend(told);
                }
                Step::Meanwhile(after, server, order) => {
                    self.meanwhile.push(tokio::spawn(self.tell(*server, *order, *after)));
                }
                Step::Restart(server) => {
                    self.servers[*server] = self.build(*server);
                    self.told_apart[*server] = false;
                    self.settle(Duration::from_millis(1)).await;
                }
                Step::AddLate => self.worlds.iter().for_each(World::add_late),
                Step::List(server, connection) => {
                    match self.edge(*server) {
                        Edge::Turbomcp(handler) => drop(handler.list_tools_for(&context(*connection))),
                        Edge::Rmcp(stack, connections) => {
                            let ctx = connections.context(*connection, "a listing".into());
                            drop(ServerHandler::list_tools(&stack, None, ctx).await.expect("the tools"));
                        }
                    }
                    self.told_apart[*server] |= !sees_as_viewer(*connection);
                }
            }
        }
        // What was left behind comes to its end.
        self.settle(Duration::from_secs(if self.is_real() { 0 } else { 120 })).await;
        let rows = match &self.backends.pool {
            Some(tables) => tables.read().await.expect("the table is read"),
            None => Vec::new(),
        };
        let (executions, notices) = (self.log.executions().clone(), self.log.notices().clone());
        let events = self.log.events().clone();
        let (calls, forgotten, settled) = (self.calls, self.forgotten, self.settled);
        History { executions, notices, events, calls, forgotten, settled, rows }
    }

    fn edge(&self, server: usize) -> Edge {
        match (&self.servers[server].rmcp, &self.connections) {
            (Some(stack), Some(connections)) => Edge::Rmcp(stack.clone(), Arc::clone(connections)),
            _ => Edge::Turbomcp(self.servers[server].handler.clone()),
        }
    }

    fn is_real(&self) -> bool {
        self.plan.stack.backends != BackendKind::Memory
    }

    /// Waits, and until everybody who listens has heard of what was invalidated before.
    async fn settle(&mut self, pause: Duration) {
        sleep(pause).await;
        let caches: Vec<_> = self.servers.iter().flat_map(|server| server.caches.clone()).collect();
        join_all(caches.iter().map(Handle::synced)).await;
        for _ in 0..100 {
            let is_subscribed = caches.iter().all(|cache| {
                cache.stats().second_level.is_none_or(|level| level.is_subscribed && level.pending_invalidations == 0)
            });
            match (is_subscribed, self.is_real()) {
                (true, _) => break,
                (false, false) => yield_now().await,
                (false, true) => sleep(Duration::from_millis(2)).await,
            }
        }
        // What was told is on its way.
        for _ in 0..20 {
            yield_now().await;
        }
        if !self.is_real() {
            self.settled.push(self.log.stamp());
        }
    }

    /// Tells the handles of a server's caches what to do, the innermost first, and returns after what an older answer is wrong.
    fn tell(&self, server: usize, order: Order, after: u64) -> impl Future<Output = Option<Forgotten>> + Send + use<> {
        let (caches, log) = (self.servers[server].caches.clone(), Arc::clone(&self.log));
        let keeps = |op| self.plan.stack.layers(Kind::Cached).rev().map(move |layer| layer.keeps(op));
        let keep: Vec<_> = if let Order::Refresh(request) = order { keeps(request.op).collect() } else { Vec::new() };
        async move {
            if caches.is_empty() {
                return None;
            }
            if after > 0 {
                sleep(Duration::from_millis(after)).await;
            }
            let begun = log.stamp();
            let (what, only_for_nobody) = match order {
                Order::Refresh(request) => {
                    let mut is_refreshed = true;
                    for (cache, _) in caches.iter().zip(keep).filter(|(_, keeps)| *keeps) {
                        // Refused where the cache does not keep the answers of nobody.
                        let answer = cache.refresh(request.op.name(), request.args()).await;
                        is_refreshed &= answer.unwrap_or_default();
                    }
                    (Forget::Call(request), is_refreshed.then_some(true)?)
                }
                Order::Forget(what) => {
                    caches.iter().for_each(|cache| forget(cache, what));
                    (what, false)
                }
            };
            Some(Forgotten { what, only_for_nobody, server, begun, ended: log.stamp() })
        }
    }

    /// The handle that the call gives, of those that were opened before these calls.
    fn handle(&self, call: &Call) -> Option<String> {
        let before = call.handle?;
        let opened = self.calls.iter().rev().filter_map(opened);
        Some(opened.skip(before).map(str::to_owned).next().unwrap_or_else(|| "made up".into()))
    }

    async fn make(&mut self, calls: &[Call]) {
        let first = self.calls.len();
        let handles: Vec<_> = calls.iter().map(|call| self.handle(call)).collect();
        let tasks = calls.iter().zip(handles).enumerate().map(|(at, (call, handle))| {
            let edge = self.edge(call.server);
            let endless = if self.is_real() { ENDLESS_IN_REALITY } else { ENDLESS };
            let are_told_apart = self.told_apart[call.server];
            let log = Arc::clone(&self.log);
            let call = Made {
                call: *call,
                handle,
                are_told_apart,
                begun: log.stamp(),
                ended: log.stamp(),
                end: End::Unending,
            };
            tokio::spawn(make(edge, call, first + at, log, self.plan.seed, endless))
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            self.calls.push(task.await.expect("what panics is caught inside"));
        }
        for told in std::mem::take(&mut self.meanwhile) {
            self.forgotten.extend(told.await.expect("nothing panics in a handle"));
        }
    }
}

fn forget(cache: &Handle, what: Forget) {
    match what {
        Forget::Call(request) if request.op == Op::Note => cache.invalidate_resource(&request.uri()),
        Forget::Call(request) => cache.invalidate(request.op.name(), &request.args()),
        Forget::All(op) => cache.invalidate_tool(op.name()),
        Forget::Topic(topic) => cache.invalidate_tag(&format!("topic {topic}")),
        Forget::Everything => cache.clear(),
    }
}

/// The outer edge of a stack.
enum Edge {
    Turbomcp(BoxHandler),
    Rmcp(Front, Arc<Connections>),
}

/// Makes one call, from its caller's point of view. It is unending until it has ended.
async fn make(edge: Edge, made: Made, number: usize, log: Arc<Log>, seed: u64, endless: Duration) -> Made {
    let call = made.call;
    sleep(Duration::from_millis(call.after)).await;
    match edge {
        Edge::Turbomcp(handler) => {
            let token = Arc::new(Token::default());
            let ctx = context_of(call, number, seed);
            let mut ctx = ctx.with_cancellation_token(Arc::clone(&token) as Arc<dyn Cancellable>);
            if CONNECTIONS[call.connection].has_client {
                let hangs_up = (call.leaves == Leaves::HangsUp).then(|| Arc::clone(&token));
                ctx.set_session(Arc::new(Client { at: call.connection, log: Arc::clone(&log), hangs_up }));
            }
            let begun = log.stamp();
            let answer = ask(&handler, call.request, made.handle.as_deref(), &ctx);
            let end = ended(call.leaves, answer, || token.cancel(), endless).await;
            let ended = log.stamp();
            ctx.end_progress();
            Made { begun, ended, end, ..made }
        }
        Edge::Rmcp(stack, connections) => {
            let mut ctx = connections.context(call.connection, format!("call {number}"));
            let hangs_up = call.leaves == Leaves::HangsUp && CONNECTIONS[call.connection].has_client;
            let _own = hangs_up.then(|| connections.hanging_up(&mut ctx, call.connection));
            if call.listens {
                ctx.meta.set_progress_token(token(number));
            }
            let cancellation = ctx.ct.clone();
            let begun = log.stamp();
            let answer = ask_rmcp(&stack, call.request, made.handle.as_deref(), ctx);
            let end = ended(call.leaves, answer, || cancellation.cancel(), endless).await;
            Made { begun, ended: log.stamp(), end, ..made }
        }
    }
}

/// Waits for the answer as long as the caller does.
async fn ended(
    leaves: Leaves,
    answer: impl Future<Output = Answer> + Send,
    cancel: impl Fn() + Send,
    endless: Duration,
) -> End {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let cancels = async {
        if let Leaves::Cancels(millis) = leaves {
            sleep(Duration::from_millis(millis)).await;
            cancel();
        }
        std::future::pending::<()>().await;
    };
    let answer = async {
        match select(Box::pin(answer), Box::pin(cancels)).await {
            futures_util::future::Either::Left((answer, _)) => answer,
            futures_util::future::Either::Right(_) => unreachable!("nobody waits for ever"),
        }
    };
    let polls = if let Leaves::Polls(polls) = leaves { Some(polls) } else { None };
    match timeout(endless, dropped_after(polls, Box::pin(answer))).await {
        Err(_) => End::Unending,
        Ok(None) => End::Dropped,
        Ok(Some(Err(_))) => End::Panicked,
        Ok(Some(Ok(answer))) => End::Answered(answer),
    }
}

fn context_of(call: Call, number: usize, seed: u64) -> RequestContext {
    let connection = &CONNECTIONS[call.connection];
    let mut ctx = context(call.connection).with_request_id(format!("call {number}"));
    if let Some(id) = connection.session_id {
        // turbomcp remembers the progress of all sessions in one table.
        ctx = ctx.with_session_id(format!("{seed}-{id}"));
    }
    if call.listens { ctx.with_progress_token(json!(number)) } else { ctx }
}

async fn ask(handler: &BoxHandler, request: Request, handle: Option<&str>, ctx: &RequestContext) -> Answer {
    match request.op {
        Op::Note => Answer::of_resource(handler.read_resource(&request.uri(), ctx).await),
        Op::Greeting => Answer::of_prompt(handler.get_prompt("greeting", Some(request.args()), ctx).await),
        op => {
            let mut args = request.args();
            if let (Some(handle), true) = (handle, op.takes_handle()) {
                args["session"] = handle.into();
            }
            Answer::of_tool(handler.call_tool(op.name(), args, ctx).await)
        }
    }
}

async fn ask_rmcp(stack: &Front, request: Request, handle: Option<&str>, ctx: RmcpContext<RoleServer>) -> Answer {
    // A session counts where its handshake has passed the stack.
    if let Some(handshake) = ctx.peer.peer_info() {
        ServerHandler::initialize(stack, handshake.as_ref().clone(), ctx.clone()).await.expect("a handshake");
    }
    match request.op {
        Op::Note => {
            let params = ReadResourceRequestParams::new(request.uri());
            let read = ServerHandler::read_resource(stack, params, ctx).await;
            Answer::of_resource(as_turbomcp(read.map(|read| match read {
                ReadResourceResponse::Complete(result) => result,
                other => panic!("not complete: {other:?}"),
            })))
        }
        Op::Greeting => {
            let mut params = GetPromptRequestParams::new("greeting");
            params.arguments = request.args().as_object().cloned();
            let got = ServerHandler::get_prompt(stack, params, ctx).await;
            Answer::of_prompt(as_turbomcp(got.map(|got| match got {
                GetPromptResponse::Complete(result) => result,
                other => panic!("not complete: {other:?}"),
            })))
        }
        op => {
            let mut args = request.args();
            if let (Some(handle), true) = (handle, op.takes_handle()) {
                args["session"] = handle.into();
            }
            let mut params = CallToolRequestParams::new(op.name());
            params.arguments = args.as_object().cloned();
            let called = ServerHandler::call_tool(stack, params, ctx).await;
            Answer::of_tool(as_turbomcp(called.map(|called| match called {
                CallToolResponse::Complete(result) => result,
                other => panic!("not complete: {other:?}"),
            })))
        }
    }
}

/// Polls no more often than that, and drops.
async fn dropped_after<F: Future + ?Sized>(polls: Option<u32>, mut future: Pin<Box<F>>) -> Option<F::Output> {
    let mut left = polls;
    poll_fn(move |cx| match &mut left {
        Some(0) => Poll::Ready(None),
        left => {
            *left = left.map(|left| left - 1);
            future.as_mut().poll(cx).map(Some)
        }
    })
    .await
}
