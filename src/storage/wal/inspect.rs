//! Reads as much of a log as there is, whatever is wrong with it, and changes nothing.

use std::path::Path;

use super::recovery::{Replay, Replayed, Segment, Visitor};
use super::segment::{segment_number, segment_path};
use crate::storage::files::Files;
use crate::storage::{Recovered, StorageError};

/// What was found of a log.
pub struct Inspected {
    /// What a start would find. Only of a log that is whole.
    pub recovered: Option<Recovered>,
    /// What is wrong with it, each with file, place and reason.
    pub problems: Vec<StorageError>,
}

/// Goes through every segment. Behind damage it goes on with the next segment, whose header says how the log went on; so
/// at most one problem is found in each. Without an incarnation, the segments' own is taken for right.
pub fn inspect(
    files: &dyn Files,
    folder: &Path,
    names: &[String],
    incarnation: Option<u64>,
    visitor: &mut dyn Visitor,
) -> Inspected {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut problems = Vec::new();
    let missing =
        |number| StorageError::damaged(&segment_path(folder, number), 0, "this segment of the log", "no such file");
    if numbers.is_empty() {
        problems.push(missing(1));
    }
    let open = |number: &u64| (*number, Segment::open(files, segment_path(folder, *number)));
    let own = || numbers.iter().find_map(|number| Some(open(number).1.ok()?.header.incarnation));
    let mut replay = Replay::new(incarnation.or_else(own).unwrap_or_default(), visitor);
    let mut segments = numbers.iter().map(open).peekable();
    while let Some((number, segment)) = segments.next() {
        let next = segments.peek().map(|(next, segment)| (*next, segment.as_ref().ok().map(|segment| segment.header)));
        let header = next.and_then(|(next, header)| header.filter(|_| next == number + 1));
        let read = segment.and_then(|mut segment| {
            if next.is_none() {
                let forgotten = segment.window.forget();
                forgotten.map_err(|error| StorageError::io("read", &segment.path, &error))?;
            }
            replay.segment(&mut segment, header.as_ref())
        });
        // Only the last write can have been interrupted, and it is in the last segment.
        let torn = replay.log.torn.as_ref().filter(|_| next.is_some());
        let torn =
            torn.map(|torn| StorageError::Damaged(format!("the log does not end here, but a start would {torn}")));
        let gap = next.filter(|(next, _)| *next != number + 1).map(|_| missing(number + 1));
        let before = problems.len();
        problems.extend(read.err().into_iter().chain(torn).chain(gap));
        if problems.len() > before && next.is_some() {
            replay.log = Replayed::default();
        }
    }
    let log = &mut replay.log;
    let recovered = problems.is_empty().then(|| Recovered {
        hard_state: log.hard_state,
        snapshot: None,
        base: log.index.base(),
        last: log.index.last(),
        repaired: log.torn.take(),
    });
    Inspected { recovered, problems }
}
