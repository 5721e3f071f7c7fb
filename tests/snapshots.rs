//! Snapshots in running nodes: threads, a network in memory, and logs that are compacted all the time.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::consensus::{Index, NodeId, Role};
use raft::machine::{Applied, Asked, Machine, MachineSnapshot};
use raft::runtime::{NodeHandle, NodeStatus};
use raft::storage::{InMemoryStorage, Storage};
use raft::transport::Failure;
use raft::transport::memory::MemoryNetwork;
use raft::{Node, NodeOptions};

/// Everything that is awaited comes long before, or the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers all commands in order, and counts in `applied` how many it was given.
#[derive(Clone, Default)]
struct Words {
    words: Vec<Bytes>,
    applied: Arc<AtomicU64>,
}

impl Machine for Words {
    fn apply(&mut self, applied: Applied<'_>) -> Bytes {
        self.applied.fetch_add(1, Ordering::Relaxed);
        self.words.push(applied.command.clone());
        self.words.len().to_string().into()
    }

    fn query(&self, _: Asked<'_>) -> Bytes {
        self.words.join(&b'\n').into()
    }

    fn digest(&self) -> u64 {
        self.words.len() as u64
    }

    fn snapshot(&self) -> Option<Box<dyn MachineSnapshot>> {
        Some(Box::new(View(self.words.clone())))
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), String> {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(|error| error.to_string())?;
        self.words = text.lines().map(|line| Bytes::from(line.to_owned())).collect();
        Ok(())
    }
}

struct View(Vec<Bytes>);

impl MachineSnapshot for View {
    fn write(self: Box<Self>, to: &mut dyn Write) -> io::Result<()> {
        self.0.iter().try_for_each(|word| to.write_all(word).and_then(|()| to.write_all(b"\n")))
    }
}

struct Cluster {
    network: MemoryNetwork,
    members: Vec<NodeId>,
    limits: (u64, u64),
    storages: BTreeMap<NodeId, InMemoryStorage>,
    applied: BTreeMap<NodeId, Arc<AtomicU64>>,
    nodes: BTreeMap<NodeId, Node>,
}

impl Cluster {
    /// Nodes that make a snapshot after so many bytes, or so many entries.
    fn new(size: u64, snapshot_bytes: u64, snapshot_entries: u64) -> Self {
        let members: Vec<NodeId> = (1..=size).map(NodeId).collect();
        let mut cluster = Cluster {
            network: MemoryNetwork::new(),
            storages: members.iter().map(|&id| (id, InMemoryStorage::new())).collect(),
            applied: BTreeMap::new(),
            members: members.clone(),
            limits: (snapshot_bytes, snapshot_entries),
            nodes: BTreeMap::new(),
        };
        members.into_iter().for_each(|id| cluster.start(id));
        cluster
    }

    fn start(&mut self, id: NodeId) {
        let storage = self.storages[&id].reopen();
        let machine = Words::default();
        self.applied.insert(id, machine.applied.clone());
        let mut options = NodeOptions::new(id, self.members.clone());
        options.server.election_timeout = Duration::from_millis(100);
        options.server.heartbeat_interval = Duration::from_millis(20);
        (options.snapshot_bytes, options.snapshot_entries) = self.limits;
        let connect = |handle: &NodeHandle| self.network.transport(id, handle);
        let node = Node::start(options, Box::new(storage.reopen()), Box::new(machine), connect).unwrap();
        self.storages.insert(id, storage);
        self.nodes.insert(id, node);
    }

    fn kill(&mut self, id: NodeId) {
        self.nodes.remove(&id).unwrap().kill();
    }

    fn status(&self, id: NodeId) -> NodeStatus {
        self.nodes[&id].status().unwrap()
    }

    fn leader(&self) -> NodeId {
        let leads = |id: &&NodeId| self.status(**id).role == Role::Leader;
        let mut leader = None;
        await_that("a leader", || {
            leader = self.nodes.keys().find(leads).copied();
            leader.is_some()
        });
        leader.unwrap()
    }

    fn follower(&self) -> NodeId {
        let leader = self.leader();
        self.members.iter().copied().find(|id| *id != leader).unwrap()
    }

    /// Writes `from..to`, each until it is acknowledged; a word whose outcome is unknown may be there twice.
    fn write(&self, range: std::ops::Range<u64>) {
        for number in range {
            await_that("an acknowledged write", || {
                let node = self.nodes.values().next().unwrap();
                match node.propose(format!("word {number:>50}")) {
                    Ok(_) => true,
                    Err(Failure::Unknown(_) | Failure::NotReady(_) | Failure::Overloaded(_)) => false,
                    Err(failure) => panic!("{failure}"),
                }
            });
        }
    }

