//! The form of a value in the second level.
//!
//! ```text
//! "mcp" · version 2 · checksum (8 bytes) · fresh, end, age, cost (8 bytes each, milliseconds) · generation: epoch and number
//! (8 bytes each) · payload
//! ```
//!
//! Numbers are little-endian. Bytes with another beginning or another checksum are no value.

use std::time::Duration;

use crate::cached::first_level::entry::Lifetime;
use crate::cached::first_level::invalidation_key::hash;
use crate::cached::second_level::Generation;

const BEGINNING: &[u8; 4] = b"mcp\x02";

/// A value with its times at the moment of the put.
#[derive(Debug, PartialEq)]
pub(in crate::cached) struct Envelope<'a> {
    pub(in crate::cached) lifetime: Lifetime,
    /// Read before the value was loaded.
    pub(in crate::cached) generation: Generation,
    pub(in crate::cached) payload: &'a [u8],
}

impl Envelope<'_> {
    pub(in crate::cached) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(60 + self.payload.len());
        bytes.extend_from_slice(BEGINNING);
        bytes.extend_from_slice(&[0; 8]);
        let Lifetime { age, fresh, end, cost } = self.lifetime;
        let [fresh, end, age, cost] =
            [fresh, end, age, cost].map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        for number in [fresh, end, age, cost, self.generation.epoch, self.generation.number] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.payload);
        let checksum = hash([&bytes[12..]]);
        bytes[4..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

impl<'a> Envelope<'a> {
    pub(in crate::cached) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (checksum, rest) = bytes.strip_prefix(BEGINNING)?.split_first_chunk()?;
        if hash([rest]) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let (numbers, payload) = rest.split_first_chunk::<48>()?;
        let (numbers, _) = numbers.as_chunks();
        let number = |at: usize| u64::from_le_bytes(numbers[at]);
        let [fresh, end, age, cost] = [0, 1, 2, 3].map(|at| Duration::from_millis(number(at)));
        let generation = Generation { epoch: number(4), number: number(5) };
        Some(Self { lifetime: Lifetime { age, fresh, end, cost }, generation, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope() -> impl Strategy<Value = (Lifetime, Generation, Vec<u8>)> {
        let millis = || (0..u64::MAX / 2).prop_map(Duration::from_millis);
        let lifetime = (millis(), millis(), millis(), millis());
        let lifetime = lifetime.prop_map(|(age, fresh, end, cost)| Lifetime { age, fresh, end, cost });
        let generation = any::<(u64, u64)>().prop_map(|(epoch, number)| Generation { epoch, number });
        (lifetime, generation, prop::collection::vec(any::<u8>(), 0..200))
    }

    #[test]
    fn a_value_of_another_envelope_version_is_ignored() {
        let second = Duration::from_secs(1);
        let lifetime = Lifetime { age: second, fresh: second, end: second, cost: second };
        let mut bytes =
            Envelope { lifetime, generation: Generation { epoch: 1, number: 2 }, payload: b"value" }.encode();
        assert!(Envelope::decode(&bytes).is_some());
        bytes[3] += 1;
        assert_eq!(Envelope::decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn a_written_value_is_read_back((lifetime, generation, payload) in envelope()) {
            let envelope = Envelope { lifetime, generation, payload: &payload };
            let bytes = envelope.encode();
            prop_assert_eq!(Envelope::decode(&bytes), Some(envelope));
        }

        #[test]
        fn random_bytes_are_not_read_as_a_value(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Envelope::decode(&bytes), None);
            let begun_well = [BEGINNING.as_slice(), &bytes].concat();
            prop_assert_eq!(Envelope::decode(&begun_well), None);
        }

        #[test]
        fn a_damaged_value_is_ignored(
            (lifetime, generation, payload) in envelope(),
            at in any::<prop::sample::Index>(),
            flipped in 1..=u8::MAX,
        ) {
            let mut bytes = Envelope { lifetime, generation, payload: &payload }.encode();
            let at = at.index(bytes.len());
            prop_assert_eq!(Envelope::decode(&bytes[..at]), None, "cut");
            bytes[at] ^= flipped;
            prop_assert_eq!(Envelope::decode(&bytes), None, "flipped");
        }
    }
}
