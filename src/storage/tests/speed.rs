//! How fast the storage is: prints it, and asserts only what does not depend on the machine.
//! `cargo test --release --lib storage::tests::speed -- --nocapture --test-threads 1`

use std::time::{Duration, Instant};

use super::*;
use crate::consensus::{EntryHeader, EntryKind, LogTime, Payload};

const ENTRIES: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
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

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
    format!("p50 {:?} p99 {:?} p99.9 {:?}", at(500), at(990), at(999))
}
