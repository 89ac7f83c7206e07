//! Names and times as they are printed: short, whatever their number.

use std::time::Duration;

/// How many names are printed. The others are counted.
const MAX_NAMES: usize = 8;

/// How many characters of a name are printed: the server behind a proxy chooses its names.
const MAX_CHARS: usize = 100;

/// Joins names, with the number of those that are left out: `a, b and 37 more`.
pub(super) fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    join(names, name)
}

/// The same in the quotes of a warning.
pub(super) fn quoted<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    join(names, |each| format!("`{}`", name(each)))
}

fn join<'a>(names: impl ExactSizeIterator<Item = &'a str>, text: impl Fn(&str) -> String) -> String {
    let more = names.len().saturating_sub(MAX_NAMES);
    let named: Vec<_> = names.take(MAX_NAMES).map(text).collect();
    match (more, named.split_last()) {
        (0, Some((last, []))) => last.clone(),
        (0, Some((last, others))) => format!("{} and {last}", others.join(", ")),
        (0, None) => String::new(),
        (more, _) => format!("{} and {more} more", named.join(", ")),
    }
}

/// A name on one line.
pub(super) fn name(name: &str) -> String {
    name.chars().take(MAX_CHARS).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// Writes a time in the largest unit that it is a multiple of: `5 min`.
pub(crate) fn time(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0 if time.subsec_nanos().is_multiple_of(1_000_000) && !time.is_zero() => format!("{} ms", time.as_millis()),
        _ if time.subsec_nanos() > 0 => format!("{time:?}"),
        0 => "0 s".to_owned(),
        _ if secs.is_multiple_of(86_400) => format!("{} d", secs / 86_400),
        _ if secs.is_multiple_of(3600) => format!("{} h", secs / 3600),
        _ if secs.is_multiple_of(60) => format!("{} min", secs / 60),
        _ => format!("{secs} s"),
    }
}

/// Writes a time that may be missing.
pub(crate) fn time_or_none(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "none".to_owned(), time)
}

/// Writes a number of bytes in the largest unit that it is a multiple of: `64 MiB`.
pub(crate) fn bytes(bytes: usize) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}
