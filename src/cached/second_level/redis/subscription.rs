//! The subscription to the invalidations of other replicas in Redis.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisError, Value};
use tokio::time::timeout;

use super::seen::{MAX_NUMBER, Seen};
use crate::cached::second_level::{Invalidation, Subscription};

pub(super) async fn subscribe(client: &Client, channel: String, seen: Arc<[Seen]>) -> Result<Subscription, RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    let received = stream::unfold(subscription.split(), next);
    // The message was sent after all shards knew.
    let noted = received.inspect(move |received| seen.iter().for_each(|shard| shard.note_number(received.number)));
    Ok(noted.boxed())
}

/// How long a subscription may be silent before it gets a `PING`, and how long the answer may take.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Waits for the next invalidation. Without an answer to a `PING` the subscription ends: a server that hangs closes no connection.
async fn next(mut subscription: (PubSubSink, PubSubStream)) -> Option<(Invalidation, (PubSubSink, PubSubStream))> {
    let (sink, messages) = &mut subscription;
    loop {
        match timeout(HEARTBEAT, messages.next()).await {
            Ok(message) => {
                let received = Invalidation::decode(message?.get_payload_bytes())?;
                return (received.number <= MAX_NUMBER).then_some((received, subscription));
            }
            Err(_) => timeout(HEARTBEAT, sink.ping::<Value>()).await.ok()?.ok()?,
        };
    }
}
