//! Support for the scenes: clients, an upstream, and a layer that measures times.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mcp_patterns::{Middleware, outcome};
use rmcp::{
    ServiceExt,
    model::{CallToolRequestParams, CallToolResult},
    service::{RoleClient, RunningService},
};
use serde_json::Value;
use tokio::io::{BufReader, duplex, split};
use turbomcp::prelude::*;
use turbomcp_server::transport::LineTransportRunner;

use crate::{
    stage::Failure,
    upstream::{Upstream, UpstreamSettings},
    weather::client::OpenMeteo,
};

/// How many bytes may be in transit between a client and its server.
const PIPE_BYTES: usize = 1 << 20;

/// One session of the official SDK's client with a server in this process, line by line as over stdio.
pub(crate) struct Client(RunningService<RoleClient, ()>);

impl Client {
    /// Connects an anonymous client.
    pub(crate) async fn connect(server: &impl McpHandler) -> Result<Self, Failure> {
        Self::connect_in(server, RequestContext::stdio).await
    }

    /// Connects an authenticated user. Over HTTP, turbomcp's authorization identifies the user.
    pub(crate) async fn connect_as(server: &impl McpHandler, user: &'static str) -> Result<Self, Failure> {
        Self::connect_in(server, move || RequestContext::stdio().with_user_id(user)).await
    }

    async fn connect_in(
        server: &impl McpHandler,
        context: impl Fn() -> RequestContext + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let (near, far) = duplex(PIPE_BYTES);
        let (reader, writer) = split(far);
        let runner = LineTransportRunner::new(server.clone());
        tokio::spawn(async move {
            if let Err(error) = runner.run(BufReader::new(reader), writer, context).await {
                tracing::error!(%error, "a connection broke");
            }
        });
        Ok(Self(().serve(near).await?))
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &'static str, arguments: Value) -> Result<Answer, Failure> {
        let Value::Object(arguments) = arguments else {
            return Err(Failure::new(format!("arguments are an object, not {arguments}")));
        };
        let result = self.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        Ok(Answer(result))
    }
}

/// The part of a result that a client reads.
pub(crate) struct Answer(CallToolResult);

impl Answer {
    pub(crate) fn is_error(&self) -> bool {
        self.0.is_error == Some(true)
    }

    pub(crate) fn text(&self) -> &str {
        self.0.content.first().and_then(|content| content.as_text()).map_or("", |content| &content.text)
    }

    /// The number of attempts.
    pub(crate) fn attempts(&self) -> u64 {
        self.meta(outcome::ATTEMPTS).and_then(Value::as_u64).unwrap_or(1)
    }

    /// The cache status: `hit` or `miss`.
    pub(crate) fn cache(&self) -> &str {
        self.meta(outcome::CACHE).and_then(|cache| cache["status"].as_str()).unwrap_or("no cache")
    }

    pub(crate) fn meta(&self, key: &str) -> Option<&Value> {
        self.0.meta.as_ref()?.get(key)
    }
}

/// Starts a private upstream for a scene, and a client for it.
pub(crate) async fn upstream(settings: UpstreamSettings) -> Result<(Upstream, OpenMeteo), Failure> {
    let upstream = Upstream::start(settings).await?;
    let api = OpenMeteo::new(&upstream.base_url(), &upstream.base_url())?;
    Ok((upstream, api))
}

/// How many requests an upstream got so far.
pub(crate) fn requests(upstream: &Upstream) -> u64 {
    let requests = upstream.requests();
    requests.search + requests.forecast
}

/// A layer that measures calls inside the server, hits and misses separately.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopwatch(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) hits: Vec<Duration>,
    pub(crate) misses: Vec<Duration>,
}

impl Stopwatch {
    /// Returns the times taken so far, sorted, and starts over.
    pub(crate) fn take(&self) -> Times {
        let mut times = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        times.hits.sort_unstable();
        times.misses.sort_unstable();
        times
    }
}

impl Middleware for Stopwatch {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let started = Instant::now();
        let result = inner.call_tool(name, args, ctx).await;
        let took = started.elapsed();
        let meta = result.as_ref().ok().and_then(|result| result.meta.as_ref());
        let is_hit = meta.and_then(|meta| meta.get(outcome::CACHE)).is_some_and(|cache| cache["status"] == "hit");
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_hit { &mut times.hits } else { &mut times.misses }.push(took);
        result
    }
}

/// A percentile of the sorted `times`.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
