//! How fast the storage is: prints, and asserts only what does not depend on the machine.

use std::time::{Duration, Instant};

use super::*;
use crate::consensus::{EntryHeader, EntryKind, LogTime, Payload};

const ENTRIES: u64 = 1_000_000;
const BATCH: u64 = 1_000;

fn small(index: u64, payload: &Payload) -> Entry {
    let size = payload.len() as u32;
    let (term, time) = (Term(1), LogTime(index));
    Entry {
        header: EntryHeader { index: Index(index), term, kind: EntryKind::Command, time, session: None, size },
        payload: payload.clone(),
    }
}

#[test]
fn a_million_small_entries_are_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { segment_bytes: 16 << 20, ..options(folder.path()) };
    let payload = Payload::from(vec![7; 100]);
    let mut storage = FileStorage::open(&options).unwrap();
    let (mut writing, mut syncing) = (Duration::ZERO, Duration::ZERO);
    for first in (1..=ENTRIES).step_by(BATCH as usize) {
        let entries = (first..first + BATCH).map(|index| small(index, &payload)).collect();
        let batch = WriteBatch { entries, ..WriteBatch::default() };
        let start = Instant::now();
        storage.write(&batch).unwrap();
        writing += start.elapsed();
        storage.sync().unwrap();
        syncing += start.elapsed();
    }
    drop(storage);
    println!("written: {writing:?} in write, {:?} in sync", syncing - writing);

    let start = Instant::now();
    let mut storage = FileStorage::open(&options).unwrap();
    let recovered = storage.recover().unwrap();
    println!("recovered: {ENTRIES} entries in {:?}", start.elapsed());
    assert_eq!(recovered.headers.len() as u64, ENTRIES);
    assert_eq!(recovered.headers.last(), Some(&small(ENTRIES, &payload).header));

    let (start, reader) = (Instant::now(), storage.reader());
    let mut next = 1;
    while next <= ENTRIES {
        let entries = reader.read(Index(next), Index(ENTRIES), 1 << 20).unwrap();
        assert_eq!(entries.first(), Some(&small(next, &payload)));
        next += entries.len() as u64;
    }
    println!("read: {ENTRIES} entries in {:?}", start.elapsed());
}
