//! What the protocol knows of the log: terms, sizes and memberships, but no payloads.

use std::collections::VecDeque;

use super::membership::Membership;
use super::message::SnapshotMeta;
use super::types::{EntryHeader, EntryKind, Index, LogTime, NodeId, Term};
use crate::mutants::{Mutant, mutant};

/// The shape of the log: enough to decide everything, and small enough for logs of any size. Terms are kept as runs, so that the memory they take grows with the number of elections, not of
/// entries; an entry costs the four bytes of its size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// Index and term of the entry before the first that is kept: (0, 0) until the log is compacted.
    base: (Index, Term),
    /// First index and term of each run of entries with one term, in order.
    runs: VecDeque<(Index, Term)>,
    /// Payload size of each entry in bytes.
    sizes: VecDeque<u32>,
    /// Where each membership came into force, in order; the first is that of the base.
    memberships: Vec<(Index, Membership)>,
    /// The highest log time seen. Not lowered by truncation: log time never goes back.
    time: LogTime,
}

impl Default for Log {
    fn default() -> Self {
        Log::new(Membership::default())
    }
}

impl Log {
    /// An empty log that begins with this membership.
    pub fn new(membership: Membership) -> Self {
        Log {
            base: (Index(0), Term(0)),
            runs: VecDeque::new(),
            sizes: VecDeque::new(),
            memberships: vec![(Index(0), membership)],
            time: LogTime(0),
        }
    }

    /// An empty log that begins after this snapshot.
    pub fn after_snapshot(snapshot: &SnapshotMeta) -> Self {
        Log {
            base: (snapshot.index, snapshot.term),
            memberships: vec![(snapshot.index, snapshot.membership.clone())],
            time: snapshot.time,
            ..Log::new(Membership::default())
        }
    }

    /// Moves the beginning to after this entry, where this membership is in force. The entries do not change: they are
    /// those after it.
    pub fn begin_after(&mut self, base: (Index, Term), membership: Membership) {
        debug_assert!(self.sizes.is_empty() || base.0 == self.base.0);
        self.base = base;
        self.memberships.splice(..1, [(base.0, membership)]);
    }

    /// Whether the log has no entries.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Index of the entry before the first that is kept.
    pub fn base_index(&self) -> Index {
        self.base.0
    }

    /// Index and term of the entry before the first that is kept.
    pub fn base(&self) -> (Index, Term) {
        self.base
    }

    /// Index of the last entry; the base's if there is none.
    pub fn last_index(&self) -> Index {
        Index(self.base.0.0 + self.sizes.len() as u64)
    }

    /// Term of the last entry; the base's if there is none.
    pub fn last_term(&self) -> Term {
        self.runs.back().map_or(self.base.1, |run| run.1)
    }

    /// The highest log time seen.
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// Log time was at least this.
    pub fn advance_time(&mut self, time: LogTime) {
        self.time = self.time.max(time);
    }

