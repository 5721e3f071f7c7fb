//! The end of the log in memory: recent entries with their payloads, and how far the stages have come with them.

use std::collections::VecDeque;

use crate::consensus::{Entry, Index};
use crate::marks::{Mark, mark};

/// Most bytes of entries that are kept for peers once nobody else needs them. One that lags further behind is sent what is
/// read back from the log.
const KEPT_BYTES: u64 = 4 << 20;

/// Recent entries, up to the log's last. An entry leaves memory only when there is no room, and then only after it is
/// durable and was handed to the apply stage: from then on the storage can be asked for it.
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    bytes: u64,
    max_bytes: u64,
    last: Index,
    /// Persists that are under way: token, and the last entry that is durable with it.
    persists: VecDeque<(u64, Index)>,
    durable: Index,
    /// Everything up to here was handed to the apply stage.
    handed: Index,
    /// What the apply stage has been given in memory and not applied yet: last index and bytes of each piece.
    backlog: VecDeque<(Index, u64)>,
    backlog_bytes: u64,
}

fn cost(entry: &Entry) -> u64 {
    (entry.payload.len() + size_of::<Entry>()) as u64
}

impl Tail {
    /// Nothing in memory yet of a log that ends at `last`, all of it durable, whose state machine covers `applied`.
    pub fn new(last: Index, applied: Index, max_bytes: u64) -> Self {
        Tail {
            entries: VecDeque::new(),
            bytes: 0,
            max_bytes,
            last,
            persists: VecDeque::new(),
            durable: last,
            handed: applied,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }

    /// Index of the first entry in memory; one more than the last of the log if there is none.
    pub fn first(&self) -> Index {
        Index(self.last.0 + 1 - self.entries.len() as u64)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Everything up to here was handed to the apply stage.
    pub fn handed(&self) -> Index {
        self.handed
    }

    /// Adds the entry after the last. False if it is another one.
    #[must_use]
    pub fn append(&mut self, entry: Entry) -> bool {
        if entry.header.index != self.last.next() {
            return false;
        }
        self.last = entry.header.index;
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        true
    }

    /// Removes the entries from `from` on.
    pub fn truncate(&mut self, from: Index) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.header.index >= from) {
            self.bytes -= cost(&entry);
        }
        self.last = self.last.min(from.prev());
        self.durable = self.durable.min(from.prev());
        for (_, last) in &mut self.persists {
            *last = (*last).min(from.prev());
        }
    }

    /// A snapshot has replaced everything, and the log goes on after this entry.
    pub fn install(&mut self, index: Index) {
        self.entries.clear();
        self.bytes = 0;
        (self.last, self.durable) = (index, index);
        self.handed = self.handed.max(index);
        for (_, last) in &mut self.persists {
            *last = Index(0);
        }
    }

