//! What every [`Storage`] must do, as checks that run on any of them: [`check`] panics, with a message, on the first one
//! that is not kept, and [`check_full`] does so for storages whose space can be made to end.
//!
//! A storage of one's own is held to it by saying how it is opened anew, and again; `tests/own_storage.rs` has a whole one.
//!
//! ```
//! use std::collections::BTreeMap;
//! use raft::storage::{InMemoryStorage, conformance};
//!
//! let mut places = BTreeMap::<String, InMemoryStorage>::new();
//! conformance::check(|place| {
//!     let storage = places.entry(place.into()).or_default();
//!     Box::new(storage.reopen())
//! });
//! ```

mod full;
mod snapshots;

pub use self::full::check_full;
use super::{Recovered, Storage, StorageError, WriteBatch};
use crate::consensus::{
    Entry, EntryHeader, EntryKind, HardState, Index, LogTime, Membership, NodeId, Payload, SessionSequence,
    SnapshotMeta, Term,
};

/// Opens the storage that is kept at a place: the same one again, as a restart finds it, if there was one of that name.
/// The one opened there before is gone by then.
pub type Open<'a> = dyn FnMut(&str) -> Box<dyn Storage> + 'a;

/// Runs every check.
///
/// # Panics
/// When the storage breaks the contract of [`Storage`].
pub fn check(mut open: impl FnMut(&str) -> Box<dyn Storage>) {
    let open: &mut Open<'_> = &mut open;
    nothing_is_found_in_the_beginning(open);
    what_was_synced_is_found_again(open);
    the_latest_hard_state_counts(open);
    every_kind_of_entry_comes_back(open);
    a_reader_sees_what_is_not_yet_synced(open);
    a_reader_stops_at_its_limits(open);
    removed_entries_never_come_back(open);
    all_entries_may_be_removed(open);
    large_units_are_written_whole(open);
    many_units_stay_in_order(open);
    what_is_compacted_is_gone_and_the_rest_stays(open);
    a_snapshot_replaces_the_log(open);
    snapshots::are_whole_or_not_there(open);
    snapshots::travel_to_another_storage(open);
    snapshots::make_room_for_newer_ones(open);
    chores_and_an_orderly_stop_change_nothing(open);
    a_gap_is_refused_for_good(open);
    a_wrong_size_is_refused(open);
}

/// An entry with a command that says where it belongs.
pub fn command(index: u64, term: u64) -> Entry {
    entry(index, term, EntryKind::Command, format!("command {index} of term {term}").into_bytes())
}

/// A unit that appends commands of this term with the indexes `first..=last`.
pub fn append(first: u64, last: u64, term: u64) -> WriteBatch {
    WriteBatch { entries: (first..=last).map(|index| command(index, term)).collect(), ..WriteBatch::default() }
}

/// A unit that replaces everything from `first` on by commands of this term up to `last`.
pub fn replace(first: u64, last: u64, term: u64) -> WriteBatch {
    WriteBatch { truncate_from: Some(Index(first)), ..append(first, last, term) }
}

fn entry(index: u64, term: u64, kind: EntryKind, payload: Vec<u8>) -> Entry {
    let size = payload.len() as u32;
    let header =
        EntryHeader { index: Index(index), term: Term(term), kind, time: LogTime(index * 10), session: None, size };
    Entry { header, payload: payload.into() }
}

fn hard_state(term: u64, vote: Option<u64>) -> HardState {
    HardState { term: Term(term), vote: vote.map(NodeId) }
}

fn write(storage: &mut dyn Storage, batch: &WriteBatch) {
    storage.write(batch).expect("a unit that makes sense is written");
}

fn write_synced(storage: &mut dyn Storage, batch: &WriteBatch) {
    write(storage, batch);
    storage.sync().expect("a unit that was written is synced");
}

/// What is found at the start, and the log's entries without payloads.
pub fn recover(storage: &mut dyn Storage) -> (Recovered, Vec<EntryHeader>) {
    let mut headers = Vec::new();
    let recovered = storage.recover(&mut |header| headers.push(header)).expect("a restart reads the log");
    (recovered, headers)
}

/// Reads from the first entry that is there.
fn read_all(storage: &dyn Storage) -> Vec<Entry> {
    let read = |first| storage.reader().read(Index(first), Index(u64::MAX), u64::MAX).expect("the log is read");
    (1..1000).map(read).find(|entries| !entries.is_empty()).unwrap_or_default()
}

