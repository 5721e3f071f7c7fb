//! Between nodes: what travels, and the trait that carries it.

pub(crate) mod lives;
pub mod memory;
pub mod stdio;
pub mod tcp;
pub mod transfer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::consensus::{Message, NodeId, Payload, SessionSequence, SnapshotMeta, Term};
use crate::runtime::Life;
use crate::storage::snapshot::SnapshotStore;

/// Carries messages to peers. Sending never blocks: what cannot be queued is dropped, and the protocol sends again.
///
/// # Another transport
///
/// A transport is made with the [`NodeHandle`](crate::runtime::NodeHandle) of its node, through which it delivers what arrives, and
/// handed to [`Node::start`](crate::Node::start). It brings its own threads or tasks: it works the same under both runtimes, as long
/// as nothing here waits. What it has to provide, and how one over ZeroMQ would:
///
/// | promise | [`tcp`] | over ZeroMQ |
/// | --- | --- | --- |
/// | Messages from one node to another arrive in order or not at all, and none twice, unless it [says](Self::keeps_order) that they may not. Gaps are fine | one connection each way, made anew when it is lost; the newest counts | a DEALER for each peer, connected to that peer's ROUTER. It connects again by itself, so each message carries a number that grows, and what is not newer is dropped |
/// | A message arrives as it was sent | frames with a checksum ([`codec::frame`](crate::codec::frame)) | the same frame as the one part of a message |
/// | It reaches the node that it is for, of the same cluster, and names its true sender | a handshake on each connection ([`codec::handshake`](crate::codec::handshake)) | the same handshake as the first message each way; a ROUTER's identities prove nothing |
/// | Nothing of an earlier life of either node is delivered after a later one, and no life that has forgotten what it promised is listened to (`docs/ARCHITECTURE.md`, "Identity") | the handshake tells the life; the receiver remembers the latest, durably ([`PeerMemory`](crate::storage::PeerMemory)) | the same; each message also carries the life, since a connection is not seen to begin |
/// | What a peer says too fast waits, or is lost, before it fills memory | the socket is not read while the inbox is full ([`has_room`](crate::runtime::NodeHandle::has_room)) | `ZMQ_RCVHWM` and the same, or [`try_deliver`](crate::runtime::NodeHandle::try_deliver) |
/// | [`send`](Self::send) never waits, and tells of what it dropped | a bounded queue for each peer | `ZMQ_DONTWAIT` and `ZMQ_SNDHWM`: `EAGAIN` is [`Undelivered`] |
/// | The node is told when a peer can be reached, and when no more: [`Input::Link`](crate::runtime::Input::Link). It decides whether a node that stops waits for the next leader | the connection is welcomed, or lost | a socket monitor: the handshake's answer, `ZMQ_EVENT_DISCONNECTED` |
/// | Snapshots do not delay messages | a connection each | a second socket, at both ends of which [`transfer`] does the rest |
///
/// In outline, over anything that queues a whole message or says at once that it cannot:
///
/// ```
/// use std::{collections::BTreeMap, sync::Arc};
/// use bytes::BytesMut;
/// use raft::codec::{frame, peer};
/// use raft::consensus::{NodeId, SnapshotMeta, Term};
/// use raft::runtime::{Input, Life, NodeHandle};
/// use raft::storage::snapshot::SnapshotStore;
/// use raft::transport::{PeerMessage, Transport, Undelivered};
///
/// const LIMIT_BYTES: usize = 32 << 20;
/// # struct Socket;
/// # impl Socket { fn send_at_once(&self, _: &[u8]) -> Result<(), ()> { Ok(()) } }
///
/// struct MyTransport { life: Life, peers: BTreeMap<NodeId, Socket> }
///
/// impl Transport for MyTransport {
///     fn life(&self) -> Life { self.life }
///
///     fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
///         let mut bytes = Vec::new();
///         peer::encode(&message, LIMIT_BYTES, &mut bytes).map_err(|_| Undelivered)?;
///         self.peers.get(&to).ok_or(Undelivered)?.send_at_once(&bytes).map_err(|()| Undelivered)
///     }
///
///     // What `send` queues leaves by itself.
///     fn flush(&mut self) {}
///
///     // Without these a follower that is too far behind stays behind: `transfer::Sending` and `transfer::Receiving` do it.
///     fn keep_snapshots_in(&mut self, _: Arc<dyn SnapshotStore>) {}
///     fn send_snapshot(&mut self, _: NodeId, _: Term, _: SnapshotMeta) -> Result<(), Undelivered> { Err(Undelivered) }
///     fn abandon_snapshots(&mut self) {}
/// }
///
/// /// What a thread does with each message of a peer whose handshake was answered with a welcome.
/// fn arrived(node: &NodeHandle, (from, life): (NodeId, Life), bytes: &[u8]) -> Result<(), String> {
///     let frame = frame::decode(&mut BytesMut::from(bytes), LIMIT_BYTES).map_err(|error| error.to_string())?;
///     let message = peer::decode(frame.ok_or("not a whole message")?).map_err(|error| error.to_string())?;
///     node.try_deliver(Input::Peer { from, life, message });
///     Ok(())
/// }
/// ```
pub trait Transport: Send {
    /// This node's life, which all its messages carry.
    fn life(&self) -> Life;

