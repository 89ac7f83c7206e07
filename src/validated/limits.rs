use crate::ConfigError;

/// The deepest nesting that can be allowed: what a parser of JSON lets through.
const DEEPEST: usize = 128;

/// How large an input may be. Checked in one walk that ends where a limit is passed.
///
/// # Example
///
/// ```
/// use mcp_patterns::validated::Limits;
/// use serde_json::json;
///
/// let limits = Limits::new().with_max_depth(3);
/// assert!(limits.check(&json!({"a": [[1]]})).is_ok());
///
/// let refused = limits.check(&json!({"a": [[[1]]]})).unwrap_err();
/// assert_eq!((refused.pointer(), refused.code()), ("/a/0/0", "max_depth"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    pub(super) max_bytes: usize,
    pub(super) max_depth: usize,
    pub(super) max_values: usize,
    pub(super) max_items: usize,
    pub(super) max_entries: usize,
    pub(super) max_string_bytes: usize,
}

impl Limits {
    /// 1 MiB in all and 512 KiB in one string, 32 levels, 50,000 values, 10,000 in one array, 1,000 properties of one object.
    pub fn new() -> Self {
        Self {
            max_bytes: 1024 * 1024,
            max_depth: 32,
            max_values: 50_000,
            max_items: 10_000,
            max_entries: 1_000,
            max_string_bytes: 512 * 1024,
        }
    }

    /// Sets how many bytes the input may have, written as JSON without spaces and escapes.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how deep arrays and objects may be nested, the outermost included; at most 128.
    pub fn with_max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }

    /// Sets how many values the input may have, arrays and objects included. Each may cost as much as a violation does.
    pub fn with_max_values(mut self, max_values: usize) -> Self {
        self.max_values = max_values;
        self
    }

    /// Sets how many items an array may have.
    pub fn with_max_items(mut self, max_items: usize) -> Self {
        self.max_items = max_items;
        self
    }

    /// Sets how many properties an object may have.
    pub fn with_max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets how many bytes a string, or a property's name, may have.
    pub fn with_max_string_bytes(mut self, max_string_bytes: usize) -> Self {
        self.max_string_bytes = max_string_bytes;
        self
    }

    pub(super) fn check_settings(&self, layer: &'static str, setting: &'static str) -> Result<(), ConfigError> {
        let reason = match self {
            Self { max_depth: 0, .. } => "not even an empty object has no depth: allow a depth of 1 or more",
            Self { max_depth, .. } if *max_depth > DEEPEST => "a depth of more than 128 risks the stack: allow less",
            Self { max_values: 0, .. } | Self { max_bytes: 0, .. } => "an input of nothing is none: allow more",
            _ => return Ok(()),
        };
        Err(ConfigError::invalid(layer, setting, reason))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
