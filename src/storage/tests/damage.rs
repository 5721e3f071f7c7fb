//! Bytes that had been synced are not what was written: the storage refuses to open, and says why.

use super::*;

const SECTOR: usize = 512;

/// The message of a refusal for damage: it names the file.
fn damage(files: &MemoryFiles, file: &str) -> String {
    match open(files).map(|_| ()) {
        Err(StorageError::Damaged(message)) => {
            assert!(message.contains(file) && message.contains("offset"), "{message} names {file} and an offset");
            message
        }
        other => panic!("damage in {file} is not seen: {other:?}"),
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Every kind of record, then two more batches: one large, and a small last one.
fn groups() -> Vec<Vec<WriteBatch>> {
    let members = conformance::command(4, 2);
    let mut unit = WriteBatch { truncate_from: Some(Index(3)), entries: vec![], ..vote(2, 3) };
    unit.entries.push(conformance::command(3, 2));
    unit.entries.push(members);
    vec![vec![vote(1, 2), append(1, 3, 1)], vec![unit], vec![append(5, 9, 2)]]
}

#[test]
fn every_bit_before_the_last_batch() {
    let (files, _) = written(&groups()[..2]);
    let start = files.get(segment(1)).iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let start = start.next_multiple_of(SECTOR);
    let (files, _) = written(&groups());
    let intact = files.get(segment(1));
    for bit in 0..start * 8 {
        let mut bytes = intact.clone();
        flip(&mut bytes, bit);
        files.set(segment(1), &bytes);
        damage(&files, "0000000001.wal");
    }
}

#[test]
fn every_bit_of_the_last_batch_is_cut_or_refused_but_never_believed() {
    let (files, before) = written(&groups()[..2]);
    let start = files.get(segment(1)).iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let start = start.next_multiple_of(SECTOR);
    let (files, _) = written(&groups());
    let intact = files.get(segment(1));
    for bit in start * 8..(start + SECTOR) * 8 {
        let mut bytes = intact.clone();
        flip(&mut bytes, bit);
        let files = files.copy();
        files.set(segment(1), &bytes);
        let (state, repaired) = State::of(&mut open(&files).unwrap());
        assert_eq!(state, before);
        assert!(repaired.is_some());
    }
}

#[test]
fn every_bit_of_the_identity() {
    let (files, _) = written(&groups());
    let path = format!("{FOLDER}/identity");
    let intact = files.get(&path);
    for bit in 0..intact.len() * 8 {
        let mut bytes = intact.clone();
        flip(&mut bytes, bit);
        files.set(&path, &bytes);
        damage(&files, "identity");
    }
    for size in 0..intact.len() {
        files.set(&path, &intact[..size]);
        damage(&files, "identity");
    }
}

#[test]
fn the_end_of_a_segment_that_is_not_the_last() {
    let (files, _) = written(&script());
    let intact = files.get(segment(1));
    let used = intact.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for size in (0..used).step_by(64) {
        files.set(segment(1), &intact[..size]);
        damage(&files, ".wal");
        let mut zeroed = intact.clone();
        zeroed[size..].fill(0);
        files.set(segment(1), &zeroed);
        damage(&files, ".wal");
    }
    files.set(segment(1), &[&intact[..], b"more"].concat());
    damage(&files, "0000000001.wal");
}

#[test]
fn the_last_batch_of_a_segment_that_is_not_the_last() {
    let (files, _) = written(&script());
    let intact = files.get(segment(1));
    let end = end_of_batches(&intact);
    for bit in (end - SECTOR) * 8..end * 8 {
        let mut bytes = intact.clone();
        flip(&mut bytes, bit);
        files.set(segment(1), &bytes);
        assert!(damage(&files, "0000000001.wal").contains("although segment 2 goes on from batch"));
    }
}

#[test]
fn missing_swapped_and_foreign_segments() {
    let (intact, _) = written(&script());
    let files = intact.copy();
    files.remove(&segment(2)).unwrap();
    assert!(damage(&files, "0000000002.wal").contains("no such file"));
    // As if it had been compacted, but without a snapshot.
    let files = intact.copy();
    files.remove(&segment(1)).unwrap();
    let recovered = open(&files).unwrap().recover(&mut |_| {}).unwrap();
    assert!(matches!(recovered.check(), Err(StorageError::Damaged(message)) if message.contains("no snapshot")));

    let files = intact.copy();
    files.set(segment(1), &intact.get(segment(2)));
    files.set(segment(2), &intact.get(segment(1)));
    damage(&files, "0000000001.wal");

    let files = intact.copy();
    files.set(segment(3), &intact.get(segment(2)));
    damage(&files, "0000000003.wal");

    let files = intact.copy();
    let (foreign, _) = written(&script());
    files.set(segment(2), &foreign.get(segment(2)));
    assert!(damage(&files, "0000000002.wal").contains("of folder"));

    let files = intact.copy();
    files.set(segment(9_999_999_999), b"");
    damage(&files, ".wal");
}

#[test]
fn a_batch_that_is_lost_or_old() {
    let (files, _) = written(&groups());
    let mut lost = files.get(segment(1));
    lost[2 * SECTOR..3 * SECTOR].fill(0);
    files.set(segment(1), &lost);
    assert!(damage(&files, "0000000001.wal").contains("a later batch is intact at offset 1536"));

    let (files, _) = written(&groups());
    let mut old = files.get(segment(1));
    old.copy_within(SECTOR..2 * SECTOR, 2 * SECTOR);
    files.set(segment(1), &old);
    damage(&files, "0000000001.wal");
}

/// The CRC is right and continues the one before, but the record belongs elsewhere.
#[test]
fn a_record_of_another_batch() {
    let (files, before) = written(&groups());
    let start = end_of_batches(&files.get(segment(1)));
    let mut storage = open(&files).unwrap();
    storage.close().unwrap();
    drop(storage);
    let mut bytes = files.get(segment(1));
    let mark = &mut bytes[start..start + SECTOR];
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let (previous, old) = (number(&mark[20..24]), number(&mark[28..32]));
    mark[28..32].copy_from_slice(&(old - 1).to_le_bytes());
    let salt = number(&files.get(segment(1))[16..20]);
    let mut crc = crc32fast::Hasher::new_with_initial(previous ^ salt);
    crc.update(&mark[24..SECTOR - 4]);
    mark[SECTOR - 4..].copy_from_slice(&crc.finalize().to_le_bytes());
    files.set(segment(1), &bytes);
    let (state, repaired) = State::of(&mut open(&files).unwrap());
    assert_eq!(state, before);
    assert!(repaired.as_ref().is_some_and(|repaired| repaired.contains("found one of another batch")), "{repaired:?}");
}

#[test]
fn a_folder_without_its_identity_or_its_log() {
    let (intact, _) = written(&groups());
    let files = intact.copy();
    files.remove(format!("{FOLDER}/identity").as_ref()).unwrap();
    damage(&files, "identity");
    let files = intact.copy();
    files.remove(&segment(1)).unwrap();
    assert!(damage(&files, "0000000001.wal").contains("no such file"));
}

#[test]
fn a_reader_refuses_what_is_damaged_while_the_node_runs() {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    write_group(&mut storage, &[append(1, 9, 1)]).unwrap();
    let reader = storage.reader();
    let read = || reader.read(Index(1), Index(9), u64::MAX);
    let intact = files.get(segment(1));
    let records = SECTOR + 24; // after the header of the segment and that of the batch
    for bit in records * 8..(records + 9 * 58) * 8 {
        let mut bytes = intact.clone();
        flip(&mut bytes, bit);
        files.set(segment(1), &bytes);
        assert!(matches!(read(), Err(StorageError::Damaged(_))), "bit {bit}");
    }
    files.set(segment(1), &intact[..SECTOR + 100]);
    assert!(matches!(read(), Err(StorageError::Damaged(_))), "a file that is too short");
    files.set(segment(1), &intact);
    assert_eq!(read().unwrap(), append(1, 9, 1).entries);
}

#[test]
fn every_bit_under_the_mark() {
    let files = MemoryFiles::default();
    let mut storage = open_small(&files).unwrap();
    let replaced = WriteBatch { entries: append(301, 310, 3).entries, ..conformance::install(300, 3) };
    let groups = [
        vec![append(1, 20, 1)],
        vec![append(21, 40, 1), vote(2, 1)],
        vec![append(41, 50, 1), replace(45, 52, 2)],
        vec![vote(3, 3), replaced],
        vec![append(311, 330, 3)],
        vec![append(331, 332, 3), replace(330, 333, 4)],
        vec![append(334, 336, 4)],
    ];
    let mut state = State::default();
    for group in &groups {
        write_group(&mut storage, group).unwrap();
        state = group.iter().fold(state, |state, batch| state.after(batch));
        while storage.idle().unwrap().is_some_and(|wait| wait.is_zero()) {}
    }
    let unmarked = files.all();
    storage.close().unwrap();
    drop(storage);
    let intact = files.all();
    let segments = intact.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "wal"));
    let (mut of_the_mark, mut recycled) = (0, 0);
    for (path, bytes) in segments.clone() {
        let differs = |at: &usize| bytes[*at] != unmarked[path][*at];
        // In the last segment: where the mark begins. In the others: where the last batch ends.
        let mark = (0..bytes.len()).find(differs);
        let end = mark.unwrap_or_else(|| end_of_batches(bytes));
        recycled += u64::from(bytes[73]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flip(&mut flipped, bit);
            files.set(path, &flipped);
            if bit < end * 8 {
                damage(&files, ".wal");
            } else {
                of_the_mark += u64::from(mark.is_some_and(|mark| bit / 8 < mark + SECTOR));
                let found = open_small(&files.copy()).map(|mut storage| State::of(&mut storage).0);
                assert!(found == Ok(state.clone()) || matches!(found, Err(StorageError::Damaged(_))), "bit {bit}");
            }
        }
        files.set(path, bytes);
    }
    assert!(segments.count() > 1 && recycled > 0, "{recycled} segments were recycled");
    assert_eq!(of_the_mark, 8 * SECTOR as u64);
}