    /// The entries from `first` to `last`, or as many of the last of them as are in memory.
    pub fn range(&self, first: Index, last: Index) -> impl Iterator<Item = &Entry> + '_ {
        let start = first.max(self.first()).0 - self.first().0;
        let end = (last.min(self.last).0 + 1).saturating_sub(self.first().0).max(start);
        self.entries.range(start as usize..end as usize)
    }

    /// A persist is under way that makes everything up to `last` durable, or nothing of the log.
    pub fn persisting(&mut self, token: u64, last: Option<Index>) {
        self.persists.push_back((token, last.unwrap_or_default()));
    }

    /// The persists up to this token are done.
    pub fn persisted(&mut self, token: u64) {
        while let Some((_, last)) = self.persists.pop_front_if(|(persist, _)| *persist <= token) {
            self.durable = self.durable.max(last);
        }
        self.evict();
    }

    /// Hands over what is committed now: the entries in memory, unless so much is waiting to be applied already that the
    /// apply stage had better read them back when it gets there.
    pub fn hand_over(&mut self, commit: Index) -> Vec<Entry> {
        let first = self.handed.next();
        self.handed = commit;
        if self.backlog_bytes > self.max_bytes && commit <= self.durable {
            mark(Mark::ApplyReadsLog);
            return Vec::new();
        }
        let entries: Vec<Entry> = self.range(first, commit).cloned().collect();
        let bytes = entries.iter().map(cost).sum();
        self.backlog.push_back((commit, bytes));
        self.backlog_bytes += bytes;
        self.evict();
        entries
    }

    /// Everything up to here is applied.
    pub fn applied(&mut self, index: Index) {
        while let Some((_, bytes)) = self.backlog.pop_front_if(|(last, _)| *last <= index) {
            self.backlog_bytes -= bytes;
        }
    }

    fn evict(&mut self) {
        let spare = self.durable.min(self.handed);
        while self.bytes > self.max_bytes.min(KEPT_BYTES)
            && let Some(entry) = self.entries.pop_front_if(|entry| entry.header.index <= spare)
        {
            mark(Mark::TailEvicted);
            self.bytes -= cost(&entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{EntryHeader, EntryKind, LogTime, Payload, Term};

    fn entry(index: u64, term: u64, size: usize) -> Entry {
        let header = EntryHeader {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Command,
            time: LogTime(0),
            session: None,
            size: size as u32,
        };
        Entry { header, payload: Payload::from(vec![0; size]) }
    }

    fn filled(upto: u64, max_bytes: u64) -> Tail {
        let mut tail = Tail::new(Index(0), Index(0), max_bytes);
        assert!((1..=upto).all(|index| tail.append(entry(index, 1, 100))));
        tail
    }

    fn indexes<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u64> {
        entries.into_iter().map(|entry| entry.header.index.0).collect()
    }

    #[test]
    fn an_entry_leaves_memory_only_when_durable_and_handed_over() {
        let mut tail = filled(4, 1);
        tail.persisting(1, Some(Index(2)));
        tail.persisting(2, Some(Index(4)));
        assert_eq!(indexes(&tail.hand_over(Index(3))), [1, 2, 3]);
        assert_eq!(tail.first(), Index(1), "nothing is durable");
        tail.persisted(1);
        assert_eq!(tail.first(), Index(3));
        tail.persisted(2);
        assert_eq!(tail.first(), Index(4), "4 is durable but not handed over");
        assert_eq!(indexes(tail.range(Index(1), Index(9))), [4]);
    }

    #[test]
    fn a_completed_write_that_was_truncated_meanwhile_makes_nothing_durable() {
        let mut tail = filled(4, 1);
        tail.persisting(1, Some(Index(4)));
        tail.truncate(Index(2));
        assert!(tail.append(entry(2, 2, 100)));
        tail.hand_over(Index(2));
        tail.persisted(1);
        assert_eq!(indexes(tail.range(Index(1), Index(2))), [2], "the new entry 2 is not on the disk yet");
        assert!(!tail.append(entry(4, 2, 1)), "3 comes next");
    }

    #[test]
    fn a_slow_state_machine_is_told_to_read_the_log_itself() {
        let mut tail = filled(4, 250);
        tail.persisting(1, Some(Index(4)));
        tail.persisted(1);
        assert_eq!(tail.hand_over(Index(3)).len(), 3);
        assert_eq!(tail.hand_over(Index(4)).len(), 0);
        tail.applied(Index(4));
        assert!(tail.append(entry(5, 1, 1)));
        assert_eq!(indexes(&tail.hand_over(Index(5))), [5]);
    }

    #[test]
    fn a_snapshot_replaces_everything_even_what_is_still_being_written() {
        let mut tail = filled(4, 1);
        tail.persisting(1, Some(Index(4)));
        tail.install(Index(9));
        assert_eq!((tail.first(), tail.handed(), tail.bytes()), (Index(10), Index(9), 0));
        assert!(tail.append(entry(10, 2, 100)));
        tail.persisted(1);
        assert_eq!(indexes(&tail.hand_over(Index(10))), [10]);
        assert_eq!(tail.first(), Index(10), "not durable yet");
    }

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let tail = filled(3, 1 << 20);
        assert_eq!(indexes(tail.range(Index(2), Index(3))), [2, 3]);
        assert_eq!(indexes(tail.range(Index(4), Index(9))), [0u64; 0]);
        let recovered = Tail::new(Index(7), Index(0), 1);
        assert_eq!(recovered.first(), Index(8));
        assert_eq!(indexes(recovered.range(Index(1), Index(7))), [0u64; 0]);
    }
}
