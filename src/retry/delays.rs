use std::time::Duration;

/// Supplies the delays between the attempts of one call.
///
/// A closure that returns an iterator implements it: `|| [10, 20, 40].map(Duration::from_millis).into_iter()`. Later versions may
/// add methods that have a default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how long to wait before an attempt",
    label = "does not implement `Delays`",
    note = "use the builders of `backon` or `backoff` with the feature of that name, or implement `mcp_patterns::retry::Delays`"
)]
pub trait Delays: Send + Sync + 'static {
    /// Returns the delays for a call that has just failed for the first time.
    fn start(&self) -> Box<dyn Iterator<Item = Duration> + Send>;
}

impl<F, I> Delays for F
where
    F: Fn() -> I + Send + Sync + 'static,
    I: Iterator<Item = Duration> + Send + 'static,
{
    fn start(&self) -> Box<dyn Iterator<Item = Duration> + Send> {
        Box::new(self())
    }
}

/// Creates delays from a builder of the crate `backon`.
///
/// ```
/// use mcp_patterns::RetryTool;
/// use mcp_patterns::retry::from_backon;
///
/// let retry =
///     RetryTool::new().with_delays(from_backon(backon::FibonacciBuilder::default()));
/// ```
///
/// The builder's `max_times` counts retries. `max_attempts` of the policy still applies: the smaller limit holds.
#[cfg(feature = "backon")]
#[cfg_attr(docsrs, doc(cfg(feature = "backon")))]
pub fn from_backon<B>(builder: B) -> impl Delays
where
    B: backon::BackoffBuilder + Clone + Send + Sync + 'static,
    B::Backoff: Send + 'static,
{
    move || builder.clone().build()
}

/// Creates delays from a backoff of the crate `backoff`.
///
/// ```
/// use mcp_patterns::RetryTool;
/// use mcp_patterns::retry::from_backoff;
///
/// let retry =
///     RetryTool::new().with_delays(from_backoff(backoff::ExponentialBackoff::default()));
/// ```
///
/// The crate is [unmaintained](https://rustsec.org/advisories/RUSTSEC-2025-0012): use this only to migrate from it.
#[cfg(feature = "backoff")]
#[cfg_attr(docsrs, doc(cfg(feature = "backoff")))]
pub fn from_backoff<B>(backoff: B) -> impl Delays
where
    B: backoff::backoff::Backoff + Clone + Send + Sync + 'static,
{
    move || {
        let mut backoff = backoff.clone();
        backoff.reset();
        std::iter::from_fn(move || backoff.next_backoff())
    }
}
