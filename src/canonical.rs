//! The equality of argument values.
//!
//! Objects are equal with their keys in any order, at every depth. Numbers are compared by their mathematical value: `1` and `1.0` are
//! equal, 2⁶⁴ and its neighbours are not. Strings are compared exactly. Nothing else is equal.
//!
//! Two values are equal exactly if their encodings by [`encode`] are: the encoding is the key.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::canonical::encode;
//! use serde_json::json;
//!
//! let key = |value| { let mut key = Vec::new(); encode(&value, &mut key); key };
//! assert_eq!(key(json!({"a": 1, "b": [2]})), key(json!({"b": [2.0], "a": 1.0})));
//! assert_ne!(key(json!({"a": 1})), key(json!({"a": "1"})));
//! ```

use std::sync::LazyLock;

use serde_json::{Number, Value};

/// Appends the canonical form of `value` to `key`.
///
/// Every part has a tag of its type and its length, so no encoding is a prefix of another.
pub fn encode(value: &Value, key: &mut Vec<u8>) {
    match value {
        Value::Null => key.push(b'n'),
        Value::Bool(false) => key.push(b'f'),
        Value::Bool(true) => key.push(b't'),
        Value::Number(number) => encode_number(number, key),
        Value::String(string) => encode_str(string, key),
        Value::Array(items) => {
            key.push(b'[');
            encode_len(items.len(), key);
            for item in items {
                encode(item, key);
            }
        }
        Value::Object(entries) => {
            key.push(b'{');
            encode_len(entries.len(), key);
            let append = |(name, value): (&String, _)| {
                encode_str(name, key);
                encode(value, key);
            };
            // Arguments are few, and often in order already.
            if entries.keys().is_sorted() {
                entries.iter().for_each(append);
            } else {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_unstable_by_key(|(name, _)| *name);
                entries.into_iter().for_each(append);
            }
        }
    }
}

/// Returns the SHA-256 of a canonical form, in hexadecimal digits. It replaces the form outside this process.
#[cfg(any(
    feature = "audit",
    feature = "idempotent",
    feature = "rmcp",
    feature = "session",
    feature = "transactional"
))]
pub(crate) fn sha256(canonical: &[u8]) -> String {
    hex(&<sha2::Sha256 as sha2::Digest>::digest(canonical))
}

/// Returns the bytes in hexadecimal digits.
#[cfg(any(
    feature = "audit",
    feature = "idempotent",
    feature = "rmcp",
    feature = "session",
    feature = "transactional"
))]
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS[usize::from(half)];
    let mut digits = String::with_capacity(2 * bytes.len());
    digits.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    digits
}

/// Appends a string with its length, so that its end is unambiguous.
pub(crate) fn encode_str(string: &str, key: &mut Vec<u8>) {
    key.push(b's');
    encode_len(string.len(), key);
    key.extend_from_slice(string.as_bytes());
}

fn encode_len(len: usize, key: &mut Vec<u8>) {
    key.extend_from_slice(&(len as u64).to_le_bytes());
}

fn encode_number(number: &Number, key: &mut Vec<u8>) {
    if let Some(integer) = number.as_i128() {
        return encode_integer(integer, key);
    }
    match number.as_f64() {
        Some(float) if !*KEEPS_DIGITS => encode_float(float, key),
        _ => encode_decimal(&number.to_string(), key),
    }
}

/// Whether numbers keep digits that a double cannot hold: with the feature `arbitrary_precision` of
/// `serde_json`, which any crate of the build may turn on.
static KEEPS_DIGITS: LazyLock<bool> =
    LazyLock::new(|| serde_json::from_str::<Number>("1e0").is_ok_and(|number| number.to_string() == "1e0"));

fn encode_integer(integer: i128, key: &mut Vec<u8>) {
    key.push(b'i');
    key.extend_from_slice(&integer.to_le_bytes());
}

fn encode_float(float: f64, key: &mut Vec<u8>) {
    /// The first power of two that an `i128` cannot hold.
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if float.fract() == 0.0 && float.abs() < LIMIT {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within the range of i128")]
        encode_integer(float as i128, key);
    } else {
        key.push(b'd');
        key.extend_from_slice(&float.to_bits().to_le_bytes());
    }
}

