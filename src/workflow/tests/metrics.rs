use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;

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
    let mut counted = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        if let DebugValue::Counter(count) = value {
            counted.insert(format!("{} {}", key.name(), labels.join(" ")), count);
        }
    }
    let expected = [
        ("mcp_patterns_compensations_total chain=trip outcome=failed", 1),
        ("mcp_patterns_compensations_total chain=trip outcome=undone", 1),
        ("mcp_patterns_source_failures_total source=news", 2),
        ("mcp_patterns_source_failures_total source=stocks", 1),
    ];
    assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)).into_iter().collect());
}
