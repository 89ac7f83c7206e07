//! What is counted and logged.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;
use crate::testing::Traced;

/// By how much counters and gauges have changed since the last look.
fn seen(recorder: &DebuggingRecorder) -> BTreeMap<String, i64> {
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = format!("{}{}", key.name().trim_start_matches("mcp_patterns_breaker_"), labels.collect::<String>());
        let value = match value {
            DebugValue::Counter(count) => i64::try_from(count).expect("a small number"),
            DebugValue::Gauge(value) => value.into_inner() as i64,
            DebugValue::Histogram(_) => panic!("{name} is a histogram"),
        };
        if value != 0 {
            seen.insert(name, value);
        }
    }
    seen
}

fn expected<const N: usize>(seen: [(&str, i64); N]) -> BTreeMap<String, i64> {
    seen.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn changes_and_refusals_are_counted_and_a_gauge_shows_the_breakers_that_refuse() {
    let recorder = DebuggingRecorder::new();
    let _counts = ::metrics::set_default_local_recorder(&recorder);
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    for _ in 0..5 {
        call(&server, "search", down()).await.expect("a result");
    }
    for _ in 0..3 {
        call(&server, "search", json!({})).await.expect("a result");
    }
    let opened = ("changes_total breaker=search to=open reason=failures", 1);
    let refused = ("refusals_total tool=search", 3);
    assert_eq!(seen(&recorder), expected([opened, refused, ("refusing breaker=search", 1)]));
    advance(PAUSE).await;
    call(&server, "search", down()).await.expect("a result");
    advance(PAUSE).await;
    call(&server, "search", json!({})).await.expect("a result");
    assert!(handle.force_open("other") && handle.force_closed("other") && handle.force_open("other"));
    let later = [
        ("changes_total breaker=other to=forced_closed reason=forced", 1),
        ("changes_total breaker=other to=forced_open reason=forced", 2),
        ("changes_total breaker=search to=closed reason=probes_succeeded", 1),
        ("changes_total breaker=search to=half_open reason=pause_over", 2),
        ("changes_total breaker=search to=open reason=probe_failed", 1),
        ("refusing breaker=other", 1),
        ("refusing breaker=search", -1),
    ];
    assert_eq!(seen(&recorder), expected(later));
    drop((breaker, server, handle));
    assert_eq!(seen(&recorder), expected([("refusing breaker=other", -1)]), "the breaker is gone");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_logs_that_it_opens_and_closes_with_the_reason() {
    let traced = Traced::start();
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    open(&server).await;
    advance(PAUSE).await;
    call(&server, "search", json!({})).await.expect("a result");
    assert!(handle.force_open("other"));
    let log = traced.text();
    for line in [
        "a breaker has opened: calls are refused for a while breaker=\"search\" reason=\"failures\" unsaid=0",
        "a call was refused by its breaker tool=\"search\" state=\"open\"",
        "a breaker is half open: probes are let through breaker=\"search\"",
        "a breaker has closed: all calls are let through again breaker=\"search\"",
        "the state of a breaker was set breaker=\"other\" state=\"forced_open\" reason=\"forced\"",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
}
