//! Counters through the `metrics` facade, or nothing at all without the feature.

/// A counter whose labels are fixed when it is made, so that counting neither formats nor allocates.
///
/// It counts for the recorder that was installed when the layer was put on.
#[derive(Clone)]
pub(crate) struct Counter {
    #[cfg(feature = "metrics")]
    counter: metrics::Counter,
}

impl Counter {
    #[cfg(feature = "metrics")]
    pub(crate) fn new(name: &'static str, labels: &[(&'static str, &str)]) -> Self {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| metrics::Label::new(*label, (*value).to_owned())).collect();
        Self { counter: metrics::counter!(name, labels) }
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