    fn await_same_state(&self) -> Vec<u8> {
        let mut words = Vec::new();
        await_that("the same state everywhere", || {
            let ask = |id: &NodeId| self.nodes[id].query("").unwrap_or_default();
            let last = self.nodes.keys().map(|id| self.status(*id).applied).collect::<std::collections::BTreeSet<_>>();
            words = self.nodes.keys().map(ask).collect::<Vec<_>>();
            last.len() == 1 && words.iter().all(|state| *state == words[0] && !state.is_empty())
        });
        words[0].to_vec()
    }

    /// The first entry that a node's log still has.
    fn first(&self, id: NodeId) -> u64 {
        let reader = self.storages[&id].reader();
        let last = self.status(id).last;
        (1..=last + 1)
            .find(|&index| !reader.read(Index(index), Index(index), 1).unwrap().is_empty())
            .unwrap_or(last + 1)
    }

    fn snapshot(&self, id: NodeId) -> u64 {
        self.storages[&id].snapshots().latest().map_or(0, |info| info.meta.index.0)
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn contains_all(state: &[u8], upto: u64) {
    let state = String::from_utf8_lossy(state);
    let mut expected = 0;
    for line in state.lines() {
        let number: u64 = line.trim_start_matches("word").trim().parse().unwrap();
        expected += u64::from(number == expected);
    }
    assert_eq!(expected, upto, "words are missing, or not in order");
}

#[test]
fn a_follower_far_behind_catches_up_by_snapshot_and_then_by_log() {
    let mut cluster = Cluster::new(3, 4096, u64::MAX);
    cluster.write(0..10);
    let behind = cluster.follower();
    let had = cluster.status(behind).last;
    cluster.kill(behind);
    cluster.write(10..600);
    let leader = cluster.leader();
    await_that("compaction", || cluster.first(leader) > had + 1);
    cluster.start(behind);
    // The leader serves meanwhile.
    cluster.write(600..700);
    contains_all(&cluster.await_same_state(), 700);
    assert!(cluster.snapshot(behind) > had, "it got a snapshot");
    let applied = cluster.applied[&behind].load(Ordering::Relaxed);
    assert!(applied < 700, "{applied} commands were applied: some came with the snapshot");
    for id in cluster.members.clone() {
        assert!(cluster.first(id) > 300, "node {id} has its log from {}", cluster.first(id));
        assert_eq!(cluster.storages[&id].snapshots().list().len(), 1, "the older ones are gone");
    }
}

#[test]
fn a_restart_goes_on_from_the_snapshot_and_the_log_after_it() {
    let mut cluster = Cluster::new(1, 4096, u64::MAX);
    cluster.write(0..300);
    let id = NodeId(1);
    await_that("a snapshot", || cluster.snapshot(id) > 100);
    for round in 0..3 {
        cluster.kill(id);
        let snapshot = cluster.snapshot(id);
        cluster.start(id);
        cluster.write(300 + round..301 + round);
        contains_all(&cluster.await_same_state(), 301 + round);
        let applied = cluster.applied[&id].load(Ordering::Relaxed);
        assert!(applied <= cluster.status(id).last - snapshot, "{applied} were applied after {snapshot}");
    }
}

#[test]
fn snapshots_in_quick_succession_lose_nothing_whoever_restarts_meanwhile() {
    let mut cluster = Cluster::new(3, 1, 1);
    for round in 0..6 {
        let from = 50 * round;
        cluster.write(from..from + 20);
        let victim = if round % 2 == 0 { cluster.follower() } else { cluster.leader() };
        cluster.kill(victim);
        cluster.write(from + 20..from + 50);
        cluster.start(victim);
    }
    contains_all(&cluster.await_same_state(), 300);
}

#[test]
fn a_follower_that_was_cut_off_gets_a_snapshot_from_whoever_leads() {
    let cluster = Cluster::new(3, 4096, u64::MAX);
    cluster.write(0..10);
    // Whoever is cut off may be the leader, and finds out when it is back.
    for round in 0..4 {
        let victim = if round % 2 == 0 { cluster.leader() } else { cluster.follower() };
        cluster.network.isolate(victim);
        let others: Vec<&Node> = cluster.nodes.iter().filter(|(id, _)| **id != victim).map(|(_, node)| node).collect();
        for number in 0..200 {
            await_that("an acknowledged write", || {
                others[0].propose(format!("word {:>50}", 10 + 200 * round + number)).is_ok()
            });
        }
        cluster.network.heal();
        contains_all(&cluster.await_same_state(), 10 + 200 * (round + 1));
    }
}