/// Opens again and compares everything with what must be there.
fn expect_found(open: &mut Open<'_>, place: &str, hard_state: HardState, entries: &[Entry]) {
    let mut storage = open(place);
    let (recovered, headers) = recover(&mut *storage);
    assert_eq!(recovered.hard_state, hard_state, "{place}: term and vote after a restart");
    let expected: Vec<EntryHeader> = entries.iter().map(|entry| entry.header.clone()).collect();
    assert_eq!(headers, expected, "{place}: headers after a restart");
    let base = entries.first().map_or(recovered.base.0, |first| first.header.index.prev());
    let last = entries.last().map_or(base, |last| last.header.index);
    assert_eq!((recovered.base.0, recovered.last), (base, last), "{place}: where the log begins and ends");
    assert_eq!(recovered.repaired, None, "{place}: nothing had been interrupted");
    assert_eq!(read_all(&*storage), entries, "{place}: entries after a restart");
}

fn nothing_is_found_in_the_beginning(open: &mut Open<'_>) {
    expect_found(open, "empty", HardState::default(), &[]);
    let mut storage = open("empty");
    recover(&mut *storage);
    write_synced(&mut *storage, &WriteBatch::default());
    drop(storage);
    expect_found(open, "empty", HardState::default(), &[]);
}

fn what_was_synced_is_found_again(open: &mut Open<'_>) {
    let mut written = Vec::new();
    for round in 1..=3 {
        let mut storage = open("again");
        recover(&mut *storage);
        let mut batch = append(round * 10 - 9, round * 10, round);
        batch.hard_state = Some(hard_state(round, Some(round)));
        write_synced(&mut *storage, &batch);
        written.extend(batch.entries);
        assert_eq!(read_all(&*storage), written, "entries before a restart");
        drop(storage);
        expect_found(open, "again", hard_state(round, Some(round)), &written);
    }
}

fn the_latest_hard_state_counts(open: &mut Open<'_>) {
    let mut storage = open("hard state");
    recover(&mut *storage);
    for (term, vote) in [(1, Some(3)), (2, None), (2, Some(0)), (u64::MAX, Some(u64::MAX)), (7, None)] {
        let batch = WriteBatch { hard_state: Some(hard_state(term, vote)), ..WriteBatch::default() };
        write_synced(&mut *storage, &batch);
        drop(storage);
        expect_found(open, "hard state", hard_state(term, vote), &[]);
        storage = open("hard state");
        recover(&mut *storage);
    }
}

fn every_kind_of_entry_comes_back(open: &mut Open<'_>) {
    let members = Membership {
        voters: [NodeId(1), NodeId(u64::MAX)].into(),
        outgoing: [NodeId(0)].into(),
        learners: [NodeId(4), NodeId(5)].into(),
    };
    let mut entries = vec![
        entry(1, 1, EntryKind::Noop, Vec::new()),
        entry(2, 1, EntryKind::Membership(members.into()), Vec::new()),
        entry(3, 1, EntryKind::Membership(Box::default()), Vec::new()),
        entry(4, 2, EntryKind::Command, Vec::new()),
        entry(5, 2, EntryKind::Command, (0..=255).collect()),
        entry(6, u64::MAX, EntryKind::Tick, Vec::new()),
    ];
    let stamp = SessionSequence { session: u64::MAX, sequence: 1 };
    entries.iter_mut().step_by(2).for_each(|entry| entry.header.session = Some(stamp));
    let mut storage = open("kinds");
    recover(&mut *storage);
    let batch = WriteBatch { entries, ..WriteBatch::default() };
    write_synced(&mut *storage, &batch);
    assert_eq!(read_all(&*storage), batch.entries, "entries before a restart");
    drop(storage);
    expect_found(open, "kinds", HardState::default(), &batch.entries);
}

