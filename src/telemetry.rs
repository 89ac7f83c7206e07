//! Counters, gauges and histograms through the `metrics` facade, or none without the feature, and warnings with a limited rate.

mod outage;

use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "workflow")]
pub(crate) use outage::NamedWarning;
pub(crate) use outage::{Outage, Over, Warning};

/// A number that is counted in this process, for the stats of a handle.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter whose labels are fixed when it is made, so that counting neither formats nor allocates.
///
/// It uses the recorder that was installed when the layer was put on a server.
#[derive(Clone)]
pub(crate) struct Counter {
    #[cfg(feature = "metrics")]
    counter: metrics::Counter,
}

impl Counter {
    #[cfg(feature = "metrics")]
    pub(crate) fn new(name: &'static str, labels: &[(&'static str, &str)]) -> Self {
        Self { counter: metrics::counter!(name, owned(labels)) }
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn new(_: &'static str, _: &[(&'static str, &str)]) -> Self {
        Self {}
    }

    pub(crate) fn increment(&self) {
        #[cfg(feature = "metrics")]
        self.counter.increment(1);
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counter")
    }
}

/// A number that goes up and down, made like a [`Counter`].
#[derive(Clone)]
pub(crate) struct Gauge {
    #[cfg(feature = "metrics")]
    gauge: metrics::Gauge,
}

impl Gauge {
    #[cfg(feature = "metrics")]
    pub(crate) fn new(name: &'static str, labels: &[(&'static str, &str)]) -> Self {
        Self { gauge: metrics::gauge!(name, owned(labels)) }
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn new(_: &'static str, _: &[(&'static str, &str)]) -> Self {
        Self {}
    }

    pub(crate) fn increment(&self) {
        #[cfg(feature = "metrics")]
        self.gauge.increment(1.0);
    }

    pub(crate) fn decrement(&self) {
        #[cfg(feature = "metrics")]
        self.gauge.decrement(1.0);
    }
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauge")
    }
}

/// A distribution of values, made like a [`Counter`].
#[derive(Clone)]
pub(crate) struct Histogram {
    #[cfg(feature = "metrics")]
    histogram: metrics::Histogram,
}

impl Histogram {
    #[cfg(feature = "metrics")]
    pub(crate) fn new(name: &'static str, labels: &[(&'static str, &str)]) -> Self {
        Self { histogram: metrics::histogram!(name, owned(labels)) }
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn new(_: &'static str, _: &[(&'static str, &str)]) -> Self {
        Self {}
    }

    pub(crate) fn record(&self, value: f64) {
        #[cfg(feature = "metrics")]
        self.histogram.record(value);
        #[cfg(not(feature = "metrics"))]
        let _ = value;
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Histogram")
    }
}

#[cfg(feature = "metrics")]
fn owned(labels: &[(&'static str, &str)]) -> Vec<metrics::Label> {
    labels.iter().map(|(label, value)| metrics::Label::new(*label, (*value).to_owned())).collect()
}
