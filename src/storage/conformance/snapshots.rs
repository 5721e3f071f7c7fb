//! What the snapshots of every storage must do.

use std::io::{Read, Write};

use super::Open;
use crate::consensus::{Index, LogTime, Membership, NodeId, SnapshotMeta, Term};
use crate::storage::StorageError;
use crate::storage::snapshot::{SnapshotInfo, SnapshotStore};

/// Sizes of states: nothing, a byte, and several blocks of any storage.
const SIZES: [usize; 3] = [0, 1, 300_001];
const CHUNK_BYTES: usize = 40_000;

fn meta(index: u64) -> SnapshotMeta {
    let membership = Membership { learners: [NodeId(9)].into(), ..Membership::of_voters([NodeId(1), NodeId(2)]) };
    SnapshotMeta { index: Index(index), term: Term(index / 10), time: LogTime(index * 100), membership }
}

fn state(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 251 + at * 7 + index as usize) as u8).collect()
}

fn take(store: &dyn SnapshotStore, index: u64, bytes: usize) -> SnapshotInfo {
    let mut writer = store.create(&meta(index)).expect("a snapshot is begun");
    writer.write_all(&state(index, bytes)).expect("a snapshot is written");
    writer.finish().expect("a snapshot is completed")
}

/// Checks that the snapshot with this index has a state of so many bytes, and is the newest.
fn expect_latest(store: &dyn SnapshotStore, index: u64, bytes: usize, what: &str) {
    assert_eq!(store.latest().map(|info| info.meta), Some(meta(index)), "{what}: the newest snapshot");
    store.verify(&meta(index)).unwrap_or_else(|error| panic!("{what}: snapshot {index} is intact: {error}"));
    let mut reader = store.open(&meta(index)).expect("a snapshot is opened");
    assert_eq!(Some(reader.info()), store.latest().as_ref(), "{what}: what the snapshot is");
    let mut found = Vec::new();
    reader.read_to_end(&mut found).expect("a snapshot is read");
    assert!(found == state(index, bytes), "{what}: the bytes of snapshot {index}");
}

fn expect_refused<T>(outcome: Result<T, StorageError>, what: &str) {
    assert!(matches!(outcome, Err(StorageError::Refused(_))), "{what} is refused");
}

pub fn are_whole_or_not_there(open: &mut Open<'_>) {
    let store = open("snapshots").snapshots();
    assert_eq!((store.list(), store.latest()), (vec![], None), "no snapshot in the beginning");
    expect_refused(store.open(&meta(10)), "opening a snapshot that is not there");
    expect_refused(store.verify(&meta(10)), "verifying a snapshot that is not there");
    drop(store);
    for (index, bytes) in (1..).map(|nth| nth * 10).zip(SIZES) {
        let store = open("snapshots").snapshots();
        let info = take(&*store, index, bytes);
        assert_eq!(store.latest(), Some(info), "what was completed is there");
        expect_latest(&*store, index, bytes, "completed");
        let mut unfinished = store.create(&meta(index + 5)).expect("another snapshot is begun");
        unfinished.write_all(&[7; 1000]).expect("it is written");
        expect_refused(store.create(&meta(index + 6)), "a second snapshot at the same time");
        drop(unfinished);
        expect_latest(&*store, index, bytes, "after one that was not finished");
        drop(store);
        expect_latest(&*open("snapshots").snapshots(), index, bytes, "after a restart");
    }
}

pub fn travel_to_another_storage(open: &mut Open<'_>) {
    let store = open("sender").snapshots();
    for (index, bytes) in (1..).map(|nth| nth * 10).zip(SIZES) {
        let info = take(&*store, index, bytes);
        let reader = store.open(&meta(index)).expect("a snapshot is opened");
        let mut file = vec![0; info.bytes as usize + 1];
        let count = reader.read_at(0, &mut file).expect("its file is read");
        assert_eq!(count as u64, info.bytes, "its file has the size that it says");
        file.truncate(count);

        let half = file.len() / 2;
        let other = open("receiver").snapshots();
        let mut receiver = other.receive(&meta(index), info.bytes).expect("a snapshot is received");
        expect_refused(receiver.write(half as u64 + 1, &file[half + 1..]), "a gap");
        receiver.write(0, &file[..half]).expect("its first half is taken");
        expect_refused(other.receive(&meta(index + 5), 1000), "a second transfer at the same time");
        expect_refused(receiver.finish(), "half a snapshot");
        assert_ne!(other.latest(), Some(info.clone()), "half a snapshot does not count");
        drop(other);

        let other = open("receiver").snapshots();
        let mut receiver = other.receive(&meta(index), info.bytes).expect("the transfer goes on");
        while receiver.received() < info.bytes {
            let at = receiver.received() as usize;
            let chunk = &file[at..file.len().min(at + CHUNK_BYTES)];
            receiver.write(at as u64, chunk).expect("a chunk is taken");
        }
        assert_eq!(receiver.finish(), Ok(info.clone()), "the snapshot has come");
        expect_latest(&*other, index, bytes, "received");
        expect_refused(other.receive(&meta(index), info.bytes), "one that is there already");
        drop(other);
        expect_latest(&*open("receiver").snapshots(), index, bytes, "received, after a restart");

        let mut damaged = file.clone();
        damaged[half] ^= 1;
        let elsewhere = open("damaged").snapshots();
        let mut receiver = elsewhere.receive(&meta(index), info.bytes).expect("a snapshot is received");
        let taken = receiver.write(0, &damaged);
        assert!(taken.is_err() || receiver.finish().is_err(), "a changed snapshot is noticed");
        assert_eq!(elsewhere.latest(), None, "a changed snapshot does not count");
    }
}

pub fn make_room_for_newer_ones(open: &mut Open<'_>) {
    let store = open("older snapshots").snapshots();
    let indexes =
        |store: &dyn SnapshotStore| -> Vec<u64> { store.list().iter().map(|info| info.meta.index.0).collect() };
    for index in [10, 20, 30] {
        take(&*store, index, 100_000);
    }
    let mut reader = store.open(&meta(10)).expect("a snapshot is opened");
    assert_eq!(indexes(&*store), [10, 20, 30], "the newest is the last");
    expect_refused(store.remove_older(&meta(25)), "removing what is older than a snapshot that is not there");
    store.remove_older(&meta(20)).expect("older snapshots are removed");
    assert_eq!(indexes(&*store), [20, 30], "only older ones are removed");
    expect_refused(store.open(&meta(10)), "opening a snapshot that was removed");
    let mut found = Vec::new();
    reader.read_to_end(&mut found).expect("a snapshot that is open is read to its end");
    assert!(found == state(10, 100_000), "whoever reads a snapshot keeps it");
    drop((reader, store));
    assert_eq!(indexes(&*open("older snapshots").snapshots()), [20, 30], "after a restart");
}