fn a_reader_sees_what_is_not_yet_synced(open: &mut Open<'_>) {
    let mut storage = open("reader");
    recover(&mut *storage);
    let reader = storage.reader();
    let read = |first, last| reader.read(Index(first), Index(last), u64::MAX).expect("the log is read");
    assert_eq!(read(1, 9), [], "an empty log");
    write_synced(&mut *storage, &append(1, 4, 1));
    write(&mut *storage, &append(5, 6, 1));
    write(&mut *storage, &append(7, 8, 1));
    assert_eq!(read(1, 9), append(1, 8, 1).entries, "synced and not yet synced entries");
    assert_eq!(read(6, 7), append(6, 7, 1).entries, "entries of two units");
    write(&mut *storage, &replace(3, 5, 2));
    let replaced = [append(1, 2, 1).entries, append(3, 5, 2).entries].concat();
    assert_eq!(read(1, 9), replaced, "entries replaced before they were synced");
    storage.sync().expect("everything is synced");
    assert_eq!(read(1, 9), replaced, "the same entries, synced");
    drop(storage);
    expect_found(open, "reader", HardState::default(), &replaced);
}

fn a_reader_stops_at_its_limits(open: &mut Open<'_>) {
    let mut storage = open("limits");
    recover(&mut *storage);
    let entries = (1..=9).map(|index| entry(index, 1, EntryKind::Command, vec![index as u8; 100])).collect();
    let mut batch = WriteBatch { entries, ..WriteBatch::default() };
    let rest = batch.entries.split_off(6);
    write_synced(&mut *storage, &batch);
    write(&mut *storage, &WriteBatch { entries: rest, ..WriteBatch::default() });
    let reader = storage.reader();
    let read = |first, last, max_bytes| {
        let entries = reader.read(Index(first), Index(last), max_bytes).expect("the log is read");
        entries.iter().map(|entry| entry.header.index.0).collect::<Vec<u64>>()
    };
    assert_eq!(read(2, 4, u64::MAX), [2, 3, 4], "from first to last");
    assert_eq!(read(5, 8, u64::MAX), [5, 6, 7, 8], "across what is synced and what is not");
    assert_eq!(read(2, u64::MAX, 300), [2, 3, 4], "exactly as many bytes as allowed");
    assert_eq!(read(2, u64::MAX, 299), [2, 3], "no more bytes than allowed");
    assert_eq!(read(5, u64::MAX, 300), [5, 6, 7], "limited among what is not synced");
    assert_eq!(read(2, 9, 0), [2], "always one");
    assert_eq!(read(8, 9, 0), [8], "always one, not yet synced");
    assert_eq!(read(0, 9, u64::MAX), [0; 0], "there is no entry 0");
    assert_eq!(read(10, 20, u64::MAX), [0; 0], "beyond the end");
    assert_eq!(read(4, 3, u64::MAX), [0; 0], "an empty range");
    assert_eq!(read(u64::MAX, u64::MAX, u64::MAX), [0; 0], "far beyond the end");
}

fn removed_entries_never_come_back(open: &mut Open<'_>) {
    let mut storage = open("removed");
    recover(&mut *storage);
    write_synced(&mut *storage, &append(1, 20, 1));
    write_synced(&mut *storage, &replace(8, 9, 2));
    write_synced(&mut *storage, &WriteBatch { truncate_from: Some(Index(9)), ..WriteBatch::default() });
    write_synced(&mut *storage, &WriteBatch { truncate_from: Some(Index(100)), ..WriteBatch::default() });
    let mut entries = [append(1, 7, 1).entries, append(8, 8, 2).entries].concat();
    assert_eq!(read_all(&*storage), entries, "after truncations");
    drop(storage);
    expect_found(open, "removed", HardState::default(), &entries);
    let mut storage = open("removed");
    recover(&mut *storage);
    write_synced(&mut *storage, &append(9, 30, 3));
    entries.extend(append(9, 30, 3).entries);
    assert_eq!(read_all(&*storage), entries, "after a truncation, a restart and more entries");
    drop(storage);
    expect_found(open, "removed", HardState::default(), &entries);
}

fn all_entries_may_be_removed(open: &mut Open<'_>) {
    let mut storage = open("all removed");
    recover(&mut *storage);
    write_synced(&mut *storage, &append(1, 5, 1));
    write_synced(&mut *storage, &WriteBatch { truncate_from: Some(Index(1)), ..WriteBatch::default() });
    assert_eq!(read_all(&*storage), [], "nothing is left");
    drop(storage);
    expect_found(open, "all removed", HardState::default(), &[]);
    let mut storage = open("all removed");
    recover(&mut *storage);
    write_synced(&mut *storage, &append(1, 3, 2));
    drop(storage);
    expect_found(open, "all removed", HardState::default(), &append(1, 3, 2).entries);
}

