//! What a whole cluster costs without disk and sockets: three nodes in one process, with InMemoryStorage, and so many empty
//! proposals under way, each of which is followed by the next as soon as it is answered. `cargo bench --bench cluster` prints
//! writes per second; with `-- --test` each runs for a blink.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::consensus::{NodeId, Payload};
use raft::machine::{Applied, Asked, Machine};
use raft::runtime::{ClientRequest, NodeHandle, Operation, Outcome, Reply, ReplySink};
use raft::storage::InMemoryStorage;
use raft::transport::memory::MemoryNetwork;
use raft::{Node, NodeOptions};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Counts commands.
struct Count(u64);

impl Machine for Count {
    fn apply(&mut self, _: Applied<'_>) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn query(&self, _: Asked<'_>) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn is_brief(&self, _: Applied<'_>) -> bool {
        true
    }

    fn digest(&self) -> u64 {
        self.0
    }
}

/// Clients, each of which proposes again when it is answered.
struct Clients {
    me: Weak<Clients>,
    leader: NodeHandle,
    is_over: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Clients {
    fn propose(&self, client: u64) {
        let Some(me) = self.me.upgrade() else { return };
        let reply = Reply::new(me, client);
        let operation = Operation::Write(Payload::EMPTY);
        let request = ClientRequest { connection: client, operation, forward: true, reply };
        assert!(self.leader.enqueue(request).is_ok(), "there is room for all clients");
    }
}

impl ReplySink for Clients {
    fn reply(&self, client: u64, outcome: Outcome) {
        let counter = if outcome.is_ok() { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if !self.is_over.load(Ordering::Relaxed) {
            self.propose(client);
        }
    }

    fn flush(&self) {
        self.leader.ring();
    }
}

/// Prints a line of the table for so many clients, measured for so long.
fn measure(clients: u64, time: Duration) -> Result<(), Box<dyn Error>> {
    let network = MemoryNetwork::new();
    let start = |id: NodeId| {
        let (storage, machine) = (Box::new(InMemoryStorage::new()), Box::new(Count(0)));
        Node::start(NodeOptions::new(id, NODES), storage, machine, |handle| network.transport(id, handle))
    };
    let nodes = NODES.into_iter().map(start).collect::<Result<Vec<Node>, _>>()?;
    nodes[0].propose(Bytes::new())?;
    let leader = nodes[0].status()?.leader.ok_or("a leader has just answered")?;
    let leader = nodes[NODES.iter().position(|id| *id == leader).ok_or("a node leads")?].handle();
    let load = Arc::new_cyclic(|me| Clients {
        me: me.clone(),
        leader,
        is_over: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    (0..clients).for_each(|client| load.propose(client));
    load.flush();
    thread::sleep(time / 4);
    let (began, before) = (Instant::now(), load.answered.load(Ordering::Relaxed));
    thread::sleep(time);
    let (answered, seconds) = (load.answered.load(Ordering::Relaxed) - before, began.elapsed().as_secs_f64());
    load.is_over.store(true, Ordering::Relaxed);
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "leadership did not change");
    let rate = answered as f64 / seconds;
    println!("| {clients} | {rate:.0} | {:.1} |", clients as f64 / rate * 1e6);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let time = if is_test { Duration::from_millis(50) } else { Duration::from_secs(4) };
    println!("| proposals under way | writes / s | µs each |");
    println!("| ---: | ---: | ---: |");
    [1, 64, 256, 4096].into_iter().try_for_each(|clients| measure(clients, time))
}
