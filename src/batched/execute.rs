//! Executes a batch: calls the bulk function and hands out the results.

use std::collections::VecDeque;
use std::iter;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::{oneshot, watch};

use super::error::BatchError;
use super::queue::{QueuedItem, Reply};
use super::settings::Settings;

/// Calls the bulk function and hands out the results, or an error if the batch is abandoned.
pub(super) async fn run<K, V, E>(
    settings: &Settings<K, V, E>,
    ended: watch::Receiver<bool>,
    mut batch: Vec<QueuedItem<K, V, E>>,
) where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    let size = batch.len();
    let instruments = settings.instruments.as_ref().zip(batch.first());
    let instruments = instruments.map(|(of, first)| of(&first.key));
    if let Some(instruments) = &instruments {
        instruments.sent(size);
    }
    for item in &mut batch {
        if let Some(in_queue) = item.in_queue.take() {
            in_queue.leave(item.queued.elapsed());
        }
    }
    let (keys, mut replies): (Vec<_>, VecDeque<_>) = batch.into_iter().map(|item| (item.key, item.reply)).unzip();
    let mut results = Vec::with_capacity(size);
    let unanswered = {
        let tool = instruments.as_ref().map(|instruments| instruments.tool.as_str());
        let answered = pin!(answer(settings, keys, &mut results, tool));
        let abandoned = pin!(abandoned(settings.batch_timeout, &mut replies, ended));
        match select(answered, abandoned).await {
            Either::Left(((), _)) => None,
            Either::Right((error, _)) => Some(error),
        }
    };
    let results = results.into_iter().chain(iter::from_fn(|| unanswered.clone().map(|error| (Err(error), false))));
    for (reply, (result, is_certain)) in replies.into_iter().zip(results) {
        // A caller who has left ignores it.
        let _ = reply.send(Reply { result, size, is_certain });
    }
}

/// Calls the bulk function, for the halves too if the whole fails and may be split. `results` gets one entry for each key, with
/// whether the key was sent only once.
async fn answer<K, V, E>(
    settings: &Settings<K, V, E>,
    keys: Vec<K>,
    results: &mut Vec<(Result<V, E>, bool)>,
    tool: Option<&str>,
) where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    let mut parts = vec![(keys, true)];
    while let Some((part, is_whole)) = parts.pop() {
        let size = part.len();
        let split = settings.split.as_ref().filter(|split| size > 1 && part.iter().all(|key| (split.may_repeat)(key)));
        let mut halves: Option<Vec<K>> = split.map(|split| part.iter().map(split.copy).collect());
        let (error, may_split) = match AssertUnwindSafe(async { (settings.bulk)(part).await }).catch_unwind().await {
            Ok(Ok(found)) if found.len() == size => {
                results.extend(found.into_iter().map(|result| (result, is_whole)));
                continue;
            }
            Ok(Ok(found)) => {
                log_miscount(tool, size, found.len());
                (E::miscounted(), false)
            }
            Ok(Err(error)) => {
                let may_split = !error.is_temporary();
                (error, may_split)
            }
            Err(_) => {
                tracing::error!(tool, calls = size, "a bulk function panicked");
                (E::aborted(), true)
            }
        };
        // The part may have done something that forbids to send it again.
        let may_repeat = |keys: &[K]| split.is_some_and(|split| keys.iter().all(|key| (split.may_repeat)(key)));
        match halves.take_if(|keys| may_split && may_repeat(keys)) {
            Some(mut first) => {
                let second = first.split_off(size / 2);
                parts.extend([(second, false), (first, false)]);
            }
            None => results.extend(iter::repeat_n(error, size).map(|error| (Err(error), is_whole))),
        }
    }
}

pub(super) fn log_miscount(tool: Option<&str>, calls: usize, results: usize) {
    tracing::error!(
        tool,
        calls,
        results,
        "a bulk function returned a wrong number of results: it must return one for each call, also where calls are equal or have no row"
    );
}

/// Waits until the batch is to be abandoned: it took too long, all callers have left, or the batcher has shut down.
async fn abandoned<V, E: BatchError>(
    timeout: Option<Duration>,
    replies: &mut VecDeque<oneshot::Sender<Reply<V, E>>>,
    mut ended: watch::Receiver<bool>,
) -> E {
    let too_long = async {
        match timeout {
            None => std::future::pending().await,
            Some(after) => {
                tokio::time::sleep(after).await;
                E::timed_out(after)
            }
        }
    };
    let all_left = async {
        for reply in replies {
            reply.closed().await;
        }
        E::cancelled()
    };
    let ended = async {
        // The sender lives as long as the task's slot.
        let _ = ended.wait_for(|ended| *ended).await;
        E::closed()
    };
    match select(pin!(too_long), select(pin!(all_left), pin!(ended))).await {
        Either::Left((error, _)) | Either::Right((Either::Left((error, _)) | Either::Right((error, _)), _)) => error,
    }
}
