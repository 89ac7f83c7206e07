//! How a replica hears of the others through Redis.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisError, Value};
use tokio::time::timeout;

use super::commands::MAX_NUMBER;
use super::{Invalidation, Seen, Subscription};

pub(super) async fn subscribe(client: &Client, channel: String, seen: Arc<[Seen]>) -> Result<Subscription, RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    let heard = stream::unfold(subscription.split(), next);
    // It is told when all shards know.
    let noted = heard.inspect(move |heard| seen.iter().for_each(|shard| shard.note_number(heard.number)));
    Ok(noted.boxed())
}

/// How long nothing is heard before a subscription is asked whether it is there, and how long it may take to say so.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Waits for the next invalidation. Without an answer to a ping the subscription is over: a server that hangs closes nothing.
async fn next(mut subscription: (PubSubSink, PubSubStream)) -> Option<(Invalidation, (PubSubSink, PubSubStream))> {
    let (sink, messages) = &mut subscription;
    loop {
        match timeout(HEARTBEAT, messages.next()).await {
            Ok(message) => {
                let heard = Invalidation::decode(message?.get_payload_bytes())?;
                return (heard.number <= MAX_NUMBER).then_some((heard, subscription));
            }
            Err(_) => timeout(HEARTBEAT, sink.ping::<Value>()).await.ok()?.ok()?,
        };
    }
}
