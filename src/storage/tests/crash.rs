//! A run of everything that the log can do is cut short before and after every single operation on files: by the end of
//! the process, or by a power loss that keeps any part of what was not synced. What is found then is compared with what
//! had been promised.

use super::files::{Fate, FaultyFiles};
use super::*;

/// Power losses tried at each operation, besides those that keep all or nothing.
const SAMPLES: u64 = if cfg!(debug_assertions) { 12 } else { 100 };

/// A step of a run.
#[derive(Clone, Debug)]
enum Step {
    /// Writes these units, then syncs.
    Group(Vec<WriteBatch>),
    Compact(u64),
    /// All the chores, the mark included.
    Idle,
    Close,
}

/// Votes, appends, truncations within and across segments, compactions, a snapshot, and segments made of old ones.
fn run() -> Vec<Step> {
    use Step::{Close, Compact, Group, Idle};
    vec![
        Group(vec![vote(1, 2)]),
        Idle,
        Group(vec![append(1, 3, 1), append(4, 20, 1)]),
        Group(vec![append(21, 40, 1)]),
        Idle,
        Group(vec![replace(15, 30, 2), vote(2, 1)]),
        Group(vec![append(31, 60, 2)]),
        Compact(12),
        Idle,
        Group(vec![append(61, 75, 2)]),
        Compact(60),
        Group(vec![append(76, 90, 2)]),
        Group(vec![replace(70, 80, 3)]),
        Idle,
        Close,
        Group(vec![append(81, 100, 3)]),
        Group(vec![vote(4, 1), conformance::install(500, 4)]),
        Idle,
        Group(vec![append(501, 515, 4)]),
        Group(vec![append(516, 530, 4), replace(510, 512, 5)]),
        Compact(509),
        Idle,
        Group(vec![WriteBatch { entries: append(601, 603, 6).entries, ..conformance::install(600, 5) }]),
        Group(vec![append(604, 630, 6)]),
        Idle,
        Group(vec![append(631, 632, 6), vote(6, 3)]),
        Close,
    ]
}

/// What a run promised, and what it was about to do.
struct Promise {
    /// After each unit that was begun, in order.
    states: Vec<State>,
    /// How many of them are durable.
    synced: usize,
    /// The log was compacted below this.
    keep_from: Index,
}

impl Promise {
    fn new() -> Self {
        Promise { states: vec![State::default()], synced: 0, keep_from: Index(0) }
    }

    /// Runs until something fails. Returns whether nothing did.
    fn run(files: &FaultyFiles, steps: &[Step]) -> (Promise, bool) {
        let mut promise = Promise::new();
        let completed = open_small(files).is_ok_and(|mut storage| {
            conformance::recover(&mut storage);
            steps.iter().all(|step| promise.step(&mut storage, step).is_ok())
        });
        (promise, completed)
    }

    fn step(&mut self, storage: &mut FileStorage, step: &Step) -> Result<(), StorageError> {
        self.step_patiently(storage, step, |_| unreachable!("the disk is not full"))
    }

    /// Tries again whenever the disk is full, after `full`.
    fn step_patiently(
        &mut self,
        storage: &mut FileStorage,
        step: &Step,
        mut full: impl FnMut(&Promise),
    ) -> Result<(), StorageError> {
        let mut patiently = |promise: &Promise, work: &mut dyn FnMut() -> Result<(), StorageError>| {
            loop {
                match work() {
                    Err(StorageError::Full(_)) => full(promise),
                    other => return other,
                }
            }
        };
        match step {
            Step::Group(batches) => {
                for batch in batches {
                    self.states.push(self.states[self.states.len() - 1].after(batch));
                    patiently(self, &mut || storage.write(batch))?;
                }
                patiently(self, &mut || storage.sync())?;
                self.synced = self.states.len() - 1;
            }
            Step::Compact(keep_from) => {
                self.keep_from = self.keep_from.max(Index(*keep_from));
                storage.compact(Index(*keep_from))?;
            }
            Step::Idle => while storage.idle()?.is_some() {},
            Step::Close => patiently(self, &mut || storage.close())?,
        }
        Ok(())
    }

