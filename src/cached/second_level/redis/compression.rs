//! A value in Redis: a letter that says how it is packed, and its bytes.

pub(super) fn pack(value: &[u8], compress_above: Option<usize>) -> Vec<u8> {
    if compress_above.is_some_and(|above| value.len() > above) {
        let mut packed = vec![b'z'];
        packed.extend_from_slice(&lz4_flex::block::compress_prepend_size(value));
        packed
    } else {
        [b"p", value].concat()
    }
}

pub(super) fn unpack(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    /// What nobody would have compressed.
    const MAX_BYTES: usize = 64 << 20;
    match bytes.first()? {
        b'p' => {
            bytes.remove(0);
            Some(bytes)
        }
        b'z' => {
            let (size, packed) = lz4_flex::block::uncompressed_size(&bytes[1..]).ok()?;
            if size > MAX_BYTES {
                return None;
            }
            lz4_flex::block::decompress(packed, size).ok()
        }
        _ => None,
    }
}
