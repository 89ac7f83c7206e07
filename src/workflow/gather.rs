use std::future::{Future, ready};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use turbomcp_core::{McpError, McpResult};

use super::mask::mask;
use super::source::check_timeout;
use super::{Degraded, Source};
use crate::ConfigError;
use crate::cancellation::{Cancellation, cancelled};
use crate::telemetry::Counter;

/// Asks independent sources side by side. See the [manual](super#sources-side-by-side-gather).
///
/// It is small and has no state: store it in the server, or create it for each call.
#[derive(Debug, Clone)]
#[must_use]
pub struct Gather {
    timeout: Option<Duration>,
    max_in_flight: usize,
}

impl Gather {
    /// Creates a gather that asks all sources at once, each for at most 30 seconds.
    pub const fn new() -> Self {
        Self { timeout: Some(Duration::from_secs(30)), max_in_flight: usize::MAX }
    }

    /// Ends each source that has no [timeout of its own](Source::with_timeout) after `timeout`, which begins when it is asked.
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Removes the time limit of sources without a timeout of their own.
    pub const fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Asks up to `max_in_flight` sources at a time, in the order in which they are given.
    pub const fn with_max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.max_in_flight = max_in_flight;
        self
    }

    /// Checks the settings. [`all`](Self::all) and [`degrade`](Self::degrade) do so too.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a timeout below one millisecond, or no source at a time.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_timeout("Gather", "with_timeout", self.timeout)?;
        match self.max_in_flight {
            0 => Err(ConfigError::invalid("Gather", "with_max_in_flight", "must be greater than zero")),
            _ => Ok(()),
        }
    }

    /// Returns the values of all sources, in their order and with their types. The first failure ends it: sources that have not
    /// answered are dropped.
    ///
    /// # Errors
    ///
    /// The error of the source that failed first, with its name in the data under [`SOURCE`](super::SOURCE). `cancelled`, once
    /// `cancellation` (the tool's `&RequestContext`, or `&()`) is. `configuration` if a setting cannot work.
    pub async fn all<S: Sources>(&self, cancellation: &impl Cancellation, sources: S) -> McpResult<S::Values> {
        sources.ask_all(self, cancellation).await
    }

    /// Returns the data or the error of each source. Only the failure of a [required](Source::required) source fails the answer.
    ///
    /// # Errors
    ///
    /// The error of a required source, which ends it as in [`all`](Self::all). `cancelled`, once `cancellation` is. `configuration` if
    /// a setting cannot work.
    pub async fn degrade<'a, T: Send>(
        &self,
        cancellation: &impl Cancellation,
        sources: impl IntoIterator<Item = Source<'a, T>>,
    ) -> McpResult<Degraded<T>> {
        let mut sources: Vec<_> = sources.into_iter().collect();
        let mut answers: Vec<_> = sources.iter().map(|_| None).collect();
        let asked = sources.iter_mut().zip(&mut answers).map(|(source, answer)| {
            async move {
                *answer = Some(match source.ask(cancellation, self.timeout).await {
                    Err(error) if source.required => return Err(source.sign(error)),
                    Err(error) => Err(left_out(&source.name, &error)),
                    Ok(data) => Ok(data),
                });
                Ok(())
            }
            .boxed()
        });
        let asked = asked.collect();
        self.drive(cancellation, asked).await?;
        let names = sources.into_iter().map(|source| source.name);
        let answers = answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(lost)?;
        Ok(Degraded::new(names.zip(answers)))
    }

    /// Polls the sources until all have answered, one has failed, or the call is cancelled.
    async fn drive(&self, cancellation: &impl Cancellation, asked: Vec<BoxFuture<'_, McpResult<()>>>) -> McpResult<()> {
        self.check()?;
        if cancellation.is_cancelled() {
            return Err(gone());
        }
        let limit = self.max_in_flight.min(asked.len().max(1));
        let answered = stream::iter(asked).buffer_unordered(limit).try_for_each(|()| ready(Ok(())));
        match select(pin!(answered), pin!(cancelled(cancellation))).await {
            Either::Left((decided, _)) => decided,
            Either::Right(((), _)) => Err(gone()),
        }
    }

    async fn answer<T: Send>(
        &self,
        cancellation: &impl Cancellation,
        source: &mut Source<'_, T>,
        answer: &mut Option<T>,
    ) -> McpResult<()> {
        *answer = Some(source.ask(cancellation, self.timeout).await.map_err(|error| source.sign(error))?);
        Ok(())
    }
}

