//! Scene: a service that is down is left alone, and a flood of one user does not take the server from the others.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::time::Duration;

use futures_util::future::try_join_all;
use mcp_patterns::{
    BreakerTool, Layer, LimitedTool, Middleware, RetryTool,
    breaker::State,
    layer,
    limited::{Per, Rate},
};
use serde_json::{Value, json};
use tokio::{runtime::Builder, task::spawn_blocking, time::sleep};
use turbomcp::prelude::*;

use crate::{
    backstage::Client,
    counter::server::CounterServer,
    stage::{Failure, Stage, Table, check, human, number, text},
};

const CALLS: usize = 20;
const FLOOD: usize = 200;

/// How long the breaker stays open.
const PAUSE: Duration = Duration::from_secs(5);

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "An outage, and a flood",
        &format!(
            "The counters of the server are in a service that is down. Two users make {CALLS} calls each, and RetryTool makes up to three \
             attempts for a call. Then the service works again, and a third user makes {FLOOD} calls at the same time. First without, \
             then with a BreakerTool and a LimitedTool."
        ),
    )?;

    stage.code(include_str!("overload.rs"), ["let breaker =", "let limits =", "let server ="])?;
    let plays = || Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(plays());
    let (bare, play, is_closed, refused) = spawn_blocking(plays).await??;

    let headings = ["", "attempts in the outage", "answers after it", "to the flood", "to another user"];
    stage.table(&Table::new(headings).row(bare.row("without them")).row(play.row("with both")))?;

    check("attempts of all calls during the outage", bare.attempts, 2 * CALLS * 3)?;
    check("attempts until the breaker was open", play.attempts, 5)?;
    check("the breaker is closed again", is_closed, true)?;
    check("answers of the flood without limits", bare.flood, FLOOD)?;
    check("answers of the flood with limits", play.flood, 20)?;
    check("answers of the other user", play.meanwhile, 10)?;

    stage.conclude(&format!(
        "{} attempts reached the service while it was down, and not {}. {} after the outage a single call found that it works again. \
         The flood was cut to 20 calls in a minute, with the time to wait in each refusal, and the other user noticed nothing of it.",
        play.attempts,
        bare.attempts,
        human(PAUSE),
    ))?;
    stage.note("BreakerTool", format!("{} attempts instead of {}", play.attempts, bare.attempts));
    stage.note("LimitedTool", format!("{refused} calls of a flood refused"));
    Ok(())
}

/// Without the layers, and with them. The clock moves only while all wait, so that no pause ends too early.
async fn plays() -> Result<(Play, Play, bool, u64), Failure> {
    let service = Service::default();
    let retry = RetryTool::new().with_base_delay(Duration::from_millis(1)).without_budget();
    let bare = Play::of(&(retry.clone(), layer(service.clone())).layer(CounterServer::default()), &service).await?;

    let service = Service::default();
    let breaker = BreakerTool::new().with_pause(PAUSE);
    let limits = LimitedTool::new().with_rate(Per::Principal, Rate::per_minute(20));
    let (breakers, limited) = (breaker.handle(), limits.handle());
    let server = (limits, retry, breaker, layer(service.clone())).layer(CounterServer::default());
    let play = Play::of(&server, &service).await?;
    let is_closed = breakers.breaker("get").is_some_and(|breaker| breaker.state == State::Closed);
    Ok((bare, play, is_closed, limited.stats().refused_by_rate))
}

/// A service that is down at first.
#[derive(Debug, Clone, Default)]
struct Service {
    is_up: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
}

impl Middleware for Service {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        if self.is_up.load(Ordering::Relaxed) {
            return inner.call_tool(name, args, ctx).await;
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Ok(McpError::unavailable("The service of the counters does not answer").to_tool_result())
    }
}

/// What came of it.
struct Play {
    attempts: usize,
    after: usize,
    flood: usize,
    meanwhile: usize,
}

impl Play {
    async fn of(server: &impl McpHandler, service: &Service) -> Result<Self, Failure> {
        let users = [Client::connect_as(server, "ada").await?, Client::connect_as(server, "bob").await?];
        for call in 0..2 * CALLS {
            answered(&users[call % 2]).await?;
        }
        let attempts = service.attempts.load(Ordering::Relaxed);
        service.is_up.store(true, Ordering::Relaxed);
        sleep(PAUSE).await;
        let cleo = Client::connect_as(server, "cleo").await?;
        let after = usize::from(answered(&cleo).await?);
        let mallory = Client::connect_as(server, "mallory").await?;
        let flood = try_join_all((0..FLOOD).map(|_| answered(&mallory)));
        let meanwhile = try_join_all((0..10).map(|_| answered(&cleo)));
        let (flood, meanwhile) = tokio::try_join!(flood, meanwhile)?;
        let count = |answered: &[bool]| answered.iter().filter(|answered| **answered).count();
        Ok(Self { attempts, after, flood: count(&flood), meanwhile: count(&meanwhile) })
    }

    fn row(&self, name: &'static str) -> [crate::stage::Cell; 5] {
        [text(name), number(self.attempts), number(self.after), number(self.flood), number(self.meanwhile)]
    }
}

async fn answered(client: &Client) -> Result<bool, Failure> {
    Ok(!client.call("get", json!({ "name": "visitors" })).await?.is_error())
}
