//! Scene: one answer from several sources, and the compensation of a workflow that fails.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mcp_patterns::workflow::Chain;
use serde_json::{Value, json};
use turbomcp::{McpError, McpResult};

use crate::{
    backstage::{self, Client},
    stage::{Failure, Stage, Table, check, text, time},
    upstream::UpstreamSettings,
    weather::{
        client::OpenMeteo,
        server::WeatherServer,
        sources::{Origin, Sources},
    },
};

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "One answer from several sources",
        "A tool asks for the weather (two requests, one after the other), the news (150 ms) and the stocks (80 ms). Concurrent \
         requests take as long as the slowest one. A source that fails is reported in its slot, and the others are returned. \
         If the cheapest source has no answer, the next one is asked.",
    )?;
    let (_upstream, api) = backstage::upstream(UpstreamSettings::default()).await?;
    let whole = Sources::new(api.clone());
    let broken = Sources::new(api.clone()).with_failing(Origin::Secondary);
    stage.code(include_str!("../weather/sources.rs"), ["let (weather, news, stocks) =", "let sources = ["])?;

    let took = fetch_all(&whole, &api).await?;
    let partial = fetch_aggregated(&broken, &api).await?;
    let table = Table::new(["tool", "result", "took"])
        .row([text("fetch_all"), text("weather, news and stocks"), time(took)])
        .row([text("fetch_aggregated"), text(format!("primary: {}", status(&partial, "primary"))), text("")])
        .row([text(""), text(format!("secondary: {}", status(&partial, "secondary"))).bad(), text("")]);
    stage.table(&table)?;
    check("status of the source that works", status(&partial, "primary"), "success")?;
    let sentence = partial["secondary"]["error"].as_str().unwrap_or_default();
    check("the broken source's own words", sentence.contains("made to fail"), false)?;

    let mut found = Vec::new();
    for sources in [&whole, &whole, &whole.clone().with_failing(Origin::Cache)] {
        found.push(smart_search(sources, &api).await?);
    }
    let mut table = Table::new(["smart_search", "answer"]);
    for (search, answer) in ["first", "again", "without the cache"].iter().zip(&found) {
        table = table.row([text(*search), text(answer)]);
    }
    stage.table(&table)?;
    for (answer, origin) in found.iter().zip(["[API]", "[CACHE]", "[DATABASE]"]) {
        check("where the answer comes from", answer.split(' ').next().unwrap_or_default(), origin)?;
    }

    stage.say("If the last step of a chain fails, the chain undoes the others, the last one first:")?;
    let diary = Diary::default();
    let failed = book_trip(&diary).await.err().ok_or_else(|| Failure::new("the trip was to fail"))?;
    stage.code(include_str!("workflow.rs"), ["steps.undoable(\"flight\"", "steps.undoable(\"hotel\""])?;
    let pages = diary.pages().join(", ");
    stage.refused(&format!("// {pages}"), &failed.message)?;
    check("the diary", pages.as_str(), "flight booked, hotel booked, hotel cancelled, flight cancelled")?;

    stage.conclude(&format!(
        "Three sources answered within {}. A source that fails is an entry with a sentence and an id, and the log has the cause \
         under this id.",
        crate::stage::human(took)
    ))?;
    stage.note("inside a tool", "a failing source is reported in its slot");
    stage.note("inside a tool", "2 steps undone after the third failed");
    Ok(())
}

async fn fetch_all(sources: &Sources, api: &OpenMeteo) -> Result<Duration, Failure> {
    let client = client(sources, api).await?;
    let started = Instant::now();
    let answer = client.call("fetch_all", json!({ "query": "Paris" })).await?;
    check("whether fetch_all failed", answer.is_error(), false)?;
    Ok(started.elapsed())
}

async fn fetch_aggregated(sources: &Sources, api: &OpenMeteo) -> Result<Value, Failure> {
    let answer = client(sources, api).await?.call("fetch_aggregated", json!({ "query": "Paris" })).await?;
    Ok(serde_json::from_str(answer.text())?)
}

async fn smart_search(sources: &Sources, api: &OpenMeteo) -> Result<String, Failure> {
    let answer = client(sources, api).await?.call("smart_search", json!({ "query": "Lima" })).await?;
    Ok(answer.text().to_owned())
}

async fn client(sources: &Sources, api: &OpenMeteo) -> Result<Client, Failure> {
    Client::connect(&WeatherServer::new(api.clone()).with_sources(sources.clone())).await
}

fn status<'a>(answer: &'a Value, source: &str) -> &'a str {
    answer[source]["status"].as_str().unwrap_or("missing")
}

/// Books a flight and a hotel, and finds no car.
async fn book_trip(diary: &Diary) -> McpResult<()> {
    let trip = Chain::new("book_trip");
    let booked = trip.run(&(), |steps| async move {
        steps.undoable("flight", diary.book("flight"), |()| diary.cancel("flight")).await?;
        steps.undoable("hotel", diary.book("hotel"), |()| diary.cancel("hotel")).await?;
        steps.step("car", async { Err(McpError::unavailable("No car is left")) }).await
    });
    Ok(booked.await?)
}

/// The events, in order.
#[derive(Debug, Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    async fn book(&self, what: &str) -> McpResult<()> {
        self.note(format!("{what} booked"));
        Ok(())
    }

    /// Outlives the call, whose caller may leave during the compensation.
    fn cancel(&self, what: &'static str) -> impl Future<Output = McpResult<()>> + Send + use<> {
        let diary = self.clone();
        async move {
            diary.note(format!("{what} cancelled"));
            Ok(())
        }
    }

    fn note(&self, page: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(page);
    }

    fn pages(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
