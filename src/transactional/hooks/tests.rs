use std::sync::Mutex;

use tokio::time::{Instant, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<&'static str>>>);

impl Seen {
    fn all(&self) -> Vec<&'static str> {
        self.0.lock().expect("no panic").clone()
    }

    fn takes(&self, what: &'static str, time: Duration) -> BoxFuture<'static, ()> {
        let seen = self.clone();
        Box::pin(async move {
            sleep(time).await;
            seen.0.lock().expect("no panic").push(what);
        })
    }

    fn hook(&self, what: &'static str, time: Duration) -> Hook {
        let seen = self.clone();
        Box::new(move || seen.takes(what, time))
    }

    fn invalidation(&self, what: &'static str, time: Duration) -> Invalidation {
        let seen = self.clone();
        Arc::new(move || seen.takes(what, time))
    }
}

fn panics<T>() -> T {
    std::panic::resume_unwind(Box::new("the hook's own"))
}

#[tokio::test(start_paused = true)]
async fn invalidations_run_concurrently_and_before_the_first_hook() {
    let seen = Seen::default();
    let hooks = Hooks {
        after_commit: vec![seen.hook("hook", Duration::ZERO)],
        invalidations: vec![seen.invalidation("slow", 2 * SECOND), seen.invalidation("fast", SECOND)],
    };
    hooks.run().expect("there are some").wait(60 * SECOND).await;
    assert_eq!(seen.all(), ["fast", "slow", "hook"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_every_invalidation_and_for_hooks_up_to_their_limit() {
    let (seen, began) = (Seen::default(), Instant::now());
    let hooks = Hooks {
        after_commit: vec![seen.hook("mail", 20 * SECOND), seen.hook("last", Duration::ZERO)],
        invalidations: vec![seen.invalidation("invalidated", 10 * SECOND)],
    };
    hooks.run().expect("there are some").wait(5 * SECOND).await;
    assert_eq!((seen.all(), began.elapsed()), (vec!["invalidated"], 15 * SECOND));
    sleep(60 * SECOND).await;
    assert_eq!(seen.all(), ["invalidated", "mail", "last"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_hook_or_invalidation_does_not_stop_the_others() {
    let seen = Seen::default();
    let hooks = Hooks {
        after_commit: vec![
            Box::new(panics),
            Box::new(|| Box::pin(async { panics() })),
            seen.hook("hook", Duration::ZERO),
        ],
        invalidations: vec![
            Arc::new(panics),
            Arc::new(|| Box::pin(async { panics() })),
            seen.invalidation("invalidated", Duration::ZERO),
        ],
    };
    hooks.run().expect("there are some").wait(SECOND).await;
    assert_eq!(seen.all(), ["invalidated", "hook"]);
}