/// Where the batches of a whole segment end.
fn end_of_batches(segment: &[u8]) -> usize {
    let number = |at: usize| u64::from_le_bytes(segment[at + 8..at + 16].try_into().unwrap());
    let (mut end, mut batch) = (SECTOR, u64::from_le_bytes(segment[48..56].try_into().unwrap()));
    while segment[end..].starts_with(b"BTCH") && number(end) == batch {
        end += 24 + u32::from_le_bytes(segment[end + 4..end + 8].try_into().unwrap()) as usize;
        batch += 1;
    }
    end
}

#[test]
fn a_log_that_has_gone_idle_is_marked_once() {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    write_group(&mut storage, &[append(1, 3, 1)]).unwrap();
    let mut waits = Vec::new();
    while let Some(wait) = storage.idle().unwrap() {
        waits.push(wait);
    }
    assert_eq!(waits.iter().filter(|wait| !wait.is_zero()).count(), 1, "{waits:?}");
    let marked = files.get(segment(1));
    assert_eq!(storage.idle(), Ok(None));
    storage.close().unwrap();
    assert_eq!(files.get(segment(1)), marked, "nothing more to say");
    drop(storage);
    let mut storage = open(&files).unwrap();
    while storage.idle().unwrap().is_some() {}
    assert_eq!(files.get(segment(1)), marked, "nothing more to say after a restart");
    // The last batch is flipped: that is no interrupted write any more.
    let mut bytes = marked.clone();
    flip(&mut bytes, (SECTOR + 100) * 8);
    files.set(segment(1), &bytes);
    drop(storage);
    assert!(damage(&files, "0000000001.wal").contains("although a later batch is intact at offset 1024"));
}
