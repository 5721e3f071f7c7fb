//! What nodes say on a connection that carries a snapshot, as frames.
//!
//! The dialing node says [`Offer`](Spoken::Offer), then [`Chunk`](Spoken::Chunk)s; the accepting one answers each with
//! [`Progress`](Spoken::Progress), or with [`Refused`](Spoken::Refused).

use bytes::{Buf, Bytes};

use super::binary;
use super::frame::{self, Frame, FrameError, Kind};
use super::handshake::{Handshake, RefusalCode, Refused};
use super::peer::{Malformed, check_snapshot};
use crate::consensus::NodeId;
use crate::transport::transfer::{Offer, Progress};

/// Most bytes of a snapshot in one chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Longest body of a frame.
pub const LIMIT_BYTES: usize = CHUNK_BYTES + OFFSET_BYTES;

const OFFSET_BYTES: usize = 8;

/// Something that one node says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// What is to be sent.
    Offer(Offer),
    /// The bytes at an offset.
    Chunk(u64, Bytes),
    /// How much has arrived.
    Progress(Progress),
    /// It is not taken.
    Refused(Refused),
}

/// Appends a chunk to `out` as a frame.
pub fn encode_chunk(offset: u64, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    frame::encode(Kind::SnapshotChunk, LIMIT_BYTES, out, |out| {
        out.extend(offset.to_le_bytes());
        out.extend_from_slice(bytes);
    })
}

/// Appends an offer to `out` as a frame.
pub fn encode_offer(offer: &Offer, out: &mut Vec<u8>) -> Result<(), FrameError> {
    frame::encode(Kind::SnapshotOffer, LIMIT_BYTES, out, |out| binary::encode_into(offer, out))
}

/// Both sides have introduced themselves by now: who refuses need not be said again.
fn not_taken(reason: &str) -> Refused {
    Refused { cluster_id: 0, from: NodeId(0), code: RefusalCode::Other, reason: reason.into() }
}

/// An answer as a frame.
pub fn encode_answer(answer: &Result<Progress, String>) -> Vec<u8> {
    match answer {
        Err(reason) => Handshake::Refused(not_taken(reason)).encode(),
        Ok(progress) => {
            let mut out = Vec::new();
            let encoded = frame::encode(Kind::SnapshotProgress, LIMIT_BYTES, &mut out, |out| {
                binary::encode_into(progress, out);
            });
            debug_assert!(encoded.is_ok(), "a number and a flag fit");
            out
        }
    }
}

/// Decodes a frame that comes after the handshake.
pub fn decode(frame: Frame) -> Result<Spoken, Malformed> {
    let Frame { kind, mut body } = frame;
    let malformed = |error: binary::DecodeError| Malformed(error.to_string());
    match kind {
        Kind::SnapshotOffer => {
            let offer: Offer = binary::decode(&body).map_err(malformed)?;
            check_snapshot(offer.term, &offer.snapshot)?;
            Ok(Spoken::Offer(offer))
        }
        Kind::SnapshotChunk if body.len() > OFFSET_BYTES => Ok(Spoken::Chunk(body.get_u64_le(), body)),
        Kind::SnapshotChunk => Err(Malformed(format!("a chunk of {} bytes", body.len()))),
        Kind::SnapshotProgress => binary::decode(&body).map(Spoken::Progress).map_err(malformed),
        Kind::Refused => binary::decode(&body).map(Spoken::Refused).map_err(malformed),
        kind => Err(Malformed(format!("a {kind:?} frame on a connection for a snapshot"))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::consensus::{Index, LogTime, Membership, NodeId, SnapshotMeta, Term};

    fn reread(bytes: &[u8]) -> Result<Spoken, Malformed> {
        decode(frame::decode(&mut BytesMut::from(bytes), LIMIT_BYTES).unwrap().unwrap())
    }

    fn offer(index: u64) -> Offer {
        let membership = Membership::of_voters([NodeId(1), NodeId(2)]);
        let snapshot = SnapshotMeta { index: Index(index), term: Term(2), time: LogTime(5), membership };
        Offer { term: Term(3), snapshot, bytes: 1 << 40 }
    }

    #[test]
    fn every_frame_survives_the_way() {
        let mut out = Vec::new();
        encode_offer(&offer(7), &mut out).unwrap();
        assert_eq!(reread(&out), Ok(Spoken::Offer(offer(7))));
        out.clear();
        encode_chunk(1 << 33, &[9; CHUNK_BYTES], &mut out).unwrap();
        assert_eq!(reread(&out), Ok(Spoken::Chunk(1 << 33, Bytes::from(vec![9; CHUNK_BYTES]))));
        let progress = Progress { received: 5, complete: true };
        assert_eq!(reread(&encode_answer(&Ok(progress))), Ok(Spoken::Progress(progress)));
        assert_eq!(reread(&encode_answer(&Err("no".into()))), Ok(Spoken::Refused(not_taken("no"))));
    }

    #[test]
    fn what_no_node_says_is_refused() {
        let mut out = Vec::new();
        encode_offer(&offer(0), &mut out).unwrap();
        assert_eq!(reread(&out), Err(Malformed("a snapshot of nothing".into())));
        out.clear();
        encode_chunk(4, &[], &mut out).unwrap();
        assert_eq!(reread(&out), Err(Malformed("a chunk of 8 bytes".into())));
        let raft = decode(Frame { kind: Kind::Raft, body: Bytes::new() });
        assert_eq!(raft, Err(Malformed("a Raft frame on a connection for a snapshot".into())));
    }
}
