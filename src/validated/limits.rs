use super::LAYER;
use crate::ConfigError;

/// The deepest nesting that can be allowed: the limit of the JSON parser.
const DEEPEST: usize = 128;

/// Limits on the size of an input. One walk checks them, and ends at the first limit that is exceeded.
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
    pub(super) max_properties: usize,
    pub(super) max_string_bytes: usize,
}

impl Limits {
    /// Creates the limits of 1 MiB in all and 512 KiB in one string, 32 levels, 50,000 values, 10,000 in one array, 1,000 properties of
    /// one object.
    pub fn new() -> Self {
        Self {
            max_bytes: 1024 * 1024,
            max_depth: 32,
            max_values: 50_000,
            max_items: 10_000,
            max_properties: 1_000,
            max_string_bytes: 512 * 1024,
        }
    }

    /// Sets the maximum size in bytes, written as JSON without spaces and escapes.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the maximum nesting of arrays and objects, the outermost included: from 1 to 128.
    pub fn with_max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }

    /// Sets the maximum number of values, arrays and objects included. Each may cost as much as a violation.
    pub fn with_max_values(mut self, max_values: usize) -> Self {
        self.max_values = max_values;
        self
    }

    /// Sets the maximum number of items of an array.
    pub fn with_max_items(mut self, max_items: usize) -> Self {
        self.max_items = max_items;
        self
    }

    /// Sets the maximum number of properties of an object.
    pub fn with_max_properties(mut self, max_properties: usize) -> Self {
        self.max_properties = max_properties;
        self
    }

    /// Sets the maximum length of a string, or of a property's name, in bytes.
    pub fn with_max_string_bytes(mut self, max_string_bytes: usize) -> Self {
        self.max_string_bytes = max_string_bytes;
        self
    }

    /// Checks the settings. A [`ValidatedTool`](super::ValidatedTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] if the limits refuse every input, or allow a nesting deeper than 128 levels.
    pub fn check_settings(&self) -> Result<(), ConfigError> {
        self.check_settings_of("with_limits")
    }

    /// Checks the settings of the limits that `setting` was given.
    pub(super) fn check_settings_of(&self, setting: &'static str) -> Result<(), ConfigError> {
        let reason = match self {
            Self { max_depth: 0, .. } => "`with_max_depth` must be greater than zero",
            Self { max_depth, .. } if *max_depth > DEEPEST => "`with_max_depth` must be at most 128",
            Self { max_values: 0, .. } => "`with_max_values` must be greater than zero",
            Self { max_bytes: 0, .. } => "`with_max_bytes` must be greater than zero",
            _ => return Ok(()),
        };
        Err(ConfigError::invalid(LAYER, setting, reason))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
