//! Frames: how one message is told from the next on a connection between nodes.
//!
//! | bytes | what | |
//! | --- | --- | --- |
//! | 0..4 | magic | `raft` |
//! | 4..6 | format version | [`VERSION`] |
//! | 6..8 | kind | [`Kind`] |
//! | 8..12 | length of the body | checked against a limit before anything is allocated |
//! | 12..16 | CRC-32 (IEEE) | of bytes 4..12 and the body |
//! | 16.. | body | |
//!
//! Integers are little-endian. There is no resynchronisation: after any error the connection is closed.

use bytes::{Buf, Bytes, BytesMut};

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"raft";
/// The version of the frame format.
pub const VERSION: u16 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 16;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The dialing node introduces itself.
    Hello = 1,
    /// The accepting node does, and takes the connection.
    Welcome = 2,
    /// The accepting node refuses the connection.
    Refused = 3,
    /// A message of the Raft protocol.
    Raft = 4,
    /// A client's request on its way to the leader.
    Forward = 5,
    /// The leader's answer to it.
    ForwardReply = 6,
    /// A snapshot is offered.
    SnapshotOffer = 7,
    /// A part of it.
    SnapshotChunk = 8,
    /// How much of it has arrived.
    SnapshotProgress = 9,
}

impl Kind {
    fn of(number: u16) -> Option<Kind> {
        use Kind::*;
        let all =
            [Hello, Welcome, Refused, Raft, Forward, ForwardReply, SnapshotOffer, SnapshotChunk, SnapshotProgress];
        all.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// One frame, complete and with the right checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// The body: a slice of the received bytes, not a copy.
    pub body: Bytes,
}

/// The bytes are no frame, or the body is too long for one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Whatever speaks there, it is not a node.
    #[error("not a frame: it begins with {0:02x?}, expected {MAGIC:02x?}")]
    Magic(Vec<u8>),
    /// The other side is of another version.
    #[error("frame format version {0}, expected {VERSION}")]
    Version(u16),
    /// No such kind.
    #[error("frame of unknown kind {0}")]
    Kind(u16),
    /// The body exceeds the limit.
    #[error("frame of {length} bytes, the limit is {limit}")]
    TooLong {
        /// Length of the body in bytes.
        length: usize,
        /// Largest length allowed, in bytes.
        limit: usize,
    },
    /// Something changed on the way.
    #[error("frame with checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of what was received.
        expected: u32,
    },
}

/// Appends a frame to `out`; `body` appends its body. A body of more than `limit` bytes is an error, and `out` is as
/// before.
pub fn encode(kind: Kind, limit: usize, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    body(out);
    let length = out.len() - start - HEADER_BYTES;
    let Some(length_field) = u32::try_from(length).ok().filter(|_| length <= limit) else {
        out.truncate(start);
        return Err(FrameError::TooLong { length, limit });
    };
    let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&(kind as u16).to_le_bytes());
    header[8..12].copy_from_slice(&length_field.to_le_bytes());
    let checksum = checksum(&header[4..12], body);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Takes the first frame off `input`, whose body may have at most `limit` bytes. `None`: it is not complete yet; then
