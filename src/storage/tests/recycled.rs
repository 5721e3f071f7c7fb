//! Segments that are used again: what is left in them of their earlier lives is neither believed nor reported.

use super::*;

const SECTOR: usize = 512;

fn names(files: &MemoryFiles, extension: &str) -> Vec<PathBuf> {
    let has_it = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    files.all().into_keys().filter(has_it).collect()
}

fn do_chores(storage: &mut FileStorage) {
    while storage.idle().unwrap().is_some_and(|wait| wait.is_zero()) {}
}

/// A log whose last segment was another one before, and has older batches behind its last one, which fills three
/// sectors from `start` on.
struct Recycled {
    files: MemoryFiles,
    last: PathBuf,
    bytes: Vec<u8>,
    start: usize,
    /// What it says without and with the last batch.
    before: State,
    after: State,
}

fn log() -> Recycled {
    let files = MemoryFiles::default();
    let options = OpenOptions { segment_bytes: 8 << 10, ..options(FOLDER) };
    let mut storage = FileStorage::open_with(&options, Arc::new(files.clone()), [7, 8]).unwrap();
    let mut state = State::default();
    let mut next = 1;
    let mut append_synced = |storage: &mut FileStorage, count: u64| {
        let unit = append(next, next + count - 1, 1);
        write_group(storage, std::slice::from_ref(&unit)).unwrap();
        state = state.after(&unit);
        next += count;
        (next - 1, state.clone())
    };
    while !files.all().contains_key(&segment(4)) {
        let (last, _) = append_synced(&mut storage, 20);
        storage.compact(Index(last)).unwrap();
        do_chores(&mut storage);
    }
    let (_, before) = append_synced(&mut storage, 1);
    let intact = files.get(segment(4));
    let (_, after) = append_synced(&mut storage, 20);
    let bytes = files.get(segment(4));
    let start = (0..bytes.len()).find(|at| bytes[*at] != intact[*at]).unwrap();
    let changed = (0..bytes.len()).rev().find(|at| bytes[*at] != intact[*at]).unwrap() + 1;
    assert_eq!((start % SECTOR, changed.div_ceil(SECTOR) - start / SECTOR, bytes[73]), (0, 3, 1));
    assert!(bytes[start + 3 * SECTOR..].iter().any(|byte| *byte != 0), "there are older batches behind it");
    drop(storage);
    let base = State::of(&mut open(&files.copy()).unwrap()).0.base.0;
    let (before, after) = (before.compacted_to(base), after.compacted_to(base));
    Recycled { files, last: segment(4), bytes, start, before, after }
}

#[test]
fn older_batches_are_not_reported_and_do_not_come_back() {
    let log = log();
    assert_eq!(State::of(&mut open(&log.files).unwrap()), (log.after, None));
    let bytes = log.files.get(&log.last);
    assert!(bytes[log.start + 3 * SECTOR..].iter().all(|byte| *byte == 0), "they are zeroed");
}

#[test]
fn an_interrupted_write_over_older_batches_is_cut_and_reported_if_it_can_be_told() {
    let log = log();
    let older = vec![0x5a; SECTOR];
    for lost in 1..8_usize {
        let mut bytes = log.bytes.clone();
        for sector in (0..3).filter(|sector| lost >> sector & 1 == 1) {
            bytes[log.start + sector * SECTOR..][..SECTOR].copy_from_slice(&older);
        }
        let files = log.files.copy();
        files.set(&log.last, &bytes);
        let (state, repaired) = State::of(&mut open(&files).unwrap());
        assert_eq!(state, log.before, "sectors {lost:03b} are lost");
        let header_is_there = lost & 1 == 0;
        assert_eq!(repaired.is_some(), header_is_there, "sectors {lost:03b} are lost: {repaired:?}");
        assert!(files.get(&log.last)[log.start..].iter().all(|byte| *byte == 0), "all of it is zeroed");
        assert_eq!(State::of(&mut open(&files.after_power_loss()).unwrap()), (log.before.clone(), None));
    }
}

#[test]
fn a_spare_found_at_a_start_has_older_batches_in_it() {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    for group in 0..8 {
        write_group(&mut storage, &[append(group * 20 + 1, group * 20 + 20, 1)]).unwrap();
    }
    storage.compact(Index(160)).unwrap();
    do_chores(&mut storage);
    let (spares, segments) = (names(&files, "spare"), names(&files, "wal"));
    assert!(!spares.is_empty(), "{segments:?}");
    drop(storage);

    let mut storage = open(&files).unwrap();
    conformance::recover(&mut storage);
    let mut next = 161;
    while names(&files, "spare").len() == spares.len() {
        write_group(&mut storage, &[append(next, next, 1)]).unwrap();
        next += 1;
    }
    drop(storage);
    let last = names(&files, "wal").pop().unwrap();
    assert_eq!(files.get(&last)[73], 1, "its header says so");
    let (state, repaired) = State::of(&mut open(&files).unwrap());
    assert_eq!((state.entries.last().map(|last| last.header.index), repaired), (Some(Index(next - 1)), None));
}

#[test]
fn as_many_spares_are_kept_as_the_log_needed_and_none_that_is_too_large() {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    // The first does not fit into a segment of the usual size.
    write_group(&mut storage, &[append(1, 200, 1)]).unwrap();
    let large = files.get(segment(1)).len();
    for group in 10..30 {
        write_group(&mut storage, &[append(group * 20 + 1, group * 20 + 20, 1)]).unwrap();
    }
    let segments = names(&files, "wal").len();
    assert!(segments > 6);
    storage.compact(Index(600)).unwrap();
    do_chores(&mut storage);
    let spares = names(&files, "spare");
    // One is in use still.
    assert_eq!(spares.len(), segments - 2, "{spares:?}");
    assert!(spares.iter().all(|spare| files.get(spare).len() < large), "none is larger than a segment");
    drop(storage);
    open(&files).unwrap();
    assert_eq!(names(&files, "spare"), spares, "they stay");

    let mut storage = open(&files).unwrap();
    conformance::recover(&mut storage);
    write_group(&mut storage, &[append(601, 640, 1)]).unwrap();
    storage.compact(Index(600)).unwrap();
    do_chores(&mut storage);
    assert_eq!(names(&files, "spare").len(), 4, "it needs few now");
}

#[test]
fn chores_and_a_stop_leave_the_group_under_way_alone() {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    write_group(&mut storage, &[append(1, 3, 1)]).unwrap();
    do_chores(&mut storage);
    storage.write(&append(4, 6, 1)).unwrap();
    let written = files.all();
    for _ in 0..3 {
        assert_eq!(storage.idle(), Ok(None));
        storage.close().unwrap();
        assert_eq!(files.all(), written, "nothing is written before its sync");
    }
    storage.sync().unwrap();
    drop(storage);
    let (state, _) = State::of(&mut open(&files.after_power_loss()).unwrap());
    assert_eq!(state.entries, append(1, 6, 1).entries);
}
