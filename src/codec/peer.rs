//! What nodes say to each other as frames: [`PeerMessage`] to bytes and back.
//!
//! The body of a frame is the length of its head (4 bytes), the head in [`binary`] encoding, and the payloads back to
//! back. So payloads are not escaped: one that is sent is copied once, into the queue of the connection, and received ones are slices
//! of the frame.
//!
//! Decoding refuses what no correct node can say, so that the protocol need not look for it.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::binary;
use super::frame::{self, Frame, FrameError, Kind};
use crate::consensus::{
    AppendEntries, EntryHeader, EntryKind, Index, Membership, Message, MessageBody, Payload, SnapshotMeta, Term,
};
use crate::runtime::Life;
use crate::transport::{Failure, Forward, ForwardKind, PeerMessage};

/// A frame with the right checksum says what no correct node would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub String);

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(Malformed(format!($($why)*)));
        }
    };
}

#[derive(Serialize, Deserialize)]
struct ForwardHead {
    term: u64,
    sequence: u64,
    connection: u64,
    kind: ForwardKind,
}

#[derive(Serialize, Deserialize)]
struct ReplyHead {
    life: Life,
    sequence: u64,
    outcome: Result<(), Failure>,
}

/// Appends a message to `out` as a frame whose body may have at most `limit` bytes.
pub fn encode(message: &PeerMessage, limit: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    match message {
        PeerMessage::Raft { message, payloads } => {
            debug_assert_eq!(check_raft(message, payloads.iter().map(|payload| payload.len())), Ok(()));
            encode_parts(Kind::Raft, limit, out, message, payloads)
        }
        PeerMessage::Forward(Forward { term, sequence, connection, kind, payload }) => {
            let head = ForwardHead { term: *term, sequence: *sequence, connection: *connection, kind: *kind };
            encode_parts(Kind::Forward, limit, out, &head, std::slice::from_ref(payload))
        }
        PeerMessage::ForwardReply { life, sequence, outcome } => {
            let (outcome, payloads) = match outcome {
                Ok(payload) => (Ok(()), std::slice::from_ref(payload)),
                Err(failure) => (Err(failure.clone()), &[][..]),
            };
            let head = ReplyHead { life: *life, sequence: *sequence, outcome };
            encode_parts(Kind::ForwardReply, limit, out, &head, payloads)
        }
    }
}

fn encode_parts(
    kind: Kind,
    limit: usize,
    out: &mut Vec<u8>,
    head: &impl Serialize,
    payloads: &[Payload],
) -> Result<(), FrameError> {
    frame::encode(kind, limit, out, |out| {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        binary::encode_into(head, out);
        // A head of 4 GiB exceeds the frame's own limit, which is checked next.
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out.reserve(payloads.iter().map(|payload| payload.len()).sum());
        payloads.iter().for_each(|payload| out.extend_from_slice(payload));
    })
}

/// Decodes a frame that is not part of the handshake.
pub fn decode(frame: Frame) -> Result<PeerMessage, Malformed> {
    let mut rest = frame.body;
    match frame.kind {
        Kind::Raft => {
            let message: Message = take_head(&mut rest)?;
            let payloads = take_payloads(entries(&message), rest)?;
            check_raft(&message, payloads.iter().map(|payload| payload.len()))?;
            Ok(PeerMessage::Raft { message, payloads })
        }
        Kind::Forward => {
            let ForwardHead { term, sequence, connection, kind } = take_head(&mut rest)?;
            Ok(PeerMessage::Forward(Forward { term, sequence, connection, kind, payload: Payload(rest) }))
        }
        Kind::ForwardReply => {
            let ReplyHead { life, sequence, outcome } = take_head(&mut rest)?;
            ensure!(outcome.is_ok() || rest.is_empty(), "a failure is followed by {} bytes", rest.len());
            Ok(PeerMessage::ForwardReply { life, sequence, outcome: outcome.map(|()| Payload(rest)) })
        }
        kind => Err(Malformed(format!("a {kind:?} frame after the handshake"))),
    }
}

fn take_head<T: serde::de::DeserializeOwned>(body: &mut Bytes) -> Result<T, Malformed> {
    ensure!(body.len() >= 4, "a body of {} bytes", body.len());
    let length = body.get_u32_le() as usize;
    ensure!(length <= body.len(), "a head of {length} bytes with {} left", body.len());
    binary::decode(&body.split_to(length)).map_err(|error| Malformed(error.to_string()))
}

