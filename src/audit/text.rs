//! Texts and numbers of an event. A client chooses some of its texts, so each of them has a bound.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// The longest text of an event, in bytes.
const MAX_TEXT: usize = 256;

/// Copies the beginning of a text. Control characters are replaced: some logs and databases do not take them.
pub(super) fn bounded(text: &str) -> String {
    if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let end = if text.len() <= MAX_TEXT { text.len() } else { text.floor_char_boundary(MAX_TEXT) };
    let mut copy: String =
        text[..end].chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect();
    if end < text.len() {
        copy.push('…');
    }
    copy
}

/// Counts the bytes of a value as JSON, without writing it anywhere.
pub(super) fn json_bytes(value: &impl Serialize) -> u64 {
    let mut counted = Counted { bytes: 0, max: u64::MAX };
    // Only a type with a `Serialize` of its own can fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.bytes
}

/// Returns the bytes of a value as JSON, or nothing if there are more than `max`.
pub(super) fn json_bytes_within(value: &impl Serialize, max: u64) -> Option<u64> {
    let mut counted = Counted { bytes: 0, max };
    serde_json::to_writer(&mut counted, value).ok().map(|()| counted.bytes)
}

struct Counted {
    bytes: u64,
    max: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Milliseconds since 1970. A clock that shows an earlier time counts as 1970.
pub(super) fn millis_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a time as RFC 3339 does, in UTC and milliseconds: `2026-12-01T15:28:25.123Z`.
pub(super) fn rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}", InUtc(millis_of(*time))))
}

struct InUtc(u64);

impl std::fmt::Display for InUtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (secs, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (year, month, day) = date(secs / 86_400);
        let of_day = secs % 86_400;
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The date of a day since 1970. The year begins in March, so that a leap day is its last: see
/// [the algorithm](https://howardhinnant.github.io/date_algorithms.html#civil_from_days).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Writes a duration in milliseconds, rounded down.
pub(super) fn whole_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_does() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(InUtc(millis).to_string(), expected);
        }
        assert_eq!(millis_of(UNIX_EPOCH - Duration::from_secs(1)), 0, "a clock before 1970");
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters_and_control_characters_are_replaced() {
        assert_eq!(bounded("search"), "search");
        assert_eq!(bounded("a\0b\nc"), "a\u{fffd}b\u{fffd}c");
        let cut = bounded(&"é".repeat(1_000));
        assert_eq!(cut, format!("{}…", "é".repeat(MAX_TEXT / 2)));
        let odd = bounded(&format!("x{}", "é".repeat(1_000)));
        assert_eq!(odd, format!("x{}…", "é".repeat((MAX_TEXT - 1) / 2)));
    }

    #[test]
    fn the_size_of_a_value_is_that_of_its_json_and_a_count_ends_at_its_bound() {
        let value = serde_json::json!({"to": "Rome", "by": ["a", 1, null]});
        let written = value.to_string().len() as u64;
        assert_eq!(json_bytes(&value), written);
        assert_eq!(json_bytes_within(&value, written), Some(written));
        assert_eq!(json_bytes_within(&value, written - 1), None);
    }
}
