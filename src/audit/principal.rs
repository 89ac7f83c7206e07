//! Who called, as an event has it.

use serde_json::Value;
use sha2::{Digest, Sha256};
use turbomcp_core::RequestContext;

use super::event::Principal;
use super::text::bounded;
use crate::Identity;
use crate::canonical::hex;
use crate::identity::Named;

/// How callers are recorded.
#[derive(Clone)]
pub(super) enum Principals {
    Named,
    /// By a hash with this key.
    Hashed(Box<[u8]>),
}

/// The shortest key of a hash.
pub(super) const MIN_KEY: usize = 16;

impl Principals {
    pub(super) fn of(&self, identity: &Identity, ctx: &RequestContext) -> Option<Principal> {
        let named = identity.named(ctx)?;
        Some(match self {
            Self::Named => Principal::of(&named),
            Self::Hashed(key) => {
                Principal { hash: Some(hex(&hmac(key, &identity.encoded(ctx)))), ..Principal::default() }
            }
        })
    }
}

impl Principal {
    fn of(named: &Named<'_>) -> Self {
        let tenant = named.tenant.iter().map(|(claim, value)| (bounded(claim), text_of(value)));
        Self {
            subject: named.subject.map(bounded),
            issuer: named.issuer.map(bounded),
            tenant: tenant.collect(),
            partition: named.partition.as_ref().map(text_of),
            hash: None,
        }
    }
}

/// A text as it is, and any other value as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| bounded(&value.to_string()), bounded)
}

/// HMAC-SHA-256, of RFC 2104. A plain hash would be no secret: whoever has a list of the users can hash it.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut padded = [0; BLOCK];
    match key.len() {
        ..=BLOCK => padded[..key.len()].copy_from_slice(key),
        _ => padded[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let inner = Sha256::new().chain_update(padded.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test cases 1, 2 and 6 of RFC 4231.
    #[test]
    fn the_hash_is_the_hmac_of_the_standard() {
        for (key, message, expected) in [
            (&[0x0b; 20][..], "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(&hmac(key, message.as_bytes())), expected);
        }
    }
}
