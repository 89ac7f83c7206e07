//! The trace that a request belongs to.

use turbomcp_core::RequestContext;

/// The name of the entry of `_meta`, and of the header.
const TRACEPARENT: &str = "traceparent";

/// Returns the trace id of a request: from its `_meta`, where the SDK passes that, or from the header of HTTP.
pub(super) fn trace_id(ctx: &RequestContext) -> Option<String> {
    let of = |text: &str| read(text).map(str::to_owned);
    ctx.get_metadata_str(TRACEPARENT).and_then(of).or_else(|| ctx.header(TRACEPARENT).and_then(of))
}

/// Reads the [header](https://www.w3.org/TR/trace-context/#traceparent-header): version, trace id, parent id, flags.
fn read(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let has_digits = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_valid = has_digits(version, 2) && version != "ff" && has_digits(trace, 32) && has_digits(parent, 16);
    // A later version may have more parts.
    let is_whole = has_digits(flags, 2) && (version != "00" || parts.next().is_none());
    (is_valid && is_whole && trace.bytes().any(|digit| digit != b'0')).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn only_a_valid_header_has_a_trace_id() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for version in ["00", "01"] {
            assert_eq!(read(&format!("{version}-{trace}-00f067aa0ba902b7-01")), Some(trace));
        }
        assert_eq!(read(&format!("01-{trace}-00f067aa0ba902b7-01-more")), Some(trace));
        for wrong in [
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}x-00f067aa0ba902b7-01"),
            String::new(),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
