//! What clients hear apart from answers.

use super::Judge;
use crate::metamorphic::log::End;
use crate::metamorphic::plan::{Kind, Setting};
use crate::metamorphic::requests::Op;

impl Judge<'_> {
    pub(super) fn notices(&mut self) {
        for (number, made) in self.history.calls.iter().enumerate() {
            let heard: Vec<_> = (self.history.notices.iter())
                .filter(|notice| notice.method == "notifications/progress")
                .filter(|notice| notice.params["progressToken"].as_u64() == Some(number as u64))
                .collect();
            if heard.iter().any(|notice| notice.connection != made.call.connection)
                || (!made.call.listens && !heard.is_empty())
            {
                self.fault("progress goes to whoever asked for it", format!("call {number}: {heard:?}"));
            }
            if !heard.is_empty() {
                self.saw("progress");
            }
            let progress: Vec<_> = heard.iter().filter_map(|notice| notice.params["progress"].as_f64()).collect();
            if !progress.is_sorted_by(|one, next| one < next) {
                self.fault("progress rises", format!("call {number}: {progress:?}"));
            }
            if !matches!(made.end, End::Dropped) && heard.iter().any(|notice| notice.at.number > made.ended.number) {
                self.fault("no progress comes after the answer", format!("call {number}: {heard:?}"));
            }
            self.progress_is_heard(number, &progress);
        }
        let progress = self.history.notices.iter().filter(|notice| notice.method == "notifications/progress");
        let mut tokens = progress.map(|notice| &notice.params["progressToken"]);
        let calls = self.history.calls.len() as u64;
        let of_nobody = tokens.find(|token| token.as_u64().is_none_or(|token| token >= calls));
        if let Some(token) = of_nobody.cloned() {
            self.fault("progress goes to whoever asked for it", format!("the token {token} is nobody's"));
        }
    }

    /// Whoever waits for an execution that reports hears it.
    fn progress_is_heard(&mut self, number: usize, progress: &[f64]) {
        let made = &self.history.calls[number];
        let op = made.call.request.op;
        let has_client = super::CONNECTIONS[made.call.connection].has_client;
        let End::Answered(answer) = &made.end else { return };
        if op != Op::Slow || !made.call.listens || !has_client {
            return;
        }
        let Some((at, execution)) = self.execution(&answer.said) else { return };
        if execution.origin != Some(number) || execution.begun.number < made.begun.number {
            return;
        }
        let is_repeated = self.layer(Kind::Retry).is_some() && self.executions_of(number).count() > 1;
        // It joined the work of another caller, and called for itself once an inner cache said that the answer is of one session.
        let has_joined = self.caches(&made.call).skip(1).any(|inner| inner.has(Setting::BySession));
        let is_own = if is_repeated || has_joined {
            continues(progress, &execution.progress)
        } else {
            progress == execution.progress
        };
        if progress.is_empty() || !is_own {
            let text =
                format!("call {number} heard {progress:?}, and execution {at} reported {:?}", execution.progress);
            self.fault("progress is heard", text);
        }
    }
}

/// Whether the end of what was heard is what the execution reported, above all that was heard before.
fn continues(heard: &[f64], reported: &[f64]) -> bool {
    let Some(before) = heard.len().checked_sub(reported.len()) else { return false };
    let base = before.checked_sub(1).map_or(0.0, |last| heard[last]);
    heard[before..].iter().zip(reported).all(|(heard, reported)| *heard == base + reported)
}
