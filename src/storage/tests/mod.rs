//! Storage as a whole: over crashes, damage, faults and concurrent readers.

mod crash;
mod damage;
mod faults;
mod files;
mod folder;
mod golden;
mod reader;
mod recycled;
mod snapshot;
mod speed;
mod torn;

use std::path::PathBuf;
use std::sync::Arc;

use self::files::MemoryFiles;
use super::conformance::{self, append, replace};
use super::files::Files;
use super::{FileStorage, InMemoryStorage, OpenOptions, Recovered, Storage, StorageError, WriteBatch, cluster_id};
use crate::consensus::{Entry, HardState, Index, Membership, NodeId, Term};

const FOLDER: &str = "/data/A";

/// Node 2 of three, in a folder of this name, with small segments.
fn options(folder: impl Into<PathBuf>) -> OpenOptions {
    let membership = Membership::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    let cluster_id = cluster_id("raft", &membership);
    OpenOptions {
        folder: folder.into(),
        cluster_id,
        node: NodeId(2),
        membership,
        segment_bytes: 4 << 10,
        rejoin: false,
    }
}

/// Opens [`FOLDER`].
fn open(files: &(impl Files + Clone + 'static)) -> Result<FileStorage, StorageError> {
    FileStorage::open_with(&options(FOLDER), Arc::new(files.clone()), [(); 2].map(|()| getrandom::u64().unwrap()))
}

/// Opens [`FOLDER`] with segments of four sectors, which fill up quickly.
fn open_small(files: &(impl Files + Clone + 'static)) -> Result<FileStorage, StorageError> {
    let options = OpenOptions { segment_bytes: 2 << 10, ..options(FOLDER) };
    FileStorage::open_with(&options, Arc::new(files.clone()), [(); 2].map(|()| getrandom::u64().unwrap()))
}

fn segment(number: u64) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{number:010}.wal"))
}

/// Everything that a storage remembers.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    hard_state: HardState,
    /// Index and term of the entry before the first.
    base: (Index, Term),
    entries: Vec<Entry>,
}

impl State {
    fn of(storage: &mut FileStorage) -> (State, Option<String>) {
        let (recovered, headers) = conformance::recover(storage);
        let Recovered { hard_state, repaired, base, last, .. } = recovered;
        let entries = storage.reader().read(base.0.next(), Index(u64::MAX), u64::MAX).unwrap();
        assert!(headers.iter().eq(entries.iter().map(|entry| &entry.header)), "the reader and the headers agree");
        assert_eq!(last.0, base.0.0 + entries.len() as u64);
        (State { hard_state, base, entries }, repaired)
    }

    /// Without the entries up to this one.
    fn compacted_to(&self, base: Index) -> State {
        let mut state = self.clone();
        while let Some(first) = state.entries.first().filter(|first| first.header.index <= base) {
            state.base = (first.header.index, first.header.term);
            state.entries.remove(0);
        }
        state
    }

    fn after(&self, batch: &WriteBatch) -> State {
        let mut state = self.clone();
        state.hard_state = batch.hard_state.unwrap_or(state.hard_state);
        if let Some(snapshot) = &batch.install {
            state.base = (snapshot.index, snapshot.term);
            state.entries.clear();
        }
        state.entries.retain(|entry| batch.truncate_from.is_none_or(|from| entry.header.index < from));
        state.entries.extend_from_slice(&batch.entries);
        state
    }
}

fn vote(term: u64, vote: u64) -> WriteBatch {
    let hard_state = HardState { term: Term(term), vote: Some(NodeId(vote)) };
    WriteBatch { hard_state: Some(hard_state), ..WriteBatch::default() }
}

/// Groups of units, one sync each: votes, appends and truncations that fill several small segments.
fn script() -> Vec<Vec<WriteBatch>> {
    let mut groups = vec![vec![vote(1, 2)], vec![append(1, 3, 1), append(4, 6, 1)], vec![vote(2, 1), replace(5, 9, 2)]];
    groups.extend((1..=6).map(|round| vec![append(round * 10, round * 10 + 9, 2)]));
    groups.push(vec![WriteBatch { truncate_from: Some(Index(12)), ..vote(3, 3) }]);
    groups.push(vec![append(12, 60, 3), replace(58, 70, 3)]);
    groups.push(vec![append(71, 72, 3)]);
    groups
}

fn write_group(storage: &mut FileStorage, group: &[WriteBatch]) -> Result<(), StorageError> {
    group.iter().try_for_each(|batch| storage.write(batch))?;
    storage.sync()
}

/// Files with what these groups wrote, and what was to be remembered.
fn written(groups: &[Vec<WriteBatch>]) -> (MemoryFiles, State) {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    let mut state = State::default();
    for group in groups {
        write_group(&mut storage, group).unwrap();
        state = group.iter().fold(state, |state, batch| state.after(batch));
    }
    (files, state)
}

#[test]
fn file_storage_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    for segment_bytes in [4 << 10, 16 << 20] {
        conformance::check(|place| {
            let options =
                OpenOptions { segment_bytes, ..options(folder.path().join(format!("{place} {segment_bytes}"))) };
            Box::new(FileStorage::open(&options).unwrap())
        });
    }
}

#[test]
fn file_storage_keeps_the_contract_on_a_full_disk() {
    for segment_bytes in [4 << 10, 256 << 10] {
        let files = MemoryFiles::default();
        let open = |place: &str| -> Box<dyn Storage> {
            let options = OpenOptions { segment_bytes, ..options(format!("/data/{place}")) };
            Box::new(FileStorage::open_with(&options, Arc::new(files.clone()), [7, 8]).unwrap())
        };
        conformance::check_full(open, |full| files.set_room(if full { 70_000 } else { u64::MAX }));
    }
}

#[test]
fn in_memory_storage_keeps_the_contract() {
    let mut places = std::collections::BTreeMap::<String, InMemoryStorage>::new();
    conformance::check(|place| {
        let storage = places.get(place).map_or_else(InMemoryStorage::new, InMemoryStorage::reopen);
        places.insert(place.into(), storage.reopen());
        Box::new(storage)
    });
}

#[test]
fn in_memory_storage_counts_its_lives() {
    let storage = InMemoryStorage::new();
    assert_eq!(storage.reopen().life().incarnation, storage.life().incarnation);
    assert_eq!(storage.reopen().life().boot, storage.life().boot + 1);
}

#[test]
fn a_script_fills_several_segments_and_is_found_again() {
    let (files, state) = written(&script());
    assert!(files.all().contains_key(&segment(3)), "the script rolls over: {:?}", files.all().keys());
    let mut storage = open(&files).unwrap();
    assert_eq!(State::of(&mut storage), (state, None));
}

/// All nodes of a new cluster start at once, below a folder that none of them finds.
#[test]
fn nodes_that_start_together_make_the_folder_above_them_together() {
    for _ in 0..20 {
        let parent = tempfile::tempdir().unwrap();
        let at_once = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for node in 1..=8 {
                let (folder, at_once) = (parent.path().join("a/b").join(node.to_string()), &at_once);
                scope.spawn(move || {
                    let membership = Membership::of_voters((1..=8).map(NodeId));
                    let options = OpenOptions { folder, node: NodeId(node), membership, ..options("") };
                    at_once.wait();
                    FileStorage::open(&options).unwrap();
                });
            }
        });
    }
}
