//! Scene: many identical concurrent calls run the tool once.

use std::time::Duration;

use futures_util::future::try_join_all;
use mcp_patterns::{CachedTool, Layer, RetryTool, cached::Handle, layer};
use serde_json::json;

use crate::{
    backstage::{self, Client, Stopwatch, Times, percentile},
    stage::{Cell, Failure, Stage, Table, check, human, number, text, thousands, time},
    upstream::{Upstream, UpstreamSettings},
    weather::server::WeatherServer,
};

const CLIENTS: usize = 20;
const CALLERS: u64 = 1000;
const CITY: &str = "Kathmandu";

/// Slow enough for all callers to arrive while the first forecast loads.
const LATENCY: Duration = Duration::from_millis(250);

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Many callers, one load",
        &format!(
            "{} callers ask at the same time for the weather in {CITY}. It is not in the cache yet. Then {} more ask. A load is a call \
             of the tool by the cache: three requests to a weather service, of about {} each. A layer of the tour measures \
             the times inside the server.",
            thousands(CALLERS),
            thousands(CALLERS),
            human(LATENCY),
        ),
    )?;

    let (upstream, api) = backstage::upstream(UpstreamSettings { latency: LATENCY, ..Default::default() }).await?;
    let watch = Stopwatch::default();
    let cached = CachedTool::new();
    let cache = cached.handle();
    let server = (layer(watch.clone()), cached, RetryTool::new()).layer(WeatherServer::new(api));
    stage.code(include_str!("cached.rs"), ["let cached =", "let cache =", "let server ="])?;

    let clients = try_join_all((0..CLIENTS).map(|_| Client::connect(&server))).await?;
    let first = Crowd::gather(&clients, &watch, &cache, &upstream).await?;
    let second = Crowd::gather(&clients, &watch, &cache, &upstream).await?;

    let headings = ["", "calls", "waited", "from memory", "loads", "upstream requests"];
    let table = Table::new(headings).row(first.row("the first callers")).row(second.row("the next callers"));
    stage.table(&table)?;

    let (misses, hits) = (&first.times.misses, &second.times.hits);
    let measured = |name, times: &[Duration]| {
        [text(name), time(percentile(times, 50)).strong(), time(percentile(times, 99)), number(times.len())]
    };
    let table = Table::new(["time inside the server", "median", "p99", "calls"])
        .row(measured("a miss, which waits for the load", misses))
        .row(measured("a hit, without a wait", hits));
    stage.table(&table)?;

    check("loads for the first callers", first.loads, 1)?;
    check("upstream requests for the first callers", first.requests, 3)?;
    check("hits of the next callers", second.hits, CALLERS)?;
    check("loads for the next callers", second.loads, 0)?;
    check("upstream requests for the next callers", second.requests, 0)?;

    let ratio = percentile(misses, 50).as_secs_f64() / percentile(hits, 50).as_secs_f64().max(1e-9);
    stage.conclude(&format!(
        "{} callers caused {} requests to the weather service, as many as one caller does. The next {} caused none, and the \
         server answered them about {} times as fast.",
        thousands(CALLERS),
        first.requests,
        thousands(second.hits),
        thousands(two_digits(ratio)),
    ))?;
    stage.note("CachedTool", format!("{} callers at once, {} load", thousands(CALLERS), first.loads));
    stage.note(
        "CachedTool",
        format!("{} more from memory, {} each", thousands(second.hits), human(percentile(hits, 50))),
    );
    let timed = misses.len() + hits.len();
    stage.note("a layer of your own", format!("took the time of {} calls inside a server", thousands(timed as u64)));
    Ok(())
}

/// The result of many calls.
struct Crowd {
    misses: u64,
    hits: u64,
    loads: u64,
    requests: u64,
    times: Times,
}

impl Crowd {
    async fn gather(
        clients: &[Client],
        watch: &Stopwatch,
        cache: &Handle,
        upstream: &Upstream,
    ) -> Result<Self, Failure> {
        let (before, requests) = (cache.stats(), backstage::requests(upstream));
        let callers = clients.iter().cycle().take(usize::try_from(CALLERS)?);
        let answers = try_join_all(callers.map(|client| client.call("get_forecast", json!({ "city": CITY })))).await?;
        check("callers without an answer", answers.iter().filter(|answer| answer.is_error()).count(), 0)?;

        let after = cache.stats();
        Ok(Self {
            misses: after.misses - before.misses,
            hits: after.hits - before.hits,
            loads: after.loads - before.loads,
            requests: backstage::requests(upstream) - requests,
            times: watch.take(),
        })
    }

    fn row(&self, name: &str) -> [Cell; 6] {
        [
            text(name),
            number(self.misses + self.hits),
            number(self.misses),
            number(self.hits),
            number(self.loads).strong(),
            number(self.requests).strong(),
        ]
    }
}

/// Rounds to the precision of a measurement on a busy machine.
fn two_digits(ratio: f64) -> u64 {
    let unit = 10_f64.powf((ratio.log10().floor() - 1.0).max(0.0));
    ((ratio / unit).round() * unit) as u64
}
