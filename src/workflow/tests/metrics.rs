use metrics_util::debugging::DebuggingRecorder;

use super::*;
use crate::testing::{counted, counts};

#[test]
fn failures_of_sources_and_compensations_are_counted() {
    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    ::metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let broken = || failing::<Option<u8>>(ms(1), down());
            Gather::new().degrade(&(), [Source::new("news", broken), Source::new("stocks", broken)]).await.unwrap();
            let sources = [Source::new("news", broken), Source::new("api", || slow(ms(1), Some(1)))];
            Fallback::new().find(&(), sources).await.unwrap();
            Chain::new("trip")
                .run(&(), |steps| async move {
                    steps.undoable("flight", async { Ok(()) }, |()| async { Ok(()) }).await?;
                    steps.undoable("hotel", async { Ok(()) }, |()| async { Err(down()) }).await?;
                    Err::<(), _>(down())
                })
                .await
                .unwrap_err();
        });
    });
    let expected = counts([
        ("compensations chain=trip outcome=failed", 1),
        ("compensations chain=trip outcome=undone", 1),
        ("source_failures source=news", 2),
        ("source_failures source=stocks", 1),
    ]);
    assert_eq!(counted(&recorder), expected);
}
