//! Scene: concurrent calls share a batch, and so do the requests of the server to its upstream.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use mcp_patterns::{BatchedTool, Layer, Scope, layer};
use serde_json::json;
use turbomcp::McpHandler;

use crate::{
    backstage::{self, Client, Stopwatch},
    stage::{Cell, Failure, Stage, Table, check, number, text, thousands, time},
    upstream::{Upstream, cities::CITIES},
    weather::server::WeatherServer,
};

const CITIES_ASKED: usize = 60;
const CALLERS_EACH: usize = 4;
const CALLERS: usize = CITIES_ASKED * CALLERS_EACH;

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Many callers, few requests",
        &format!(
            "{CALLERS} callers ask at the same time for the weather in {CITIES_ASKED} cities. BatchedTool makes one call for all who ask \
             for the same city. The server looks up the coordinates of the cities: first one by one, then through a Batcher, \
             the same engine inside a tool. No caller waits for a timer: a batch starts as soon as there is room for it, and \
             later calls join the next one."
        ),
    )?;

    let watch = Stopwatch::default();
    let (upstream, api) = backstage::upstream(Default::default()).await?;
    let alone = Run::of(&layer(watch.clone()).layer(WeatherServer::new(api)), &upstream, &watch).await?;

    let (upstream, api) = backstage::upstream(Default::default()).await?;
    let weather = WeatherServer::new(api.with_bulk_search(&upstream.base_url())?);
    let batched = BatchedTool::new().only(["get_forecast"]).with_scope(Scope::Public);
    let batches = batched.handle();
    let server = (batched, layer(watch.clone())).layer(weather);
    let together = Run::of(&server, &upstream, &watch).await?;
    stage.code(include_str!("batched.rs"), ["let weather =", "let batched =", "let server ="])?;

    let headings = ["", "callers", "tool calls", "requests for coordinates", "the other requests", "time"];
    let table = Table::new(headings).row(alone.row("one by one")).row(together.row("together"));
    stage.table(&table)?;

    check("callers without an answer", alone.failed + together.failed, 0)?;
    check("tool calls of callers who came alone", alone.tool_calls, CALLERS)?;
    let sent = batches.stats();
    check("calls that travelled", sent.sent, CALLERS as u64)?;
    check("fewer batches than a quarter of the callers", sent.batches * 4 < sent.sent, true)?;
    check("fewer tool calls than callers", together.tool_calls < CALLERS, true)?;
    check("fewer requests than half of the cities", together.searches * 2 < CITIES_ASKED as u64, true)?;

    stage.conclude(&format!(
        "{CALLERS} calls became {} batches with {} calls of the tool, and {} requests looked up {CITIES_ASKED} cities.",
        sent.batches, together.tool_calls, together.searches
    ))?;
    stage.note("BatchedTool", format!("{} calls in {} batches", thousands(sent.sent), sent.batches));
    stage.note("BatchedTool", format!("{} requests for {CITIES_ASKED} cities, by a Batcher", together.searches));
    Ok(())
}

/// The result of all concurrent calls.
struct Run {
    failed: usize,
    tool_calls: usize,
    searches: u64,
    forecasts: u64,
    took: Duration,
}

impl Run {
    async fn of(server: &impl McpHandler, upstream: &Upstream, watch: &Stopwatch) -> Result<Self, Failure> {
        let client = Client::connect(server).await?;
        let callers = CITIES.iter().take(CITIES_ASKED).flat_map(|city| [city; CALLERS_EACH]);
        let started = Instant::now();
        let calls = callers.map(|city| client.call("get_forecast", json!({ "city": city.name })));
        let answers = try_join_all(calls).await?;
        let took = started.elapsed();
        let (requests, times) = (upstream.requests(), watch.take());
        Ok(Self {
            failed: answers.iter().filter(|answer| answer.is_error()).count(),
            tool_calls: times.hits.len() + times.misses.len(),
            searches: requests.search,
            forecasts: requests.forecast,
            took,
        })
    }

    fn row(&self, name: &str) -> [Cell; 6] {
        [
            text(name),
            number(CALLERS),
            number(self.tool_calls).strong(),
            number(self.searches).strong(),
            number(self.forecasts),
            time(self.took),
        ]
    }
}
