//! The one place that knows bincode: values to bytes and back.
//!
//! bincode is unmaintained (RUSTSEC-2025-0141) and pinned; everything that depends on it is this file, so that it can be
//! swapped. Integers are little-endian and of fixed width; decoding takes a slice, is bounded by its length, and refuses
//! bytes that are left over.

use bincode::Options;
use serde::{Deserialize, Serialize};

/// The bytes are not an encoding of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {what}: {why}")]
pub struct DecodeError {
    /// The type that was expected.
    pub what: &'static str,
    /// What is wrong with the bytes.
    pub why: String,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_little_endian().reject_trailing_bytes()
}

/// Appends the encoding of `value` to `out`.
///
/// # Panics
/// Never for the types of this crate: writing to memory cannot fail, and none of them has a custom `Serialize`.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    options().serialize_into(out, value).expect("encoding to memory cannot fail");
}

/// How many bytes [`encode_into`] appends.
///
/// # Panics
/// Never for the types of this crate, as with [`encode_into`].
pub fn encoded_bytes<T: Serialize>(value: &T) -> usize {
    options().serialized_size(value).expect("encoding to memory cannot fail") as usize
}

/// Decodes a value that fills `bytes` exactly, and may borrow from them. Never allocates more than a small multiple of
/// `bytes.len()`: lengths are checked against what is there first.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    options().with_limit(bytes.len() as u64).deserialize(bytes).map_err(|error| DecodeError {
        what: std::any::type_name::<T>().rsplit("::").next().unwrap_or("a value"),
        why: error.to_string(),
    })
}
