//! Snapshots: over crashes, faults, damage, and transfers that go wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use proptest::prelude::{any, prop, proptest};

use super::files::FaultyFiles;
use super::*;
use crate::consensus::{LogTime, SnapshotMeta};
use crate::runtime::{Input, NodeHandle};
use crate::storage::files::DiskFiles;
use crate::storage::snapshot::{FileSnapshots, SnapshotInfo, SnapshotStore, verify_file};
use crate::transport::transfer::{Offer, Progress, Receiving};

const CLUSTER: u64 = 0xc105_7e12;
const BLOCK_BYTES: usize = 64 << 10;

fn meta(index: u64) -> SnapshotMeta {
    let learners = [NodeId(9)].into();
    let membership = Membership { learners, ..Membership::of_voters([NodeId(1), NodeId(2), NodeId(3)]) };
    SnapshotMeta { index: Index(index), term: Term(index / 10), time: LogTime(index * 100), membership }
}

/// The state at an index.
fn state(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 251 + at * 7 + index as usize) as u8).collect()
}

fn name(index: u64) -> String {
    format!("{index:020}-{:020}.snapshot", index / 10)
}

fn open_store(files: &(impl Files + Clone + 'static)) -> FileSnapshots {
    try_open_store(files).unwrap()
}

fn try_open_store(files: &(impl Files + Clone + 'static)) -> Result<FileSnapshots, StorageError> {
    FileSnapshots::open(Arc::new(files.clone()), FOLDER.as_ref(), CLUSTER)
}

fn take(store: &dyn SnapshotStore, index: u64, bytes: usize) -> Result<SnapshotInfo, StorageError> {
    let mut writer = store.create(&meta(index))?;
    // In pieces that do not fit into the blocks.
    let written = state(index, bytes).chunks(1009).try_for_each(|piece| writer.write_all(piece));
    let info = writer.finish()?;
    written.unwrap();
    Ok(info)
}

fn read(store: &dyn SnapshotStore, index: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.open(&meta(index)).unwrap().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A snapshot's file, as it is sent.
fn sent(store: &dyn SnapshotStore, index: u64) -> Vec<u8> {
    let reader = store.open(&meta(index)).unwrap();
    let mut bytes = vec![0; reader.info().bytes as usize + 1];
    assert_eq!(reader.read_at(0, &mut bytes).unwrap() as u64, reader.info().bytes);
    bytes.pop();
    bytes
}

/// A file with so many bytes of state.
fn file(index: u64, bytes: usize) -> Vec<u8> {
    let store = FileSnapshots::open(Arc::new(MemoryFiles::default()), FOLDER.as_ref(), CLUSTER).unwrap();
    take(&store, index, bytes).unwrap();
    sent(&store, index)
}

/// Receives a file from where it was left.
fn receive(store: &dyn SnapshotStore, index: u64, bytes: &[u8], chunk: usize) -> Result<SnapshotInfo, StorageError> {
    let mut receiver = store.receive(&meta(index), bytes.len() as u64)?;
    while receiver.received() < bytes.len() as u64 {
        let offset = receiver.received();
        let rest = &bytes[offset as usize..];
        receiver.write(offset, &rest[..rest.len().min(chunk)])?;
    }
    receiver.finish()
}

fn latest(store: &dyn SnapshotStore) -> u64 {
    store.latest().map_or(0, |latest| latest.meta.index.0)
}

fn is_refused<T>(outcome: Result<T, StorageError>) -> bool {
    matches!(outcome, Err(StorageError::Refused(_)))
}

/// What every store must do.
fn check(store: &dyn SnapshotStore, other: &dyn SnapshotStore) {
    assert_eq!(store.latest(), None);
    assert!(is_refused(store.open(&meta(10))));
    for (index, bytes) in [(10, 0), (20, 1), (30, BLOCK_BYTES), (40, BLOCK_BYTES + 1), (50, 3 * BLOCK_BYTES - 1)] {
        let info = take(store, index, bytes).unwrap();
        assert_eq!(store.latest(), Some(info.clone()));
        assert_eq!(read(store, index).unwrap(), state(index, bytes));
        store.verify(&meta(index)).unwrap();
        let file = sent(store, index);
        let received = receive(other, index, &file, 40_000).unwrap();
        assert_eq!((&received, other.latest()), (&info, Some(info.clone())));
        assert_eq!(read(other, index).unwrap(), state(index, bytes));
        assert_eq!(sent(other, index), file);
    }
    store.remove_older(&meta(40)).unwrap();
    assert!(is_refused(store.open(&meta(30))) && is_refused(store.remove_older(&meta(30))));
    assert_eq!(read(store, 40).unwrap(), state(40, BLOCK_BYTES + 1));
    drop(store.create(&meta(60)).unwrap());
    assert_eq!(latest(store), 50, "what is not finished does not count");
}

#[test]
fn stores_keep_the_contract() {
    check(&FileSnapshots::in_memory(), &FileSnapshots::in_memory());
    let folder = tempfile::tempdir().unwrap();
    let on_disk = FileSnapshots::open(Arc::new(DiskFiles), folder.path(), CLUSTER).unwrap();
    let files = MemoryFiles::default();
    check(&on_disk, &open_store(&files));
    let again = FileSnapshots::open(Arc::new(DiskFiles), folder.path(), CLUSTER).unwrap();
    assert_eq!(again.latest(), on_disk.latest());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn one_at_a_time_is_written_and_one_received() {
    let store = FileSnapshots::in_memory();
    let writer = store.create(&meta(10)).unwrap();
    let receiver = store.receive(&meta(20), 1000).unwrap();
    assert!(is_refused(store.create(&meta(30))) && is_refused(store.receive(&meta(40), 1000)));
    drop((writer, receiver));
    assert!(store.create(&meta(30)).is_ok() && store.receive(&meta(40), 1000).is_ok());
}

#[test]
fn a_snapshot_stays_readable_while_newer_ones_replace_it() {
    let files = MemoryFiles::default();
    let store = open_store(&files);
    take(&store, 10, 5 * BLOCK_BYTES).unwrap();
    let file = sent(&store, 10);
    let (mut reader, streamed) = (store.open(&meta(10)).unwrap(), store.open(&meta(10)).unwrap());
    let mut first = vec![0; BLOCK_BYTES + 5];
    reader.read_exact(&mut first).unwrap();
    take(&store, 20, 10).unwrap();
    take(&store, 30, 10).unwrap();
    store.remove_older(&meta(30)).unwrap();
    assert_eq!(files.all().keys().collect::<Vec<_>>(), [&Path::new(FOLDER).join(name(30))]);
    reader.read_to_end(&mut first).unwrap();
    assert_eq!(first, state(10, 5 * BLOCK_BYTES));
    let mut bytes = vec![0; file.len()];
    assert_eq!(streamed.read_at(0, &mut bytes).unwrap(), file.len());
    assert_eq!(bytes, file);
}

#[test]
fn a_large_one_goes_bit_by_bit_and_leaves_no_half_wherever_that_ends() {
    let bytes = 17 << 20;
    let before = MemoryFiles::default();
    let store = open_store(&before);
    take(&store, 10, bytes).unwrap();
    take(&store, 20, 10).unwrap();
    let quiet = FaultyFiles::new(before.copy(), u64::MAX, 0);
    drop(open_store(&quiet));
    for first in 0.. {
        let files = before.copy();
        let faulty = FaultyFiles::new(files.clone(), quiet.operations() + first, u64::MAX);
        let removed = open_store(&faulty).remove_older(&meta(20));
        for files in after_crash(&files) {
            let store = open_store(&files);
            assert_eq!(store.problems(), [""; 0], "after operation {first} failed");
            assert_eq!(read(&store, 20).unwrap(), state(20, 10));
            if store.list().len() > 1 {
                store.verify(&meta(10)).unwrap();
            }
            assert_eq!(
                files.all().len(),
                store.list().len(),
                "after operation {first} failed: {:?}",
                files.all().keys()
            );
        }
        if removed.is_ok() {
            assert!(first > 6, "it goes in pieces: {first} operations");
            break;
        }
    }
    let mut reader = store.open(&meta(10)).unwrap();
    store.remove_older(&meta(20)).unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == state(10, bytes), "whoever reads it can do so to the end");
}

/// Takes snapshots and receives one; goes on after an error. Returns the states that must be there, by index.
fn script(files: &FaultyFiles, file: &[u8]) -> Option<(FileSnapshots, BTreeMap<u64, usize>)> {
    let store = try_open_store(files).ok()?;
    let mut done = BTreeMap::new();
    for (index, bytes) in [(10, 100), (20, BLOCK_BYTES + 10)] {
        if take(&store, index, bytes).is_ok() {
            done.insert(index, bytes);
        }
    }
    let older_than = |index, done: &mut BTreeMap<u64, usize>| {
        if !is_refused(store.remove_older(&meta(index))) {
            done.retain(|other, _| *other >= index);
        }
    };
    older_than(20, &mut done);
    let received = receive(&store, 30, file, 50_000).or_else(|_| receive(&store, 30, file, 50_000));
    if received.is_ok() {
        done.insert(30, 2 * BLOCK_BYTES);
    }
    older_than(30, &mut done);
    Some((store, done))
}

/// What a crash may leave: all, nothing that was not synced, or names without content.
fn after_crash(files: &MemoryFiles) -> [MemoryFiles; 3] {
    [files.copy(), files.after_power_loss(), files.after_power_loss_keeping_names()]
}

#[test]
fn every_operation_fails() {
    let file = file(30, 2 * BLOCK_BYTES);
    for count in [1, u64::MAX] {
        for first in 0.. {
            let files = MemoryFiles::default();
            let faulty = FaultyFiles::new(files.clone(), first, count);
            let Some((store, done)) = script(&faulty, &file) else { continue };
            if count == 1 {
                assert!(done.contains_key(&30), "operation {first} failed, and the second attempt was not enough");
                assert_eq!(latest(&store), 30);
            }
            for files in after_crash(&files) {
                let store = open_store(&files);
                assert_eq!(store.problems(), [""; 0], "after operation {first} failed");
                assert!(latest(&store) >= done.keys().last().copied().unwrap_or(0), "after operation {first} failed");
                for (index, bytes) in &done {
                    assert_eq!(read(&store, *index).unwrap(), state(*index, *bytes), "after operation {first} failed");
                }
                if let Some(latest) = store.latest() {
                    store.verify(&latest.meta).unwrap();
                }
                assert!(files.all().keys().all(|path| !path.to_string_lossy().ends_with(".tmp")));
                // Whatever was left, the next snapshot can be made.
                take(&store, 40, 10).unwrap();
                assert_eq!(latest(&store), 40);
            }
            if faulty.operations() <= first {
                assert!(first > 30, "the script has many operations");
                break;
            }
        }
    }
}

#[test]
fn a_failed_snapshot_leaves_nothing_and_says_why() {
    for first in 0..6 {
        let files = MemoryFiles::default();
        let quiet = FaultyFiles::new(files.copy(), u64::MAX, 0);
        drop(open_store(&quiet));
        let faulty = FaultyFiles::new(files.clone(), quiet.operations() + first, 1);
        let store = open_store(&faulty);
        let error = take(&store, 10, 100).unwrap_err();
        assert!(matches!(&error, StorageError::Io(message) if message.contains("injected")), "{error}");
        // A folder that was not synced may keep the file: it is complete.
        assert!(files.all().is_empty() || first == 5, "{:?}", files.all().keys());
        assert_eq!(latest(&store), 0);
        take(&store, 10, 100).unwrap();
        assert_eq!(read(&store, 10).unwrap(), state(10, 100));
    }
}

/// A node that receives this file in one piece: whether it took it, and what it was told.
fn receive_at(store: &Arc<FileSnapshots>, bytes: &[u8]) -> (Result<Progress, String>, Vec<Input>) {
    let (node, inboxes) = NodeHandle::new();
    let mut receiving = Receiving::new(store.clone(), node);
    let offer = Offer { term: Term(9), snapshot: meta(30), bytes: bytes.len() as u64 };
    let outcome = receiving.offer(NodeId(1), offer).and_then(|_| receiving.chunk(NodeId(1), 0, bytes));
    receiving.end();
    (outcome, inboxes.internal.try_iter().collect())
}

#[test]
fn a_node_that_cannot_write_what_it_receives_stops_at_once() {
    let file = file(30, 100);
    for first in 0.. {
        let files = MemoryFiles::default();
        let quiet = FaultyFiles::new(files.copy(), u64::MAX, 0);
        drop(open_store(&quiet));
        let faulty = FaultyFiles::new(files.clone(), quiet.operations() + first, 1);
        let (outcome, told) = receive_at(&Arc::new(open_store(&faulty)), &file);
        match &told[..] {
            [Input::SnapshotReceived { .. }] => {
                assert!(first > 5, "making, writing, checking, syncing and renaming it are operations");
                assert!(faulty.operations() <= quiet.operations() + first, "{first} failed and nobody noticed");
                break;
            }
            [Input::Failed { reason }] => {
                assert!(reason.starts_with("snapshot: cannot ") && reason.contains("injected"), "{reason}");
                assert!(outcome.is_err());
            }
            _ => panic!("operation {first} failed, and the node was told something else"),
        }
    }
}

#[test]
fn a_node_without_space_for_what_it_receives_goes_on_and_takes_it_later() {
    let file = file(30, 2 * BLOCK_BYTES);
    let files = MemoryFiles::default();
    let store = Arc::new(open_store(&files));
    files.set_room(70_000);
    for _ in 0..2 {
        let (outcome, told) = receive_at(&store, &file);
        let refused = outcome.unwrap_err();
        assert!(refused.contains("cannot write") && refused.contains("Make room on the disk"), "{refused}");
        assert!(told.is_empty(), "this is no reason to stop");
        assert!(files.all().is_empty(), "nothing of it stays: {:?}", files.all().keys());
    }
    files.set_room(u64::MAX);
    let (outcome, told) = receive_at(&store, &file);
    assert!(outcome.unwrap().complete);
    assert!(matches!(told[..], [Input::SnapshotReceived { .. }]));
    assert_eq!(read(&*store, 30).unwrap(), state(30, 2 * BLOCK_BYTES));
}

#[test]
fn a_snapshot_without_space_leaves_nothing_and_can_be_made_later() {
    let files = MemoryFiles::default();
    let store = open_store(&files);
    files.set_room(70_000);
    let error = take(&store, 10, 2 * BLOCK_BYTES).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert!(files.all().is_empty(), "{:?}", files.all().keys());
    files.set_room(u64::MAX);
    take(&store, 10, 2 * BLOCK_BYTES).unwrap();
    assert_eq!(read(&store, 10).unwrap(), state(10, 2 * BLOCK_BYTES));
}

#[test]
fn a_failed_read_is_an_error_each_time_and_never_an_end() {
    let files = MemoryFiles::default();
    take(&open_store(&files), 10, 3 * BLOCK_BYTES).unwrap();
    let path = Path::new(FOLDER).join(name(10));
    let mut bytes = files.get(&path);
    bytes[2 * BLOCK_BYTES] ^= 1;
    files.set(&path, &bytes);
    let store = open_store(&files);
    let mut reader = store.open(&meta(10)).unwrap();
    let mut found = Vec::new();
    for _ in 0..3 {
        let error = reader.read_to_end(&mut found).unwrap_err().to_string();
        assert!(error.contains(&name(10)) && error.contains("at offset 65"), "{error}");
        assert_eq!(found, state(10, BLOCK_BYTES), "what comes before the damage");
    }
}

/// A damaged file must be recognised by whatever looks at all of it, and never give a wrong byte.
fn expect_damaged(file: &[u8], what: &str) {
    let files = MemoryFiles::default();
    let older = self::file(5, 10);
    files.set(Path::new(FOLDER).join(name(5)), &older);
    let path = Path::new(FOLDER).join(name(10));
    files.set(&path, file);
    let verified = verify_file(&files, &path, &mut |_| ());
    assert!(matches!(verified, Err(StorageError::Damaged(_))), "{what}: {verified:?}");
    let store = open_store(&files);
    if latest(&store) == 10 {
        assert!(read(&store, 10).is_err(), "{what}");
        assert!(matches!(store.verify(&meta(10)), Err(StorageError::Damaged(_))), "{what}");
    }
    assert_eq!(latest(&store), 5, "{what}: the one before is there");
    assert!(is_refused(store.open(&meta(10))), "{what}");
    assert!(matches!(&store.problems()[..], [problem] if problem.contains(&name(10))), "{what}");
}

#[test]
fn every_flipped_bit_is_detected() {
    let file = file(10, 40);
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        expect_damaged(&damaged, &format!("bit {bit} flipped"));
    }
}

#[test]
fn every_truncation_and_every_tail_is_detected() {
    let file = file(10, 40);
    for length in 0..file.len() {
        expect_damaged(&file[..length], &format!("cut to {length} bytes"));
        let zeros = [&file[..length], &vec![0; file.len() - length]].concat();
        expect_damaged(&zeros, &format!("zeros from {length} on"));
    }
    for tail in [&[0; 1][..], &[0; 16], &file] {
        expect_damaged(&[&file, tail].concat(), &format!("{} bytes more", tail.len()));
    }
}

#[test]
fn exchanged_and_missing_blocks_are_detected() {
    let file = file(10, 4 * BLOCK_BYTES);
    let (whole, header) = (BLOCK_BYTES + 8, file.len() - 16 - 4 * (BLOCK_BYTES + 8));
    let block = |nth: usize| &file[header + nth * whole..][..whole];
    let footer = &file[file.len() - 16..];
    let made = |blocks: &[&[u8]]| [&file[..header], &blocks.concat(), footer].concat();
    assert_eq!(made(&[block(0), block(1), block(2), block(3)]), file);
    expect_damaged(&made(&[block(0), block(2), block(1), block(3)]), "exchanged blocks");
    expect_damaged(&made(&[block(0), block(1), block(1), block(3)]), "a block twice");
    expect_damaged(&made(&[block(0), block(2), block(3)]), "a missing block");
    expect_damaged(&made(&[block(0), &[0; BLOCK_BYTES + 8], block(2), block(3)]), "zeros");
    let other = self::file(20, 4 * BLOCK_BYTES);
    let foreign = &other[header + whole..][..whole];
    expect_damaged(&made(&[block(0), foreign, block(2), block(3)]), "a block of another snapshot");
}

#[test]
fn a_block_that_is_not_full_must_be_the_last() {
    let file = file(10, BLOCK_BYTES + 10);
    let header = file.len() - 16 - 10 - 8 - BLOCK_BYTES - 8;
    let mut made = file[..header].to_vec();
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::from_le_bytes(*made.last_chunk().unwrap()));
    for piece in [&[10; 10][..], &[7; BLOCK_BYTES]] {
        let block = [&(piece.len() as u32).to_le_bytes(), piece].concat();
        hasher.update(&block);
        made.extend([&block[..], &hasher.clone().finalize().to_le_bytes()].concat());
    }
    let footer = [&[0; 4][..], &(BLOCK_BYTES as u64 + 10).to_le_bytes()].concat();
    hasher.update(&footer);
    made.extend([&footer[..], &hasher.finalize().to_le_bytes()].concat());
    expect_damaged(&made, "a short block in the middle");
}

#[test]
fn another_name_or_cluster_is_a_problem() {
    let files = MemoryFiles::default();
    files.set(Path::new(FOLDER).join(name(20)), &file(10, 10));
    let store = open_store(&files);
    assert_eq!((latest(&store), store.problems().len()), (0, 1));
    let files = MemoryFiles::default();
    take(&open_store(&files), 10, 10).unwrap();
    let other = FileSnapshots::open(Arc::new(files), FOLDER.as_ref(), CLUSTER + 1).unwrap();
    assert_eq!((latest(&other), other.problems().len()), (0, 1));
}

#[test]
fn chunks_may_come_twice_but_leave_no_gap() {
    let file = file(10, 1000);
    let store = open_store(&MemoryFiles::default());
    let mut receiver = store.receive(&meta(10), file.len() as u64).unwrap();
    assert!(is_refused(receiver.write(1, &file[1..10])), "a gap at the beginning");
    receiver.write(0, &file[..100]).unwrap();
    assert!(is_refused(receiver.write(101, &file[101..200])), "a gap");
    assert!(is_refused(receiver.write(u64::MAX, &file[..10])), "an offset beyond everything");
    receiver.write(0, &file[..100]).unwrap();
    receiver.write(20, &file[20..30]).unwrap();
    assert_eq!(receiver.received(), 100, "what comes twice changes nothing");
    receiver.write(50, &file[50..150]).unwrap();
    assert_eq!(receiver.received(), 150, "of an overlap only the rest is new");
    receiver.write(150, &[]).unwrap();
    assert!(is_refused(receiver.write(150, &vec![0; file.len()])), "more than was announced");
    receiver.write(150, &file[150..]).unwrap();
    receiver.finish().unwrap();
    assert_eq!(read(&store, 10).unwrap(), state(10, 1000));
    assert!(is_refused(store.receive(&meta(10), 1000)) && is_refused(store.receive(&meta(9), 1000)), "not newer");
}

#[test]
fn what_is_incomplete_or_of_another_snapshot_is_refused() {
    let files = MemoryFiles::default();
    let store = open_store(&files);
    let file = file(10, 1000);
    let mut receiver = store.receive(&meta(10), file.len() as u64).unwrap();
    receiver.write(0, &file[..900]).unwrap();
    assert!(is_refused(receiver.finish()));
    let mut receiver = store.receive(&meta(10), file.len() as u64).unwrap();
    assert!(is_refused(receiver.write(0, &self::file(20, 1000))), "another snapshot");
    drop(receiver);
    receive(&store, 10, &file, 300).unwrap();
    assert_eq!(read(&store, 10).unwrap(), state(10, 1000));
    let mut receiver = store.receive(&meta(30), self::file(30, 10).len() as u64).unwrap();
    receiver.write(0, &self::file(30, 10)).unwrap();
    take(&store, 40, 10).unwrap();
    assert!(is_refused(receiver.finish()), "a newer one came meanwhile");
    assert_eq!(latest(&store), 40);
    assert!(!files.all().keys().any(|path| path.to_string_lossy().ends_with(".part")));
}

#[test]
fn a_transfer_goes_on_after_a_restart() {
    let file = file(10, 3 * BLOCK_BYTES);
    let block = BLOCK_BYTES + 8;
    let header = file.len() - 16 - 3 * block;
    for length in
        [0, 1, header - 1, header, header + 1, header + block - 1, header + 2 * block, file.len() - 1, file.len()]
    {
        let files = MemoryFiles::default();
        let store = open_store(&files);
        let mut receiver = store.receive(&meta(10), file.len() as u64).unwrap();
        receiver.write(0, &file[..length]).unwrap();
        drop(receiver);
        for (nth, files) in after_crash(&files).into_iter().enumerate() {
            let store = open_store(&files);
            let receiver = store.receive(&meta(10), file.len() as u64).unwrap();
            let intact = match length {
                _ if nth > 0 || length < header => 0,
                _ if length == file.len() => length,
                _ => header + (length - header) / block * block,
            };
            assert_eq!(receiver.received(), intact as u64, "{length} bytes were there");
            drop(receiver);
            receive(&store, 10, &file, 10_000).unwrap();
            assert_eq!(read(&store, 10).unwrap(), state(10, 3 * BLOCK_BYTES));
        }
    }
}

#[test]
fn what_is_left_of_a_transfer_is_used_only_if_it_fits() {
    let part = |index: u64| Path::new(FOLDER).join(name(index) + ".part");
    let file = file(10, 1000);
    let mut damaged = file.clone();
    damaged[30] ^= 1;
    for (index, bytes) in [(10, &damaged[..]), (10, &file[..20]), (20, &file[..]), (10, b"")] {
        let files = MemoryFiles::default();
        files.set(part(index), bytes);
        drop(open_store(&files));
        assert!(files.all().is_empty(), "its header is not right");
    }
    let files = MemoryFiles::default();
    files.set(part(10), &file[..900]);
    take(&open_store(&files), 20, 10).unwrap();
    drop(open_store(&files));
    assert!(!files.all().contains_key(&part(10)), "it is older than what is there");
    let files = MemoryFiles::default();
    files.set(part(10), &file);
    let store = open_store(&files);
    drop(store.receive(&meta(20), 1000).unwrap());
    assert!(!files.all().contains_key(&part(10)), "another one is received now");
    // More of it than there can be: the rest is cut off.
    files.set(part(10), &[&file[..100], &[0; 2000]].concat());
    receive(&store, 10, &file, 100).unwrap();
    assert_eq!(read(&store, 10).unwrap(), state(10, 1000));
    // One of the same name, but of another membership.
    let store = open_store(&MemoryFiles::default());
    files.set(part(10), &file);
    let other = SnapshotMeta { membership: Membership::of_voters([NodeId(1)]), ..meta(10) };
    assert_eq!(store.receive(&other, file.len() as u64).unwrap().received(), 0);
}

#[test]
fn a_transfer_that_was_changed_on_the_way_never_becomes_a_snapshot() {
    let files = MemoryFiles::default();
    let store = open_store(&files);
    let file = file(10, 40);
    for bit in 0..file.len() * 8 {
        let mut changed = file.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = receive(&store, 10, &changed, 50).unwrap_err();
        assert!(matches!(error, StorageError::Damaged(_) | StorageError::Refused(_)), "bit {bit} flipped: {error}");
        assert_eq!(store.latest(), None, "bit {bit} flipped");
        assert_eq!(open_store(&files.copy()).latest(), None, "bit {bit} flipped");
    }
    receive(&store, 10, &file, 50).unwrap();
    assert_eq!(read(&store, 10).unwrap(), state(10, 40));
}

#[test]
fn the_golden_file_says_what_was_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/storage").join(name(70));
    let bytes = file(70, 300);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(bytes, golden, "a change of the format");
    let files = MemoryFiles::default();
    files.set(Path::new(FOLDER).join(name(70)), &golden);
    let store = open_store(&files);
    assert_eq!(store.latest(), Some(SnapshotInfo { meta: meta(70), bytes: golden.len() as u64 }));
    assert_eq!(read(&store, 70).unwrap(), state(70, 300));
}

proptest! {
    #[test]
    fn bytes_that_make_no_sense_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), keep in 0..20_usize) {
        let files = MemoryFiles::default();
        let path = Path::new(FOLDER).join(name(10));
        files.set(&path, &[&file(10, 0)[..keep], &bytes].concat());
        assert!(matches!(verify_file(&files, &path, &mut |_| ()), Err(StorageError::Damaged(_))));
        assert_eq!(open_store(&files).latest(), None);
    }
}
