//! Where in the segments the entries are: a position every 16 KiB of log, and the entries not yet written.

use crate::consensus::{Entry, Index};

/// Distance between two positions that the index remembers: at most this much is read in vain for an entry. One takes 24
/// bytes, so that a GiB of log needs 1.5 MiB.
const POINT_DISTANCE_BYTES: u64 = 16 << 10;

/// A position of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Where in the segment the entry's record begins.
    pub offset: u64,
}

/// The log's index. From each point up to the next one the entries lie one after the other in one segment, with nothing
/// truncated in between.
#[derive(Debug, Default)]
pub struct LogIndex {
    points: Vec<(Index, Position)>,
    last: Index,
    /// The entries at the end of the log that are in no file yet.
    unwritten: Vec<Entry>,
    truncations: u64,
    writes: u64,
    /// The next entry does not follow the one before it in the file.
    gap: bool,
}

/// Where entries are found.
pub enum Location<'a> {
    /// In this segment, one after the other, those from `from` to `until`, the first one here.
    File {
        /// Where the entry `from` begins.
        position: Position,
        /// Not above the entry looked for.
        from: Index,
        /// Not below the entry looked for.
        until: Index,
    },
    /// In no file yet: here it is, with all that follow.
    Memory(&'a [Entry]),
    /// Not in the log.
    Missing,
}

impl LogIndex {
    /// The last entry's index; 0 when the log is empty.
    pub fn last(&self) -> Index {
        self.last
    }

    /// Changes whenever entries are removed: what was looked up before and after must not be mixed.
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Changes whenever files do: bytes read from them before do not hold what was written since.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// The next entry was written at this position.
    pub fn append(&mut self, position: Position) {
        self.last = self.last.next();
        let distant = self.points.last().is_none_or(|(_, point)| {
            point.segment != position.segment || position.offset - point.offset >= POINT_DISTANCE_BYTES
        });
        if distant || self.gap {
            self.points.push((self.last, position));
            self.gap = false;
        }
    }

    /// The next entry will be written at this position.
    pub fn append_unwritten(&mut self, entry: &Entry, position: Position) {
        self.append(position);
        self.unwritten.push(entry.clone());
    }

    /// What was unwritten is in the file now.
    pub fn written(&mut self) {
        self.unwritten.clear();
        self.writes += 1;
    }

    /// The entries from here on were removed.
    pub fn truncate(&mut self, from: Index) {
        let unwritten = from.0.saturating_sub(self.first_unwritten().0);
        self.unwritten.truncate(unwritten as usize);
        self.points.truncate(self.points.partition_point(|(index, _)| *index < from));
        self.last = self.last.min(from.prev());
        self.truncations += 1;
        self.gap = true;
    }

    /// Where this entry is, and those after it.
    pub fn locate(&self, index: Index) -> Location<'_> {
        if index > self.last {
            return Location::Missing;
        }
        let first_unwritten = self.first_unwritten();
        if let Some(skipped) = index.0.checked_sub(first_unwritten.0) {
            return self.unwritten.get(skipped as usize..).map_or(Location::Missing, Location::Memory);
        }
        let after = self.points.partition_point(|(point, _)| *point <= index);
        let Some((from, position)) = after.checked_sub(1).and_then(|at| self.points.get(at)) else {
            return Location::Missing;
        };
        let until = self.points.get(after).map_or(self.last, |(next, _)| next.prev());
        Location::File { position: *position, from: *from, until: until.min(first_unwritten.prev()) }
    }

    fn first_unwritten(&self) -> Index {
        Index(self.last.0 - self.unwritten.len() as u64 + 1)
    }
}
