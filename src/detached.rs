//! Work that continues when its caller leaves.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::runtime::Handle;

/// Waits for `future` here. If the caller drops this, a new task runs `future` to its end.
pub(crate) async fn run_to_end<T: Send + 'static>(future: BoxFuture<'static, T>) -> T {
    let mut unfinished = Unfinished(Some(future));
    poll_fn(|cx| {
        // A future that panics must not be polled again.
        let Some(mut future) = unfinished.0.take() else { return Poll::Pending };
        let polled = future.poll_unpin(cx);
        if polled.is_pending() {
            unfinished.0 = Some(future);
        }
        polled
    })
    .await
}

struct Unfinished<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> Drop for Unfinished<T> {
    fn drop(&mut self) {
        // Without a runtime, nothing can run any more.
        if let (Some(future), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(future);
        }
    }
}
