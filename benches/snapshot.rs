//! What a snapshot of 1 GiB of state costs the work beside it, in one process: the longest time between two appends
//! becoming durable, and between two commands being applied, while one is made and at other times under the same load.
//! `cargo bench --bench snapshot` prints both for every round. With `-- --test` it only sees whether everything runs.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use raft::config::Config;
use raft::consensus::{EntryHeader, Index, Membership, NodeId, Payload};
use raft::machine::command::{Change, Command, Condition};
use raft::machine::{Applied, Asked, Composite, Machine, MachineSnapshot};
use raft::runtime::{ClientRequest, NodeHandle, Operation, Outcome, Reply, ReplySink};
use raft::storage::snapshot::SnapshotStore;
use raft::storage::{FileStorage, LogReader, OpenOptions, Recovered, Storage, StorageError, WriteBatch};
use raft::transport::memory::MemoryNetwork;
use raft::{Node, NodeOptions};

/// As in the `raft` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 1000;
const KEYS: u64 = 1 << 20;
/// Writes under way while the state is built up.
const PIPELINE: u64 = 512;
/// Writes in a second from then on, whether earlier ones are answered or not: so a gap on one side does not cause one on the
/// other, and the load is the same at all times.
const RATE: u32 = 10_000;
/// There are so many snapshots for as many entries as there are keys.
const SNAPSHOTS: u64 = 4;
const ROUNDS: usize = 3;
/// What a snapshot causes after it is durable (the older file and the log before it go) counts, too.
const AFTERMATH: Duration = Duration::from_secs(4);
/// With `--test` everything is so many times less, and says nothing.
const TEST_SHARE: u32 = 256;

/// When things happened.
#[derive(Clone)]
struct Times(Arc<Mutex<Vec<Instant>>>);

impl Default for Times {
    /// With room for all of them, so that noting one never takes long.
    fn default() -> Self {
        Times(Arc::new(Mutex::new(Vec::with_capacity(8 << 20))))
    }
}

impl Times {
    fn note(&self) {
        self.0.lock().expect("nobody panics").push(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        self.0.lock().expect("nobody panics").last().copied()
    }

    /// The longest time between two of them that touches the time from `from` to `to`, how many there were, and when that was.
    /// `None`: none of them was in that time.
    fn longest_gap(&self, from: Instant, to: Instant) -> Option<Gaps> {
        let times = self.0.lock().expect("nobody panics");
        let gaps = times.windows(2).filter(|pair| pair[1] > from && pair[1] <= to);
        let mut gaps: Vec<(Duration, Instant)> = gaps.map(|pair| (pair[1] - pair[0], pair[0])).collect();
        gaps.sort_unstable();
        let (longest, when) = *gaps.last()?;
        let high = gaps[(gaps.len() - 1) * 999 / 1000].0;
        Some(Gaps { count: gaps.len(), high, longest, after: when.saturating_duration_since(from) })
    }
}

struct Gaps {
    count: usize,
    /// 99.9 % are shorter.
    high: Duration,
    longest: Duration,
    /// From the beginning to the longest.
    after: Duration,
}

/// A storage that notes when appends became durable.
struct TimedStorage {
    storage: FileStorage,
    times: Times,
}

impl Storage for TimedStorage {
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
        self.storage.recover(entry)
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        self.storage.write(batch)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.storage.sync()?;
        self.times.note();
        Ok(())
    }

    fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
        self.storage.compact(keep_from)
    }

    fn idle(&mut self) -> Result<Option<Duration>, StorageError> {
        self.storage.idle()
    }

    fn close(&mut self) -> Result<(), StorageError> {
        self.storage.close()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.storage.reader()
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.storage.snapshots()
    }
}

/// A machine that notes when it was given commands, and when a view of it was taken.
#[derive(Default)]
struct TimedMachine {
    machine: Composite,
    applied: Times,
    views: Times,
}

impl Machine for TimedMachine {
    fn apply(&mut self, applied: Applied<'_>) -> Bytes {
        let answer = self.machine.apply(applied);
        self.applied.note();
        answer
    }

    fn query(&self, asked: Asked<'_>) -> Bytes {
        self.machine.query(asked)
    }

    fn digest(&self) -> u64 {
        self.machine.digest()
    }

    fn snapshot(&self) -> Option<Box<dyn MachineSnapshot>> {
        self.views.note();
        self.machine.snapshot()
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), String> {
        self.machine.restore(from)
    }
}

struct Sink(Sender<()>);

impl ReplySink for Sink {
    fn reply(&self, _: u64, outcome: Outcome) {
        outcome.expect("every write is done");
        self.0.send(()).expect("somebody writes on");
    }
}

/// Writes, key after key.
struct Load {
    node: NodeHandle,
    sink: Arc<Sink>,
    answers: Receiver<()>,
    keys: u64,
    written: u64,
    answered: u64,
}

