//! A time to wait, in the text of a refusal.

/// A time to wait, as a person says it, and never too short.
pub(crate) fn wait_in_words(millis: u64) -> String {
    match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{} s", millis.div_ceil(1_000)),
        _ => format!("{} minutes", millis.div_ceil(60_000)),
    }
}