    /// Opens these files, and compares. What is there then outlasts another power loss, and the log goes on.
    fn check(&self, files: &MemoryFiles, what: &str) {
        let mut storage = open_small(files).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (found, _) = State::of(&mut storage);
        let expected = self.states[self.synced..].iter().any(|state| {
            let compacted = found.base.0 > state.base.0;
            (!compacted || found.base.0 < self.keep_from) && state.compacted_to(found.base.0) == found
        });
        assert!(expected, "{what}: found {found:?}");
        drop(storage);
        let mut storage = open_small(&files.after_power_loss()).unwrap();
        assert_eq!(State::of(&mut storage), (found.clone(), None), "{what}: after another power loss");
        let last = found.base.0.0 + found.entries.len() as u64;
        let more = append(last + 1, last + 40, 9);
        write_group(&mut storage, std::slice::from_ref(&more)).unwrap();
        let files = files.after_power_loss();
        let mut storage = open_small(&files).unwrap();
        write_group(&mut storage, std::slice::from_ref(&more)).unwrap();
        drop(storage);
        let (goes_on, repaired) = State::of(&mut open_small(&files.after_power_loss()).unwrap());
        assert_eq!((goes_on, repaired), (found.after(&more), None), "{what}: the log goes on");
    }
}

/// Numbers that look random, and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// The files after power losses of many kinds, each with words for it.
fn power_losses(files: &MemoryFiles, seed: u64, mut check: impl FnMut(&MemoryFiles, &str)) {
    let (changes, sectors) = files.unsynced();
    let latest = |versions| Fate::Written(versions - 1);
    for keep in [false, true] {
        check(&files.after_power_loss_of(|_| keep, |_| Fate::Lost), &format!("no bytes, names: {keep}"));
        check(&files.after_power_loss_of(|_| keep, latest), &format!("all bytes, names: {keep}"));
    }
    // Names: any number of the first changes, or any of them.
    for kept in 0..1_usize << changes.min(4) {
        let prefix = |nth| nth < kept;
        let subset = |nth| kept >> nth & 1 == 1;
        check(&files.after_power_loss_of(prefix, latest), &format!("the first {kept} names"));
        check(&files.after_power_loss_of(subset, latest), &format!("names {kept:b}"));
    }
    let fates = |versions| [Fate::Lost, latest(versions), Fate::Garbled, Fate::Zero];
    let all = 4_usize.saturating_pow(sectors as u32);
    if sectors > 0 && all <= 64 {
        for combination in 0..all {
            let mut rest = combination;
            let fate = |versions| {
                let fate = fates(versions)[rest % 4];
                rest /= 4;
                fate
            };
            check(&files.after_power_loss_of(|_| true, fate), &format!("combination {combination} of sectors"));
        }
    } else if sectors > 0 {
        for sample in 0..SAMPLES {
            let mut dice = Dice(seed * 1000 + sample);
            let names = dice.roll(1 << 16);
            let lost = 1 + dice.roll(7);
            let fate = |versions| match dice.roll(8) {
                roll if roll < lost => Fate::Written(dice.roll(versions)),
                _ => fates(versions)[dice.roll(4)],
            };
            let files = files.after_power_loss_of(|nth| names >> (nth % 16) & 1 == 1, fate);
            check(&files, &format!("sample {sample} with seed {seed}"));
        }
    }
}

#[test]
fn every_operation_may_be_the_last() {
    let steps = run();
    let mut losses = 0;
    for operation in 0.. {
        let files = MemoryFiles::default();
        let faulty = FaultyFiles::new(files.clone(), operation, u64::MAX);
        let (promise, completed) = Promise::run(&faulty, &steps);
        let found = files.copy();
        promise.check(&found, &format!("the process ended at operation {operation}"));
        power_losses(&files, operation, |files, what| {
            losses += 1;
            promise.check(files, &format!("power loss at operation {operation}, {what}"));
        });
        if completed {
            assert!(operation > 150, "{operation} operations");
            assert!(losses > 2000, "{losses} power losses");
            break;
        }
    }
}

