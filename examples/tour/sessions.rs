//! Scene: two sessions of one user, and the data of each.

use futures_util::future::try_join_all;
use mcp_patterns::{CachedTool, Layer, SessionStore, session::SessionMode};
use serde_json::json;

use crate::{
    backstage::Client,
    counter::server::CounterServer,
    stage::{Failure, Stage, Table, check, text},
};

/// The number of steps of each of the two sessions.
const COUNTS: usize = 100;

const NOT_FOUND: &str = "Preference not found";

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "Data that outlives a call",
        &format!(
            "Ada connects with her laptop and with her phone. The laptop sets a dark theme. Then both count to {COUNTS} at the same \
             time. By default, each connection has a session of its own. The other mode is one session for each user. Bob \
             sees neither."
        ),
    )?;

    let by_connection = SessionStore::in_memory();
    let by_user = SessionStore::in_memory().with_mode(SessionMode::Principal);
    stage.code(include_str!("sessions.rs"), ["let by_connection =", "let by_user =", "let server ="])?;

    let mut table = Table::new(["sessions", "whose", "theme", "counted to"]);
    let mut totals = Vec::new();
    for (name, sessions, phones_theme, total) in
        [("by connection", by_connection, NOT_FOUND, COUNTS), ("by user", by_user, "dark", 2 * COUNTS)]
    {
        let cached = CachedTool::new();
        let cache = cached.handle();
        let server = (sessions, cached).layer(CounterServer::default());
        let laptop = Client::connect_as(&server, "ada").await?;
        let phone = Client::connect_as(&server, "ada").await?;
        let bob = Client::connect_as(&server, "bob").await?;

        let set = laptop.call("set_preference", json!({ "key": "theme", "value": "dark" })).await?;
        check("the answer to a preference", set.text(), "Set theme: dark")?;
        let counter = || json!({ "name": "visits" });
        let counts = (0..2 * COUNTS).map(|call| [&laptop, &phone][call % 2].call("increment_mine", counter()));
        try_join_all(counts).await?;

        let readers = [
            ("Ada's laptop", &laptop, "dark", total),
            ("Ada's phone", &phone, phones_theme, total),
            ("Bob", &bob, NOT_FOUND, 0),
        ];
        for (position, (who, client, promised_theme, promised_count)) in readers.into_iter().enumerate() {
            let theme = client.call("get_preference", json!({ "key": "theme" })).await?;
            let counted = client.call("get_mine", counter()).await?;
            check("the theme of a session", theme.text(), promised_theme)?;
            check("the counter of a session", counted.text(), &promised_count.to_string())?;
            let told = text(theme.text());
            table = table.row([
                text(if position == 0 { name } else { "" }).strong(),
                text(who),
                if theme.is_error() { told.quiet() } else { told.good() },
                text(counted.text()),
            ]);
        }
        check("answers of a session that the cache gave", cache.stats().hits, 0)?;
        totals.push(total);
    }
    stage.table(&table)?;

    let [by_connection, by_user] = totals[..] else { return Err(Failure::new("two stores were on show")) };
    stage.conclude(&format!(
        "{} concurrent calls counted to {by_connection} in each of two sessions, or to {by_user} in one: none was lost. The cache \
         between them kept no answer that depends on a session, so the phone never got the laptop's theme.",
        2 * COUNTS
    ))?;
    stage.note("SessionStore", format!("{} counts at once: none lost or mixed up", 2 * COUNTS));
    Ok(())
}
