//! What can be invalidated, as a number that is the same on every replica.

use std::hash::Hasher;

/// Hashes to 64 bits that depend on nothing but the bytes: not on the process, the platform or the version of a crate, since
/// replicas tell each other of domains by number. Two that meet cost each other a load, never a wrong answer.
#[derive(Debug, Clone, Default)]
pub(super) struct DomainHasher {
    state: u64,
    word: u64,
    /// How many bytes were written.
    length: u64,
}

impl DomainHasher {
    fn mix(&mut self, word: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.state ^ word ^ 0x2545_f491_4f6c_dd1d) * ODD;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.state = folded.rotate_left(23);
    }
}

impl Hasher for DomainHasher {
    /// However the bytes are cut into writes, the hash is the same.
    fn write(&mut self, mut bytes: &[u8]) {
        let mut filled = self.length % 8;
        self.length += bytes.len() as u64;
        while filled != 0 {
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.word |= u64::from(*byte) << (8 * filled);
            bytes = rest;
            filled = (filled + 1) % 8;
            if filled == 0 {
                self.mix(self.word);
                self.word = 0;
            }
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        self.word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        let mut end = self.clone();
        end.mix(end.word);
        end.mix(end.length);
        end.mix(0);
        end.state
    }
}

/// Feeds what is serialized to the hash, without a buffer.
impl std::io::Write for DomainHasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Hasher::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The domain that these parts name together.
pub(super) fn domain<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let mut hasher = DomainHasher::default();
    for part in parts {
        hasher.write_usize(part.len());
        Hasher::write(&mut hasher, part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_the_same_number_for_ever() {
        assert_eq!(domain([b"get_user"]), 2_333_895_255_305_167_796);
        assert_ne!(domain([b"get_user", b"1"]), domain([b"get_user1", b""]));
    }

    #[test]
    fn how_the_bytes_are_cut_does_not_matter() {
        let bytes: Vec<u8> = (0..50).collect();
        let mut whole = DomainHasher::default();
        Hasher::write(&mut whole, &bytes);
        for size in 1..20 {
            let mut cut = DomainHasher::default();
            bytes.chunks(size).for_each(|chunk| Hasher::write(&mut cut, chunk));
            assert_eq!(cut.finish(), whole.finish(), "in pieces of {size}");
        }
    }

    #[test]
    fn domains_are_spread_over_the_counters() {
        let mut hit = vec![0_u32; 4096];
        for number in 0..40_960_u32 {
            let index = domain([b"get_user", number.to_string().as_bytes()]) % 4096;
            hit[usize::try_from(index).expect("small")] += 1;
        }
        assert!(hit.iter().all(|count| *count < 40), "{:?}", hit.iter().max());
        assert!(hit.iter().filter(|count| **count == 0).count() < 5);
    }
}
