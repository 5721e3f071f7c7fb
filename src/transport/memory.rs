//! Nodes in one process: a network of inboxes, for tests, examples and programs that embed a whole cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::transfer::{Link, Offer, Pace, Progress, Receiving, Sending};
use super::{PeerMessage, Transport, Undelivered};
use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::runtime::spawn_guarded;
use crate::runtime::{Input, Life, NodeHandle};
use crate::storage::snapshot::SnapshotStore;

/// A network in memory. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, (NodeHandle, Life)>,
    boots: BTreeMap<NodeId, u64>,
    isolated: BTreeSet<NodeId>,
    receiving: BTreeMap<NodeId, Arc<Mutex<Receiving>>>,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        MemoryNetwork::default()
    }

    /// Connects a node: messages to it go to this handle. It is connected until the transport is dropped.
    pub fn transport(&self, id: NodeId, node: &NodeHandle) -> MemoryTransport {
        let mut state = self.lock();
        let boot = state.boots.entry(id).or_default();
        *boot += 1;
        let life = Life { incarnation: id.0, boot: *boot };
        for peer in state.nodes.keys().filter(|peer| **peer != id) {
            node.deliver(Input::Link { peer: *peer, up: true });
        }
        state.nodes.insert(id, (node.clone(), life));
        state.tell_others(id, true);
        MemoryTransport { network: self.clone(), id, life, node: node.clone(), store: None, abandoned: Arc::default() }
    }

    /// From now on everything from and to this node is lost, and nobody is told.
    pub fn isolate(&self, id: NodeId) {
        self.lock().isolated.insert(id);
    }

    /// Nobody is isolated any more.
    pub fn heal(&self) {
        self.lock().isolated.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_others(&self, peer: NodeId, up: bool) {
        for (_, (other, _)) in self.nodes.iter().filter(|(id, _)| **id != peer) {
            other.deliver(Input::Link { peer, up });
        }
    }
}

/// One node's side of a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: MemoryNetwork,
    id: NodeId,
    life: Life,
    node: NodeHandle,
    store: Option<Arc<dyn SnapshotStore>>,
    /// Tells the snapshots on their way from here that nobody wants them.
    abandoned: Arc<AtomicBool>,
}

impl Transport for MemoryTransport {
    fn life(&self) -> Life {
        self.life
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
        let state = self.network.lock();
        let Some((node, _)) = state.nodes.get(&to) else { return Err(Undelivered) };
        if state.isolated.contains(&self.id) || state.isolated.contains(&to) {
            return Ok(());
        }
        match node.try_deliver(Input::Peer { from: self.id, life: self.life, message }) {
            true => Ok(()),
            false => Err(Undelivered),
        }
    }

    fn flush(&mut self) {}

    fn keep_snapshots_in(&mut self, store: Arc<dyn SnapshotStore>) {
        let receiving = Receiving::new(store.clone(), self.node.clone());
        self.network.lock().receiving.insert(self.id, Arc::new(Mutex::new(receiving)));
        self.store = Some(store);
    }

    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        let store = self.store.clone().ok_or(Undelivered)?;
        let abandoned = self.abandoned.clone();
        let (node, failed) = (self.node.clone(), self.node.clone());
        let sending = Sending { node, store, to, term, snapshot, pace: PACE, abandoned };
        let link = MemoryLink { network: self.network.clone(), from: self.id, to, said: None };
        spawn_guarded(
            format!("snapshot-{}-{to}", self.id),
            move || sending.run(|| Ok(link)),
            move |reason| {
                failed.deliver(Input::Failed { reason });
            },
        )
        .map(drop)
        .map_err(|_| Undelivered)
    }

    fn abandon_snapshots(&mut self) {
        std::mem::take(&mut self.abandoned).store(true, Ordering::Release);
    }
}

/// Chunks small enough for many of them in a test.
const PACE: Pace = Pace { chunk_bytes: 16 << 10, window: 1, rate_bytes: u64::MAX, patience: Duration::from_secs(2) };

/// The way of a snapshot from one node to another.
struct MemoryLink {
    network: MemoryNetwork,
    from: NodeId,
    to: NodeId,
    /// What the receiver has said.
    said: Option<Result<Progress, String>>,
}

impl MemoryLink {
    /// The receiver, unless one of the two is isolated.
    fn receiving(&self) -> Option<Arc<Mutex<Receiving>>> {
        let state = self.network.lock();
        let is_cut = [self.from, self.to].iter().any(|id| state.isolated.contains(id) || !state.nodes.contains_key(id));
        state.receiving.get(&self.to).filter(|_| !is_cut).cloned()
    }

    fn say(&mut self, act: impl FnOnce(&mut Receiving) -> Result<Progress, String>) {
        let receiving = self.receiving();
        self.said = receiving.map(|receiving| act(&mut receiving.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

impl Link for MemoryLink {
    fn offer(&mut self, offer: &Offer) -> Result<(), String> {
        let from = self.from;
        self.say(|receiving| receiving.offer(from, offer.clone()));
        Ok(())
    }

    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let from = self.from;
        self.say(|receiving| receiving.chunk(from, offset, bytes));
        Ok(())
    }

    fn progress(&mut self, patience: Duration) -> Result<Progress, String> {
        self.said.take().unwrap_or_else(|| {
            std::thread::sleep(patience);
            Err(format!("no progress within {} ms", patience.as_millis()))
        })
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.abandon_snapshots();
        let mut state = self.network.lock();
        // A later life of the same node may have taken its place.
        if state.nodes.get(&self.id).is_some_and(|(_, life)| *life == self.life) {
            state.nodes.remove(&self.id);
            state.receiving.remove(&self.id);
            state.tell_others(self.id, false);
        }
    }
}
