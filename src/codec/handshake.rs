//! The first words on a connection between nodes: who is there.
//!
//! The dialing node says [`Hello`]; the accepting one answers [`Welcome`] or [`Refused`]. The protocol version comes
//! first in both, so that nodes of any two versions can tell each other why they do not talk.

use serde::{Deserialize, Serialize};

use super::binary::{self, DecodeError};
use super::frame::{self, Frame, Kind};
use crate::consensus::NodeId;
use crate::runtime::Life;

/// The version of what nodes say to each other.
pub const PROTOCOL: u32 = 1;
/// Largest body of a frame of the handshake, in bytes: all that a stranger can make us allocate.
pub const LIMIT_BYTES: usize = 1024;
/// Longest text of a refusal, in characters (of at most 4 bytes each, it fits the limit).
const REASON_CHARS: usize = 200;

/// The dialing node introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must be [`PROTOCOL`].
    pub protocol: u32,
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// The node.
    pub from: NodeId,
    /// The node it believes to have dialed.
    pub to: NodeId,
    /// Its life.
    pub life: Life,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Messages, from the dialing node to the accepting one.
    Messages {
        /// Grows with every such connection that it dials in this life: only the newest counts.
        dial: u64,
    },
    /// One snapshot, which the dialing node offers.
    Snapshot,
}

/// The accepting node introduces itself, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Must be [`PROTOCOL`].
    pub protocol: u32,
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// The node.
    pub from: NodeId,
    /// Its life.
    pub life: Life,
}

/// The accepting node does not talk to the dialing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, for people.
    pub reason: String,
}

/// A frame of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The first word.
    Hello(Hello),
    /// Yes.
    Welcome(Welcome),
    /// No.
    Refused(Refused),
}

/// The frame is not one that this version understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The other side speaks another version.
    #[error("protocol version {0}, expected {PROTOCOL}")]
    Protocol(u32),
    /// The body is not what the kind says.
    #[error("malformed handshake: {0}")]
    Malformed(#[from] DecodeError),
    /// The other side goes on without a handshake.
    #[error("a {0:?} frame before the handshake")]
    Unexpected(Kind),
}

impl Refused {
    /// A refusal; a text that is too long is cut.
    pub fn new(reason: &str) -> Self {
        Refused { reason: reason.chars().take(REASON_CHARS).collect() }
    }
}

impl Handshake {
    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let encoded = match self {
            Handshake::Hello(hello) => encode_as(Kind::Hello, hello, &mut out),
            Handshake::Welcome(welcome) => encode_as(Kind::Welcome, welcome, &mut out),
            Handshake::Refused(refused) => encode_as(Kind::Refused, &Refused::new(&refused.reason), &mut out),
        };
        debug_assert!(encoded.is_ok(), "all three have bounded sizes");
        out
    }

    /// Decodes a frame of the handshake.
    pub fn decode(frame: &Frame) -> Result<Handshake, HandshakeError> {
        match frame.kind {
            Kind::Hello | Kind::Welcome => check_protocol(&frame.body)?,
            _ => {}
        }
        Ok(match frame.kind {
            Kind::Hello => Handshake::Hello(binary::decode(&frame.body)?),
            Kind::Welcome => Handshake::Welcome(binary::decode(&frame.body)?),
            Kind::Refused => Handshake::Refused(binary::decode(&frame.body)?),
            kind => return Err(HandshakeError::Unexpected(kind)),
        })
    }
}

fn encode_as(kind: Kind, value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), frame::FrameError> {
    frame::encode(kind, LIMIT_BYTES, out, |out| binary::encode_into(value, out))
}

/// Looks at nothing but the version: the rest may look different in another one.
fn check_protocol(body: &[u8]) -> Result<(), HandshakeError> {
    match body.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) {
        Some(protocol) if protocol != PROTOCOL => Err(HandshakeError::Protocol(protocol)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;

    fn reread(handshake: &Handshake) -> Result<Handshake, HandshakeError> {
        let frame = frame::decode(&mut BytesMut::from(&handshake.encode()[..]), LIMIT_BYTES).unwrap().unwrap();
        Handshake::decode(&frame)
    }

    #[test]
    fn every_frame_survives_the_way() {
        let life = Life { incarnation: 9, boot: 3 };
        let hello = Hello {
            protocol: PROTOCOL,
            cluster_id: 7,
            from: NodeId(1),
            to: NodeId(2),
            life,
            purpose: Purpose::Messages { dial: 4 },
        };
        let welcome = Welcome { protocol: PROTOCOL, cluster_id: 7, from: NodeId(2), life };
        for handshake in
            [Handshake::Hello(hello), Handshake::Welcome(welcome), Handshake::Refused(Refused::new("no such node"))]
        {
            assert_eq!(reread(&handshake), Ok(handshake));
        }
    }

    #[test]
    fn another_version_is_recognised_whatever_follows_it() {
        let body = Bytes::from_static(&[2, 0, 0, 0, 1, 2, 3]);
        for kind in [Kind::Hello, Kind::Welcome] {
            let error = Handshake::decode(&Frame { kind, body: body.clone() }).unwrap_err();
            assert_eq!(error.to_string(), "protocol version 2, expected 1");
        }
    }

    #[test]
    fn long_reasons_are_cut() {
        let Ok(Handshake::Refused(refused)) = reread(&Handshake::Refused(Refused { reason: "ä".repeat(5000) })) else {
            panic!("not a refusal")
        };
        assert_eq!(refused.reason.chars().count(), REASON_CHARS);
    }

    #[test]
    fn anything_else_is_named() {
        let unexpected = Handshake::decode(&Frame { kind: Kind::Raft, body: Bytes::new() }).unwrap_err();
        assert_eq!(unexpected.to_string(), "a Raft frame before the handshake");
        let short = Handshake::decode(&Frame { kind: Kind::Hello, body: Bytes::from_static(&[1]) }).unwrap_err();
        assert!(short.to_string().starts_with("malformed handshake: cannot decode Hello"), "{short}");
    }
}