/// Appends the number that `text` writes in decimal: its digits without leading and trailing zeros, and its exponent.
fn encode_decimal(text: &str, key: &mut Vec<u8>) {
    let (text, negative) = text.strip_prefix('-').map_or((text, false), |text| (text, true));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return encode_integer(0, key);
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let Some(exponent) = exponent.parse::<i64>().ok().and_then(|exponent| {
        exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(i64::try_from(trailing).ok()?)
    }) else {
        // An exponent beyond 64 bits is compared as it is written.
        key.push(b'#');
        return encode_str(text, key);
    };
    // A value that is a whole number or a double has that form, however it is written.
    let plain = format!("{}{significant}e{exponent}", if negative { "-" } else { "" });
    let integer = u32::try_from(exponent)
        .ok()
        .and_then(|exponent| 10_i128.checked_pow(exponent)?.checked_mul(significant.parse().ok()?));
    match integer {
        Some(integer) => encode_integer(if negative { -integer } else { integer }, key),
        None => {
            key.push(b'#');
            encode_str(&plain, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn key(value: &Value) -> Vec<u8> {
        let mut key = Vec::new();
        encode(value, &mut key);
        key
    }

    fn decimal(text: &str) -> Vec<u8> {
        let mut key = Vec::new();
        encode_decimal(text, &mut key);
        key
    }

    #[cfg(any(
        feature = "audit",
        feature = "idempotent",
        feature = "rmcp",
        feature = "session",
        feature = "transactional"
    ))]
    #[test]
    fn a_hash_is_written_in_64_hexadecimal_digits() {
        // The example of FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_order_of_keys_and_the_form_of_a_number_do_not_change_the_encoding() {
        assert_eq!(key(&json!({"a": 1, "b": {"c": 2, "d": 3}})), key(&json!({"b": {"d": 3.0, "c": 2}, "a": 1.0})));
        assert_eq!(key(&json!(0)), key(&json!(-0.0)));
    }

    #[test]
    fn integers_beyond_the_precision_of_a_double_have_different_encodings() {
        let two_to_64 = json!(18_446_744_073_709_551_616.0);
        assert_ne!(key(&json!(u64::MAX)), key(&two_to_64));
        assert_ne!(key(&json!(9_007_199_254_740_993_u64)), key(&json!(9_007_199_254_740_992.0)));
        assert_eq!(key(&json!(9_007_199_254_740_992_u64)), key(&json!(9_007_199_254_740_992.0)));
        assert_ne!(key(&json!(i64::MIN)), key(&json!(i64::MAX)));
    }

    #[test]
    fn values_of_different_types_have_different_encodings() {
        let values = [json!(null), json!(false), json!(0), json!("0"), json!(""), json!([]), json!({}), json!([[]])];
        for (at, one) in values.iter().enumerate() {
            for other in &values[at + 1..] {
                assert_ne!(key(one), key(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn the_boundary_between_two_parts_changes_the_encoding() {
        assert_ne!(key(&json!(["ab", "c"])), key(&json!(["a", "bc"])));
        assert_ne!(key(&json!({"a": "bs"})), key(&json!({"ab": "s"})));
        assert_ne!(key(&json!([[1], 2])), key(&json!([[1, 2]])));
    }

    #[test]
    fn digits_beyond_a_double_change_the_encoding() {
        assert_eq!(decimal("1.0"), key(&json!(1)));
        assert_eq!(decimal("1e2"), key(&json!(100)));
        assert_eq!(decimal("-12.50e1"), key(&json!(-125)));
        assert_eq!(decimal("0.10"), decimal("1e-1"));
        assert_eq!(decimal("-0.0"), key(&json!(0)));
        assert_ne!(decimal("0.1"), decimal("0.1000000000000000055511151231257827"));
        assert_ne!(decimal("1e400"), decimal("1e401"));
        assert_ne!(decimal("1e99999999999999999999"), decimal("1e99999999999999999998"));
    }

    /// The mathematical value, written in another way than by the encoding.
    #[derive(Debug, PartialEq, PartialOrd)]
    enum Plain {
        Null,
        Bool(bool),
        Integer(i128),
        Fraction(f64),
        Text(String),
        List(Vec<Plain>),
        Map(BTreeMap<String, Plain>),
    }

    fn plain(value: &Value) -> Plain {
        match value {
            Value::Null => Plain::Null,
            Value::Bool(value) => Plain::Bool(*value),
            Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(integer), _) => Plain::Integer(integer),
                (None, Some(float)) if float.fract() == 0.0 && float.abs() < 1e30 => Plain::Integer(float as i128),
                (None, float) => Plain::Fraction(float.expect("JSON has no infinity")),
            },
            Value::String(text) => Plain::Text(text.clone()),
            Value::Array(items) => Plain::List(items.iter().map(plain).collect()),
            Value::Object(entries) => {
                Plain::Map(entries.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            (-3_i32..3).prop_map(|whole| json!(f64::from(whole) / 2.0)),
            any::<u64>().prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[ab]{0,1}", inner), 0..3)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_have_the_same_encoding_exactly_if_they_are_equal(one in values(), other in values()) {
            prop_assert_eq!(key(&one) == key(&other), plain(&one) == plain(&other));
        }
    }
}
