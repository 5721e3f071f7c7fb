//! Readers on other threads, while the log grows, is truncated and is synced.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::files::FaultyFiles;
use super::*;

const ROUNDS: u64 = 1500;

/// What a read from an index on returned.
struct Observed {
    first: u64,
    terms: Vec<u64>,
}

/// Lets readers end when the writer does, even if that panics.
struct EndReaders<'a>(&'a AtomicBool);

impl Drop for EndReaders<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_read_is_always_a_part_of_one_log() {
    let files = MemoryFiles::default();
    let mut storage = open(&files).unwrap();
    let reader = storage.reader();
    let done = AtomicBool::new(false);
    let observed = Mutex::new(Vec::new());
    // The terms of every log there ever was. A term has one truncation, so that a mixture of two logs is none of them.
    let mut logs: Vec<Vec<u64>> = vec![Vec::new()];
    std::thread::scope(|scope| {
        let _ends = EndReaders(&done);
        for thread in 0..2_u64 {
            let (reader, done, observed) = (&reader, &done, &observed);
            scope.spawn(move || {
                let mut found = Vec::new();
                for round in thread.. {
                    let first = 1 + round * 7 % 40;
                    let entries = reader.read(Index(first), Index(first + round % 60), u64::MAX).unwrap();
                    for (entry, index) in entries.iter().zip(first..) {
                        assert_eq!(entry, &conformance::command(index, entry.header.term.0));
                    }
                    found.push(Observed { first, terms: entries.iter().map(|entry| entry.header.term.0).collect() });
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
                observed.lock().unwrap().extend(found);
            });
        }
        for term in 1..=ROUNDS {
            let mut log = logs[logs.len() - 1].clone();
            let from = (1 + term * 13 % 50).min(log.len() as u64 + 1);
            let last = from + term % 30;
            storage.write(&replace(from, last, term)).unwrap();
            log.truncate(from as usize - 1);
            log.resize(last as usize, term);
            logs.push(log);
            if term % 3 == 0 {
                storage.sync().unwrap();
            }
        }
    });
    let observed = observed.into_inner().unwrap();
    assert!(observed.len() > 100, "{} reads", observed.len());
    for Observed { first, terms } in observed {
        let part = |log: &Vec<u64>| log.get(first as usize - 1..).is_some_and(|rest| rest.starts_with(&terms));
        assert!(terms.is_empty() || logs.iter().any(part), "a read from {first} on mixes logs: {terms:?}");
    }
}

#[test]
fn every_entry_of_many_segments_is_found() {
    let (files, _) = written(&[]);
    let mut storage = open(&files).unwrap();
    for group in 0..40 {
        write_group(&mut storage, &[append(group * 100 + 1, group * 100 + 100, 1 + group)]).unwrap();
    }
    for storage in [storage.reader(), {
        drop(storage);
        open(&files).unwrap().reader()
    }] {
        for index in 1..=4000 {
            let entries = storage.read(Index(index), Index(index + 2), u64::MAX).unwrap();
            let expected: Vec<Entry> = (index..=(index + 2).min(4000))
                .map(|index| conformance::command(index, 1 + (index - 1) / 100))
                .collect();
            assert_eq!(entries, expected);
        }
    }
}

/// An entry of a log in which every entry is known from its index.
fn known(index: u64) -> Entry {
    conformance::command(index, 1 + index / 5000)
}

#[test]
fn segments_that_go_and_come_again_are_never_read_as_what_they_were() {
    let files = MemoryFiles::default();
    let mut storage = open_small(&files).unwrap();
    let (reader, done, last) = (storage.reader(), AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let found = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _ends = EndReaders(&done);
        let readers = [0, 1_u64].map(|thread| {
            let (reader, done, last, found) = (&reader, &done, &last, &found);
            scope.spawn(move || {
                for round in thread.. {
                    // Around the beginning of the log, which moves.
                    let first = last.load(Ordering::Relaxed).saturating_sub(round * 7 % 150).max(1);
                    let entries = reader.read(Index(first), Index(first + 40), u64::MAX).unwrap();
                    for (entry, index) in entries.iter().zip(first..) {
                        assert_eq!(entry, &known(index));
                    }
                    found.fetch_add(entries.len() as u64, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        });
        let mut next = 1;
        for round in 1.. {
            let enough = round > ROUNDS && found.load(Ordering::Relaxed) > 20_000;
            // A reader that has ended has failed: its panic ends the test.
            if enough || round > 100 * ROUNDS || readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
            let mut batch = WriteBatch { entries: (next..next + 20).map(known).collect(), ..WriteBatch::default() };
            if round % 50 == 0 {
                next += 100;
                batch.entries = (next..next + 20).map(known).collect();
                batch.install = conformance::install(next - 1, known(next - 1).header.term.0).install;
            }
            write_group(&mut storage, &[batch]).unwrap();
            next += 20;
            last.store(next - 1, Ordering::Relaxed);
            storage.compact(Index(next.saturating_sub(60))).unwrap();
            while storage.idle().unwrap().is_some_and(|wait| wait.is_zero()) {}
        }
    });
    let segments = files.all().into_keys().filter(|path| path.extension().is_some_and(|name| name == "wal")).count();
    assert!(segments < 10, "{segments} segments are left");
}

/// Makes the next read say that it has read, and wait until it is told to go on.
fn pause_next_read(files: &FaultyFiles) -> (Receiver<()>, Sender<()>) {
    let ((has_read, reading), (goes_on, waiting)) = (channel(), channel());
    files.after_next_read(move || {
        has_read.send(()).unwrap();
        waiting.recv().unwrap();
    });
    (reading, goes_on)
}

#[test]
fn what_was_read_before_a_sync_is_not_taken_for_what_was_written_by_it() {
    let files = FaultyFiles::new(MemoryFiles::default(), u64::MAX, 0);
    let mut storage = open(&files).unwrap();
    write_group(&mut storage, &[append(1, 3, 1)]).unwrap();
    storage.write(&append(4, 6, 1)).unwrap();
    let (reader, (reading, goes_on)) = (storage.reader(), pause_next_read(&files));
    std::thread::scope(|scope| {
        let read = scope.spawn(move || reader.read(Index(1), Index(9), u64::MAX));
        reading.recv().unwrap();
        storage.sync().unwrap();
        goes_on.send(()).unwrap();
        assert_eq!(read.join().unwrap().unwrap(), append(1, 6, 1).entries);
    });
}

#[test]
fn a_segment_that_becomes_another_while_it_is_read_is_not_believed() {
    let files = FaultyFiles::new(MemoryFiles::default(), u64::MAX, 0);
    let mut storage = open_small(&files).unwrap();
    for group in 0..4 {
        write_group(&mut storage, &[append(group * 20 + 1, group * 20 + 20, 1)]).unwrap();
    }
    let (reader, (reading, goes_on)) = (storage.reader(), pause_next_read(&files));
    std::thread::scope(|scope| {
        let read = scope.spawn(move || reader.read(Index(1), Index(5), u64::MAX));
        reading.recv().unwrap();
        storage.compact(Index(80)).unwrap();
        while storage.idle().unwrap().is_some_and(|wait| wait.is_zero()) {}
        goes_on.send(()).unwrap();
        assert_eq!(read.join().unwrap().unwrap(), [], "entries that are not in the log any more");
    });
}