fn large_units_are_written_whole(open: &mut Open<'_>) {
    let mut storage = open("large");
    recover(&mut *storage);
    let mut entries = append(1, 3, 1).entries;
    entries.extend((4..=6).map(|index| entry(index, 1, EntryKind::Command, vec![index as u8; 700_001])));
    entries.extend(append(7, 9, 1).entries);
    for part in [&entries[..3], &entries[3..4], &entries[4..7], &entries[7..]] {
        write_synced(&mut *storage, &WriteBatch { entries: part.to_vec(), ..WriteBatch::default() });
    }
    assert_eq!(read_all(&*storage), entries, "before a restart");
    drop(storage);
    expect_found(open, "large", HardState::default(), &entries);
}

fn many_units_stay_in_order(open: &mut Open<'_>) {
    let mut storage = open("many");
    recover(&mut *storage);
    let mut entries = Vec::new();
    for term in 1..=200 {
        let first = entries.len() as u64 + 1;
        let batch = if term % 7 == 0 { replace(first - 5, first + 2, term) } else { append(first, first + 9, term) };
        entries.truncate(batch.truncate_from.map_or(entries.len(), |from| from.prev().0 as usize));
        entries.extend_from_slice(&batch.entries);
        let batch = WriteBatch { hard_state: Some(hard_state(term, None)), ..batch };
        write(&mut *storage, &batch);
        if term % 3 == 0 {
            storage.sync().expect("everything is synced");
        }
    }
    assert_eq!(read_all(&*storage), entries, "before a restart");
    storage.sync().expect("everything is synced");
    drop(storage);
    expect_found(open, "many", hard_state(200, None), &entries);
}

/// A unit that replaces the log by a snapshot.
pub fn install(index: u64, term: u64) -> WriteBatch {
    let membership = Membership::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    let meta = SnapshotMeta { index: Index(index), term: Term(term), time: LogTime(index * 10), membership };
    WriteBatch { install: Some(meta), ..WriteBatch::default() }
}

fn what_is_compacted_is_gone_and_the_rest_stays(open: &mut Open<'_>) {
    let mut storage = open("compacted");
    recover(&mut *storage);
    for round in 0..30 {
        write_synced(&mut *storage, &append(round * 10 + 1, round * 10 + 10, 1 + round / 4));
    }
    let entries: Vec<Entry> = (1..=300).map(|index| command(index, 1 + (index - 1) / 40)).collect();
    let mut forgotten = 1;
    for keep_from in [0, 1, 77, 40, 200, 301] {
        forgotten = keep_from.max(forgotten);
        storage.compact(Index(keep_from)).expect("the log is compacted");
        let left = read_all(&*storage);
        let first = 301 - left.len() as u64;
        assert!(first <= forgotten, "entry {first} is the first that is left, compacted below {keep_from}");
        assert_eq!(left, entries[first as usize - 1..], "what is left, compacted below {keep_from}");
        let before = storage.reader().read(Index(first - 1), Index(300), u64::MAX).expect("the log is read");
        assert_eq!(before, [], "what is forgotten is not in the log");
        drop(storage);
        storage = open("compacted");
        let (recovered, headers) = recover(&mut *storage);
        let first = headers.first().map_or(301, |header| header.index.0);
        assert!(first <= forgotten, "entry {first} is the first that is left after a restart");
        let base = if first == 1 { Term(0) } else { Term(1 + (first - 2) / 40) };
        assert_eq!((recovered.base, recovered.last), ((Index(first - 1), base), Index(300)), "after a restart");
    }
    write_synced(&mut *storage, &replace(301, 310, 9));
    drop(storage);
    let mut storage = open("compacted");
    let (recovered, _) = recover(&mut *storage);
    assert_eq!(recovered.last, Index(310), "the log goes on");
    let end = storage.reader().read(Index(301), Index(u64::MAX), u64::MAX).expect("the log is read");
    assert_eq!(end, append(301, 310, 9).entries, "the log goes on");
}

