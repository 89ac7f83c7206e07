//! Patterns that cannot be matched in linear time.

use serde_json::Value;

/// Returns an error text if a pattern of a schema cannot be matched in linear time.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    let mut left = vec![(schema, None)];
    while let Some((value, keyword)) = left.pop() {
        match value {
            Value::String(pattern) if keyword == Some("pattern") => {
                if let Some(construct) = construct(pattern) {
                    return Some(reason(pattern, construct));
                }
            }
            Value::Array(items) => left.extend(items.iter().map(|item| (item, None))),
            Value::Object(entries) => {
                if keyword == Some("patternProperties")
                    && let Some((pattern, construct)) = entries.keys().find_map(|name| Some((name, construct(name)?)))
                {
                    return Some(reason(pattern, construct));
                }
                left.extend(entries.iter().map(|(name, entry)| (entry, Some(name.as_str()))));
            }
            _ => {}
        }
    }
    None
}

fn reason(pattern: &str, construct: &str) -> String {
    format!(
        "the pattern `{pattern}` has {construct}, which cannot be matched in linear time: write it without, use \
         a rule instead, or serve the tool without its schema (`allow_invalid_schemas`)"
    )
}

/// Returns the construct of a pattern that is beyond a regular language.
fn construct(pattern: &str) -> Option<&'static str> {
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(char) = rest.chars().next() {
        let after = &rest[char.len_utf8()..];
        match char {
            '\\' => {
                let escaped = after.chars().next();
                if !in_class && escaped.is_some_and(|escaped| matches!(escaped, '1'..='9' | 'k')) {
                    return Some("a back-reference");
                }
                rest = &after[escaped.map_or(0, char::len_utf8)..];
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && ["?=", "?!", "?<=", "?<!"].iter().any(|look| after.starts_with(look)) => {
                return Some("look-around");
            }
            _ => {}
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonregular_pattern_constructs_are_found_and_lookalikes_are_not() {
        for pattern in ["^(?!a)", "(?=.*[0-9])", "a(?<=b)", "a(?<!b)", r"[\]](?=a)"] {
            assert_eq!(construct(pattern), Some("look-around"), "{pattern}");
        }
        for pattern in [r"(a)\1", r"(?<n>a)\k<n>"] {
            assert_eq!(construct(pattern), Some("a back-reference"), "{pattern}");
        }
        for pattern in [r"\(?=a", "[(?=]", r"\\1", r"[\1]", "(?:a)", "(?<n>a)", "ä(b)?", "\\"] {
            assert_eq!(construct(pattern), None, "{pattern}");
        }
    }
}