/// room for the rest is reserved as soon as its length is known, so that a long body is not moved around while it grows.
pub fn decode(input: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let seen = &input[..input.len().min(MAGIC.len())];
    if !MAGIC.starts_with(seen) {
        return Err(FrameError::Magic(seen.to_vec()));
    }
    let Some(&header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [_, _, _, _, v0, v1, k0, k1, l0, l1, l2, l3, c0, c1, c2, c3] = header;
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let kind = u16::from_le_bytes([k0, k1]);
    let kind = Kind::of(kind).ok_or(FrameError::Kind(kind))?;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if input.len() < HEADER_BYTES + length {
        input.reserve(HEADER_BYTES + length - input.len());
        return Ok(None);
    }
    input.advance(HEADER_BYTES);
    let body = input.split_to(length).freeze();
    let (found, expected) = (u32::from_le_bytes([c0, c1, c2, c3]), checksum(&header[4..12], &body));
    if found != expected {
        return Err(FrameError::Checksum { found, expected });
    }
    Ok(Some(Frame { kind, body }))
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(kind, body.len(), &mut out, |out| out.extend_from_slice(body)).unwrap();
        out
    }

    /// Feeds segments one by one and returns what came out, and the error at the end if there was one.
    fn feed<'a>(segments: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> (Vec<Frame>, Option<FrameError>) {
        let (mut input, mut frames) = (BytesMut::new(), Vec::new());
        for segment in segments {
            input.extend_from_slice(segment);
            loop {
                match decode(&mut input, limit) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    fn three() -> (Vec<u8>, Vec<Frame>) {
        let bodies: [(Kind, &[u8]); 3] = [(Kind::Hello, b""), (Kind::Raft, b"one"), (Kind::Forward, &[7; 300])];
        let bytes = bodies.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
        (bytes, bodies.map(|(kind, body)| Frame { kind, body: Bytes::copy_from_slice(body) }).to_vec())
    }

    #[test]
    fn frames_come_out_however_the_bytes_are_cut() {
        let (bytes, expected) = three();
        assert_eq!(feed([&bytes[..]], 300), (expected.clone(), None));
        assert_eq!(feed(bytes.chunks(1), 300), (expected.clone(), None));
        for cut in 0..=bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(feed([left, right], 300), (expected.clone(), None), "cut at {cut}");
        }
    }

    #[test]
    fn a_truncated_frame_never_comes_out() {
        let bytes = frame(Kind::Raft, b"abcdef");
        for end in 0..bytes.len() {
            assert_eq!(feed([&bytes[..end]], 300), (vec![], None), "{end} bytes");
        }
    }

    #[test]
    fn every_wrong_byte_is_an_error_or_an_incomplete_frame() {
        let (bytes, expected) = three();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                let (frames, error) = feed([&damaged[..]], 1 << 20);
                assert!(frames.len() < 3 && expected.starts_with(&frames), "byte {position}, bit {bit}");
                let in_length = [0, 16, 35].iter().any(|start| (start + 8..start + 12).contains(&position));
                assert!(error.is_some() || in_length, "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn lengths_are_checked_before_they_are_allocated() {
        for length in [301u32, 1 << 31, u32::MAX] {
            let mut bytes = frame(Kind::Raft, b"");
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            let mut input = BytesMut::from(&bytes[..]);
            let error = FrameError::TooLong { length: length as usize, limit: 300 };
            assert_eq!(decode(&mut input, 300), Err(error));
            assert!(input.capacity() < 1024);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |position: usize, byte: u8| {
            let mut bytes = frame(Kind::Raft, b"x");
            bytes[position] = byte;
            feed([&bytes[..]], 9).1.unwrap().to_string()
        };
        assert_eq!(with(0, b'G'), "not a frame: it begins with [47, 61, 66, 74], expected [72, 61, 66, 74]");
        assert_eq!(with(4, 2), "frame format version 2, expected 1");
        assert_eq!(with(6, 99), "frame of unknown kind 99");
        assert_eq!(with(8, 10), "frame of 10 bytes, the limit is 9");
        assert!(with(16, b'y').starts_with("frame with checksum "));
        assert_eq!(feed([&b"G"[..]], 9).1, Some(FrameError::Magic(b"G".to_vec())), "no need to wait for more");
    }

    #[test]
    fn a_body_that_is_too_long_leaves_the_output_as_it_was() {
        let mut out = b"before".to_vec();
        let error = encode(Kind::Raft, 3, &mut out, |out| out.extend_from_slice(b"four"));
        assert_eq!(error, Err(FrameError::TooLong { length: 4, limit: 3 }));
        assert_eq!(out, b"before");
    }

    #[test]
    fn bodies_are_slices_of_what_was_received() {
        let mut input = BytesMut::from(&frame(Kind::Raft, &[9; 1000])[..]);
        let expected = input[HEADER_BYTES..].as_ptr();
        let frame = decode(&mut input, 1000).unwrap().unwrap();
        assert_eq!(frame.body.as_ptr(), expected);
    }
}