fn a_snapshot_replaces_the_log(open: &mut Open<'_>) {
    for (place, last) in [("nothing there", 0), ("shorter", 20), ("longer", 200)] {
        let mut storage = open(place);
        recover(&mut *storage);
        for first in (1..=last).step_by(20) {
            write_synced(&mut *storage, &append(first, first + 19, 1));
        }
        let reader = storage.reader();
        write(&mut *storage, &WriteBatch { hard_state: Some(hard_state(7, None)), ..install(100, 6) });
        assert_eq!(reader.read(Index(1), Index(300), u64::MAX).expect("the log is read"), [], "{place}: at once");
        storage.sync().expect("everything is synced");
        drop(storage);
        let mut storage = open(place);
        let (recovered, headers) = recover(&mut *storage);
        assert_eq!((recovered.base, recovered.last), ((Index(100), Term(6)), Index(100)), "{place}: a new beginning");
        assert_eq!((headers.len(), recovered.hard_state), (0, hard_state(7, None)), "{place}: and nothing else");
        assert_eq!(read_all(&*storage), [], "{place}: and nothing else");
        // All in one unit, before it is synced and after.
        let batch = WriteBatch { truncate_from: Some(Index(151)), ..append(151, 160, 8) };
        let batch = WriteBatch { hard_state: Some(hard_state(8, Some(2))), install: install(150, 7).install, ..batch };
        write(&mut *storage, &batch);
        assert_eq!(read_all(&*storage), append(151, 160, 8).entries, "{place}: entries after the snapshot");
        storage.sync().expect("everything is synced");
        drop(storage);
        expect_found(open, place, hard_state(8, Some(2)), &append(151, 160, 8).entries);
        let mut storage = open(place);
        recover(&mut *storage);
        let all = WriteBatch { truncate_from: Some(Index(1)), ..append(151, 152, 9) };
        write_synced(&mut *storage, &all);
        drop(storage);
        expect_found(open, place, hard_state(8, Some(2)), &append(151, 152, 9).entries);
    }
}

fn chores_and_an_orderly_stop_change_nothing(open: &mut Open<'_>) {
    let mut storage = open("chores");
    recover(&mut *storage);
    let mut last = 0;
    for round in 0..20 {
        write_synced(&mut *storage, &append(last + 1, last + 9, 1));
        last += 9;
        let chores = (0..1000).take_while(|_| storage.idle().expect("a chore is done").is_some()).count();
        assert!(chores < 1000, "there is no end of chores");
        if round % 7 == 3 {
            storage.close().expect("an orderly stop");
            drop(storage);
            expect_found(open, "chores", HardState::default(), &append(1, last, 1).entries);
            storage = open("chores");
            recover(&mut *storage);
        }
    }
    drop(storage);
    expect_found(open, "chores", HardState::default(), &append(1, last, 1).entries);
}

fn a_gap_is_refused_for_good(open: &mut Open<'_>) {
    let late = WriteBatch { truncate_from: Some(Index(2)), ..append(3, 3, 1) };
    for (place, batch) in [("gap", append(5, 5, 1)), ("overlap", append(3, 4, 1)), ("late", late)] {
        let mut storage = open(place);
        recover(&mut *storage);
        write_synced(&mut *storage, &append(1, 3, 1));
        refused_for_good(&mut *storage, place, &batch);
        drop(storage);
        expect_found(open, place, HardState::default(), &append(1, 3, 1).entries);
    }
}

fn a_wrong_size_is_refused(open: &mut Open<'_>) {
    let mut storage = open("size");
    recover(&mut *storage);
    let mut batch = append(1, 2, 1);
    batch.entries[1].payload = Payload::EMPTY;
    refused_for_good(&mut *storage, "size", &batch);
    drop(storage);
    expect_found(open, "size", HardState::default(), &[]);
}

/// A unit that makes no sense is refused, has no effect, and nothing is accepted after it.
fn refused_for_good(storage: &mut dyn Storage, place: &str, batch: &WriteBatch) {
    let refused = storage.write(batch).expect_err("a unit that makes no sense");
    assert!(matches!(refused, StorageError::Refused(_)), "{place}: {refused}");
    let harmless = WriteBatch { hard_state: Some(hard_state(9, None)), ..WriteBatch::default() };
    assert_eq!(storage.write(&harmless), Err(refused.clone()), "{place}: a write after an error");
    assert_eq!(storage.sync(), Err(refused), "{place}: a sync after an error");
}
