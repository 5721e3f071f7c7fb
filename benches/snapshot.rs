//! What a node's clients notice of a snapshot of 1 GiB of state: the longest time between two answers, each of which
//! takes an append, a sync and an apply. `cargo bench --bench snapshot` prints it for the time without and with one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use raft::consensus::{Membership, NodeId, Payload};
use raft::machine::Composite;
use raft::machine::command::{Change, Command, Condition};
use raft::runtime::{ClientRequest, NodeHandle, Operation, Outcome, Reply, ReplySink};
use raft::storage::{FileStorage, OpenOptions, Storage};
use raft::transport::memory::MemoryNetwork;
use raft::{Node, NodeOptions};

const VALUE_BYTES: usize = 1000;
const KEYS: u64 = 1 << 20;
const PIPELINE: u64 = 64;

struct Sink(Sender<Instant>);

impl ReplySink for Sink {
    fn reply(&self, _: u64, outcome: Outcome) {
        outcome.expect("every write is done");
        self.0.send(Instant::now()).expect("somebody measures");
    }
}

fn write(node: &NodeHandle, sink: &Arc<Sink>, number: u64) {
    let key = format!("key:{:016x}", number % KEYS).into();
    let value = vec![number as u8; VALUE_BYTES].into();
    let command = Command::Change(Change::Set { key, value, condition: Condition::Always, want_old: false });
    let operation = Operation::Write(Payload(command.encode()));
    let reply = Reply::new(sink.clone(), number);
    let request = ClientRequest { connection: 1, operation, forward: true, reply };
    assert!(node.request(request).is_ok(), "the inbox has room");
}

/// Keeps so many writes under way until `done`, and returns the times between answers, the longest last.
fn run(
    node: &NodeHandle,
    answers: (&Arc<Sink>, &Receiver<Instant>),
    next: &mut u64,
    pipeline: u64,
    mut done: impl FnMut(u64) -> bool,
) -> Vec<Duration> {
    let (sink, answers) = answers;
    (0..pipeline).for_each(|_| {
        write(node, sink, *next);
        *next += 1;
    });
    let (mut gaps, mut last) = (Vec::new(), Instant::now());
    while !done(*next) {
        let answered = answers.recv().expect("the node runs");
        gaps.push(answered.saturating_duration_since(last));
        last = answered;
        write(node, sink, *next);
        *next += 1;
    }
    (0..pipeline).for_each(|_| _ = answers.recv());
    gaps.sort_unstable();
    gaps
}

fn show(what: &str, gaps: &[Duration]) {
    let at = |per_mille: usize| gaps[(gaps.len() - 1) * per_mille / 1000];
    println!(
        "{what}: {} writes; between answers p50 {:?}, p99.9 {:?}, longest {:?}",
        gaps.len(),
        at(500),
        at(999),
        at(1000)
    );
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let id = NodeId(1);
    let storage = FileStorage::open(&OpenOptions {
        folder: folder.path().join("A"),
        cluster_id: 1,
        node: id,
        membership: Membership::of_voters([id]),
        segment_bytes: 16 << 20,
        rejoin: false,
    })
    .expect("a data folder");
    let snapshots = storage.snapshots();
    let network = MemoryNetwork::new();
    let mut options = NodeOptions::new(id, [id]);
    // The first snapshot comes when the whole state is there, and twice as much was written.
    (options.snapshot_bytes, options.snapshot_entries) = (u64::MAX, 2 * KEYS);
    let connect = |handle: &NodeHandle| network.transport(id, handle);
    let node = Node::start(options, Box::new(storage), Box::new(Composite::default()), connect).expect("a node");
    let handle = node.handle();
    while node.status().expect("a status").leader.is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (sender, answers) = unbounded();
    let (sink, mut next) = (Arc::new(Sink(sender)), 0);
    run(&handle, (&sink, &answers), &mut next, 2000, |next| next >= 2 * KEYS - 100_000);
    let start = Instant::now();
    show(
        "without",
        &run(&handle, (&sink, &answers), &mut next, PIPELINE, |next| {
            start.elapsed() > Duration::from_secs(3) || next >= 2 * KEYS - 3000
        }),
    );
    run(&handle, (&sink, &answers), &mut next, PIPELINE, |next| next >= 2 * KEYS - 2000);
    let start = Instant::now();
    let gaps = run(&handle, (&sink, &answers), &mut next, PIPELINE, |_| snapshots.latest().is_some());
    show("with a snapshot", &gaps);
    let bytes = snapshots.latest().map_or(0, |info| info.bytes);
    println!("{} MiB, durable after {:?}", bytes >> 20, start.elapsed());
    node.stop(Duration::from_secs(10)).expect("the node stops");
}
