//! How a snapshot gets from one node to another, whatever carries it.
//!
//! The sender offers it, the receiver says how much of it it has, and gets the rest in chunks, each of which it
//! acknowledges. It says that all is complete once every byte was checked and is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::runtime::{Input, NodeHandle};
use crate::storage::snapshot::{SnapshotReceiver, SnapshotStore};

/// A receiver checks at least so many bytes in a second: that is how long it may take to say what it has, or to complete it.
const CHECKED_BYTES_PER_SECOND: u64 = 16 << 20;

/// A snapshot to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The leader's term.
    pub term: Term,
    /// What it covers.
    pub snapshot: SnapshotMeta,
    /// Size of its file in bytes.
    pub bytes: u64,
}

/// How much of it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes from its beginning: the offset to go on from.
    pub received: u64,
    /// All of it is there, checked and durable.
    pub complete: bool,
}

/// What a sender has of its way to a receiver. The errors are for people.
pub trait Link {
    /// Says what is to be sent.
    fn offer(&mut self, offer: &Offer) -> Result<(), String>;
    /// Sends the bytes at this offset.
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String>;
    /// Waits for the next word of the receiver, for no longer than this.
    fn progress(&mut self, patience: Duration) -> Result<Progress, String>;
}

/// How fast, and in what pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Size of a chunk.
    pub chunk_bytes: usize,
    /// Most chunks that are not acknowledged.
    pub window: u64,
    /// Most bytes in a second.
    pub rate_bytes: u64,
    /// Without an acknowledgement for so long, the snapshot is given up.
    pub patience: Duration,
}

/// The shortest time without progress after which a snapshot is given up.
pub fn patience(election_timeout: Duration) -> Duration {
    (4 * election_timeout).max(Duration::from_secs(2))
}

/// One snapshot on its way out.
pub struct Sending {
    /// Where it is.
    pub store: Arc<dyn SnapshotStore>,
    /// To whom it goes.
    pub to: NodeId,
    /// In which term.
    pub term: Term,
    /// What it is.
    pub snapshot: SnapshotMeta,
    /// How fast.
    pub pace: Pace,
    /// Set when nobody wants it any more.
    pub abandoned: Arc<AtomicBool>,
}

impl Sending {
    /// Checks all of the snapshot, then sends it over the link that `connect` makes, and tells the node how that went.
    pub fn run<L: Link>(self, connect: impl FnOnce() -> Result<L, String>, node: &NodeHandle) {
        let outcome = self.store.verify(&self.snapshot).map_err(|error| error.to_string());
        let outcome = outcome.and_then(|()| self.send(&mut connect()?));
        let Sending { to, term, snapshot, .. } = self;
        node.deliver(Input::SnapshotSent { to, term, index: snapshot.index, outcome });
    }

    fn send(&self, link: &mut impl Link) -> Result<(), String> {
        // Stays readable, even if a newer one takes its place.
        let reader = self.store.open(&self.snapshot).map_err(|error| error.to_string())?;
        let bytes = reader.info().bytes;
        let Pace { chunk_bytes, window, rate_bytes, patience } = self.pace;
        let to_check = patience + Duration::from_secs(bytes / CHECKED_BYTES_PER_SECOND);
        link.offer(&Offer { term: self.term, snapshot: self.snapshot.clone(), bytes })?;
        let mut progress = link.progress(to_check)?;
        let (mut offset, start, first) = (progress.received, Instant::now(), progress.received);
        let mut buffer = vec![0; chunk_bytes];
        while !progress.complete {
            if self.abandoned.load(Ordering::Acquire) {
                return Err("it is no longer wanted".into());
            }
            if progress.received > offset {
                return Err(format!("{} bytes are acknowledged, {offset} were sent", progress.received));
            }
            if offset < bytes && offset - progress.received < window * chunk_bytes as u64 {
                let count = reader.read_at(offset, &mut buffer).map_err(|error| error.to_string())?;
                let chunk = buffer.get(..count).filter(|chunk| !chunk.is_empty());
                link.chunk(offset, chunk.ok_or("its file has become shorter")?)?;
                offset += count as u64;
                let due = start + Duration::from_secs_f64((offset - first) as f64 / rate_bytes.max(1) as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()).min(patience / 2));
            } else {
                progress =
                    link.progress(if progress.received + chunk_bytes as u64 >= bytes { to_check } else { patience })?;
            }
        }
        Ok(())
    }
}

/// Takes one snapshot at a time in.
pub struct Receiving {
    store: Arc<dyn SnapshotStore>,
    node: NodeHandle,
    current: Option<(NodeId, Offer, Box<dyn SnapshotReceiver>)>,
}

impl Receiving {
    /// Takes snapshots into this store, and tells this node.
    pub fn new(store: Arc<dyn SnapshotStore>, node: NodeHandle) -> Self {
        Receiving { store, node, current: None }
    }

    /// A node offers a snapshot: what there was of another one is left as it is.
    pub fn offer(&mut self, from: NodeId, offer: Offer) -> Result<Progress, String> {
        self.current = None;
        if let Some(latest) = self.store.latest().filter(|latest| latest.meta.index >= offer.snapshot.index) {
            // The node has not gone on from it, or it would not have been offered: its leader was lost, say.
            self.tell(from, offer.term, latest.meta);
            return Ok(Progress { received: offer.bytes, complete: true });
        }
        let receiver = self.store.receive(&offer.snapshot, offer.bytes).map_err(|error| error.to_string())?;
        self.current = Some((from, offer, receiver));
        self.progress()
    }

    /// The bytes at an offset of what this node has offered.
    pub fn chunk(&mut self, from: NodeId, offset: u64, bytes: &[u8]) -> Result<Progress, String> {
        let current = self.current.as_mut().filter(|(sender, ..)| *sender == from);
        let (_, _, receiver) = current.ok_or("a part of a snapshot that was not offered")?;
        receiver.write(offset, bytes).map_err(|error| error.to_string())?;
        self.progress()
    }

    /// The sender is gone. What has arrived stays, for the next time.
    pub fn end(&mut self) {
        self.current = None;
    }

    fn progress(&mut self) -> Result<Progress, String> {
        let is_whole =
            |current: &mut (NodeId, Offer, Box<dyn SnapshotReceiver>)| current.2.received() == current.1.bytes;
        match self.current.take_if(is_whole) {
            Some((from, offer, receiver)) => {
                receiver.finish().map_err(|error| error.to_string())?;
                self.tell(from, offer.term, offer.snapshot);
                Ok(Progress { received: offer.bytes, complete: true })
            }
            None => {
                let received = self.current.as_ref().map_or(0, |(_, _, receiver)| receiver.received());
                Ok(Progress { received, complete: false })
            }
        }
    }

    fn tell(&self, from: NodeId, term: Term, snapshot: SnapshotMeta) {
        self.node.deliver(Input::SnapshotReceived { from, term, snapshot });
    }
}
