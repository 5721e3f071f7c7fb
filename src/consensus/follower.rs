//! A follower: takes the leader's entries, and remembers when it last heard from it.

use std::time::Duration;

use super::common::{Common, Turn};
use super::message::{AppendEntries, MessageBody, SnapshotMeta};
use super::types::{Index, NodeId};
use crate::marks::{Mark, mark, mark_if};
use crate::mutants::{Mutant, mutant};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// The leader of the current term, once it was heard, and when it was heard last.
    pub leader: Option<(NodeId, Duration)>,
}

impl Follower {
    /// Whether this server heard from a leader less than an election timeout ago, and so protects it from others'
    /// elections (Raft thesis §4.2.3).
    pub fn has_live_leader(&self, common: &Common, now: Duration) -> bool {
        self.leader.is_some_and(|(_, heard)| now < heard + common.election_timeout())
    }

    /// The leader of this term spoke. False if that cannot be: the term has another leader.
    fn hear(&mut self, common: &mut Common, from: NodeId, turn: &mut Turn<'_>) -> bool {
        if self.leader.is_some_and(|(leader, _)| leader != from) {
            turn.refuse(from, "claims to lead a term that has another leader");
            return false;
        }
        self.leader = Some((from, turn.now));
        common.postpone_election(turn.now);
        common.measure_latency_sometimes(&[from], turn);
        true
    }

    /// The leader's entries, or its heartbeat (Raft paper §5.3). The request itself was checked by `Message::malformed`.
    pub fn append(&mut self, common: &mut Common, from: NodeId, append: AppendEntries, turn: &mut Turn<'_>) {
        if !self.hear(common, from, turn) {
            return;
        }
        let AppendEntries { prev_index, prev_term, commit, round, entries } = append;
        // Below the base everything is covered by a snapshot, hence committed, hence equal: no conflict (B10).
        let agrees = match common.log.term_at(prev_index) {
            Some(term) => term == prev_term || mutant(Mutant::M6b) || mutant(Mutant::M6a),
            None => mutant(Mutant::M6a),
        };
        if prev_index >= common.log.base_index() && !agrees {
            let (hint_index, hint_term) = common.log.last_not_after(prev_index, prev_term);
            mark_if(prev_index <= common.log.last_index(), Mark::AppendAfterOtherTerm);
            mark_if(hint_index < prev_index.min(common.log.last_index()), Mark::HintSkippedTerm);
            let abstains = common.abstains();
            let body = MessageBody::AppendRejected { prev_index, hint_index, hint_term, round, abstains };
            return turn.send(from, common.term(), body);
        }
        let verified = Index(prev_index.0 + entries.len() as u64);
        let is_heartbeat = entries.is_empty();
        mark_if(prev_index < common.log.base_index(), Mark::AppendBelowBase);

        // Skip what is there already; truncate only where a term really differs (B1).
        let known = |common: &Common, index, term| match mutant(Mutant::M7) {
            true => index <= common.commit.max(common.learned),
            false => index <= common.log.base_index() || common.log.term_at(index) == Some(term),
        };
        let fresh = entries.iter().position(|entry| !known(common, entry.index, entry.term)).unwrap_or(entries.len());
        let mut fresh: Vec<_> = entries.into_iter().skip(fresh).collect();
        if mutant(Mutant::M8) {
            fresh.retain(|entry| entry.index > common.log.last_index());
        }
        if let Some(first) = fresh.first() {
            if first.index <= common.commit.max(common.learned) {
                return turn.refuse(from, "sent an entry that conflicts with a committed one");
            }
            if first.index <= common.log.last_index() {
                mark(Mark::ConflictTruncated);
                common.truncate(first.index, turn);
            }
        }
        common.append(fresh, turn);

        // Never beyond what this request has verified (B2).
        common.learn_commit(if mutant(Mutant::M9) { commit } else { commit.min(verified) }, turn);
        if commit <= verified && verified <= common.durable {
            common.caught_up(turn);
        }
        let abstains = common.abstains();
        if is_heartbeat && common.hard_state_is_durable() {
            // Answered at once, for what is durable: a slow disk must not look like a lost connection.
            let matched = if mutant(Mutant::P3) { verified } else { verified.min(common.durable) };
            turn.send(from, common.term(), MessageBody::AppendAccepted { matched, round, abstains });
        } else if mutant(Mutant::M2) {
            turn.send(from, common.term(), MessageBody::AppendAccepted { matched: verified, round, abstains });
        } else {
            common.send_when_durable(from, MessageBody::AppendAccepted { matched: verified, round, abstains }, turn);
        }
    }

    pub fn normalize(&mut self, name: &impl Fn(NodeId) -> NodeId) {
        self.leader = self.leader.map(|(leader, _)| (name(leader), Duration::ZERO));
    }

    /// A complete snapshot from the leader.
    pub fn install(&mut self, common: &mut Common, from: NodeId, snapshot: SnapshotMeta, turn: &mut Turn<'_>) {
        if !self.hear(common, from, turn) {
            return;
        }
        let known = common.log.term_at(snapshot.index).filter(|_| !mutant(Mutant::M17));
        let matched = if snapshot.index <= common.commit && !mutant(Mutant::M17) {
            // Stale: everything it covers is here and committed (B49).
            mark(Mark::SnapshotStale);
            common.commit
        } else if known == Some(snapshot.term) || (known.is_some() && mutant(Mutant::M18)) {
            // The log reaches further and agrees: all that is new is that its beginning is committed.
            mark(Mark::SnapshotKeptLog);
            common.learn_commit(snapshot.index, turn);
            snapshot.index
        } else {
            let index = snapshot.index;
            mark_if(common.log.last_index() > index, Mark::SnapshotReplacedLonger);
            common.install(snapshot, turn);
            index
        };
        let abstains = common.abstains();
        common.send_when_durable(from, MessageBody::SnapshotInstalled { matched, abstains }, turn);
    }
}
