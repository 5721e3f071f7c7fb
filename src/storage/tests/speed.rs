//! How fast the storage is: prints it, and asserts only what does not depend on the machine.
//! `cargo test --release --lib storage::tests::speed -- --nocapture --test-threads 1`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::consensus::{EntryHeader, EntryKind, LogTime, Payload, SnapshotMeta};
use crate::machine::command::{Change, Command, Condition};
use crate::machine::{Applied, Composite, Machine};
use crate::storage::files::DiskFiles;
use crate::storage::snapshot::{FileSnapshots, SnapshotStore};

const ENTRIES: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const KEYS: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
const GROUPS: u64 = if cfg!(debug_assertions) { 100 } else { 3_000 };

/// `count` entries with this payload, from this index on.
fn unit(first: u64, count: u64, payload: &Payload) -> WriteBatch {
    let size = payload.len() as u32;
    let header = |index| EntryHeader {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        time: LogTime(index),
        session: None,
        size,
    };
    let entry = |index| Entry { header: header(index), payload: payload.clone() };
    WriteBatch { entries: (first..first + count).map(entry).collect(), ..WriteBatch::default() }
}

#[test]
fn recovery() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { segment_bytes: 16 << 20, ..options(folder.path()) };
    let payload = Payload::from(vec![7; 100]);
    let mut storage = FileStorage::open(&options).unwrap();
    for first in (1..=ENTRIES).step_by(1000) {
        write_group(&mut storage, &[unit(first, 1000, &payload)]).unwrap();
    }
    drop(storage);

    let start = Instant::now();
    let mut storage = FileStorage::open(&options).unwrap();
    let mut found = 0;
    storage.recover(&mut |header| found = header.index.0).unwrap();
    println!("recovered {ENTRIES} entries of 100 bytes in {:?}", start.elapsed());
    assert_eq!(found, ENTRIES);

    let (start, reader) = (Instant::now(), storage.reader());
    let mut next = 1;
    while next <= ENTRIES {
        let entries = reader.read(Index(next), Index(ENTRIES), 1 << 20).unwrap();
        assert_eq!(entries[0], unit(next, 1, &payload).entries[0]);
        next += entries.len() as u64;
    }
    println!("read {ENTRIES} entries of 100 bytes in {:?}", start.elapsed());
}

#[test]
fn groups() {
    let payload = Payload::from(vec![7; 100]);
    for count in [1, 16, 64, 256] {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions { segment_bytes: 16 << 20, ..options(folder.path()) };
        let mut storage = FileStorage::open(&options).unwrap();
        let (mut writes, mut syncs) = (Vec::new(), Vec::new());
        for group in 0..GROUPS {
            let unit = unit(1 + group * count, count, &payload);
            let start = Instant::now();
            storage.write(&unit).unwrap();
            let written = start.elapsed();
            storage.sync().unwrap();
            writes.push(written);
            syncs.push(start.elapsed() - written);
        }
        println!("{count:3} entries of 100 bytes: write {}, sync {}", quantiles(writes), quantiles(syncs));
    }
}

fn set(machine: &mut Composite, index: u64) {
    // Every key in turn, in an order that jumps about.
    let key = format!("key:{:016x}", (index % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15)).into();
    let value = vec![index as u8; 1024].into();
    let command = &Command::Change(Change::Set { key, value, condition: Condition::Always, want_old: false }).encode();
    machine.apply(Applied { index: Index(index), time: LogTime(index), session: None, command, is_awaited: false });
}

/// Applies commands and syncs a log until told to stop, and says how long each took.
fn run(machine: &mut Composite, storage: &mut FileStorage, index: &mut u64, going_on: impl Fn() -> bool + Sync) {
    let (applies, syncs) = std::thread::scope(|scope| {
        let syncs = scope.spawn(|| {
            let mut times = Vec::new();
            while going_on() {
                let start = Instant::now();
                write_group(storage, &[vote(1, 1)]).unwrap();
                times.push(start.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            times
        });
        let mut times = Vec::new();
        while going_on() {
            let start = Instant::now();
            set(machine, *index);
            times.push(start.elapsed());
            *index += 1;
        }
        (times, syncs.join().unwrap())
    });
    println!("  {} applies: {}; {} syncs: {}", applies.len(), quantiles(applies), syncs.len(), quantiles(syncs));
}

#[test]
fn snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = FileStorage::open(&options(folder.path())).unwrap();
    let store = FileSnapshots::open(Arc::new(DiskFiles), folder.path(), 1).unwrap();
    let mut machine = Composite::default();
    let mut index = 1;
    while index <= KEYS {
        set(&mut machine, index);
        index += 1;
    }
    for round in ["alone", "with a snapshot being written", "alone again"] {
        println!("{round}:");
        let (start, digest, done) = (Instant::now(), machine.digest(), AtomicBool::new(false));
        if round.starts_with("alone") {
            run(&mut machine, &mut storage, &mut index, || start.elapsed() < Duration::from_millis(500));
            continue;
        }
        let meta = SnapshotMeta {
            index: Index(index - 1),
            term: Term(1),
            time: LogTime(1),
            membership: options("").membership,
        };
        let mut writer = store.create(&meta).unwrap();
        let start = Instant::now();
        let view = machine.snapshot().unwrap();
        println!("  taking the view took {:?}", start.elapsed());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                view.write(&mut *writer).unwrap();
                let written = start.elapsed();
                let info = writer.finish().unwrap();
                println!("  {} MiB written in {written:?}, durable after {:?}", info.bytes >> 20, start.elapsed());
                done.store(true, Ordering::Relaxed);
            });
            run(&mut machine, &mut storage, &mut index, || !done.load(Ordering::Relaxed));
        });
        let (start, mut copy) = (Instant::now(), Composite::default());
        copy.restore(&mut *store.open(&meta).unwrap()).unwrap();
        println!("  restored in {:?}", start.elapsed());
        assert_eq!(copy.digest(), digest);
    }
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
    format!("p50 {:?} p99 {:?} p99.9 {:?} longest {:?}", at(500), at(990), at(999), at(1000))
}
