//! The first words on a connection between nodes: who is there.
//!
//! The dialing node says [`Hello`]; the accepting one answers [`Welcome`] or [`Refused`]. The protocol version comes
//! first in both, so that nodes of any two versions can tell each other why they do not talk.

use serde::{Deserialize, Serialize};

use super::binary::{self, DecodeError};
use super::frame::{self, Frame, Kind};
use crate::consensus::NodeId;
use crate::runtime::Life;
use crate::storage::{Lineage, Start};

/// The version of what nodes say to each other.
pub const PROTOCOL: u32 = 3;
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
    /// Drawn at random by its process: a copy of its data folder that is started has the same life, but not this.
    pub nonce: u64,
    /// The nonces of the boots before, the latest first, as far back as its folder knows them: see [`Lineage`].
    pub earlier: Vec<u64>,
    /// It neither votes nor counts: it may have forgotten what another incarnation of it promised.
    pub abstains: bool,
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
    /// Drawn at random by its process: a copy of its data folder that is started has the same life, but not this.
    pub nonce: u64,
    /// The nonces of the boots before, the latest first, as far back as its folder knows them: see [`Lineage`].
    pub earlier: Vec<u64>,
    /// As in [`Hello`].
    pub abstains: bool,
}

/// The accepting node does not talk to the dialing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The accepting node's cluster.
    pub cluster_id: u64,
    /// The accepting node.
    pub from: NodeId,
    /// Why, as far as the dialing node can do something about it.
    pub code: RefusalCode,
    /// Why, for people.
    pub reason: String,
}

/// Why a node is refused. On the wire it is a number; the numbers never change, and unknown ones are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum RefusalCode {
    /// Whatever it is, it may be different the next time.
    Other = 0,
    /// A later boot of the dialing node was seen, or one of its boots in another process: it runs on an older copy of its
    /// data folder.
    OlderBoot = 1,
    /// Another incarnation of the dialing node was seen: its data folder was wiped, or belongs to somebody else.
    OtherIncarnation = 2,
}

impl From<u32> for RefusalCode {
    fn from(number: u32) -> Self {
        use RefusalCode::{OlderBoot, Other, OtherIncarnation};
        [OlderBoot, OtherIncarnation].into_iter().find(|code| *code as u32 == number).unwrap_or(Other)
    }
}

impl From<RefusalCode> for u32 {
    fn from(code: RefusalCode) -> u32 {
        code as u32
    }
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

impl Hello {
    /// The dialing node's start.
    pub fn lineage(&self) -> Lineage {
        Lineage { start: Start { life: self.life, nonce: self.nonce }, earlier: self.earlier.clone() }
    }
}

impl Welcome {
    /// The accepting node's start.
    pub fn lineage(&self) -> Lineage {
        Lineage { start: Start { life: self.life, nonce: self.nonce }, earlier: self.earlier.clone() }
    }
}

impl Refused {
    /// The same with a text that is not too long.
    fn cut(&self) -> Self {
        Refused { reason: self.reason.chars().take(REASON_CHARS).collect(), ..*self }
    }
}

impl Handshake {
    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let encoded = match self {
            Handshake::Hello(hello) => encode_as(Kind::Hello, hello, &mut out),
            Handshake::Welcome(welcome) => encode_as(Kind::Welcome, welcome, &mut out),
            Handshake::Refused(refused) => encode_as(Kind::Refused, &refused.cut(), &mut out),
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
    use crate::storage::REMEMBERED_BOOTS;

    fn reread(handshake: &Handshake) -> Result<Handshake, HandshakeError> {
        let frame = frame::decode(&mut BytesMut::from(&handshake.encode()[..]), LIMIT_BYTES).unwrap().unwrap();
        Handshake::decode(&frame)
    }

    fn refused(reason: &str) -> Handshake {
        let code = RefusalCode::OlderBoot;
        Handshake::Refused(Refused { cluster_id: 7, from: NodeId(2), code, reason: reason.into() })
    }

    #[test]
    fn codes_of_later_versions_are_others() {
        for number in [0, 3, u32::MAX] {
            assert_eq!(RefusalCode::from(number), RefusalCode::Other);
        }
        for code in [RefusalCode::OlderBoot, RefusalCode::OtherIncarnation] {
            assert_eq!(RefusalCode::from(u32::from(code)), code);
        }
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
            nonce: 5,
            earlier: vec![u64::MAX; REMEMBERED_BOOTS],
            abstains: true,
            purpose: Purpose::Messages { dial: 4 },
        };
        let (protocol, from, earlier) = (PROTOCOL, NodeId(2), vec![4]);
        let welcome = Welcome { protocol, cluster_id: 7, from, life, nonce: 6, earlier, abstains: false };
        for handshake in [Handshake::Hello(hello), Handshake::Welcome(welcome), refused("no such node")] {
            assert_eq!(reread(&handshake), Ok(handshake));
        }
    }

    #[test]
    fn another_version_is_recognised_whatever_follows_it() {
        let body = Bytes::from_static(&[2, 0, 0, 0, 1, 2, 3]);
        for kind in [Kind::Hello, Kind::Welcome] {
            let error = Handshake::decode(&Frame { kind, body: body.clone() }).unwrap_err();
            assert_eq!(error.to_string(), "protocol version 2, expected 3");
        }
    }

    #[test]
    fn long_reasons_are_cut() {
        let Ok(Handshake::Refused(refused)) = reread(&refused(&"ä".repeat(5000))) else { panic!("not a refusal") };
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
