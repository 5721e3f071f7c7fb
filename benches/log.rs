//! What the log costs beyond the disk: a batch of the log, in turn with the machine's own overwrite of as many bytes and
//! fdatasync. `cargo bench --bench log` prints both and fails if the log takes more than 1.25 times as long. With `-- --test` it only
//! sees whether everything runs.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use raft::consensus::{Entry, EntryHeader, EntryKind, Index, LogTime, Membership, NodeId, Payload, Term};
use raft::storage::{FileStorage, OpenOptions, Storage, WriteBatch};
use rustix::time::{ClockId, clock_gettime};

const PAYLOAD_BYTES: usize = 256;
const SEGMENT_BYTES: u64 = 16 << 20;
/// The log is compacted when it is so long: `SnapshotBytes` of raft.ini, as it is by default.
const COMPACTED_AT_BYTES: u64 = 64 << 20;
/// The log has gone through so much when the measurement begins: every segment is made of an old one.
const WARM_UP_BYTES: u64 = 3 * COMPACTED_AT_BYTES;
const WARM_UP_ENTRIES: u64 = 256;
const SAMPLES: usize = 10_000;
/// With `--test` everything is so many times less, and says nothing.
const TEST_SHARE: u64 = 1_000;
const LIMIT: f64 = 1.25;

/// What one operation took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn measure(work: impl FnOnce()) -> Cost {
    let (cpu, wall) = (cpu_time(), Instant::now());
    work();
    let wall = wall.elapsed();
    Cost { wall, cpu: cpu_time() - cpu }
}

/// A log in steady state.
struct Log {
    storage: FileStorage,
    payload: Payload,
    last: u64,
    /// Bytes since the last compaction.
    bytes: u64,
}

impl Log {
    fn open(folder: &Path) -> Self {
        let membership = Membership::of_voters([NodeId(1)]);
        let mut storage = FileStorage::open(&OpenOptions {
            folder: folder.to_path_buf(),
            cluster_id: 1,
            node: NodeId(1),
            membership,
            segment_bytes: SEGMENT_BYTES,
            rejoin: false,
        })
        .expect("a data folder");
        storage.recover(&mut |_| {}).expect("an empty log");
        Log { storage, payload: vec![7; PAYLOAD_BYTES].into(), last: 0, bytes: 0 }
    }

    /// The next entries, as the driver hands them to the storage stage.
    fn next(&self, count: u64) -> WriteBatch {
        let header = |index| EntryHeader {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Command,
            time: LogTime(index),
            session: None,
            size: PAYLOAD_BYTES as u32,
        };
        let entries = (self.last + 1..=self.last + count)
            .map(|index| Entry { header: header(index), payload: self.payload.clone() });
        WriteBatch { entries: entries.collect(), ..WriteBatch::default() }
    }

    /// What the storage stage does with a group: encode, write, sync.
    fn append(&mut self, batch: &WriteBatch) {
        self.storage.write(batch).expect("a unit is written");
        self.storage.sync().expect("a group is synced");
    }

    /// What the storage stage does between groups.
    fn rest(&mut self, written: &WriteBatch) {
        self.last += written.entries.len() as u64;
        self.bytes += batch_bytes(written.entries.len() as u64);
        if self.bytes >= COMPACTED_AT_BYTES {
            self.storage.compact(Index(self.last)).expect("the log is compacted");
            self.bytes = 0;
        }
        while self.storage.idle().expect("a chore is done") == Some(Duration::ZERO) {}
    }
}

/// The bytes of a batch of so many entries: header, records, and the end, which fills the last sector.
fn batch_bytes(entries: u64) -> u64 {
    (24 + entries * (39 + PAYLOAD_BYTES as u64) + 13).next_multiple_of(512)
}

/// The machine's own: a file of the size of a segment, whose blocks are written, overwritten from front to back.
struct Bare {
    file: File,
    bytes: Vec<u8>,
    offset: u64,
}

impl Bare {
    /// The file is filled as the log's are in the warm-up: the system keeps what was written in pieces of that size.
    fn create(path: &Path, bytes: u64) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("a file");
        let mut bare = Bare { file, bytes: vec![1; batch_bytes(WARM_UP_ENTRIES) as usize], offset: 0 };
        (0..2 * SEGMENT_BYTES / batch_bytes(WARM_UP_ENTRIES)).for_each(|_| bare.append());
        Bare { bytes: vec![2; bytes as usize], offset: 0, ..bare }
    }

    fn append(&mut self) {
        if self.offset + self.bytes.len() as u64 > SEGMENT_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(&self.bytes, self.offset).expect("a write");
        self.file.sync_data().expect("a sync");
        self.offset += self.bytes.len() as u64;
    }
}

/// What many of the same operation took, in microseconds.
struct Costs {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Costs {
    fn of(costs: &[Cost]) -> Self {
        let sorted = |of: fn(&Cost) -> Duration| {
            let mut times: Vec<f64> = costs.iter().map(|cost| of(cost).as_secs_f64() * 1e6).collect();
            times.sort_unstable_by(f64::total_cmp);
            times
        };
        Costs { wall: sorted(|cost| cost.wall), cpu: sorted(|cost| cost.cpu) }
    }

    fn median(&self) -> f64 {
        self.wall[self.wall.len() / 2]
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
        let p99 = self.wall[self.wall.len() * 99 / 100];
        write!(f, "{:.0} | {:.0} | {:.0} | {:.0}", self.median(), p99, mean(&self.wall), mean(&self.cpu))
    }
}

/// Prints a line of the table for batches of so many entries, and returns how many times as long the log's median is.
fn compare(entries: u64, share: u64) -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let mut log = Log::open(&folder.path().join("A"));
    for _ in 0..WARM_UP_BYTES / batch_bytes(WARM_UP_ENTRIES) / share {
        let batch = log.next(WARM_UP_ENTRIES);
        log.append(&batch);
        log.rest(&batch);
    }
    let bytes = batch_bytes(entries);
    let mut bare = Bare::create(&folder.path().join("bare"), bytes);
    let (mut ours, mut theirs, mut chores) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..SAMPLES / share as usize {
        let batch = log.next(entries);
        // Who comes second must not always be the same.
        if sample % 2 == 0 {
            theirs.push(measure(|| bare.append()));
        }
        ours.push(measure(|| log.append(&batch)));
        if sample % 2 == 1 {
            theirs.push(measure(|| bare.append()));
        }
        chores.push(measure(|| log.rest(&batch)));
    }
    let [ours, theirs, chores] = [ours, theirs, chores].map(|costs| Costs::of(&costs));
    let ratio = ours.median() / theirs.median();
    println!("| {entries} | {bytes} | log | {ours} | {ratio:.2} |");
    println!("| | | bare | {theirs} | |");
    println!("| | | chores | {chores} | |");
    ratio
}

fn main() -> ExitCode {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let share = if is_test { TEST_SHARE } else { 1 };
    println!("| entries | bytes | µs of | median | p99 | mean | CPU, mean | log / bare |");
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    let slowest = [1, 16, 64, 256].map(|entries| compare(entries, share)).into_iter().fold(0.0, f64::max);
    if slowest > LIMIT && !is_test {
        eprintln!("error: the log takes {slowest:.2} times as long as the disk: more than {LIMIT}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