impl Load {
    fn new(node: NodeHandle, keys: u64) -> Self {
        let (sender, answers) = unbounded();
        Load { node, sink: Arc::new(Sink(sender)), answers, keys, written: 0, answered: 0 }
    }

    fn write(&mut self) {
        // In no order, as keys come.
        let key = format!("key:{:016x}", (self.written % self.keys).wrapping_mul(0x9e37_79b9_7f4a_7c15)).into();
        let value = vec![self.written as u8; VALUE_BYTES].into();
        let command = Command::Change(Change::Set { key, value, condition: Condition::Always, want_old: false });
        let operation = Operation::Write(Payload(command.encode()));
        let reply = Reply::new(self.sink.clone(), self.written);
        let request = ClientRequest { connection: 1, operation, forward: true, reply };
        assert!(self.node.request(request).is_ok(), "the inbox has room");
        self.written += 1;
    }

    /// Sets every key once, as fast as that goes.
    fn fill(&mut self) {
        while self.written < self.keys {
            self.write();
            self.await_answers(PIPELINE);
        }
        self.await_answers(0);
    }

    /// Waits until no more than so many writes are under way.
    fn await_answers(&mut self, under_way: u64) {
        while self.written - self.answered > under_way {
            self.answers.recv().expect("the node runs");
            self.answered += 1;
        }
    }

    /// Writes at the [`RATE`] until there is something.
    fn run_until<T>(&mut self, mut done: impl FnMut() -> Option<T>) -> T {
        let (start, first) = (Instant::now(), self.written);
        loop {
            while start + (self.written - first) as u32 * Duration::from_secs(1) / RATE <= Instant::now() {
                self.write();
            }
            self.answered += self.answers.try_iter().count() as u64;
            if let Some(done) = done() {
                return done;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

fn show(round: usize, what: &str, times: [(&str, &Times); 2], from: Instant, to: Instant) {
    for (name, times) in times {
        let Some(Gaps { count, high, longest, after }) = times.longest_gap(from, to) else {
            println!("round {round}, {what:>7}: no {name} in {:.3} s", (to - from).as_secs_f64());
            continue;
        };
        println!(
            "round {round}, {what:>7}: {count:6} {name} in {:4.1} s, 99.9 % within {:5.2} ms, longest gap {:6.2} ms (at {:.1} s)",
            (to - from).as_secs_f64(),
            high.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3,
            after.as_secs_f64()
        );
    }
}

fn main() {
    let share = if std::env::args().any(|argument| argument == "--test") { TEST_SHARE } else { 1 };
    let (keys, aftermath) = (KEYS / u64::from(share), AFTERMATH / share);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a disk");
    let id = NodeId(1);
    let config = Config::default();
    let storage = FileStorage::open(&OpenOptions {
        folder: folder.path().join("A"),
        cluster_id: 1,
        node: id,
        membership: Membership::of_voters([id]),
        segment_bytes: config.limits.segment_bytes,
        rejoin: false,
    })
    .expect("a data folder");
    let snapshots = storage.snapshots();
    let appends = Times::default();
    let storage = TimedStorage { storage, times: appends.clone() };
    let machine = TimedMachine::default();
    let (applied, views) = (machine.applied.clone(), machine.views.clone());
    let network = MemoryNetwork::new();
    let mut options = NodeOptions::new(id, [id]);
    (options.snapshot_bytes, options.snapshot_entries) = (u64::MAX, keys / SNAPSHOTS);
    let connect = |handle: &NodeHandle| network.transport(id, handle);
    let node = Node::start(options, Box::new(storage), Box::new(machine), connect).expect("a node");
    while node.status().expect("a status").leader.is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut load = Load::new(node.handle(), keys);
    let latest = || snapshots.latest().map_or((Index(0), 0), |latest| (latest.meta.index, latest.bytes));
    let both = [("appends", &appends), ("applies", &applied)];
    println!("the default heartbeat interval is {} ms", config.heartbeat_interval.as_millis());
    load.fill();
    // The first of the whole state is for warming up.
    load.run_until(|| (latest().0.0 > keys).then_some(()));
    // Looked at in the end: the load must go on, and what notes the times must not wait.
    let mut phases = Vec::new();
    for round in 1..=ROUNDS {
        let (before, view) = (latest().0, views.last());
        let calm = Instant::now() + aftermath;
        let began = load.run_until(|| views.last().filter(|last| Some(*last) != view));
        if calm < began {
            phases.push((round, "without", calm, began));
        }
        load.run_until(|| (latest().0 > before).then_some(()));
        let durable = Instant::now();
        phases.push((round, "making", began, durable));
        load.run_until(|| (durable.elapsed() > aftermath).then_some(()));
        phases.push((round, "after", durable, Instant::now()));
    }
    load.await_answers(0);
    println!("a snapshot has {} MiB", latest().1 >> 20);
    phases.into_iter().for_each(|(round, what, from, to)| show(round, what, both, from, to));
    node.stop(Duration::from_secs(60)).expect("the node stops");
}
