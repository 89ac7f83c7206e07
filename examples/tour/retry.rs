//! Scene: an upstream fails often, and callers still get answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use mcp_patterns::{Layer, RetryTool, retry::RetryEvent};
use serde_json::json;
use turbomcp::McpHandler;

use crate::{
    backstage::{self, Answer, Client, percentile},
    stage::{Cell, Failure, Stage, Table, bar, check, human, number, text, time},
    upstream::{Upstream, UpstreamSettings, cities::CITIES},
    weather::server::WeatherServer,
};

const FORECASTS: usize = 20;

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "An upstream that fails three requests in ten",
        &format!(
            "{FORECASTS} forecasts at the same time. Each needs three requests to a weather service that sometimes closes the \
             connection, is overloaded (503), or asks the client to wait for a second (429). First without a layer, then with \
             RetryTool."
        ),
    )?;
    let troubled = || UpstreamSettings { failure_rate: 0.3, seed: 18, ..UpstreamSettings::default() };

    let (upstream, api) = backstage::upstream(troubled()).await?;
    let bare = Run::of(&WeatherServer::new(api), &upstream).await?;

    let (upstream, api) = backstage::upstream(troubled()).await?;
    let waits = Waits::default();
    let retry = RetryTool::new().with_max_attempts(15).with_max_delay(Duration::from_millis(250));
    let server = retry.on_retry(waits.hook()).layer(WeatherServer::new(api));
    let retried = Run::of(&server, &upstream).await?;
    stage.code(include_str!("retry.rs"), ["let retry =", "let server ="])?;

    let table = Table::new(["", "answered", "failed", "tool calls", "upstream requests", "of these failed", "time"])
        .row(bare.row("without a layer"))
        .row(retried.row("with RetryTool"));
    stage.table(&table)?;

    let histogram = retried.histogram();
    let most = histogram.values().copied().max().unwrap_or_default();
    let mut table = Table::new(["attempts", "forecasts"]);
    for (attempts, forecasts) in &histogram {
        let label = text(format!(" {forecasts}"));
        table = table.row([number(*attempts), Cell::from_iter([bar(*forecasts, most), label])]);
    }
    stage.table(&table)?;

    let mut table = Table::new(["why it was tried again", "times", "asked to wait", "median wait", "longest wait"]);
    for ((kind, asked), waits) in waits.by_reason() {
        let longest = waits.last().copied().unwrap_or_default();
        let asked = asked.map_or_else(|| text("no time").quiet(), time);
        table = table.row([text(kind), number(waits.len()), asked, time(percentile(&waits, 50)), time(longest)]);
    }
    stage.table(&table)?;

    if bare.failed() == 0 {
        return Err(Failure::new("the upstream was to fail, and no forecast without a layer did"));
    }
    check("forecasts that failed with RetryTool", retried.failed(), 0)?;

    stage.conclude(&format!(
        "Without a layer, {} of {FORECASTS} forecasts failed; with RetryTool, {}. Half of them took at most {}. The service asked \
         for the long waits. The server keeps the steps that succeeded, so a retry repeats only the one that failed.",
        bare.failed(),
        if retried.failed() == 0 { "none".to_owned() } else { retried.failed().to_string() },
        human(percentile(&retried.times(), 50)),
    ))?;
    let retries = retried.attempts() - retried.answers.len() as u64;
    stage.note(
        "RetryTool",
        format!("{} of {FORECASTS} forecasts failed without, {} with it", bare.failed(), retried.failed()),
    );
    stage.note("RetryTool", format!("{retries} retries, each after a wait"));
    Ok(())
}

/// The result of all concurrent forecasts.
struct Run {
    answers: Vec<(Answer, Duration)>,
    requests: u64,
    refused: u64,
    took: Duration,
}

impl Run {
    async fn of(server: &impl McpHandler, upstream: &Upstream) -> Result<Self, Failure> {
        let client = Client::connect(server).await?;
        let started = Instant::now();
        let calls = CITIES.iter().take(FORECASTS).map(async |city| {
            let answer = client.call("get_forecast", json!({ "city": city.name })).await?;
            Ok::<_, Failure>((answer, started.elapsed()))
        });
        let answers = try_join_all(calls).await?;
        let took = started.elapsed();
        Ok(Self { answers, requests: backstage::requests(upstream), refused: upstream.failures(), took })
    }

    fn failed(&self) -> usize {
        self.answers.iter().filter(|(answer, _)| answer.is_error()).count()
    }

    fn attempts(&self) -> u64 {
        self.answers.iter().map(|(answer, _)| answer.attempts()).sum()
    }

    /// How many forecasts took how many attempts.
    fn histogram(&self) -> BTreeMap<u64, usize> {
        let mut histogram = BTreeMap::new();
        for (answer, _) in &self.answers {
            *histogram.entry(answer.attempts()).or_default() += 1;
        }
        histogram
    }

    /// How long the callers waited, sorted.
    fn times(&self) -> Vec<Duration> {
        let mut times: Vec<_> = self.answers.iter().map(|(_, took)| *took).collect();
        times.sort_unstable();
        times
    }

    fn row(&self, name: &str) -> [Cell; 7] {
        let failed = number(self.failed());
        [
            text(name),
            number(self.answers.len() - self.failed()),
            if self.failed() == 0 { failed.good() } else { failed.bad() },
            number(self.attempts()),
            number(self.requests),
            number(self.refused),
            time(self.took),
        ]
    }
}

/// Records the reason and the duration of each wait of `RetryTool`.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<BTreeMap<Reason, Vec<Duration>>>>);

/// The kind of the failure, and the wait that the failing side asked for.
type Reason = (String, Option<Duration>);

impl Waits {
    fn hook(&self) -> impl Fn(&RetryEvent<'_>) + Send + Sync + 'static {
        let waits = Self::clone(self);
        move |event| {
            let kind = event.failure.kind().map_or("no kind".to_owned(), |kind| format!("{kind:?}"));
            let mut waits = waits.0.lock().unwrap_or_else(PoisonError::into_inner);
            waits.entry((kind, event.failure.retry_after())).or_default().push(event.delay);
        }
    }

    /// The waits, sorted.
    fn by_reason(&self) -> BTreeMap<Reason, Vec<Duration>> {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waits.values_mut().for_each(|waits| waits.sort_unstable());
        waits
    }
}
