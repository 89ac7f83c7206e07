//! The form of a value in Redis: a letter that says whether it is compressed, and its bytes.

pub(super) fn encode(value: &[u8], compress_above: Option<usize>) -> Vec<u8> {
    if compress_above.is_some_and(|above| value.len() > above) {
        let mut compressed = vec![b'z'];
        compressed.extend_from_slice(&lz4_flex::block::compress_prepend_size(value));
        compressed
    } else {
        [b"p", value].concat()
    }
}

pub(super) fn decode(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    /// The size above which a value is not decompressed, since it is damaged.
    const MAX_BYTES: usize = 64 << 20;
    match bytes.first()? {
        b'p' => {
            bytes.remove(0);
            Some(bytes)
        }
        b'z' => {
            let (size, compressed) = lz4_flex::block::uncompressed_size(&bytes[1..]).ok()?;
            if size > MAX_BYTES {
                return None;
            }
            lz4_flex::block::decompress(compressed, size).ok()
        }
        _ => None,
    }
}