    /// Term of the entry at `index`, if the log knows it: from the base to the last.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        if index < self.base.0 || index > self.last_index() {
            return None;
        }
        Some(self.runs[self.run_of(index)].1)
    }

    /// Position in `runs` of the run that contains `index`, which must be in the log.
    fn run_of(&self, index: Index) -> usize {
        self.runs.partition_point(|run| run.0 <= index) - 1
    }

    /// Whether a log that ends with this term and index is at least as up to date as this one (Raft paper §5.4.1).
    pub fn is_up_to_date(&self, last_term: Term, last_index: Index) -> bool {
        match () {
            () if mutant(Mutant::M12a) => last_index >= self.last_index(),
            () if mutant(Mutant::M12b) => last_term >= self.last_term(),
            () => (last_term, last_index) >= (self.last_term(), self.last_index()),
        }
    }

    /// The largest known index ≤ `index` whose term is ≤ `term`, and its term: where this log and one that has `term` at
    /// `index` may agree at best. Skips a whole term at a time (Raft paper §5.3, end).
    pub fn last_not_after(&self, index: Index, term: Term) -> (Index, Term) {
        let mut index = index.min(self.last_index());
        while index > self.base.0 {
            let (first, run_term) = self.runs[self.run_of(index)];
            if run_term <= term {
                return (index, run_term);
            }
            index = first.prev();
        }
        self.base
    }

    /// Appends the entry that follows the last one. The caller has checked index and term.
    pub fn append(&mut self, header: &EntryHeader) {
        debug_assert_eq!(header.index, self.last_index().next());
        debug_assert!(header.term >= self.last_term());
        if self.runs.back().is_none_or(|run| run.1 != header.term) {
            self.runs.push_back((header.index, header.term));
        }
        self.sizes.push_back(header.size);
        self.time = self.time.max(header.time);
        if let EntryKind::Membership(membership) = &header.kind {
            self.memberships.push((header.index, (**membership).clone()));
        }
    }

    /// Removes the entries from `from` on; those up to the base stay.
    pub fn truncate(&mut self, from: Index) {
        let from = from.max(self.base.0.next());
        self.sizes.truncate((from.0 - self.base.0.0 - 1) as usize);
        while self.runs.back().is_some_and(|run| run.0 >= from) {
            self.runs.pop_back();
        }
        // The base's membership stays: it is below `from`.
        self.memberships.retain(|(index, _)| *index < from);
    }

    /// Forgets the entries up to `upto`, which a snapshot covers.
    pub fn compact(&mut self, upto: Index) {
        let upto = upto.min(self.last_index());
        let Some(term) = self.term_at(upto).filter(|_| upto > self.base.0) else { return };
        self.sizes.drain(..(upto.0 - self.base.0.0) as usize);
        while self.runs.get(1).is_some_and(|next| next.0 <= upto.next()) {
            self.runs.pop_front();
        }
        if self.sizes.is_empty() {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.0 = run.0.max(upto.next());
        }
        let in_force = self.memberships.partition_point(|(index, _)| *index <= upto) - 1;
        self.memberships.drain(..in_force);
        self.base = (upto, term);
    }

    /// The same log, with other names in its memberships.
    pub fn rename(&mut self, name: &impl Fn(NodeId) -> NodeId) {
        for (_, membership) in &mut self.memberships {
            *membership = membership.renamed(name);
        }
    }

    /// The membership in force at `index`, which must be in the log, or its base.
    pub fn membership_at(&self, index: Index) -> &Membership {
        let next = self.memberships.partition_point(|(since, _)| *since <= index);
        &self.memberships[next.saturating_sub(1)].1
    }

    /// The first of the last entries up to `last` that have no more than `max_bytes`, each counted with
    /// [`ENTRY_OVERHEAD_BYTES`], but not before the log's first.
    pub fn tail_start(&self, last: Index, max_bytes: u64) -> Index {
        let last = last.min(self.last_index());
        let count = last.0.saturating_sub(self.base.0.0) as usize;
        let mut bytes = 0;
        let fits = |size: &&u32| {
            bytes += u64::from(**size) + ENTRY_OVERHEAD_BYTES;
            bytes <= max_bytes
        };
        let fitting = self.sizes.range(..count).rev().take_while(fits).count() as u64;
        Index((last.0 - fitting.min(last.0)).max(self.base.0.0)).next()
    }

    /// The membership in force: that of the last membership entry, committed or not (Raft thesis §4.1).
    pub fn membership(&self) -> &Membership {
        let (_, membership) = self.memberships.last().expect("the base has a membership");
        membership
    }

    /// Payload bytes of the entries `first..=last`, as far as the log has them.
    pub fn bytes(&self, first: Index, last: Index) -> u64 {
        self.sizes_from(first).take((last.0 + 1).saturating_sub(first.0.max(self.base.0.0 + 1)) as usize).sum()
    }

    /// The last entry of a batch that begins with `first`, which must be in the log: as many as fit in `max_bytes`, each
    /// counted with [`ENTRY_OVERHEAD_BYTES`], but at least one.
    pub fn batch_end(&self, first: Index, max_bytes: u64) -> Index {
        let mut end = first;
        let mut bytes = 0;
        for (offset, size) in self.sizes_from(first).enumerate() {
            bytes += size + ENTRY_OVERHEAD_BYTES;
            if bytes > max_bytes {
                break;
            }
            end = Index(first.0 + offset as u64);
        }
        end
    }

    fn sizes_from(&self, first: Index) -> impl Iterator<Item = u64> {
        let skipped = first.0.saturating_sub(self.base.0.0 + 1) as usize;
        self.sizes.range(skipped.min(self.sizes.len())..).map(|&size| u64::from(size))
    }
}

