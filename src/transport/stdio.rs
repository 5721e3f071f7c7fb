//! Between nodes over standard input and output: one JSON object a line, carried by whoever runs the nodes, such as
//! Maelstrom.
//!
//! Both streams are shared with the clients, so the lines that come in are taken apart by
//! [`gateway::maelstrom`](crate::gateway::maelstrom), which hands peers' messages to [`Wire::decode`].

pub mod input;
mod op;
pub mod output;
mod snapshots;
mod wire;

use std::sync::Arc;

pub use output::Output;
pub use snapshots::Snapshots;
pub use wire::{Received, Said, Wire};

use super::{PeerMessage, Transport, Undelivered};
use crate::consensus::{NodeId, SnapshotMeta, Term};
use crate::runtime::{Life, NodeHandle};
use crate::storage::snapshot::SnapshotStore;

/// Most nodes of a cluster.
pub const NODES_MAX: usize = 9;

/// The nodes' names. A node's id is the position of its name, from 1, among all names in order, so that every node
/// finds the same ids by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    sorted: Vec<String>,
    me: NodeId,
}

impl Names {
    /// The names that `init` told. Fails, saying why, unless they are one to nine different ones and `me` is among them.
    pub fn new(me: &str, mut names: Vec<String>) -> Result<Names, String> {
        if names.is_empty() || names.len() > NODES_MAX {
            return Err(format!("`node_ids` must name 1 to {NODES_MAX} nodes, not {}", names.len()));
        }
        names.sort();
        if let Some(twice) = names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first())) {
            return Err(format!("`node_ids` names {twice:?} twice"));
        }
        let Ok(position) = names.binary_search_by(|name| name.as_str().cmp(me)) else {
            return Err(format!("`node_id` is {me:?}, which is not among `node_ids`"));
        };
        Ok(Names { sorted: names, me: NodeId(position as u64 + 1) })
    }

    /// This node's id.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// This node's name.
    pub fn my_name(&self) -> &str {
        self.name(self.me).unwrap_or_default()
    }

    /// Every node's id, in order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        (1..).map(NodeId).take(self.sorted.len())
    }

    /// What a cluster of these nodes is called: their names in order, as a JSON array.
    pub fn cluster_name(&self) -> String {
        serde_json::Value::from(self.sorted.clone()).to_string()
    }

    /// The name of a node.
    pub fn name(&self, id: NodeId) -> Option<&str> {
        let position = usize::try_from(id.0.checked_sub(1)?).ok()?;
        self.sorted.get(position).map(String::as_str)
    }

    /// The node of this name.
    pub fn id(&self, name: &str) -> Option<NodeId> {
        let position = self.sorted.binary_search_by(|other| other.as_str().cmp(name)).ok()?;
        Some(NodeId(position as u64 + 1))
    }
}

/// The transport of one node.
pub struct StdioTransport {
    wire: Arc<Wire>,
    output: Arc<Output>,
    snapshots: Arc<Snapshots>,
    node: NodeHandle,
    life: Life,
    /// Lines since the last flush.
    queued: Vec<u8>,
}

impl StdioTransport {
    /// A transport that writes to `output`, for the node in this life.
    pub fn new(wire: Arc<Wire>, output: Arc<Output>, snapshots: Arc<Snapshots>, node: NodeHandle, life: Life) -> Self {
        wire.begin_life(life);
        StdioTransport { wire, output, snapshots, node, life, queued: Vec::new() }
    }
}

impl Transport for StdioTransport {
    fn life(&self) -> Life {
        self.life
    }

    /// Whoever carries the lines may delay each of them.
    fn keeps_order(&self) -> bool {
        false
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
        if !self.output.has_room() {
            return Err(Undelivered);
        }
        let start = self.queued.len();
        let encoded = self.wire.encode(to, &message, &mut self.queued);
        let line_bytes = self.queued.len() - start;
        let problem = match encoded {
            Ok(()) if line_bytes <= input::LINE_BYTES_MAX => return Ok(()),
            Ok(()) => format!("its line has {line_bytes} bytes, {} are allowed", input::LINE_BYTES_MAX),
            Err(why) => why,
        };
        self.queued.truncate(start);
        log::error!("a message for node {to} was dropped: {problem}");
        Err(Undelivered)
    }

    fn flush(&mut self) {
        if !self.queued.is_empty() {
            self.output.lines(&self.queued);
            self.output.flush();
            self.queued.clear();
        }
    }

    fn keep_snapshots_in(&mut self, store: Arc<dyn SnapshotStore>) {
        self.snapshots.begin(self.node.clone(), store);
    }

    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        self.snapshots.send(to, term, snapshot)
    }

    fn abandon_snapshots(&mut self) {
        self.snapshots.abandon();
    }
}

impl Drop for StdioTransport {
    fn drop(&mut self) {
        self.snapshots.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_finds_the_same_ids() {
        let names = |me: &str| Names::new(me, ["n3", "n10", "ä", "n1"].map(str::to_owned).to_vec()).unwrap();
        let n3 = names("n3");
        assert_eq!((n3.me(), n3.my_name()), (NodeId(3), "n3"));
        let known: Vec<_> = n3.ids().map(|id| n3.name(id).unwrap()).collect();
        assert_eq!(known, ["n1", "n10", "n3", "ä"]);
        for name in known {
            assert_eq!(Some(names(name).me()), n3.id(name));
        }
        assert_eq!(
            (n3.id("n2"), n3.name(NodeId(0)), n3.name(NodeId(5)), n3.name(NodeId(u64::MAX))),
            (None, None, None, None)
        );
    }
}