    /// Whether messages to a peer overtake each other never. Where they may, the requests of a client go to the leader one at a
    /// time.
    fn keeps_order(&self) -> bool {
        true
    }

    /// Queues a message. An error means that it was dropped.
    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered>;

    /// Sends out what was queued since the last flush, as far as that needs no waiting.
    fn flush(&mut self);

    /// Where the node's snapshots are: those to be sent, and those that it receives. Told once, before anything else.
    fn keep_snapshots_in(&mut self, store: Arc<dyn SnapshotStore>);

    /// Begins to send a snapshot in this term, beside the messages: it must not delay them. In place of the one that may be
    /// on its way to this peer. What becomes of it is told by
    /// [`Input::SnapshotSent`](crate::runtime::Input::SnapshotSent); the receiver is told by
    /// [`Input::SnapshotReceived`](crate::runtime::Input::SnapshotReceived). An error means that it was not begun.
    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered>;

    /// From now on this node tells its peers that it abstains. For transports that let nodes recognise each other's lives.
    fn abstain(&mut self) {}

    /// Gives up all snapshots that are on their way from here.
    fn abandon_snapshots(&mut self);
}

/// The message was dropped: the peer is not connected, or too much is queued for it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered;

/// Everything that one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// The protocol's own.
    Raft {
        /// The message.
        message: Message,
        /// The payloads of its entries, one each, if it is an `AppendEntries`.
        payloads: Vec<Payload>,
    },
    /// A client's request, passed on to the leader.
    Forward(Forward),
    /// The leader's answer to a forwarded request.
    ForwardReply {
        /// The life of the node that has forwarded it: each counts its requests anew.
        life: Life,
        /// The request's sequence number.
        sequence: u64,
        /// The answer's bytes, or why there is none.
        outcome: Result<Payload, Failure>,
    },
}

/// A client's request on its way to the leader. The sender's incarnation and boot number are those of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Only this term's leader may take it: by the time it is refused, it never will be executed.
    pub term: u64,
    /// Grows with every request this node forwards: the leader drops what it has seen already, so that nothing runs twice.
    pub sequence: u64,
    /// The client's connection at the sender: requests of one connection take effect in order.
    pub connection: u64,
    /// A write or a read.
    pub kind: ForwardKind,
    /// The command or the query.
    pub payload: Payload,
}

/// What kind of request is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardKind {
    /// Through the log.
    Write,
    /// A linearizable read.
    Read,
    /// Through the log, in a client session.
    SessionWrite(SessionSequence),
}

impl ForwardKind {
    /// Whether it goes through the log.
    pub fn is_write(self) -> bool {
        self != ForwardKind::Read
    }

    /// The client session's stamp, if it comes in one.
    pub fn session(self) -> Option<SessionSequence> {
        match self {
            ForwardKind::SessionWrite(stamp) => Some(stamp),
            ForwardKind::Write | ForwardKind::Read => None,
        }
    }
}

/// Why a request has no answer. One table for every door: section "Errors" of `docs/ARCHITECTURE.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// Never appended, and never will be: no leader, not the leader, or shutting down.
    #[error("{0}")]
    NotReady(String),
    /// Never appended, and never will be: too much is waiting already.
    #[error("{0}")]
    Overloaded(String),
    /// Never appended, and never will be: the request itself cannot be served.
    #[error("{0}")]
    Refused(String),
    /// Appended, or maybe so: the outcome is unknown.
    #[error("{0}")]
    Unknown(String),
}

impl Failure {
    /// The node has no room for another request of a client.
    pub(crate) fn inbox_is_full() -> Self {
        Failure::Overloaded("this node has more requests waiting than it can take: try again later".into())
    }

    /// Whether the request certainly did not and will not take effect.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Failure::Unknown(_))
    }
}
