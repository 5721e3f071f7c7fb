//! A leader's view of one peer: what it has, what it was sent, and when it was last heard.

use std::collections::VecDeque;
use std::time::Duration;

use super::types::{Index, Term};
use crate::mutants::{Mutant, mutant};

/// A leader's view of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Highest index known to equal the leader's log and to be durable at the peer. Never goes down in a term, unless the
    /// peer abstains.
    pub matched: Index,
    /// The next index to send; above `matched`.
    pub next: Index,
    /// How to send.
    pub state: ProgressState,
    /// The latest read round that the peer has answered.
    pub round: u64,
    /// The read round that began when its log was last found to disagree. Answers in earlier ones are about requests from
    /// before that: they neither end the search for where the logs agree nor begin another, or else copies of them, and of
    /// the requests that they call for, could call for ever more of each other.
    pub probed_in: u64,
    /// When the peer last answered in this term.
    pub heard: Duration,
    /// When entries were last sent, for `MinReplicationInterval`.
    pub sent: Option<Duration>,
    /// The peer neither votes nor counts. It may come back with less than it had: then `matched` goes down.
    pub abstains: bool,
}

/// How entries are sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// Where the logs agree is not known yet: one request at a time, and none while `waiting` for its answer.
    Probe {
        /// A request is under way.
        waiting: bool,
    },
    /// The logs agree up to `next`: requests follow each other without waiting, up to the limits of the window.
    Replicate(Inflight),
    /// The peer needs entries that are no longer in the log: a snapshot is on its way that covers at least this entry, where
    /// the log began when it was sent. An answer that covers it, be it to a heartbeat, shows that the snapshot arrived.
    Snapshot(Index, Term),
}

/// The requests that were sent but not answered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inflight {
    /// Last index and bytes of each, in order.
    requests: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Inflight {
    fn push(&mut self, last: Index, bytes: u64) {
        self.requests.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, matched: Index) {
        while let Some(&(last, bytes)) = self.requests.front()
            && last <= matched
        {
            self.requests.pop_front();
            self.bytes -= bytes;
        }
    }

    fn is_full(&self, max_requests: usize, max_bytes: u64) -> bool {
        self.requests.len() >= max_requests || self.bytes >= max_bytes
    }
}

impl Progress {
    /// A peer of whom nothing is known yet; `next` is the leader's best guess.
    pub fn new(next: Index, now: Duration) -> Self {
        Progress {
            matched: Index(0),
            next,
            state: ProgressState::Probe { waiting: false },
            round: 0,
            probed_in: 0,
            heard: now,
            sent: None,
            abstains: false,
        }
    }

    /// Whether another request with entries may be sent.
    pub fn may_send(&self, max_requests: usize, max_bytes: u64) -> bool {
        match &self.state {
            ProgressState::Probe { waiting } => !waiting,
            ProgressState::Replicate(inflight) => !inflight.is_full(max_requests, max_bytes),
            ProgressState::Snapshot(..) => false,
        }
    }

    /// Entries up to `last` were sent.
    pub fn sent_entries(&mut self, last: Index, bytes: u64, now: Duration) {
        self.sent = Some(now);
        match &mut self.state {
            ProgressState::Probe { waiting } => *waiting = true,
            ProgressState::Replicate(inflight) => {
                inflight.push(last, bytes);
                self.next = last.next();
            }
            ProgressState::Snapshot(..) => {}
        }
    }

    /// The peer's log equals the leader's up to `matched`, it answers in a round. Only an answer to a request that was sent
    /// since the probing began ends it, and only if everything up to the probed index is known to agree.
    pub fn accepted(&mut self, matched: Index, round: u64) {
        self.matched = if mutant(Mutant::M10b) { matched } else { self.matched.max(matched) };
        match &mut self.state {
            ProgressState::Replicate(inflight) => inflight.acknowledge(matched),
            ProgressState::Probe { waiting: true } if mutant(Mutant::M30b) => {}
            ProgressState::Probe { .. } if self.matched.next() >= self.next && round >= self.probed_in => {
                self.state = ProgressState::Replicate(Inflight::default());
            }
            // It is about an earlier request, or about what is durable so far: another probe would tell nothing that the one
            // under way, or the next heartbeat, does not.
            ProgressState::Probe { .. } => {}
            ProgressState::Snapshot(at_least, _) if matched >= *at_least => {
                self.state = ProgressState::Replicate(Inflight::default());
            }
            ProgressState::Snapshot(..) => {}
        }
        self.next = self.next.max(self.matched.next());
    }

    /// The entry that the next request follows. Where the leader's log begins later, at `base`, a heartbeat follows that.
    pub fn prev(&self, base: Index) -> Index {
        self.next.prev().max(base)
    }

    /// Whether a refusal of the request that followed `prev`, in a round, says something new: it is neither about something
    /// that was accepted since, nor an answer to an earlier probe. `base` is where the leader's log begins.
    pub fn is_fresh_rejection(&self, prev: Index, round: u64, base: Index) -> bool {
        match self.state {
            _ if round < self.probed_in => false,
            ProgressState::Probe { .. } => prev == self.prev(base),
            ProgressState::Replicate(_) => (prev > self.matched || self.abstains) && prev <= self.prev(base),
            ProgressState::Snapshot(..) => false,
        }
    }

