//! The traced events and the counters that a test sees.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// The events of this thread while this value lives.
pub(crate) struct Traced {
    text: Text,
    _listens: tracing::subscriber::DefaultGuard,
    /// With only one subscriber, tracing caches the interest of the first thread that reaches an event, which may be
    /// the thread of another test without a subscriber.
    _another: tracing::Dispatch,
}

impl Traced {
    pub(crate) fn start() -> Self {
        let another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { text, _listens: tracing::subscriber::set_default(subscriber), _another: another }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.0.lock().expect("no panic").clone()).expect("a log is text")
    }
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints how long something took, for `docs/reliability.md`. Tests assert no duration.
pub(crate) struct Took(std::time::Instant);

impl Took {
    pub(crate) fn begin() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn until(&self, what: &str) {
        eprintln!("{:.3} s until {what}", self.0.elapsed().as_secs_f64());
    }
}

/// The counters that are not zero, as `name label=value ..`, where the name has no common prefix or suffix.
pub(crate) fn counted(recorder: &DebuggingRecorder) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        let name = key.name().strip_prefix("mcp_patterns_").expect("a name of ours");
        let name = name.strip_suffix("_total").expect("the name of a counter");
        let DebugValue::Counter(count) = value else { panic!("{name} is no counter") };
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        if count > 0 {
            counted.insert(format!("{name}{}", labels.collect::<String>()), count);
        }
    }
    counted
}

/// The expected value of [`counted`].
pub(crate) fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(what, count)| (what.to_owned(), count)).into_iter().collect()
}
