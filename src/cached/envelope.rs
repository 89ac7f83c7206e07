//! What a value looks like where replicas share it.
//!
//! ```text
//! "mcp" · version 1 · checksum (8 bytes) · fresh, end, age, cost (8 bytes each, milliseconds) · how many generations (2 bytes)
//! · generations (8 bytes each) · payload
//! ```
//!
//! Numbers are little-endian. What has another beginning or another checksum is no value.

use std::time::Duration;

use super::domain::domain;
use super::store::Life;

const BEGINNING: &[u8; 4] = b"mcp\x01";

/// A value as it was put, with its times as of then.
#[derive(Debug, PartialEq)]
pub(super) struct Envelope<'a> {
    pub(super) life: Life,
    /// Read before the value was loaded.
    pub(super) generations: Vec<u64>,
    pub(super) payload: &'a [u8],
}

impl Envelope<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(46 + 8 * self.generations.len() + self.payload.len());
        bytes.extend_from_slice(BEGINNING);
        bytes.extend_from_slice(&[0; 8]);
        let Life { age, fresh, end, cost } = self.life;
        for time in [fresh, end, age, cost] {
            bytes.extend_from_slice(&u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
        }
        let count = u16::try_from(self.generations.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        self.generations.iter().take(count.into()).for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(self.payload);
        let checksum = domain([&bytes[12..]]);
        bytes[4..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

impl<'a> Envelope<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (checksum, rest) = bytes.strip_prefix(BEGINNING)?.split_first_chunk()?;
        if domain([rest]) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let (times, rest) = rest.split_first_chunk::<32>()?;
        let (times, _) = times.as_chunks();
        let [fresh, end, age, cost] =
            [0, 1, 2, 3].map(|at: usize| Duration::from_millis(u64::from_le_bytes(times[at])));
        let (count, rest) = rest.split_first_chunk()?;
        let (generations, payload) = rest.split_at_checked(8 * usize::from(u16::from_le_bytes(*count)))?;
        let (generations, _) = generations.as_chunks();
        let generations = generations.iter().map(|number| u64::from_le_bytes(*number)).collect();
        Some(Self { life: Life { age, fresh, end, cost }, generations, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope() -> impl Strategy<Value = (Life, Vec<u64>, Vec<u8>)> {
        let millis = || (0..u64::MAX / 2).prop_map(Duration::from_millis);
        let life = (millis(), millis(), millis(), millis());
        let life = life.prop_map(|(age, fresh, end, cost)| Life { age, fresh, end, cost });
        (life, prop::collection::vec(any::<u64>(), 0..20), prop::collection::vec(any::<u8>(), 0..200))
    }

    #[test]
    fn what_another_version_has_written_is_no_value() {
        let second = Duration::from_secs(1);
        let life = Life { age: second, fresh: second, end: second, cost: second };
        let mut bytes = Envelope { life, generations: vec![1, 2], payload: b"value" }.encode();
        assert!(Envelope::decode(&bytes).is_some());
        bytes[3] += 1;
        assert_eq!(Envelope::decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read((life, generations, payload) in envelope()) {
            let envelope = Envelope { life, generations, payload: &payload };
            let bytes = envelope.encode();
            prop_assert_eq!(Envelope::decode(&bytes), Some(envelope));
        }

        #[test]
        fn random_bytes_are_no_value(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Envelope::decode(&bytes), None);
            let begun_well = [BEGINNING.as_slice(), &bytes].concat();
            prop_assert_eq!(Envelope::decode(&begun_well), None);
        }

        #[test]
        fn what_was_damaged_is_no_value(
            (life, generations, payload) in envelope(),
            at in any::<prop::sample::Index>(),
            flipped in 1..=u8::MAX,
        ) {
            let mut bytes = Envelope { life, generations, payload: &payload }.encode();
            let at = at.index(bytes.len());
            prop_assert_eq!(Envelope::decode(&bytes[..at]), None, "cut");
            bytes[at] ^= flipped;
            prop_assert_eq!(Envelope::decode(&bytes), None, "flipped");
        }
    }
}
