//! How a replica hears of the others through Redis.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisError, Value};
use tokio::time::timeout;

use super::{Invalidation, Subscription};

pub(super) async fn subscribe(client: &Client, channel: String) -> Result<Subscription, RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(stream::unfold(subscription.split(), next).boxed())
}

/// How long nothing is heard before a subscription is asked whether it is there, and how long it may take to say so.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Waits for the next invalidation. Without an answer to a ping the subscription is over: a server that hangs closes nothing.
async fn next(mut subscription: (PubSubSink, PubSubStream)) -> Option<(Invalidation, (PubSubSink, PubSubStream))> {
    let (sink, messages) = &mut subscription;
    loop {
        match timeout(HEARTBEAT, messages.next()).await {
            Ok(message) => return Some((Invalidation::decode(message?.get_payload_bytes())?, subscription)),
            Err(_) => timeout(HEARTBEAT, sink.ping::<Value>()).await.ok()?.ok()?,
        };
    }
}
