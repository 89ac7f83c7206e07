//! Amounts of money: exact, in cents.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use turbomcp::prelude::*;

/// The largest amount that is accepted: a thousand million dollars.
pub const MAX: Cents = Cents(100_000_000_000);

/// The number of digits of [`MAX`].
const MAX_DIGITS: usize = 12;

/// A valid amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cents(pub i64);

/// As in `12.50`.
impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// An amount as it was sent, not checked yet.
///
/// The digits of a JSON number are read, not its value: most amounts have no exact binary fraction.
#[derive(Debug, Clone)]
pub struct Amount(String);

impl Amount {
    /// Reads a transferred amount.
    ///
    /// # Errors
    ///
    /// If it is not a positive number of dollars and cents, with a text for each case.
    pub fn positive(&self) -> McpResult<Cents> {
        match self.not_negative()? {
            Some(Cents(0)) | None => Err(McpError::invalid_request("Amount must be positive")),
            Some(cents) => Ok(cents),
        }
    }

    /// Reads an initial deposit, which may be zero.
    ///
    /// # Errors
    ///
    /// Those of [`positive`](Self::positive), except for zero.
    pub fn deposit(&self) -> McpResult<Cents> {
        self.not_negative()?.ok_or_else(|| McpError::invalid_request("Deposit must not be negative"))
    }

    /// Returns `None` for a negative amount.
    fn not_negative(&self) -> McpResult<Option<Cents>> {
        let number = Number::read(self.0.trim())
            .ok_or_else(|| McpError::invalid_params("An amount must be a number of dollars, such as 12.50"))?;
        if number.digits.is_empty() {
            return Ok(Some(Cents(0)));
        }
        if number.is_negative {
            return Ok(None);
        }
        let Ok(zeros) = u32::try_from(number.exponent.saturating_add(2)) else {
            return Err(McpError::invalid_params("An amount must have at most two decimals"));
        };
        let too_large = || McpError::invalid_params(format!("An amount must be at most {MAX}"));
        if number.digits.len() + zeros as usize > MAX_DIGITS {
            return Err(too_large());
        }
        let digits: i64 = number.digits.parse().map_err(|_| too_large())?;
        let cents = Cents(digits * 10_i64.pow(zeros));
        if cents > MAX { Err(too_large()) } else { Ok(Some(cents)) }
    }
}

/// A decimal number: its digits without leading and trailing zeros, and its exponent.
struct Number {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads a JSON number.
    fn read(text: &str) -> Option<Self> {
        let (text, is_negative) = match text.strip_prefix('-') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        let moved = i64::try_from(all.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        Some(Self {
            is_negative,
            digits: significant.trim_start_matches('0').to_owned(),
            exponent: i64::from(exponent) + moved,
        })
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::String(text) => Ok(Self(text)),
            _ => Err(de::Error::custom("an amount is a number or a string, such as \"12.50\"")),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"] })
    }
}