impl Default for Gather {
    fn default() -> Self {
        Self::new()
    }
}

/// Logs and counts a failure that does not fail the answer, and returns the sentence for the caller.
fn left_out(source: &str, error: &McpError) -> String {
    let masked = mask(source, error);
    tracing::warn!(source, kind = ?error.kind, %error, id = masked.id, "a source failed, the answer is partial");
    count_failure(source);
    masked.sentence
}

pub(super) fn count_failure(source: &str) {
    Counter::new("mcp_patterns_source_failures_total", &[("source", source)]).increment();
}

pub(super) fn gone() -> McpError {
    McpError::cancelled("The call was cancelled")
}

/// Cannot happen: `drive` returns an error, or all sources have answered.
fn lost() -> McpError {
    McpError::internal("A source ended without an answer")
}

/// [`Source`]s that are asked together: a tuple of up to eight, each with its own type, or an array or `Vec` of one type. No other type
/// can implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be gathered",
    note = "write a tuple of up to eight `Source`s, or a `Vec` or an array of `Source`s of one type"
)]
pub trait Sources: sealed::Sealed + Send {
    /// The values of the sources: a tuple like that of the sources, or a `Vec`.
    type Values;

    #[doc(hidden)]
    fn ask_all(
        self,
        gather: &Gather,
        cancellation: &impl Cancellation,
    ) -> impl Future<Output = McpResult<Self::Values>> + Send;
}

mod sealed {
    pub trait Sealed {}
}

impl<T: Send> sealed::Sealed for Vec<Source<'_, T>> {}

impl<T: Send> Sources for Vec<Source<'_, T>> {
    type Values = Vec<T>;

    async fn ask_all(mut self, gather: &Gather, cancellation: &impl Cancellation) -> McpResult<Self::Values> {
        let mut answers: Vec<_> = self.iter().map(|_| None).collect();
        let asked = self.iter_mut().zip(&mut answers);
        let asked = asked.map(|(source, answer)| gather.answer(cancellation, source, answer).boxed()).collect();
        gather.drive(cancellation, asked).await?;
        answers.into_iter().collect::<Option<_>>().ok_or_else(lost)
    }
}

impl<T: Send, const N: usize> sealed::Sealed for [Source<'_, T>; N] {}

impl<T: Send, const N: usize> Sources for [Source<'_, T>; N] {
    type Values = Vec<T>;

    async fn ask_all(self, gather: &Gather, cancellation: &impl Cancellation) -> McpResult<Self::Values> {
        Vec::from(self).ask_all(gather, cancellation).await
    }
}

macro_rules! sources_tuples {
    ($(($($value:ident: $source:ident $answer:ident),+))+) => {$(
        impl<$($value: Send),+> sealed::Sealed for ($(Source<'_, $value>,)+) {}

        impl<$($value: Send),+> Sources for ($(Source<'_, $value>,)+) {
            type Values = ($($value,)+);

            async fn ask_all(self, gather: &Gather, cancellation: &impl Cancellation) -> McpResult<Self::Values> {
                let ($(mut $source,)+) = self;
                $(let mut $answer = None;)+
                let asked = vec![$(gather.answer(cancellation, &mut $source, &mut $answer).boxed()),+];
                gather.drive(cancellation, asked).await?;
                match ($($answer,)+) {
                    ($(Some($answer),)+) => Ok(($($answer,)+)),
                    _ => Err(lost()),
                }
            }
        }
    )+};
}

sources_tuples! {
    (A: a answer_a)
    (A: a answer_a, B: b answer_b)
    (A: a answer_a, B: b answer_b, C: c answer_c)
    (A: a answer_a, B: b answer_b, C: c answer_c, D: d answer_d)
    (A: a answer_a, B: b answer_b, C: c answer_c, D: d answer_d, E: e answer_e)
    (A: a answer_a, B: b answer_b, C: c answer_c, D: d answer_d, E: e answer_e, F: f answer_f)
    (A: a answer_a, B: b answer_b, C: c answer_c, D: d answer_d, E: e answer_e, F: f answer_f, G: g answer_g)
    (A: a answer_a, B: b answer_b, C: c answer_c, D: d answer_d, E: e answer_e, F: f answer_f, G: g answer_g, H: h answer_h)
}
