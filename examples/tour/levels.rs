//! Scene: two replicas share loaded values, and a stale answer is refreshed without a waiting caller.

use std::time::Duration;

use futures_util::future::try_join_all;
use mcp_patterns::{
    CachedTool, Layer, Middleware, Scope,
    cached::{Handle, MemoryLevel},
    layer, outcome,
};
use serde_json::{Value, json};
use tokio::{
    runtime::Builder,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use turbomcp::prelude::*;

use crate::{
    backstage::{Answer, Client},
    counter::server::CounterServer,
    stage::{Cell, Failure, Stage, Table, check, human, number, text},
};

const CALLERS: usize = 100;

/// How long a read of the database takes.
const READ: Duration = Duration::from_millis(200);

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Two replicas",
        &format!(
            "A and B are two replicas of the counter server with one database, which takes {} to read a counter. A second level \
             behind their memories shares the answers: Redis, or a MemoryLevel in this process. The scene has a clock of its \
             own, which moves only while all wait: so the waits are those for the database, and the scene needs no minutes.",
            human(READ)
        ),
    )?;
    stage.code(include_str!("levels.rs"), ["let level =", "let cached =", "let replica ="])?;
    let play = || Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(play());
    let Played { rows, answers, reads } = spawn_blocking(play).await??;
    let table = Table::new(["what happens", "answer", "its _meta says", "waited", "reads so far"]);
    stage.table(&rows.into_iter().fold(table, Table::row))?;
    check("reads of the database", reads, 3)?;
    stage.conclude(&format!(
        "{answers} answers of two replicas needed {reads} reads of the database. B read at once what A had written. After the \
         ttl, {CALLERS} callers got an answer without a wait, and one read in the background refreshed it."
    ))?;
    stage.note("CachedTool", format!("two replicas: {reads} reads for {answers} answers"));
    stage.note("CachedTool", format!("{CALLERS} served past the ttl, 1 refresh"));
    Ok(())
}

/// The counters are in a slow database.
#[derive(Debug, Clone)]
struct Database;

impl Middleware for Database {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        if name == "get" {
            sleep(READ).await;
        }
        inner.call_tool(name, args, ctx).await
    }
}

/// The outcome.
#[derive(Default)]
struct Played {
    rows: Vec<[Cell; 5]>,
    answers: usize,
    reads: u64,
}

async fn play() -> Result<Played, Failure> {
    let level = MemoryLevel::new();
    let cached = CachedTool::new()
        .with_scope(Scope::Public)
        .with_ttl(Duration::from_secs(60))
        .with_stale_while_revalidate(Duration::from_secs(60))
        .invalidates("increment", ["get"]);
    let replica = || cached.clone().with_second_level(level.clone());
    let (a, b) = (replica(), replica());

    let caches = [a.handle(), b.handle()];
    let database = CounterServer::default();
    let a = Client::connect(&(a, layer(Database)).layer(database.clone())).await?;
    let b = Client::connect(&(b, layer(Database)).layer(database.clone())).await?;
    let somebody = Client::connect(&database).await?;

    let mut played = Played::default();
    played.see("A reads", ask(&a, 1, &caches).await?, ("0", "miss", READ))?;
    played.see("B reads", ask(&b, 1, &caches).await?, ("0", "hit, level 2", Duration::ZERO))?;
    increment(&a).await?;
    played.happened("A writes");
    played.see("A reads", ask(&a, 1, &caches).await?, ("1", "miss", READ))?;
    played.see("B reads", ask(&b, 1, &caches).await?, ("1", "hit, level 2", Duration::ZERO))?;

    increment(&somebody).await?;
    sleep(Duration::from_secs(90)).await;
    played.happened("another program writes; 90 s pass");
    let crowd = format!("{CALLERS} read from B");
    played.see(&crowd, ask(&b, CALLERS, &caches).await?, ("1", "stale, level 2", Duration::ZERO))?;
    sleep(READ).await;
    played.see("B reads once more", ask(&b, 1, &caches).await?, ("2", "hit, level 1", Duration::ZERO))?;
    played.see("A reads once more", ask(&a, 1, &caches).await?, ("2", "hit, level 2", Duration::ZERO))?;
    Ok(played)
}

impl Played {
    fn happened(&mut self, what: &str) {
        self.rows.push([text(what).quiet(), text(""), text(""), text(""), text("")]);
    }

    fn see(&mut self, what: &str, told: Told, promised: (&str, &str, Duration)) -> Result<(), Failure> {
        check(&format!("the answer when {what}"), told.answer.as_str(), promised.0)?;
        check(&format!("where it came from when {what}"), told.source.as_str(), promised.1)?;
        check(&format!("the milliseconds waited when {what}"), told.waited.as_millis(), promised.2.as_millis())?;
        self.answers += told.callers;
        self.reads = told.reads;
        let waited = if told.waited.is_zero() { text("nothing").good() } else { text(human(told.waited)) };
        self.rows.push([text(what), text(told.answer), text(told.source), waited, number(told.reads)]);
        Ok(())
    }
}

async fn increment(client: &Client) -> Result<(), Failure> {
    let answer = client.call("increment", counter()).await?;
    check("a write that failed", answer.is_error(), false)
}

/// The answers to one or several concurrent callers.
struct Told {
    callers: usize,
    answer: String,
    source: String,
    waited: Duration,
    /// How often the database was read so far.
    reads: u64,
}

async fn ask(client: &Client, callers: usize, caches: &[Handle]) -> Result<Told, Failure> {
    let asked = Instant::now();
    let answers = try_join_all((0..callers).map(|_| client.call("get", counter()))).await?;
    let waited = asked.elapsed();
    let [first, ..] = &answers[..] else { return Err(Failure::new("nobody asked")) };
    let alike = answers.iter().filter(|answer| answer.text() == first.text() && answer.cache() == first.cache());
    check("answers that are alike", alike.count(), callers)?;
    let reads = caches.iter().map(|cache| cache.stats().loads).sum();
    let told = Told { callers, answer: first.text().to_owned(), source: source(first), waited, reads };
    // What is written behind an answer, and told to the other replica, has time until the next step.
    sleep(Duration::from_millis(1)).await;
    Ok(told)
}

fn counter() -> Value {
    json!({ "name": "visitors" })
}

/// The origin of an answer: `hit, level 2`.
fn source(answer: &Answer) -> String {
    match answer.meta(outcome::CACHE).and_then(|cache| cache["level"].as_u64()) {
        Some(level) => format!("{}, level {level}", answer.cache()),
        None => answer.cache().to_owned(),
    }
}
