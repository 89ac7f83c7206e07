//! The hash that the log has instead of an idempotency key.

/// An idempotency key, hashed together with its caller and tool, in 16 hexadecimal digits. A reader of the log cannot use the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash([u8; 16]);

impl KeyHash {
    /// Takes the first 16 of these digits.
    pub(crate) fn new(digits: &str) -> Self {
        let mut hash = [b'0'; 16];
        hash.iter_mut().zip(digits.bytes()).for_each(|(to, digit)| *to = digit);
        Self(hash)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
