//! Phrases for numbers, names and lists in messages.

use std::borrow::Cow;

use serde_json::Value;

/// The longest pattern or option that a message quotes, in bytes.
pub(super) const MAX_QUOTED: usize = 200;

pub(super) fn with_article(name: &'static str) -> Cow<'static, str> {
    match name {
        "null" => "null".into(),
        "array" | "integer" | "object" => format!("an {name}").into(),
        _ => format!("a {name}").into(),
    }
}

/// Joins with commas and an "or".
pub(super) fn any_of<'a>(all: impl Iterator<Item = Cow<'a, str>>) -> String {
    let mut all: Vec<_> = all.collect();
    let Some(last) = all.pop() else { return "nothing".to_owned() };
    match all.is_empty() {
        true => last.into_owned(),
        false => format!("{} or {last}", all.join(", ")),
    }
}

/// Returns a value of the schema for a message.
pub(super) fn shown(value: &Value) -> String {
    match value.to_string() {
        short if short.len() <= MAX_QUOTED => short,
        _ => "the value of its schema".to_owned(),
    }
}

pub(super) fn counted(count: u64, unit: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

pub(super) fn properties(count: u64) -> String {
    if count == 1 { "1 property".to_owned() } else { format!("{count} properties") }
}

pub(super) fn format_name(format: &str) -> Cow<'static, str> {
    match format {
        "email" | "idn-email" => "an email address".into(),
        "uri" | "iri" => "a URI, such as https://example.org/page".into(),
        "uri-reference" | "iri-reference" => "a URI or a relative reference".into(),
        "date" => "a date, such as 2026-01-31".into(),
        "time" => "a time with an offset, such as 12:30:00Z".into(),
        "date-time" => "a date and time with an offset, such as 2026-01-31T12:30:00Z".into(),
        "duration" => "a duration, such as P3DT12H".into(),
        "uuid" => "a UUID".into(),
        "ipv4" => "an IPv4 address".into(),
        "ipv6" => "an IPv6 address".into(),
        "hostname" | "idn-hostname" => "a host name".into(),
        "regex" => "a regular expression".into(),
        "json-pointer" | "relative-json-pointer" => "a JSON pointer".into(),
        other => format!("of the format `{other}`").into(),
    }
}