fn entries(message: &Message) -> &[EntryHeader] {
    match &message.body {
        MessageBody::AppendEntries(append) => &append.entries,
        _ => &[],
    }
}

fn take_payloads(entries: &[EntryHeader], mut rest: Bytes) -> Result<Vec<Payload>, Malformed> {
    let total: u64 = entries.iter().map(|entry| u64::from(entry.size)).sum();
    ensure!(total == rest.len() as u64, "payloads of {total} bytes announced, {} found", rest.len());
    Ok(entries.iter().map(|entry| Payload(rest.split_to(entry.size as usize))).collect())
}

/// Whether a correct server can have said this.
fn check_raft(message: &Message, mut sizes: impl ExactSizeIterator<Item = usize>) -> Result<(), Malformed> {
    let (term, entries) = (message.term, entries(message));
    ensure!(sizes.len() == entries.len(), "{} entries with {} payloads", entries.len(), sizes.len());
    match &message.body {
        MessageBody::AppendEntries(append) => check_append(term, append, &mut sizes),
        MessageBody::RequestVote { last_index, last_term, .. } => {
            ensure!(term > Term(0), "a vote request in term 0");
            check_position("last entry", *last_index, *last_term, term)
        }
        MessageBody::AppendRejected { prev_index, hint_index, hint_term, .. } => {
            ensure!(hint_index <= prev_index, "hint {hint_index} above the refused index {prev_index}");
            ensure!(*hint_term <= term, "hint of term {hint_term} in a message of term {term}");
            Ok(())
        }
        MessageBody::InstallSnapshot { snapshot } => check_snapshot(term, snapshot),
        MessageBody::RequestVoteResponse { .. }
        | MessageBody::AppendAccepted { .. }
        | MessageBody::SnapshotInstalled { .. }
        | MessageBody::TimeoutNow
        | MessageBody::AskTerm { .. }
        | MessageBody::TellTerm { .. } => Ok(()),
    }
}

fn check_append(
    term: Term,
    append: &AppendEntries,
    sizes: &mut dyn ExactSizeIterator<Item = usize>,
) -> Result<(), Malformed> {
    ensure!(term > Term(0), "entries from a leader of term 0");
    check_position("previous entry", append.prev_index, append.prev_term, term)?;
    let (mut last_index, mut last_term) = (append.prev_index, append.prev_term);
    for (entry, size) in append.entries.iter().zip(sizes) {
        let index = entry.index;
        ensure!(last_index.0.checked_add(1) == Some(index.0), "entry {index} follows entry {last_index}");
        ensure!(entry.term >= last_term, "entry {index} of term {} follows one of term {last_term}", entry.term);
        ensure!(entry.term > Term(0), "entry {index} of term 0");
        ensure!(entry.term <= term, "entry {index} of term {} in a message of term {term}", entry.term);
        ensure!(entry.size as usize == size, "entry {index} of {} bytes with a payload of {size}", entry.size);
        match &entry.kind {
            EntryKind::Command => {}
            EntryKind::Membership(membership) => check_membership(membership, size)?,
            EntryKind::Noop | EntryKind::Tick => ensure!(size == 0, "entry {index}, no command, has a payload"),
        }
        (last_index, last_term) = (index, entry.term);
    }
    Ok(())
}

pub(super) fn check_snapshot(term: Term, snapshot: &SnapshotMeta) -> Result<(), Malformed> {
    ensure!(snapshot.index > Index(0), "a snapshot of nothing");
    check_position("last entry of the snapshot", snapshot.index, snapshot.term, term)?;
    check_membership(&snapshot.membership, 0)
}

fn check_membership(membership: &Membership, size: usize) -> Result<(), Malformed> {
    ensure!(!membership.voters.is_empty(), "a membership without voters");
    ensure!(size == 0, "a membership with a payload of {size} bytes");
    Ok(())
}

/// An entry that exists has a term, at most the message's; only the place before the first entry has none.
fn check_position(what: &str, index: Index, entry_term: Term, term: Term) -> Result<(), Malformed> {
    ensure!((index == Index(0)) == (entry_term == Term(0)), "{what} with index {index} and term {entry_term}");
    ensure!(entry_term <= term, "{what} of term {entry_term} in a message of term {term}");
    Ok(())
}

#[cfg(test)]
mod tests;
