//! Scene: the scope of shared answers, and their invalidation.

use mcp_patterns::{CachedTool, Layer, RetryTool, Scope, cached::Handle};
use serde_json::json;

use crate::{
    backstage::{self, Client},
    stage::{Cell, Failure, Stage, Table, check, number, text},
    upstream::UpstreamSettings,
    weather::server::WeatherServer,
};

const CITY: &str = "Lima";

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Each user has their own answers",
        &format!(
            "Ada and Bob have both signed in, and ask for the weather in {CITY}. A cache cannot know that a forecast is the same for \
             all users and a mailbox is not. So it shares no answer between users, unless you set another scope."
        ),
    )?;
    let (_upstream, api) = backstage::upstream(UpstreamSettings::default()).await?;
    let weather = WeatherServer::new(api);

    let apart = CachedTool::new();
    let shared = CachedTool::new().with_scope(Scope::Public);
    stage.code(include_str!("scope.rs"), ["let apart =", "let shared =", "cache.invalidate("])?;

    let mut table = Table::new(["cache", "what happens", "its _meta says", "loads so far"]);
    let mut loads = Vec::new();
    for (name, cached) in [("apart", apart), ("shared", shared)] {
        let cache = cached.handle();
        let server = (cached, RetryTool::new()).layer(weather.clone());
        let ada = Client::connect_as(&server, "ada").await?;
        let bob = Client::connect_as(&server, "bob").await?;

        table = table.row(ask(name, "Ada asks", &ada, &cache).await?);
        table = table.row(ask("", "Bob asks", &bob, &cache).await?);
        loads.push(cache.stats().loads);
        table = table.row(ask("", "Bob asks again", &bob, &cache).await?);
        check("loads after Bob asked again", cache.stats().loads, loads[loads.len() - 1])?;

        cache.invalidate("get_forecast", &json!({ "city": CITY }));
        table = table.row([text(""), text("cache.invalidate(..)").code(), text(""), text("")]);
        table = table.row(ask("", "Bob asks once more", &bob, &cache).await?);
        check("loads after the invalidation", cache.stats().loads, loads[loads.len() - 1] + 1)?;
    }
    stage.table(&table)?;

    let [apart, shared] = loads[..] else { return Err(Failure::new("two caches were on show")) };
    check("loads for two users by default", apart, 2)?;
    check("loads for two users who share", shared, 1)?;

    stage.conclude(&format!(
        "Two users caused {apart} loads by default, and {shared} with Scope::Public. The next caller loads an invalidated answer \
         again."
    ))?;
    stage.note("CachedTool", format!("two users: {apart} loads, {shared} with Scope::Public"));
    Ok(())
}

async fn ask(cache_name: &str, who: &str, client: &Client, cache: &Handle) -> Result<[Cell; 4], Failure> {
    let answer = client.call("get_forecast", json!({ "city": CITY })).await?;
    check("a forecast that failed", answer.is_error(), false)?;
    let status = text(answer.cache());
    Ok([
        text(cache_name).strong(),
        text(who),
        if answer.cache() == "hit" { status.good() } else { status },
        number(cache.stats().loads),
    ])
}
