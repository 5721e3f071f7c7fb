//! Proposals of this node that are in its log and wait to be committed.

use std::collections::VecDeque;
use std::time::Duration;

use super::connections::ConnectionKey;
use crate::consensus::{Index, Term};
use crate::mutants::{Mutant, mutant};
use crate::runtime::stage::Asker;

/// Who waits for an entry.
pub(super) struct Waiter {
    /// The entry's index.
    pub index: Index,
    /// Its term: another entry may take its place.
    pub term: Term,
    /// The connection that it came through.
    pub connection: ConnectionKey,
    /// Who asked.
    pub asker: Asker,
    /// When it was proposed.
    pub since: Duration,
    /// When to give up.
    pub answer_by: Duration,
}

/// In the order they were proposed, so by term, then by index.
#[derive(Default)]
pub(super) struct Waiters(VecDeque<Waiter>);

/// What became of waiters.
#[derive(Default)]
pub(super) struct Settled {
    /// Their entries are committed.
    pub committed: Vec<Waiter>,
    /// Their entries never will be.
    pub dead: Vec<Waiter>,
}

impl Waiters {
    /// Waits for one more entry.
    pub fn push(&mut self, waiter: Waiter) {
        self.0.push_back(waiter);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Everything up to `commit` is committed. An entry is the waiter's own only if index and term agree (T74). One that
    /// is not in its place never will be; nor one beyond `commit` of an earlier term than the entry there, since terms
    /// never go back along a log.
    pub fn settle(&mut self, commit: Index, term_at: impl Fn(Index) -> Option<Term>) -> Settled {
        let mut settled = Settled::default();
        let commit_term = term_at(commit);
        let is_dead = |waiter: &Waiter| commit_term.is_some_and(|term| waiter.term < term) && !mutant(Mutant::M27);
        let is_due = |waiter: &mut Waiter| waiter.index <= commit || is_dead(waiter);
        while let Some(waiter) = self.0.pop_front_if(is_due) {
            let is_own = term_at(waiter.index) == Some(waiter.term) || mutant(Mutant::M27);
            if waiter.index <= commit && is_own {
                settled.committed.push(waiter);
            } else {
                settled.dead.push(waiter);
            }
        }
        settled
    }

    /// Those whose entries a snapshot has replaced: nobody here will know whether they were committed.
    pub fn covered(&mut self, index: Index) -> Vec<Waiter> {
        let (covered, rest) = std::mem::take(&mut self.0).into_iter().partition(|waiter| waiter.index <= index);
        self.0 = rest;
        Vec::from(covered)
    }

    /// Nobody waits longer than until `by`.
    pub fn hasten(&mut self, by: Duration) {
        for waiter in &mut self.0 {
            waiter.answer_by = waiter.answer_by.min(by);
        }
    }

    /// Those that have waited too long.
    pub fn expired(&mut self, now: Duration) -> Vec<Waiter> {
        if self.0.iter().all(|waiter| waiter.answer_by > now) {
            return Vec::new();
        }
        let (expired, rest) = std::mem::take(&mut self.0).into_iter().partition(|waiter| waiter.answer_by <= now);
        self.0 = rest;
        Vec::from(expired)
    }

    /// Everyone.
    pub fn drain(&mut self) -> impl Iterator<Item = Waiter> + '_ {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::NodeId;
    use crate::runtime::Life;

    fn waiting(entries: &[(u64, u64)]) -> Waiters {
        let waiter = |&(index, term): &(u64, u64)| Waiter {
            index: Index(index),
            term: Term(term),
            connection: ConnectionKey { node: NodeId(1), connection: 1 },
            asker: Asker::Peer { node: NodeId(2), life: Life::default(), sequence: index },
            since: Duration::ZERO,
            answer_by: Duration::from_millis(index),
        };
        Waiters(entries.iter().map(waiter).collect())
    }

    fn places(waiters: &[Waiter]) -> Vec<(u64, u64)> {
        waiters.iter().map(|waiter| (waiter.index.0, waiter.term.0)).collect()
    }

    #[test]
    fn the_term_decides_whose_entry_it_is() {
        // Led in term 1, lost the entries from 6 on, leads again in term 3.
        let mut waiters = waiting(&[(5, 1), (6, 1), (9, 1), (7, 3), (8, 3)]);
        let terms = |index: Index| Some(Term(if index < Index(6) { 1 } else { 3 }));
        let settled = waiters.settle(Index(5), terms);
        assert_eq!((places(&settled.committed), places(&settled.dead)), (vec![(5, 1)], vec![]));
        let settled = waiters.settle(Index(7), terms);
        assert_eq!((places(&settled.committed), places(&settled.dead)), (vec![(7, 3)], vec![(6, 1), (9, 1)]));
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn what_a_snapshot_covers_is_let_go() {
        let mut waiters = waiting(&[(5, 1), (6, 1), (9, 1), (7, 3)]);
        assert_eq!(places(&waiters.covered(Index(7))), [(5, 1), (6, 1), (7, 3)]);
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn whoever_waits_too_long_is_let_go() {
        let mut waiters = waiting(&[(5, 1), (6, 1), (7, 1)]);
        assert!(waiters.expired(Duration::from_millis(4)).is_empty());
        assert_eq!(places(&waiters.expired(Duration::from_millis(5))), [(5, 1)]);
        waiters.hasten(Duration::from_millis(1));
        assert_eq!(places(&waiters.expired(Duration::from_millis(1))), [(6, 1), (7, 1)]);
    }
}