    /// Whether where the logs agree is looked for.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, ProgressState::Probe { .. })
    }

    /// The logs agree at best up to `agreed`: probe there.
    pub fn probe_after(&mut self, agreed: Index) {
        if self.abstains {
            self.matched = self.matched.min(agreed);
        }
        self.next = agreed.next().max(self.matched.next());
        self.state = ProgressState::Probe { waiting: false };
    }

    /// Requests were lost: go back to what is certain, and wait for a sign of life. A probe goes on where it was: before
    /// it has ended, nothing at all may be certain.
    pub fn lost(&mut self) {
        if mutant(Mutant::M30a) {
            return;
        }
        if !self.is_probing() {
            self.next = self.matched.next();
        }
        self.state = ProgressState::Probe { waiting: true };
    }

    /// The name of the state, for people.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            ProgressState::Probe { .. } => "probe",
            ProgressState::Replicate(_) => "replicate",
            ProgressState::Snapshot(..) => "snapshot",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn replicating(matched: u64) -> Progress {
        let mut progress = Progress::new(Index(matched + 1), NOW);
        progress.accepted(Index(matched), 0);
        progress
    }

    #[test]
    fn a_probe_sends_once_and_an_answer_that_covers_it_ends_it() {
        let mut progress = Progress::new(Index(5), NOW);
        assert!(progress.may_send(64, 1 << 20));
        progress.sent_entries(Index(9), 100, NOW);
        assert!(!progress.may_send(64, 1 << 20));
        progress.accepted(Index(3), 0);
        assert_eq!(progress.state_name(), "probe", "durable only up to 3: where the logs agree above is still unknown");
        assert!(
            !progress.may_send(64, 1 << 20),
            "or else each copy of an answer would call for another copy of the probe"
        );
        progress.accepted(Index(9), 0);
        assert_eq!((progress.state_name(), progress.next), ("replicate", Index(10)));
    }

    #[test]
    fn the_window_closes_and_opens_again() {
        let mut progress = replicating(0);
        progress.sent_entries(Index(2), 60, NOW);
        progress.sent_entries(Index(4), 60, NOW);
        assert!(!progress.may_send(2, 1 << 20), "two requests");
        assert!(!progress.may_send(64, 100), "120 bytes");
        progress.accepted(Index(3), 0);
        assert!(progress.may_send(2, 100), "the first is answered");
    }

    #[test]
    fn stale_answers_change_nothing() {
        let mut progress = replicating(5);
        progress.sent_entries(Index(8), 10, NOW);
        progress.accepted(Index(2), 0);
        assert_eq!((progress.matched, progress.next), (Index(5), Index(9)), "neither goes down");
        let base = Index(0);
        assert!(!progress.is_fresh_rejection(Index(5), 0, base), "5 was accepted since");
        assert!(progress.is_fresh_rejection(Index(8), 0, base));
        progress.probe_after(Index(6));
        assert!(!progress.is_fresh_rejection(Index(8), 0, base), "an answer to an earlier request");
        assert!(progress.is_fresh_rejection(Index(6), 0, base));
        assert!(progress.is_fresh_rejection(Index(9), 0, Index(9)), "the log begins at 9: so did the heartbeat");
    }

    #[test]
    fn a_peer_that_abstains_may_come_back_with_less() {
        let (base, counts) = (Index(0), replicating(5));
        assert!(!counts.is_fresh_rejection(Index(5), 0, base), "5 is durable there");
        let mut abstains = Progress { abstains: true, ..counts };
        assert!(abstains.is_fresh_rejection(Index(5), 0, base));
        abstains.probe_after(Index(2));
        assert_eq!((abstains.matched, abstains.next, abstains.state_name()), (Index(2), Index(3), "probe"));
    }

    #[test]
    fn answers_from_before_a_disagreement_do_not_open_the_window_again() {
        let (mut progress, base) = (replicating(5), Index(0));
        progress.sent_entries(Index(8), 10, NOW);
        assert!(progress.is_fresh_rejection(Index(8), 1, base));
        progress.probed_in = 2;
        progress.probe_after(Index(5));
        progress.sent_entries(Index(8), 10, NOW);
        progress.accepted(Index(5), 1);
        assert!(progress.is_probing(), "a copy of the answer to what was sent before");
        progress.accepted(Index(7), 1);
        assert_eq!(
            (progress.matched, progress.is_probing()),
            (Index(7), true),
            "though it tells what is durable there"
        );
        progress.accepted(Index(6), 2);
        assert_eq!((progress.matched, progress.next, progress.is_probing()), (Index(7), Index(8), false));
        progress.sent_entries(Index(9), 10, NOW);
        assert!(!progress.is_fresh_rejection(Index(8), 1, base), "a copy of the refusal");
        assert!(progress.is_fresh_rejection(Index(8), 2, base));
    }

    #[test]
    fn losing_requests_falls_back_to_what_is_certain() {
        let mut progress = replicating(5);
        progress.sent_entries(Index(8), 10, NOW);
        progress.lost();
        assert_eq!((progress.next, progress.may_send(64, 100)), (Index(6), false));
        progress.accepted(Index(5), 0);
        assert!(progress.may_send(64, 100), "one answer and it goes on");
    }
}
