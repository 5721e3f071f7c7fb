//! Nodes in one process: a network of inboxes, for tests, examples and programs that embed a whole cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{PeerMessage, Transport, Undelivered};
use crate::consensus::NodeId;
use crate::runtime::{Input, Life, NodeHandle};

/// A network in memory. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, (NodeHandle, Life)>,
    boots: BTreeMap<NodeId, u64>,
    isolated: BTreeSet<NodeId>,
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
        state.nodes.insert(id, (node.clone(), life));
        state.tell_others(id, true);
        MemoryTransport { network: self.clone(), id, life }
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
            // A full inbox, or a node that has stopped: it will notice by its messages.
            other.try_deliver(Input::Link { peer, up });
        }
    }
}

/// One node's side of a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: MemoryNetwork,
    id: NodeId,
    life: Life,
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
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        // A later life of the same node may have taken its place.
        if state.nodes.get(&self.id).is_some_and(|(_, life)| *life == self.life) {
            state.nodes.remove(&self.id);
            state.tell_others(self.id, false);
        }
    }
}
