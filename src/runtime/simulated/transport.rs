//! A simulated node's way out: encodes what is sent as it would be for TCP, and leaves it for the network to take.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::codec::peer;
use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::runtime::Life;
use crate::storage::snapshot::SnapshotStore;
use crate::transport::{PeerMessage, Transport, Undelivered};

/// Longest body of a frame.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// What a node wants sent.
pub enum Outgoing {
    /// A message, and the frame that it was encoded as.
    Frame {
        /// To whom.
        to: NodeId,
        /// The message.
        message: PeerMessage,
        /// The frame.
        bytes: Bytes,
    },
    /// A snapshot.
    Snapshot {
        /// To whom.
        to: NodeId,
        /// In which term.
        term: Term,
        /// Which.
        snapshot: SnapshotMeta,
        /// Set when it is no longer wanted.
        abandoned: Arc<AtomicBool>,
    },
}

/// What a node and the network share. Clones share it.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    /// Peers that have welcomed this node's connection.
    connected: BTreeSet<NodeId>,
    outgoing: Vec<Outgoing>,
}

impl Outbox {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be sent, in order.
    pub fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.contents().outgoing)
    }

    /// A connection to this peer is up, or not. Returns whether that is news.
    pub fn connect(&self, peer: NodeId, up: bool) -> bool {
        let connected = &mut self.contents().connected;
        if up { connected.insert(peer) } else { connected.remove(&peer) }
    }

    /// Whether a connection to this peer is up.
    pub fn is_connected(&self, peer: NodeId) -> bool {
        self.contents().connected.contains(&peer)
    }
}

/// The transport of one simulated node.
pub struct SimulatedTransport {
    life: Life,
    keeps_order: bool,
    outbox: Outbox,
    /// Where frames are written first: it need not grow for each of them.
    scratch: Vec<u8>,
    /// Tells the snapshots on their way from here that nobody wants them.
    abandoned: Arc<AtomicBool>,
}

impl SimulatedTransport {
    /// A transport of a node in this life, which leaves everything in this outbox.
    pub fn new(life: Life, keeps_order: bool, outbox: Outbox) -> Self {
        SimulatedTransport { life, keeps_order, outbox, scratch: Vec::new(), abandoned: Arc::default() }
    }
}

impl Transport for SimulatedTransport {
    fn life(&self) -> Life {
        self.life
    }

    fn keeps_order(&self) -> bool {
        self.keeps_order
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
        if !self.outbox.is_connected(to) {
            return Err(Undelivered);
        }
        self.scratch.clear();
        peer::encode(&message, MAX_FRAME_BYTES, &mut self.scratch).map_err(|_| Undelivered)?;
        let bytes = Bytes::copy_from_slice(&self.scratch);
        self.outbox.contents().outgoing.push(Outgoing::Frame { to, message, bytes });
        Ok(())
    }

    fn flush(&mut self) {}

    fn keep_snapshots_in(&mut self, _: Arc<dyn SnapshotStore>) {}

    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        if !self.outbox.is_connected(to) {
            return Err(Undelivered);
        }
        let abandoned = self.abandoned.clone();
        self.outbox.contents().outgoing.push(Outgoing::Snapshot { to, term, snapshot, abandoned });
        Ok(())
    }

    fn abandon_snapshots(&mut self) {
        std::mem::take(&mut self.abandoned).store(true, Ordering::Release);
    }
}
