//! etcd's messages, as far as a load generator needs them: a put, a get of one key, and what their answers say.
//!
//! Encodings: <https://protobuf.dev/programming-guides/encoding>, `rpc.proto` of etcd, and "gRPC over HTTP2" for the prefix and the
//! trailers.

use hyper::HeaderMap;

use super::reply::{Malformed, Reply};

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Fields of `PutRequest`, `RangeRequest` and `RangeResponse`.
const KEY_FIELD: u64 = 1;
const VALUE_FIELD: u64 = 2;
const KVS_FIELD: u64 = 2;

/// How a field is encoded: the low three bits of its tag.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// What `grpc-status` means, from 0 on.
const STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A `PutRequest`.
pub fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    message(&[(KEY_FIELD, key), (VALUE_FIELD, value)])
}

/// A `RangeRequest` for one key. Without any other field it is linearizable.
pub fn range(key: &[u8]) -> Vec<u8> {
    message(&[(KEY_FIELD, key)])
}

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = vec![0; PREFIX_BYTES];
    for (field, bytes) in fields {
        push_varint(field << 3 | BYTES, &mut out);
        push_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
    }
    let length = (out.len() - PREFIX_BYTES) as u32;
    if let Some(place) = out.get_mut(1..PREFIX_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    out
}

fn push_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The error that a request was answered with, by its name in gRPC; `None` if it was served.
pub fn error(trailers: &HeaderMap) -> Result<Option<&'static str>, Malformed> {
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok());
    match status.and_then(|status| status.parse().ok()) {
        Some(0) => Ok(None),
        Some(code) => Ok(Some(STATUS.get::<usize>(code).copied().unwrap_or("UNKNOWN"))),
        None => Err(Malformed),
    }
}

/// What a `RangeResponse` with its prefix says: whether there is such a key.
pub fn found(body: &[u8]) -> Result<Reply<'static>, Malformed> {
    let (prefix, mut rest) = body.split_at_checked(PREFIX_BYTES).ok_or(Malformed)?;
    if !matches!(prefix, [0, length @ ..] if length == (rest.len() as u32).to_be_bytes()) {
        return Err(Malformed);
    }
    let mut reply = Reply::Nil;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let length = match tag & 7 {
            VARINT => varint(&mut rest).map(|_| 0)?,
            FIXED64 => 8,
            BYTES => varint(&mut rest)?,
            FIXED32 => 4,
            _ => return Err(Malformed),
        };
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        rest = rest.get(length..).ok_or(Malformed)?;
        if tag == KVS_FIELD << 3 | BYTES {
            reply = Reply::Done;
        }
    }
    Ok(reply)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_etcds() {
        assert_eq!(put(b"k", b"ab"), b"\0\0\0\0\x07\x0a\x01k\x12\x02ab");
        assert_eq!(range(b"key"), b"\0\0\0\0\x05\x0a\x03key");
        let long = put(b"k", &[b'x'; 300]);
        assert_eq!(long[..11], *b"\0\0\0\x01\x32\x0a\x01k\x12\xac\x02");
        assert_eq!(long.len(), 11 + 300);
    }

    /// A `RangeResponse` as etcd sends it: a header (field 1), and then these fields.
    fn response(fields: &[u8]) -> Vec<u8> {
        let message = [b"\x0a\x08\x08\xb9\x60\x10\x81\x02\x18\x09", fields].concat();
        [&[0, 0, 0, 0, message.len() as u8], &message[..]].concat()
    }

    #[test]
    fn an_answer_has_the_key_or_has_none() {
        assert_eq!(found(&response(b"")), Ok(Reply::Nil));
        // A key-value, and a count of 1 (field 4).
        let full = response(b"\x12\x09\x0a\x01k\x10\x02\x2a\x02ab\x20\x01");
        assert_eq!(found(&full), Ok(Reply::Done));
        // Fields that no version has had yet, of either fixed size.
        assert_eq!(found(&response(b"\x29\0\0\0\0\0\0\0\0\x35\0\0\0\0")), Ok(Reply::Nil));
        for length in 0..full.len() {
            assert_eq!(found(&full[..length]), Err(Malformed), "{length} bytes");
        }
        let compressed = [&[1], &full[1..]].concat();
        assert_eq!(found(&compressed), Err(Malformed));
    }

    #[test]
    fn a_status_has_a_name() {
        let named = |status: &'static str| {
            error(&HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]))
        };
        assert_eq!(named("0"), Ok(None));
        assert_eq!(named("14"), Ok(Some("UNAVAILABLE")));
        assert_eq!(named("99"), Ok(Some("UNKNOWN")));
        assert_eq!(named("x"), Err(Malformed));
        assert_eq!(error(&HeaderMap::new()), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_can_make_it_panic(bytes: Vec<u8>) {
            let _ = found(&bytes);
            let _ = found(&[&[0, 0, 0, 0, bytes.len() as u8], &bytes[..]].concat());
        }
    }
}
