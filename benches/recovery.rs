//! How long a start takes that finds 1 GiB of log, and how much memory. `cargo bench --bench recovery` prints it for
//! entries of 256 bytes and of 4 KiB, read from the disk and from the system's memory, and for a whole node until it
//! serves. It fails if the log takes 5 seconds or more. With `-- --test` it only sees whether everything runs.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use raft::consensus::{
    Entry, EntryHeader, EntryKind, HardState, Index, LogTime, Membership, NodeId, Payload, SnapshotMeta, Term,
};
use raft::machine::command::{Change, Command as Request, Condition, Query};
use raft::machine::{Applied, Composite, Machine};
use raft::storage::{FileStorage, OpenOptions, Storage, WriteBatch};
use raft::transport::memory::MemoryNetwork;
use raft::{Node, NodeOptions};

const LOG_BYTES: u64 = 1 << 30;
const LIMIT: Duration = Duration::from_secs(5);
const ID: NodeId = NodeId(1);
/// Keys that the snapshot has, and that the log then writes again and again.
const KEYS: u64 = 100_000;
/// With `--test` everything is so many times less, and says nothing.
const TEST_SHARE: u64 = 1_000;

fn open(folder: &Path) -> FileStorage {
    FileStorage::open(&OpenOptions {
        folder: folder.to_path_buf(),
        cluster_id: 1,
        node: ID,
        membership: Membership::of_voters([ID]),
        segment_bytes: 16 << 20,
        rejoin: false,
    })
    .expect("a data folder")
}

/// An entry that sets a key, with a command of so many bytes.
fn entry(index: u64, bytes: usize) -> Entry {
    let set = |value: Vec<u8>| {
        let key = format!("key:{:016x}", index % KEYS).into();
        Request::Change(Change::Set { key, value: value.into(), condition: Condition::Always, want_old: false })
            .encode()
    };
    let fixed = set(Vec::new()).len();
    let payload = Payload(set(vec![index as u8; bytes - fixed]));
    let header = EntryHeader {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        time: LogTime(index),
        session: None,
        size: payload.len() as u32,
    };
    Entry { header, payload }
}

/// Makes a folder with a snapshot of so many keys and so much log behind it.
fn prepare(folder: &Path, entry_bytes: usize, keys: u64, log_bytes: u64) {
    let mut storage = open(folder);
    storage.recover(&mut |_| {}).expect("an empty log");
    let mut machine = Composite::default();
    for index in 1..=keys {
        let Entry { header, payload } = entry(index, entry_bytes);
        machine.apply(Applied {
            index: header.index,
            time: header.time,
            session: None,
            command: &payload.0,
            is_awaited: false,
        });
    }
    let membership = Membership::of_voters([ID]);
    let meta = SnapshotMeta { index: Index(keys), term: Term(1), time: LogTime(keys), membership };
    let mut writer = storage.snapshots().create(&meta).expect("a snapshot");
    machine.snapshot().expect("a view").write(&mut *writer).expect("a snapshot is written");
    writer.finish().expect("a snapshot is durable");
    let hard_state = Some(HardState { term: Term(1), vote: Some(ID) });
    let install = WriteBatch { hard_state, install: Some(meta), ..WriteBatch::default() };
    storage.write(&install).expect("the log begins behind it");
    let unit = ((1 << 20) / entry_bytes) as u64;
    let mut next = keys + 1;
    while (next - keys) * (entry_bytes as u64 + 39) < log_bytes {
        let entries = (next..next + unit).map(|index| entry(index, entry_bytes)).collect();
        storage.write(&WriteBatch { entries, ..WriteBatch::default() }).expect("a unit is written");
        storage.sync().expect("a group is synced");
        next += unit;
    }
}

/// Makes the system forget what it has in memory of these files.
fn forget(folder: &Path) {
    for file in fs::read_dir(folder).expect("the folder") {
        let file = File::open(file.expect("a file").path()).expect("a file");
        file.sync_all().expect("a sync");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("the system lets go of it");
    }
}

/// The most memory that this process ever had, in MiB.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).map_or(0, |kib: u64| kib >> 10)
}

/// Opens the log, and hands out its headers as a node's start does.
fn recover(folder: &Path) -> (Duration, u64) {
    let start = Instant::now();
    let mut storage = open(folder);
    let mut entries = 0;
    storage.recover(&mut |_| entries += 1).expect("the log is read");
    (start.elapsed(), entries)
}

/// Starts a node, alone in its cluster, and waits until it answers.
fn serve(folder: &Path) -> Duration {
    let start = Instant::now();
    let network = MemoryNetwork::new();
    let mut options = NodeOptions::new(ID, [ID]);
    (options.snapshot_bytes, options.snapshot_entries) = (u64::MAX, u64::MAX);
    let connect = |handle: &_| network.transport(ID, handle);
    let node = Node::start(options, Box::new(open(folder)), Box::new(Composite::default()), connect).expect("a node");
    let query = Query::Size.encode();
    while node.query(query.clone()).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let elapsed = start.elapsed();
    node.stop(Duration::from_secs(10)).expect("the node stops");
    elapsed
}

/// In a process of its own, so that its peak of memory is its own: prints what it takes, and whether that is too long.
fn measure(what: &str, folder: &Path) -> ExitCode {
    let before = peak_mib();
    let (elapsed, entries) = match what {
        "node" => (serve(folder), String::new()),
        _ => {
            let (elapsed, entries) = recover(folder);
            (elapsed, entries.to_string())
        }
    };
    println!("{entries} | {:.2} | {} |", elapsed.as_secs_f64(), peak_mib() - before);
    ExitCode::from(u8::from(what == "log" && elapsed >= LIMIT))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, folder] = &arguments[..]
        && Path::new(folder).is_dir()
    {
        return measure(what, Path::new(folder));
    }
    let program = std::env::current_exe().expect("this program");
    let share = if arguments.iter().any(|argument| argument == "--test") { TEST_SHARE } else { 1 };
    let mut in_time = true;
    println!("| entry bytes | what | read from | entries | seconds | peak MiB |");
    println!("| ---: | --- | --- | ---: | ---: | ---: |");
    for entry_bytes in [256, 4096] {
        let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let folder = parent.path().join("A");
        prepare(&folder, entry_bytes, KEYS / share, LOG_BYTES / share);
        for (what, from) in [("log", "disk"), ("log", "memory"), ("node", "disk"), ("node", "memory")] {
            if from == "disk" {
                forget(&folder);
            }
            print!("| {entry_bytes} | {what} | {from} | ");
            std::io::Write::flush(&mut std::io::stdout()).expect("somebody reads");
            let status = Command::new(&program).arg(what).arg(&folder).status().expect("this program runs");
            in_time &= status.success();
        }
    }
    if !in_time {
        eprintln!("error: reading 1 GiB of log took {LIMIT:?} or more, or failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
