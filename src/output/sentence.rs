//! The sentences in answers, for a model.

use std::time::Duration;

use super::cut::{LeftOut, Part};
use crate::explain::time;

/// Whose answer was cut.
pub(super) enum Of<'a> {
    Failure,
    /// A call that can be made again.
    Read {
        hint: Option<&'a str>,
    },
    /// A call that has taken effect.
    Write {
        hint: Option<&'a str>,
    },
}

/// Says what is left out of an answer, where it is, and how to ask for less.
pub(super) fn of_cut(of: &Of<'_>, left_out: LeftOut, whole_for: Option<Duration>) -> String {
    let answer = if matches!(of, Of::Failure) { "error" } else { "answer" };
    let whole = whole_for.map(in_resource).unwrap_or_default();
    format!("Left out of this {answer}: {}.{whole}{}", parts(left_out), advice(of))
}

/// Says that an answer cannot be cut.
pub(super) fn of_too_large(bytes: usize, max: usize, hint: Option<&str>, whole_for: Option<Duration>) -> String {
    let whole = whole_for.map(in_resource).unwrap_or_default();
    let advice = advice(&Of::Read { hint });
    format!(
        "The answer has {bytes} bytes, and at most {max} are allowed. Its structured content cannot be cut.{whole}{advice}"
    )
}

fn in_resource(ttl: Duration) -> String {
    format!(" The whole answer can be read for {} from the resource that is linked here.", time(ttl))
}

fn advice(of: &Of<'_>) -> String {
    match of {
        Of::Failure => String::new(),
        Of::Read { hint: Some(hint) } => format!(" To get less, {hint}."),
        Of::Read { hint: None } => " To get less, call the tool with arguments that select less.".to_owned(),
        Of::Write { hint } => {
            let hint = hint.map(|hint| format!(" To see the rest, {hint}.")).unwrap_or_default();
            format!(" The call has succeeded: do not repeat it to see the rest.{hint}")
        }
    }
}

fn parts(LeftOut { text, blocks, has_structure }: LeftOut) -> String {
    let part = |Part { left_out, of }, what| (left_out > 0).then(|| format!("{left_out} of {of} {what}"));
    let parts = [
        part(text, "bytes of text"),
        part(blocks, "images, sounds and resources"),
        has_structure.then(|| "the structured content".to_owned()),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    match parts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        // An empty text is a block, too.
        None => "empty texts".to_owned(),
    }
}