#[test]
fn every_operation_of_a_start_may_be_the_last() {
    // After a power loss at an operation in the middle that left some of everything.
    let steps = run();
    let mut starts = 0;
    for operation in (20..).step_by(17) {
        let files = MemoryFiles::default();
        let (promise, completed) = Promise::run(&FaultyFiles::new(files.clone(), operation, u64::MAX), &steps);
        let mut dice = Dice(operation);
        let torn = files.after_power_loss_of(
            |_| true,
            |versions| match dice.roll(3) {
                0 => Fate::Lost,
                1 => Fate::Garbled,
                _ => Fate::Written(versions - 1),
            },
        );
        for start in 0.. {
            let files = torn.copy();
            let faulty = FaultyFiles::new(files.clone(), start, u64::MAX);
            let opened = open_small(&faulty).is_ok();
            power_losses(&files, start, |files, what| {
                starts += 1;
                promise.check(files, &format!("operation {operation}, then operation {start} of the start, {what}"));
            });
            if opened {
                break;
            }
        }
        if completed {
            break;
        }
    }
    assert!(starts > 1000, "{starts} starts");
}

#[test]
fn the_first_error_is_the_last() {
    let steps = run();
    for operation in 0.. {
        let files = MemoryFiles::default();
        let faulty = FaultyFiles::new(files.clone(), operation, 1);
        let mut promise = Promise::new();
        if let Ok(mut storage) = open_small(&faulty) {
            conformance::recover(&mut storage);
            let failed = steps.iter().find_map(|step| promise.step(&mut storage, step).err());
            let Some(error) = failed else {
                assert!(faulty.operations() <= operation, "operation {operation} failed and nobody noticed");
                break;
            };
            assert!(matches!(&error, StorageError::Io(message) if message.contains("injected")), "{error}");
            let after = faulty.operations();
            assert_eq!(storage.write(&vote(9, 9)), Err(error.clone()));
            assert_eq!(storage.sync(), Err(error.clone()));
            assert_eq!(storage.compact(Index(9)), Err(error.clone()));
            assert_eq!(storage.idle(), Err(error.clone()));
            assert_eq!(storage.close(), Err(error));
            assert_eq!(faulty.operations(), after, "nothing is touched any more");
        }
        promise.check(&files.copy(), &format!("operation {operation} failed"));
        promise.check(&files.after_power_loss(), &format!("operation {operation} failed, then the power"));
    }
}

#[test]
fn a_full_disk_loses_nothing_and_the_log_goes_on() {
    let steps = run();
    let mut times_full = 0;
    for (at, step) in steps.iter().enumerate() {
        for room in [0, 100, 512, 700, 1024, 1536, 2048, 3000] {
            let files = MemoryFiles::default();
            let mut storage = open_small(&files).unwrap();
            conformance::recover(&mut storage);
            let mut promise = Promise::new();
            steps[..at].iter().for_each(|step| promise.step(&mut storage, step).unwrap());
            files.set_room(room);
            let what = format!("room for {room} bytes at step {at}, {step:?}");
            let full = |promise: &Promise| {
                times_full += 1;
                promise.check(&files.copy(), &format!("{what}: full, then the process ended"));
                power_losses(&files, 1, |files, loss| promise.check(files, &format!("{what}: full, then {loss}")));
                files.set_room(u64::MAX);
            };
            promise.step_patiently(&mut storage, step, full).unwrap();
            files.set_room(u64::MAX);
            steps[at + 1..].iter().for_each(|step| promise.step(&mut storage, step).unwrap());
            drop(storage);
            promise.check(&files.after_power_loss(), &what);
        }
    }
    assert!(times_full > 20, "the disk was full {times_full} times");
}

#[test]
fn no_space_at_any_operation_is_no_loss() {
    let steps = run();
    let mut times_full = 0;
    for operation in 0.. {
        let files = MemoryFiles::default();
        let faulty = FaultyFiles::with(files.clone(), operation, 1, std::io::ErrorKind::StorageFull);
        let mut promise = Promise::new();
        let Ok(mut storage) = open_small(&faulty) else { continue };
        conformance::recover(&mut storage);
        let outcome = steps.iter().try_for_each(|step| promise.step_patiently(&mut storage, step, |_| times_full += 1));
        drop(storage);
        promise.check(&files.after_power_loss(), &format!("no space at operation {operation}"));
        match outcome {
            Ok(()) if faulty.operations() <= operation => break,
            Ok(()) => {}
            // A folder that cannot be synced is the end, whatever the reason.
            Err(error) => assert!(matches!(error, StorageError::Io(_)), "{error}"),
        }
    }
    assert!(times_full > 20, "the disk was full {times_full} times");
}
