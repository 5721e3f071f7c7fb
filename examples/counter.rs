//! A counter made replicated: three nodes in one process, the leader is killed, and counting goes on.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use raft::consensus::NodeId;
use raft::machine::{Applied, Asked, Machine};
use raft::storage::InMemoryStorage;
use raft::transport::memory::MemoryNetwork;
use raft::{Node, NodeOptions};

struct Counter(i64);

impl Machine for Counter {
    fn apply(&mut self, applied: Applied<'_>) -> Bytes {
        match &applied.command[..] {
            b"up" => self.0 += 1,
            b"down" => self.0 -= 1,
            _ => return Bytes::from_static(b"a counter goes up or down"),
        }
        self.0.to_string().into()
    }

    fn query(&self, _: Asked<'_>) -> Bytes {
        self.0.to_string().into()
    }

    fn digest(&self) -> u64 {
        self.0 as u64
    }
}

/// Proposes until a leader takes it. Only what certainly never took effect may be tried again.
fn propose(node: &Node, command: &'static str) -> Result<Bytes, Box<dyn Error>> {
    loop {
        match node.propose(command) {
            Err(failure) if failure.is_definite() => {}
            outcome => return Ok(outcome?),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (network, members) = (MemoryNetwork::new(), [1, 2, 3].map(NodeId));
    let mut nodes = BTreeMap::new();
    for id in members {
        let (storage, machine) = (Box::new(InMemoryStorage::new()), Box::new(Counter(0)));
        let connect = |handle: &_| network.transport(id, handle);
        nodes.insert(id, Node::start(NodeOptions::new(id, members), storage, machine, connect)?);
    }
    assert_eq!(propose(&nodes[&members[0]], "up")?, "1");
    let leader = nodes[&members[0]].status()?.leader.ok_or("a leader has just answered")?;
    nodes.remove(&leader).ok_or("the leader is one of the nodes")?.kill();
    for (count, node) in (2..).zip(nodes.values()) {
        assert_eq!(propose(node, "up")?, count.to_string());
    }
    println!("node {leader} was killed, and the counter is at 3");
    Ok(())
}
