//! The last write was interrupted: it is cut off, the rest is kept, and nothing of it ever comes back.

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::*;

const SECTOR: usize = 512;

/// A log in one segment, where its last batch begins, where it ends, and what it says without and with that batch.
struct Torn {
    files: MemoryFiles,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    before: State,
}

fn log() -> Torn {
    let mut groups = vec![vec![vote(1, 2)], vec![append(1, 3, 1)], vec![replace(3, 5, 2)]];
    let (files, before) = written(&groups);
    let start = end_of(&files.get(segment(1)));
    groups.push(vec![vote(3, 1), replace(5, 20, 3)]);
    let (files, _) = written(&groups);
    let bytes = files.get(segment(1));
    let end = end_of(&bytes);
    assert!(end - start > 2 * SECTOR, "the last batch has several sectors");
    Torn { files, bytes, start, end, before }
}

/// Where the batches end and the zeros begin.
fn end_of(segment: &[u8]) -> usize {
    let used = segment.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    used.next_multiple_of(SECTOR)
}

impl Torn {
    /// The segment with these bytes from the last batch on: what it says is what was there before, new entries go on
    /// from there, and later only they are found.
    fn check(&self, tail: &[u8], is_reported: bool) {
        let files = self.files.copy();
        files.set(segment(1), &[&self.bytes[..self.start], tail].concat());
        let mut storage = open(&files).unwrap();
        let (state, repaired) = State::of(&mut storage);
        assert_eq!(state, self.before);
        assert_eq!(repaired.is_some(), is_reported, "{repaired:?}");
        drop(storage);

        let mut storage = open(&files).unwrap();
        assert_eq!(State::of(&mut storage), (self.before.clone(), None), "the cut lasts");
        let batch = append(6, 6, 9);
        write_group(&mut storage, std::slice::from_ref(&batch)).unwrap();
        drop(storage);
        let mut storage = open(&files).unwrap();
        assert_eq!(State::of(&mut storage), (self.before.after(&batch), None), "the log goes on after the cut");
    }
}

#[test]
fn cut_at_every_byte() {
    let log = log();
    for end in log.start..log.end {
        log.check(&log.bytes[log.start..end], end > log.start);
    }
}

#[test]
fn zeros_from_every_byte_on() {
    let log = log();
    for end in log.start..log.end - 4 {
        let mut tail = log.bytes[log.start..].to_vec();
        tail[end - log.start..].fill(0);
        log.check(&tail, end > log.start);
    }
}

#[test]
fn every_combination_of_sectors_kept_lost_or_garbled() {
    let log = log();
    let sectors = (log.end - log.start) / SECTOR;
    let whole = &log.bytes[log.start..log.end];
    for combination in 1..3_usize.pow(sectors as u32) {
        let mut tail = whole.to_vec();
        for (nth, sector) in tail.chunks_mut(SECTOR).enumerate() {
            match combination / 3_usize.pow(nth as u32) % 3 {
                0 => {}
                1 => sector.fill(0),
                _ => sector.iter_mut().enumerate().for_each(|(at, byte)| *byte = byte.wrapping_add(at as u8 | 1)),
            }
        }
        log.check(&tail, tail.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn garbage_behind_the_last_batch() {
    let log = log();
    for garbage in [&b"\x01"[..], &[0xff; 100], &[0x55; 3 * SECTOR + 1]] {
        log.check(garbage, true);
        log.check(&[&[0; 2 * SECTOR], garbage].concat(), true);
    }
}

#[test]
fn a_payload_cannot_pose_as_a_later_batch() {
    // The log of another folder, as a client may know it, within the interrupted batch.
    let log = log();
    let (other, _) = written(&script());
    let forged = other.get(segment(1));
    log.check(&[&log.bytes[log.start..log.start + SECTOR], &forged[SECTOR..]].concat(), true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_garbage_in_place_of_the_last_batch(tail in prop::collection::vec(any::<u8>(), 1..3000)) {
        let log = log();
        log.check(&tail, tail.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn an_empty_segment_after_a_roll_over_is_no_damage() {
    // The process ended after it had made a segment and before it wrote to it.
    let (files, state) = written(&script());
    let last = (1..).take_while(|number| files.all().contains_key(&segment(*number))).last().unwrap();
    let bytes = files.get(segment(last));
    files.set(segment(last), &bytes[..SECTOR]);
    let mut storage = open(&files).unwrap();
    let (found, repaired) = State::of(&mut storage);
    assert_eq!(repaired, None);
    assert!(found.entries.len() < state.entries.len());
    write_group(&mut storage, &[append(found.entries.len() as u64 + 1, 99, 9)]).unwrap();
}