/// What an entry is assumed to take besides its payload, on the wire and in memory, wherever bytes are limited.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new(Membership::of_voters([]));
        extend(&mut log, terms);
        log
    }

    fn extend(log: &mut Log, terms: &[u64]) {
        for &term in terms {
            let index = log.last_index().next();
            log.append(&header(index.0, term, EntryKind::Command));
        }
    }

    fn header(index: u64, term: u64, kind: EntryKind) -> EntryHeader {
        EntryHeader { index: Index(index), term: Term(term), kind, time: LogTime(index), session: None, size: 10 }
    }

    fn terms(log: &Log) -> Vec<u64> {
        (log.base_index().0 + 1..=log.last_index().0).map(|index| log.term_at(Index(index)).unwrap().0).collect()
    }

    #[test]
    fn terms_are_found_in_runs() {
        let log = log(&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
        assert_eq!(terms(&log), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
        assert_eq!(log.term_at(Index(0)), Some(Term(0)));
        assert_eq!(log.term_at(Index(11)), None);
    }

    #[test]
    fn truncating_and_compacting_keep_the_rest() {
        let all = [1u64, 1, 1, 4, 4, 5, 5, 6, 6, 6];
        for upto in 0..=all.len() {
            for from in 1..=all.len() + 1 {
                let mut log = log(&all);
                log.compact(Index(upto as u64));
                log.truncate(Index(from as u64));
                let kept = if from - 1 > upto { &all[upto..from - 1] } else { &[] };
                assert_eq!(terms(&log), kept, "compacted to {upto}, truncated from {from}");
                assert_eq!(log.bytes(Index(1), Index(99)), 10 * kept.len() as u64);
                extend(&mut log, &[7, 8]);
                assert_eq!(log.last_term(), Term(8));
                assert_eq!(log.term_at(log.last_index().prev()), Some(Term(7)));
            }
        }
    }

    #[test]
    fn the_search_for_agreement_skips_whole_terms() {
        let log = log(&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
        let at = |index, term| {
            let (index, term) = log.last_not_after(Index(index), Term(term));
            (index.0, term.0)
        };
        assert_eq!(at(10, 6), (10, 6));
        assert_eq!(at(10, 5), (7, 5));
        assert_eq!(at(10, 3), (3, 1));
        assert_eq!(at(99, 9), (10, 6));
        assert_eq!(at(10, 0), (0, 0));
    }

    #[test]
    fn a_truncated_membership_is_no_longer_in_force() {
        let mut log = log(&[1]);
        let changed = Membership::of_voters([super::super::NodeId(9)]);
        log.append(&header(2, 1, EntryKind::Membership(changed.clone().into())));
        extend(&mut log, &[1]);
        assert_eq!(log.membership(), &changed);
        let mut compacted = log.clone();
        compacted.compact(Index(3));
        assert_eq!(compacted.membership(), &changed, "compaction keeps what is in force");
        log.truncate(Index(2));
        assert_eq!(log.membership(), &Membership::of_voters([]));
    }

    #[test]
    fn a_batch_has_at_least_one_entry() {
        let log = log(&[1, 1, 1, 1]);
        let one = 10 + ENTRY_OVERHEAD_BYTES;
        assert_eq!(log.batch_end(Index(2), 0), Index(2));
        assert_eq!(log.batch_end(Index(2), 2 * one), Index(3));
        assert_eq!(log.batch_end(Index(2), 2 * one - 1), Index(2));
        assert_eq!(log.batch_end(Index(2), 1 << 20), Index(4));
    }
}
