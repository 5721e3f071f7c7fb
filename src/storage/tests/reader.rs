//! Readers on other threads, while the log grows, is truncated and is synced.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const ROUNDS: u64 = 1500;

/// What a read from an index on returned.
struct Observed {
    first: u64,
    terms: Vec<u64>,
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
        done.store(true, Ordering::Relaxed);
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
