//! Every single operation on files fails once, or from then on: the storage stops, and a restart finds what was promised.

use super::files::FaultyFiles;
use super::*;
use crate::storage::Life;

/// How far a script got.
struct Outcome {
    /// Groups synced.
    done: usize,
    /// Whether that is all of them.
    complete: bool,
    /// Under which number it ran, if the storage could be opened.
    life: Option<Life>,
}

fn run(files: &FaultyFiles, groups: &[Vec<WriteBatch>]) -> Outcome {
    let mut storage = match open(files) {
        Ok(storage) => storage,
        Err(error) => {
            assert!(matches!(error, StorageError::Io(_)), "{error}");
            return Outcome { done: 0, complete: false, life: None };
        }
    };
    let life = Some(storage.life());
    for (done, group) in groups.iter().enumerate() {
        if let Err(error) = write_group(&mut storage, group) {
            assert!(matches!(&error, StorageError::Io(message) if message.contains("injected")), "{error}");
            assert_eq!(storage.write(&WriteBatch::default()), Err(error.clone()), "a write after an error");
            assert_eq!(storage.sync(), Err(error), "a sync after an error");
            return Outcome { done, complete: false, life };
        }
    }
    Outcome { done: groups.len(), complete: true, life }
}

/// What a restart on these files finds. It must be a later life of the same folder.
fn restart(files: &MemoryFiles, before: Option<Life>) -> State {
    let mut storage = open(files).unwrap();
    let life = storage.life();
    assert!(before.is_none_or(|before| life.incarnation == before.incarnation && life.boot > before.boot));
    State::of(&mut storage).0
}

#[test]
fn every_operation_fails() {
    let groups = script();
    // What is remembered after each unit, and after how many units each group ends: a unit is never torn, a group may be.
    let (mut states, mut ends) = (vec![State::default()], vec![0]);
    for group in &groups {
        group.iter().for_each(|batch| states.push(states[states.len() - 1].after(batch)));
        ends.push(states.len() - 1);
    }
    for count in [1, u64::MAX] {
        for first in 0.. {
            let files = MemoryFiles::default();
            let faulty = FaultyFiles::new(files.clone(), first, count);
            let Outcome { done, complete, life } = run(&faulty, &groups);
            let last = if complete { ends[done] } else { ends[done + 1] };
            for files in [files.after_power_loss(), files] {
                let found = restart(&files, life);
                assert!(states[ends[done]..=last].contains(&found), "after operation {first} failed");
                let lasting = restart(&files.after_power_loss(), life);
                assert_eq!(lasting, found, "after operation {first} failed, a restart, and a power loss");
            }
            if complete {
                assert!(faulty.operations() <= first, "operation {first} failed and nobody noticed");
                assert!(first > 40, "the script has many operations");
                break;
            }
        }
    }
}

#[test]
fn what_a_failed_sync_left_readable_is_not_believed() {
    let (files, state) = written(&script()[..3]);
    let mut storage = open(&files).unwrap();
    storage.write(&vote(7, 3)).unwrap();
    files.fail_next_sync(segment(1));
    assert!(matches!(storage.sync(), Err(StorageError::Io(_))));
    drop(storage);
    let on_disk = files.after_power_loss();
    assert_ne!(files.get(segment(1)), on_disk.get(segment(1)), "it is readable, and not on the disk");
    for files in [on_disk, files] {
        assert_eq!(restart(&files, None), state);
        assert_eq!(restart(&files.after_power_loss(), None), state, "a start makes what it found last");
    }
}

#[test]
fn every_operation_of_a_restart_fails() {
    let (written, state) = written(&script());
    let last = (1..).take_while(|number| written.all().contains_key(&segment(*number))).last().unwrap();
    let torn = [&written.get(segment(last))[..], &[7; 700]].concat();
    written.set(segment(last), &torn);
    for first in 0.. {
        let files = written.copy();
        let faulty = FaultyFiles::new(files.clone(), first, 1);
        let outcome = open(&faulty);
        let done = outcome.is_ok();
        drop(outcome);
        for files in [files.after_power_loss(), files] {
            assert_eq!(restart(&files, None), state, "after operation {first} failed");
        }
        if done {
            assert!(faulty.operations() <= first, "operation {first} failed and nobody noticed");
            break;
        }
    }
}

#[test]
fn a_failed_read_is_an_error_and_the_next_one_may_succeed() {
    let (files, state) = written(&script());
    for first in 0.. {
        let quiet = FaultyFiles::new(files.copy(), u64::MAX, 0);
        let storage = open(&quiet).unwrap();
        let faulty = FaultyFiles::new(files.copy(), quiet.operations() + first, 1);
        drop(storage);
        let storage = open(&faulty).unwrap();
        let reader = storage.reader();
        let read = || reader.read(Index(1), Index(u64::MAX), u64::MAX);
        match read() {
            Ok(entries) => {
                assert_eq!(entries, state.entries);
                assert!(first > 3, "opening and reading several segments takes operations");
                break;
            }
            Err(error) => {
                assert!(matches!(error, StorageError::Io(_)), "{error}");
                assert_eq!(read().unwrap(), state.entries, "the next read");
            }
        }
    }
}
