//! Callers who leave at every await point of a call.

use std::future::Future;
use std::pin::pin;

use futures_util::poll;

use super::*;

/// A backend that waits before and after each step.
#[derive(Clone)]
struct Hesitant(MemoryBackend);

async fn hesitate() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

async fn hesitating<T>(step: impl Future<Output = T>) -> T {
    hesitate().await;
    let done = step.await;
    hesitate().await;
    done
}

#[async_trait]
impl Backend for Hesitant {
    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        hesitating(self.0.claim(claim)).await
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        hesitating(self.0.renew(owner, lease)).await
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        hesitating(self.0.complete(owner, record, ttl)).await
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        hesitating(self.0.release(owner)).await
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        hesitating(self.0.abandon(owner)).await
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        hesitating(self.0.resolve(id, record, ttl)).await
    }
}

/// The state that a second caller finds after the first has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Untouched,
    Answered,
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_at_any_await_point_neither_doubles_the_effect_nor_blocks_the_key() {
    let mut left = Vec::new();
    for polls in 0.. {
        let post = ScriptedServer::new("post").with_plain("send", |call| async move {
            hesitate().await;
            Ok(sent(call.number))
        });
        let server = layer(Hesitant(MemoryBackend::new())).with_wait(Duration::ZERO).layer(post.clone());
        let mut is_over = false;
        {
            let mut call = pin!(send(&server, "k"));
            for _ in 0..polls {
                if poll!(call.as_mut()).is_ready() {
                    is_over = true;
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        settle().await;
        let begun = post.calls("send");
        let second = send(&server, "k").await;
        left.push(match told(&second) {
            Value::Null => {
                assert_eq!((text(&second), begun), ("sent 1".into(), 0), "after {polls} polls");
                Left::Untouched
            }
            told => {
                assert_eq!((text(&second), told), ("sent 1".into(), json!("replayed")), "after {polls} polls");
                Left::Answered
            }
        });
        assert_eq!(post.calls("send"), 1, "after {polls} polls");
        if is_over {
            break;
        }
    }
    assert!(left.is_sorted(), "what has begun comes to its end: {left:?}");
    for state in [Left::Untouched, Left::Answered] {
        assert!(left.contains(&state), "{state:?} in {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_leaves_at_any_await_point_changes_nothing() {
    for polls in 0..40 {
        let (post, go) = held_post();
        let server = layer(Hesitant(MemoryBackend::new())).layer(post.clone());
        let first = tokio::spawn({
            let server = server.clone();
            async move { send(&server, "k").await }
        });
        settle().await;
        {
            let mut duplicate = pin!(send(&server, "k"));
            for _ in 0..polls {
                assert!(poll!(duplicate.as_mut()).is_pending());
                tokio::task::yield_now().await;
            }
        }
        settle().await;
        go.notify_one();
        assert_eq!(told(&first.await.unwrap()), Value::Null);
        assert_eq!(told(&send(&server, "k").await), "replayed");
        assert_eq!(post.calls("send"), 1, "after {polls} polls");
    }
}
