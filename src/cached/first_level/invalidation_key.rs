//! The invalidation key: a number that is the same on every replica.

use std::hash::Hasher;
use std::ops::Deref;

/// The target of an invalidation: a group of entries, one entry, or a tag.
///
/// It is a hash of 62 bits, below two bits that say which of the three it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InvalidationKey(u64);

/// The kind of target of an [`InvalidationKey`]. Each kind has a separate range of numbers, so that no tag equals a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cached) enum Target {
    /// Many entries: all calls of a tool, a prompt with any arguments, all resources.
    Group,
    /// One entry: a call for all callers, or a key of a cache.
    Entry,
    /// All entries with a tag.
    Tag,
}

const HASH_BITS: u32 = 62;

impl InvalidationKey {
    /// All entries of all caches that share a second level.
    pub(in crate::cached) const ALL: Self = Self(0);

    pub(in crate::cached) const fn new(target: Target, hash: u64) -> Self {
        Self((target as u64) << HASH_BITS | hash & (u64::MAX >> (u64::BITS - HASH_BITS)))
    }

    /// A tag has the same key for tools, resources, prompts and keys of a cache.
    pub(in crate::cached) fn of_tag(tag: &str) -> Self {
        Self::new(Target::Tag, hash([b"tag", tag.as_bytes()]))
    }

    /// Reads the key of another replica.
    pub(in crate::cached) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(in crate::cached) const fn number(self) -> u64 {
        self.0
    }

    pub(in crate::cached) const fn target(self) -> Target {
        match self.0 >> HASH_BITS {
            0 => Target::Group,
            1 => Target::Entry,
            _ => Target::Tag,
        }
    }
}

/// The keys that invalidate one entry. Without tags, they are on the stack.
pub(in crate::cached) enum EntryKeys<const N: usize> {
    Plain([InvalidationKey; N]),
    Tagged(Vec<InvalidationKey>),
}

impl<const N: usize> Deref for EntryKeys<N> {
    type Target = [InvalidationKey];

    fn deref(&self) -> &[InvalidationKey] {
        match self {
            Self::Plain(keys) => keys,
            Self::Tagged(keys) => keys,
        }
    }
}

/// Hashes to 64 bits that depend on nothing but the bytes: not on the process, the platform or the version of a crate, since
/// replicas name what they invalidate by number. Two that meet cost each other a load, never a wrong answer.
#[derive(Debug, Clone, Default)]
pub(in crate::cached) struct KeyHasher {
    state: u64,
    word: u64,
    /// How many bytes were written.
    length: u64,
}

impl KeyHasher {
    fn mix(&mut self, word: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.state ^ word ^ 0x2545_f491_4f6c_dd1d) * ODD;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.state = folded.rotate_left(23);
    }
}

impl Hasher for KeyHasher {
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

/// Hashes serialized bytes without a buffer.
impl std::io::Write for KeyHasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Hasher::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hashes parts, so that no two lists of parts are written alike.
pub(in crate::cached) fn hash<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let mut hasher = KeyHasher::default();
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
    fn a_hash_is_the_same_number_for_ever() {
        assert_eq!(hash([b"get_user"]), 2_333_895_255_305_167_796);
        assert_ne!(hash([b"get_user", b"1"]), hash([b"get_user1", b""]));
    }

    #[test]
    fn groups_entries_and_tags_never_meet_and_travel_as_they_are() {
        for target in [Target::Group, Target::Entry, Target::Tag] {
            for hash in [0, 1, u64::MAX] {
                let key = InvalidationKey::new(target, hash);
                assert_eq!(InvalidationKey::from_number(key.number()), key);
                assert_eq!(key.target(), target);
            }
        }
        assert_eq!(InvalidationKey::ALL.target(), Target::Group);
    }

    #[test]
    fn how_the_bytes_are_cut_does_not_matter() {
        let bytes: Vec<u8> = (0..50).collect();
        let mut whole = KeyHasher::default();
        Hasher::write(&mut whole, &bytes);
        for size in 1..20 {
            let mut cut = KeyHasher::default();
            bytes.chunks(size).for_each(|chunk| Hasher::write(&mut cut, chunk));
            assert_eq!(cut.finish(), whole.finish(), "in pieces of {size}");
        }
    }

    #[test]
    fn keys_are_spread_over_the_buckets() {
        let mut hit = vec![0_u32; 4096];
        for number in 0..40_960_u32 {
            let index = hash([b"get_user", number.to_string().as_bytes()]) % 4096;
            hit[usize::try_from(index).expect("small")] += 1;
        }
        assert!(hit.iter().all(|count| *count < 40), "{:?}", hit.iter().max());
        assert!(hit.iter().filter(|count| **count == 0).count() < 5);
    }
}
