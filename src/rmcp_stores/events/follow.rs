//! The rest of a stream, from the log, until its last event.

use std::time::Duration;

use futures_util::stream::poll_fn;
use rmcp::transport::streamable_http_server::session::{EventStream, ServerSseMessage};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

use super::asked::AskedBy;
use super::payload::{self, Decoded};
use super::{EventLog, EventLogError, KeptEvent, Log, secret};
use crate::clock::later;

/// The number of events of one read.
pub(super) const PAGE: usize = 100;

/// The first pause between two reads.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The number of events that wait for a slow client.
const CAPACITY: usize = 16;

/// Follows the log from the first event of `page`, which the client has. It ends when the client leaves, after the last event of the
/// stream, and where the log has a gap or fails: then the client comes back with the last event that it has.
///
/// If the client said which request it `asked_by`, a stream whose owner has no lease any more is abandoned, and ends with an error.
pub(super) fn follow<L: Log>(log: EventLog<L>, page: Vec<KeptEvent>, asked_by: Option<AskedBy>) -> EventStream {
    let (events, to_client) = channel(CAPACITY);
    tokio::spawn(async move {
        if let Err(error) = run(&log, page, asked_by.as_ref(), &events).await {
            tracing::debug!(%error, store = L::NAME, "a resumed stream ends before its last event");
        }
    });
    Box::pin(stream(to_client))
}

fn stream(mut events: Receiver<ServerSseMessage>) -> impl futures_util::Stream<Item = ServerSseMessage> + Send + Sync {
    poll_fn(move |context| events.poll_recv(context))
}

async fn run<L: Log>(
    log: &EventLog<L>,
    mut page: Vec<KeptEvent>,
    asked_by: Option<&AskedBy>,
    client: &Sender<ServerSseMessage>,
) -> Result<(), EventLogError> {
    let (mut pause, mut touched) = (FIRST_PAUSE, None::<Instant>);
    let mut lease_ends = Instant::now();
    loop {
        // The first event of each page is the last one of the page before: so no event between them can be missing.
        let (is_full, is_quiet) = (page.len() > PAGE, page.len() <= 1);
        let mut last = None;
        for (position, event) in page.into_iter().enumerate() {
            let id = event.id.clone();
            let Decoded { event, is_last, owner } = payload::decode(event, asked_by)?;
            let has_left = position > 0 && client.send(event).await.is_err();
            if has_left || is_last {
                return Ok(());
            }
            last = Some((id, owner));
        }
        let Some((last, owner)) = last else { return Err(EventLogError::UnknownEvent) };
        let now = Instant::now();
        if is_quiet
            && asked_by.is_some()
            && let Some(owner) = owner
            && now >= lease_ends
        {
            match log.step(log.log.lease_left(&owner)).await? {
                Some(left) => lease_ends = later(now, left),
                // The owner may be only slow, and write an event now. Then the mark is not set, and the next page has the event.
                None => {
                    log.step(log.log.abandon(&last, &secret()?, log.settings.ttl)).await?;
                    pause = FIRST_PAUSE;
                }
            }
        }
        if !is_full {
            pause = if is_quiet { pause.min(log.settings.poll_interval) } else { FIRST_PAUSE };
            tokio::select! {
                () = client.closed() => return Ok(()),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(log.settings.poll_interval),
            }
        }
        if touched.is_none_or(|touched| touched.elapsed() >= log.settings.ttl / 4) {
            log.step(log.log.touch(&last, log.settings.ttl)).await?;
            touched = Some(Instant::now());
        }
        page = log.step(log.log.read_from(&last, PAGE)).await?.ok_or(EventLogError::UnknownEvent)?;
    }
}
