//! Scene: many clients count concurrently, and no step is lost.

use clap::builder::styling::AnsiColor;
use futures_util::future::try_join_all;
use mcp_patterns::{Layer, RetryTool, layer};
use serde_json::json;

use crate::{
    backstage::Client,
    counter::{logged::Logged, server::CounterServer},
    stage::{Cell, Failure, Stage, Table, check, text},
};

const CLIENTS: usize = 4;
const CALLS_EACH: usize = 50;
const CALLS: usize = CLIENTS * CALLS_EACH;
const COLOURS: [AnsiColor; CLIENTS] = [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Magenta, AnsiColor::Green];

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Nothing lost",
        &format!(
            "{CLIENTS} clients call `increment` of the counter server {CALLS_EACH} times each, at the same time, through two \
             layers: one of the example itself, which logs each call (RUST_LOG=info shows it), and RetryTool."
        ),
    )?;

    let server = (layer(Logged), RetryTool::new()).layer(CounterServer::default());
    stage.code(include_str!("counting.rs"), ["let server ="])?;

    let clients = try_join_all((0..CLIENTS).map(|_| Client::connect(&server))).await?;
    let counter = || json!({ "name": "visitors" });
    let calls = (0..CALLS).map(|call| clients[call % CLIENTS].call("increment", counter()));
    let answers = try_join_all(calls).await?;

    // Who was given each value.
    let mut given = vec![None; CALLS];
    for (call, answer) in answers.iter().enumerate() {
        let place = answer.text().parse().ok().and_then(|value: usize| given.get_mut(value.checked_sub(1)?));
        *place.ok_or_else(|| Failure::new(format!("`increment` answered {}", answer.text())))? = Some(call % CLIENTS);
    }
    let mut table = Table::new(["values", "which client was given each of them"]);
    for (row, clients) in given.chunks(CALLS_EACH).enumerate() {
        let first = row * CALLS_EACH + 1;
        let strip = clients.iter().map(|client| match client {
            Some(client) => text((client + 1).to_string()).coloured(COLOURS[*client]),
            None => text("?").bad(),
        });
        let range = format!("{first:3} to {:3}", first + clients.len() - 1);
        table = table.row([text(range).quiet(), strip.collect::<Cell>()]);
    }
    stage.table(&table)?;

    let last = clients[0].call("get", counter()).await?;
    let distinct = given.iter().flatten().count();
    check("different values that 200 increments answered", distinct, CALLS)?;
    check("the counter's final value", last.text(), &CALLS.to_string())?;

    stage.conclude(&format!(
        "The counter is {}. {CALLS} calls got {distinct} different answers: none was lost, none was counted twice.",
        last.text()
    ))?;
    stage.note("a layer of your own", format!("saw {distinct} `increment`s pass, for the log"));
    Ok(())
}
