//! Where in the segments the entries are: a position every 16 KiB of log, their terms, and the entries not yet written.

use std::collections::VecDeque;

use crate::consensus::{Entry, Index, Term};

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
    /// Index and term of the entry before the first.
    base: (Index, Term),
    last: Index,
    /// First index and term of each run of entries with one term.
    terms: VecDeque<(Index, Term)>,
    segments: VecDeque<LiveSegment>,
    points: Vec<(Index, Position)>,
    /// The entries at the end of the log that are in no file yet.
    unwritten: Vec<Entry>,
    truncations: u64,
    writes: u64,
    /// The next entry does not follow the one before it in the file.
    gap: bool,
}

/// A segment that holds a part of the log.
#[derive(Debug)]
struct LiveSegment {
    number: u64,
    /// What the log would begin after, did it begin with this segment.
    base: (Index, Term),
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
    /// Index and term of the entry before the log's first.
    pub fn base(&self) -> (Index, Term) {
        self.base
    }

    /// The last entry's index; the base's when the log is empty.
    pub fn last(&self) -> Index {
        self.last
    }

    /// The term of an entry of the log, or of the one before the first.
    pub fn term_at(&self, index: Index) -> Term {
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).and_then(|at| self.terms.get(at)).map_or(self.base.1, |(_, term)| *term)
    }

    /// Changes whenever entries are removed from the end: what was looked up before and after must not be mixed.
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Changes whenever files do: bytes read from them before do not hold what was written since.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether the segment still holds a part of the log. If not, its file may be gone, or hold something else.
    pub fn is_live(&self, segment: u64) -> bool {
        self.segments.front().is_some_and(|first| first.number <= segment)
    }

    /// The log begins with a segment, after this entry.
    pub fn begin(&mut self, base: (Index, Term)) {
        (self.base, self.last) = (base, base.0);
    }

    /// The log goes on in this segment.
    pub fn begin_segment(&mut self, number: u64) {
        let base = (self.last, self.term_at(self.last));
        self.segments.push_back(LiveSegment { number, base });
    }

    /// The next entry, of this term, was written at this position.
    pub fn append(&mut self, term: Term, position: Position) {
        if self.term_at(self.last) != term || self.terms.is_empty() {
            self.terms.push_back((self.last.next(), term));
        }
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
        self.append(entry.header.term, position);
        self.unwritten.push(entry.clone());
    }

    /// What was unwritten is in the file now.
    pub fn written(&mut self) {
        self.unwritten.clear();
        self.writes += 1;
    }

    /// The entries from here on were removed; the one before has this term. When a log is read whose beginning is gone,
    /// this may reach back before what was its beginning.
    pub fn truncate(&mut self, from: Index, term_before: Term) {
        let unwritten = from.0.saturating_sub(self.first_unwritten().0);
        self.unwritten.truncate(unwritten as usize);
        self.points.truncate(self.points.partition_point(|(index, _)| *index < from));
        self.terms.truncate(self.terms.partition_point(|(index, _)| *index < from));
        self.last = self.last.min(from.prev());
        let before = (from.prev(), term_before);
        if self.base.0 > before.0 {
            self.base = before;
        }
        for segment in self.segments.iter_mut().rev().take_while(|segment| segment.base.0 > before.0) {
            segment.base = before;
        }
        self.truncations += 1;
        self.gap = true;
    }

    /// The log was replaced by a snapshot that ends with this entry. Returns the segments that are of no use any more.
    pub fn install(&mut self, base: (Index, Term)) -> Vec<u64> {
        (self.base, self.last) = (base, base.0);
        self.terms.clear();
        self.points.clear();
        self.unwritten.clear();
        if let Some(segment) = self.segments.back_mut() {
            segment.base = base;
        }
        self.truncations += 1;
        self.gap = true;
        let obsolete = self.segments.len().saturating_sub(1);
        self.segments.drain(..obsolete).map(|segment| segment.number).collect()
    }

    /// Forgets the entries below this one, as far as whole segments go. Returns the segments that are of no use any more.
    pub fn compact(&mut self, keep_from: Index) -> Vec<u64> {
        let first = self.segments.partition_point(|segment| segment.base.0 < keep_from).saturating_sub(1);
        let obsolete = self.segments.drain(..first).map(|segment| segment.number).collect();
        let Some(LiveSegment { number, base }) = self.segments.front() else { return obsolete };
        self.base = *base;
        self.points.drain(..self.points.partition_point(|(_, position)| position.segment < *number));
        while self.terms.get(1).is_some_and(|(first, _)| *first <= base.0.next()) {
            self.terms.pop_front();
        }
        if self.last == base.0 {
            self.terms.clear();
        }
        obsolete
    }

    /// Where this entry is, and those after it.
    pub fn locate(&self, index: Index) -> Location<'_> {
        if index > self.last || index <= self.base.0 {
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
