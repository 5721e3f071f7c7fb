//! A leader: replicates its log, decides what is committed, confirms reads, and hands leadership over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::common::{Common, Turn};
use super::effect::{Effect, RejectReason};
use super::event::{Proposal, Ticket};
use super::log::ENTRY_OVERHEAD_BYTES;
use super::message::{AppendEntries, MessageBody};
use super::progress::{Progress, ProgressState};
use super::quorum::agreed;
use super::read::Reads;
use super::types::{EntryHeader, EntryKind, Index, LogTime, NodeId, SessionSequence, Term};
use crate::marks::{Mark, mark, mark_if};
use crate::mutants::{Mutant, mutant};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// Every other member.
    pub peers: BTreeMap<NodeId, Progress>,
    reads: Reads,
    transfer: Option<Transfer>,
    /// The term's first entry: once it commits, everything before it is known to be committed (Raft paper §8).
    noop: Index,
    /// Bytes accepted but not applied yet.
    pending_bytes: u64,
    heartbeat_due: Duration,
    /// Log time is the log's last time when leadership began, plus the time that passed since.
    began: (LogTime, Duration),
}

/// Leadership is being handed over (Raft thesis §3.10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transfer {
    to: NodeId,
    /// Who may get it in its place: nobody, if it was asked for by name.
    others: BTreeSet<NodeId>,
    told: bool,
    deadline: Duration,
}

/// What [`MessageBody::AppendRejected`] says besides.
pub(super) struct Rejection {
    pub prev_index: Index,
    pub hint_index: Index,
    pub hint_term: Term,
}

/// What every answer to a leader says.
pub(super) struct Answer {
    pub from: NodeId,
    pub round: u64,
    pub abstains: bool,
}

/// Why a leader must step down in its own term.
pub(super) type StepDown = &'static str;

impl Leader {
    /// Leads the current term: appends its first entry and tells everyone.
    pub fn begin(common: &mut Common, turn: &mut Turn<'_>) -> Self {
        let mut leader = Leader::new(common, turn.now);
        leader.append_noop(common, turn);
        leader.heartbeat_due = turn.now + common.config.heartbeat_interval;
        leader
    }

    /// Leads the current term with this knowledge of its peers' logs, matching and next index, and leaves the term's first
    /// entry to the first client, if there is none yet. Its first tick, which is due now, tells everyone.
    pub fn forced(common: &Common, progress: &BTreeMap<NodeId, (Index, Index)>, now: Duration) -> Self {
        let mut leader = Leader::new(common, now);
        let before = Term(common.term().0.saturating_sub(1));
        leader.noop = common.log.last_not_after(common.log.last_index(), before).0.next();
        for (id, &(matched, next)) in progress {
            if let Some(peer) = leader.peers.get_mut(id) {
                *peer = Progress { matched, ..Progress::new(next, now) };
            }
        }
        leader
    }

    /// Has no entry of its own term yet, nor told anyone.
    fn new(common: &Common, now: Duration) -> Self {
        let next = common.log.last_index().next();
        let unapplied = common.log.last_index().0.saturating_sub(common.applied.0);
        Leader {
            peers: common.others().into_iter().map(|id| (id, Progress::new(next, now))).collect(),
            reads: Reads::default(),
            transfer: None,
            noop: next,
            pending_bytes: common.log.bytes(common.applied.next(), common.log.last_index())
                + unapplied * ENTRY_OVERHEAD_BYTES,
            heartbeat_due: now,
            began: (common.log.time(), now),
        }
    }

    fn append_noop(&mut self, common: &mut Common, turn: &mut Turn<'_>) {
        self.append(common, vec![(EntryKind::Noop, 0, None)], turn);
        self.replicate_to_all(common, turn);
    }

    /// Clients' commands: a prefix is accepted, the rest rejected.
    pub fn propose(&mut self, common: &mut Common, proposals: Vec<Proposal>, turn: &mut Turn<'_>) {
        let mut accepted = Vec::with_capacity(proposals.len());
        let mut pending_bytes = self.pending_bytes;
        let mut reason = match &self.transfer {
            Some(_) => Some(RejectReason::Transferring),
            None => common.disk_full.then_some(RejectReason::DiskFull),
        };
        for proposal in proposals {
            let bytes = u64::from(proposal.size) + ENTRY_OVERHEAD_BYTES;
            // One command always fits, or a command larger than the limit never could be accepted.
            if reason.is_none() && pending_bytes > 0 && pending_bytes + bytes > common.config.max_pending_bytes {
                reason = Some(RejectReason::Overloaded);
                mark(Mark::ProposalsOverloaded);
            }
            mark_if(reason == Some(RejectReason::DiskFull), Mark::ProposalDiskFull);
            match reason {
                Some(reason) => turn.effect(Effect::Reject { ticket: proposal.ticket, reason }),
                None => {
                    pending_bytes += bytes;
                    accepted.push((EntryKind::Command, proposal.size, proposal.session));
                }
            }
        }
        self.append(common, accepted, turn);
        self.replicate_to_all(common, turn);
    }

    fn append(
        &mut self,
        common: &mut Common,
        new: Vec<(EntryKind, u32, Option<SessionSequence>)>,
        turn: &mut Turn<'_>,
    ) {
        let first = common.log.last_index().next().0;
        let time = self.log_time(turn.now);
        let entries: Vec<EntryHeader> = (first..)
            .zip(new)
            .map(|(index, (kind, size, session))| EntryHeader {
                index: Index(index),
                term: common.term(),
                kind,
                time,
                session,
                size,
            })
            .collect();
        self.pending_bytes += entries.iter().map(|entry| u64::from(entry.size) + ENTRY_OVERHEAD_BYTES).sum::<u64>();
        common.append(entries, turn);
    }

    /// Log time now: never before an entry that is in the log.
    fn log_time(&self, now: Duration) -> LogTime {
        let (time, since) = self.began;
        LogTime(time.0.saturating_add(now.saturating_sub(since).as_millis() as u64))
    }

    /// Clients' reads (Raft thesis §6.4). Until the term's first entry is committed the commit index may lag behind what
    /// earlier leaders committed, so a read waits for that entry.
    pub fn read(&mut self, common: &mut Common, tickets: Vec<Ticket>, turn: &mut Turn<'_>) {
        if self.noop > common.log.last_index() {
            // Only a forced start has left it out; without it the read could wait for ever.
            self.append_noop(common, turn);
        }
        mark_if(common.commit < self.noop, Mark::ReadWaitedForFirstEntry);
        let index = if mutant(Mutant::M16) { common.commit } else { common.commit.max(self.noop) };
        self.reads.add(tickets, index);
        self.confirm_reads(common, turn);
    }

    /// Answers the reads that a quorum has confirmed, and begins the next round if one is needed.
    fn confirm_reads(&mut self, common: &Common, turn: &mut Turn<'_>) {
        let round = self.reads.round();
        let confirmed = match () {
            () if mutant(Mutant::M14a) => round,
            () if mutant(Mutant::M14b) => self.peers.values().map(|peer| peer.round).max().unwrap_or(round),
            () => self.agreed(common, round, |peer| peer.round),
        };
        self.reads.confirm(confirmed, self.log_time(turn.now), turn);
        if self.reads.must_tell() {
            self.heartbeat_all(common, turn);
        }
    }

    /// An answer in this term: the peer lives, and confirms the round. False if there is no such peer or round.
    fn heard(&mut self, common: &Common, answer: &Answer, turn: &mut Turn<'_>) -> bool {
        let &Answer { from, round, abstains } = answer;
        let latest = self.reads.round();
        match self.peers.get_mut(&from) {
            None => turn.refuse(from, "answered although it is not a member"),
            Some(_) if round > latest => turn.refuse(from, "answered in a round that has not begun"),
            Some(peer) => {
                if peer.abstains != abstains {
                    // It is not the peer that it was: nothing is known of its log.
                    mark(Mark::PeerAbstains);
                    *peer = Progress { abstains, ..Progress::new(common.log.last_index().next(), turn.now) };
                }
                peer.heard = turn.now;
                peer.round = peer.round.max(round);
                return true;
            }
        }
        false
    }

    /// A peer's log equals ours up to `matched`, durably.
    pub fn accepted(&mut self, common: &mut Common, answer: Answer, matched: Index, turn: &mut Turn<'_>) {
        let from = answer.from;
        if matched > common.log.last_index() {
            return turn.refuse(from, "accepted entries that were never sent");
        }
        if !self.heard(common, &answer, turn) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.accepted(matched, answer.round);
        }
        // Reads first: a read never sees what was proposed after it.
        self.confirm_reads(common, turn);
        self.advance_commit(common, turn);
        self.replicate(common, from, turn);
        self.hand_over_if_caught_up(common, turn);
    }

    /// A peer's log does not contain the entry before those sent: go back, a term at a time.
    pub fn rejected(&mut self, common: &Common, answer: Answer, rejection: Rejection, turn: &mut Turn<'_>) {
        let (from, Rejection { prev_index, hint_index, hint_term }) = (answer.from, rejection);
        if !self.heard(common, &answer, turn) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from)
            && peer.is_fresh_rejection(prev_index, answer.round, common.log.base_index())
        {
            if !peer.is_probing() {
                peer.probed_in = self.reads.begin_round();
            }
            let limit = hint_index.min(prev_index.prev());
            let (agreed, _) = common.log.last_not_after(limit, hint_term);
            mark_if(agreed < limit, Mark::RejectionSkippedTerm);
            // Below what the log still has nothing can be compared: only a snapshot helps.
            peer.probe_after(agreed.min(limit));
        } else {
            mark(Mark::RejectionStale);
        }
        self.confirm_reads(common, turn);
        self.replicate(common, from, turn);
    }

    /// Messages to this peer were lost.
    pub fn unreachable(&mut self, common: &Common, from: NodeId, turn: &mut Turn<'_>) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.lost();
        }
        self.transfer_elsewhere(common, from, turn);
    }

    /// The own disk has caught up: this server counts, too.
    pub fn persisted(&mut self, common: &mut Common, turn: &mut Turn<'_>) {
        self.advance_commit(common, turn);
    }

    pub fn applied(&mut self, common: &Common, before: Index) {
        let bytes =
            common.log.bytes(before.next(), common.applied) + (common.applied.0 - before.0) * ENTRY_OVERHEAD_BYTES;
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
    }

    /// Commits what a quorum has durably. Only an entry of the current term commits by counting; earlier ones commit with
    /// it (Raft paper §5.4.2, figure 8).
    fn advance_commit(&mut self, common: &mut Common, turn: &mut Turn<'_>) {
        let own = if mutant(Mutant::M3) { common.log.last_index() } else { common.durable };
        let index = self.agreed(common, own, |peer| peer.matched);
        if common.log.term_at(index) == Some(common.term()) || mutant(Mutant::M5) {
            mark_if(index > common.durable, Mark::CommittedBeforeOwnDisk);
            mark_if(index > common.commit && !common.has_rivals(), Mark::AloneCommitted);
            common.commit_to(index, turn);
        } else {
            mark_if(index > common.commit, Mark::CommitHeldBack);
        }
    }

    pub fn replicate_to_all(&mut self, common: &Common, turn: &mut Turn<'_>) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.replicate(common, id, turn);
        }
    }

    /// Sends a peer what it lacks, as far as its window allows.
    fn replicate(&mut self, common: &Common, to: NodeId, turn: &mut Turn<'_>) {
        let config = &common.config;
        let round = self.reads.round();
        let Some(peer) = self.peers.get_mut(&to) else { return };
        while peer.next <= common.log.last_index()
            && peer.may_send(config.max_inflight_requests, config.max_inflight_bytes)
            && peer.sent.is_none_or(|sent| sent + config.min_replication_interval <= turn.now)
        {
            let (prev_index, first) = (peer.next.prev(), peer.next);
            let Some(prev_term) = common.log.term_at(prev_index) else {
                let (at_least, term) = common.log.base();
                peer.state = ProgressState::Snapshot(at_least, term);
                turn.effect(Effect::SendSnapshot { to, at_least });
                return;
            };
            let last = common.log.batch_end(first, config.max_batch_bytes);
            let bytes = common.log.bytes(first, last) + (last.0 - first.0 + 1) * ENTRY_OVERHEAD_BYTES;
            let append = AppendEntries { prev_index, prev_term, commit: common.commit, round, entries: Vec::new() };
            turn.effect(Effect::SendEntries { to, term: common.term(), append, first, last });
            peer.sent_entries(last, bytes, turn.now);
        }
    }

    /// Tells every peer that this server leads, and the latest round.
    fn heartbeat_all(&mut self, common: &Common, turn: &mut Turn<'_>) {
        self.reads.told();
        let round = self.reads.round();
        for (&to, peer) in &self.peers {
            // After everything sent so far, so that a loss shows, and so does the arrival of a snapshot.
            let (prev_index, prev_term) = match peer.state {
                ProgressState::Snapshot(index, term) => (index, term),
                _ => {
                    let prev = peer.prev(common.log.base_index());
                    (prev, common.log.term_at(prev).unwrap_or_default())
                }
            };
            let append = AppendEntries { prev_index, prev_term, commit: common.commit, round, entries: Vec::new() };
            turn.send(to, common.term(), MessageBody::AppendEntries(append));
        }
    }

    /// Time has passed. `Err`: this server must not go on leading.
    pub fn tick(&mut self, common: &mut Common, turn: &mut Turn<'_>) -> Result<(), StepDown> {
        let timeout = common.election_timeout();
        if common.has_rivals() {
            if common.config.check_quorum && self.quorum_heard(common, turn.now) + timeout < turn.now {
                mark(Mark::StepDownNoQuorum);
                return Err("no quorum answers");
            }
            if common.disk_hangs(turn.now) {
                mark(Mark::StepDownDiskHangs);
                return Err("its own disk does not answer");
            }
        }
        if let Some(transfer) = self.transfer.take_if(|transfer| transfer.deadline <= turn.now) {
            mark(Mark::TransferTimedOut);
            let outcome = Err("the new leader did not take over in time");
            turn.effect(Effect::TransferEnded { to: Some(transfer.to), outcome });
        }
        if common.disk_full && common.has_rivals() && self.transfer.is_none() {
            return Err("its own disk is full");
        }
        self.keep_machine_time(common, turn);
        if self.heartbeat_due <= turn.now {
            // Only here: rounds for reads must not keep putting off the checks above.
            self.heartbeat_due = turn.now + common.config.heartbeat_interval;
            self.heartbeat_all(common, turn);
            common.measure_latency_sometimes(&common.other_voters(), turn);
        }
        self.replicate_to_all(common, turn);
        Ok(())
    }

    /// Something is due in the state machine, and no entry has told it that its time has come: one does.
    fn keep_machine_time(&mut self, common: &mut Common, turn: &mut Turn<'_>) {
        let now = self.log_time(turn.now);
        if self.untold(common).is_some_and(|due| due <= now) {
            mark(Mark::TickWritten);
            self.append(common, vec![(EntryKind::Tick, 0, None)], turn);
        }
    }

    /// When [`keep_machine_time`](Self::keep_machine_time) has something to do.
    fn machine_due(&self, common: &Common) -> Option<Duration> {
        let due = self.untold(common)?;
        let (time, since) = self.began;
        Some(since.saturating_add(Duration::from_millis(due.0.saturating_sub(time.0))))
    }

    /// When something falls due of which an entry must tell. None does while no commands are accepted either.
    fn untold(&self, common: &Common) -> Option<LogTime> {
        let may_tell = self.transfer.is_none() && !common.disk_full;
        common.machine_deadline.filter(|due| may_tell && common.log.time() < *due)
    }

    /// When a quorum, this server included, was last heard.
    fn quorum_heard(&self, common: &Common, now: Duration) -> Duration {
        self.agreed(common, now, |peer| peer.heard)
    }

    /// What a quorum has reached, this server included. A peer that abstains has reached nothing.
    fn agreed<T: Ord + Copy + Default>(&self, common: &Common, own: T, reached: impl Fn(&Progress) -> T) -> T {
        agreed(common.log.membership(), |id| match self.peers.get(&id) {
            _ if id == common.id() => own,
            Some(peer) if !peer.abstains || mutant(Mutant::P6) => reached(peer),
            _ => {
                mark(Mark::AbstainingNotCounted);
                T::default()
            }
        })
    }

    /// When [`tick`](Self::tick) has something to do: a heartbeat, a tick of the state machine, or an append that waits for
    /// nothing but its time.
    pub fn heartbeat_deadline(&self, common: &Common) -> Duration {
        let config = &common.config;
        let due = self.machine_due(common).map_or(self.heartbeat_due, |due| due.min(self.heartbeat_due));
        if config.min_replication_interval.is_zero() {
            return due;
        }
        let waiting = self.peers.values().filter(|peer| {
            peer.next <= common.log.last_index()
                && peer.may_send(config.max_inflight_requests, config.max_inflight_bytes)
        });
        let waiting = waiting.filter_map(|peer| peer.sent.map(|sent| sent + config.min_replication_interval)).min();
        waiting.map_or(due, |waiting| waiting.min(due))
    }

    /// Begins to hand leadership over. Until it ends, no commands are accepted.
    pub fn transfer(&mut self, common: &Common, to: Option<NodeId>, turn: &mut Turn<'_>) {
        let voters = || common.other_voters().into_iter().collect();
        let mut others: BTreeSet<NodeId> = if to.is_none() { voters() } else { BTreeSet::new() };
        let best = self.best(&others);
        let refusal = match to {
            Some(to) if to == common.id() => Some("it leads already"),
            Some(to) if !common.log.membership().is_voter(to) => Some("the new leader must be a voter"),
            Some(to) if self.abstains(to) => {
                Some("the new leader must be one that votes and counts, which it does not")
            }
            None if best.is_none() => Some("there is no other voter"),
            _ => None,
        };
        if let Some(reason) = refusal {
            mark(Mark::TransferImpossible);
            return turn.effect(Effect::TransferEnded { to, outcome: Err(reason) });
        }
        let Some(to) = to.or(best) else { return };
        others.remove(&to);
        match &self.transfer {
            Some(transfer) if transfer.to == to => return,
            Some(transfer) => {
                let outcome = Err("another transfer was asked for");
                turn.effect(Effect::TransferEnded { to: Some(transfer.to), outcome });
            }
            None => {}
        }
        let deadline = turn.now + 2 * common.election_timeout();
        self.transfer = Some(Transfer { to, others, told: false, deadline });
        self.hand_over_if_caught_up(common, turn);
        mark_if(self.transfer.as_ref().is_some_and(|transfer| !transfer.told), Mark::TransferWaited);
    }

    /// Messages to this peer were lost. If leadership is being handed to it, and need not be, the next best gets it. One that
    /// was told already may not have heard it; one that still has to catch up may come back in time.
    fn transfer_elsewhere(&mut self, common: &Common, lost: NodeId, turn: &mut Turn<'_>) {
        let Some(mut transfer) = self.transfer.take_if(|transfer| transfer.to == lost) else { return };
        if let Some(next) = self.best(&transfer.others) {
            transfer.others.remove(&next);
            self.transfer = Some(Transfer { to: next, told: false, ..transfer });
            self.hand_over_if_caught_up(common, turn);
        } else if transfer.told {
            let outcome = Err("the connection to the new leader was lost");
            turn.effect(Effect::TransferEnded { to: Some(lost), outcome });
        } else {
            self.transfer = Some(transfer);
        }
    }

    /// The own disk is full: the best of the others takes over, unless one was chosen already. If that does not succeed,
    /// [`tick`](Self::tick) steps down.
    pub fn disk_full(&mut self, common: &Common, turn: &mut Turn<'_>) {
        if common.has_rivals() && self.transfer.is_none() {
            self.transfer(common, None, turn);
        }
    }

    /// The one of them whose log is most complete; among equals the one heard last.
    fn best(&self, of: &BTreeSet<NodeId>) -> Option<NodeId> {
        let able = self.peers.iter().filter(|(id, peer)| of.contains(id) && !peer.abstains);
        able.max_by_key(|(_, peer)| (peer.matched, peer.heard)).map(|(&id, _)| id)
    }

    fn abstains(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.abstains)
    }

    fn hand_over_if_caught_up(&mut self, common: &Common, turn: &mut Turn<'_>) {
        let Some(transfer) = &mut self.transfer else { return };
        let caught_up = |peer: &Progress| peer.matched == common.log.last_index() && !peer.abstains;
        let caught_up = self.peers.get(&transfer.to).is_some_and(caught_up);
        if caught_up && !transfer.told {
            transfer.told = true;
            turn.send(transfer.to, common.term(), MessageBody::TimeoutNow);
        }
    }

    pub fn normalize(&mut self, common: &Common, name: &impl Fn(NodeId) -> NodeId) {
        let interval = common.config.min_replication_interval;
        let peers = std::mem::take(&mut self.peers).into_iter().map(|(id, mut peer)| {
            peer.heard = Duration::ZERO;
            peer.sent = peer.sent.filter(|_| !interval.is_zero()).map(|_| Duration::ZERO);
            (name(id), peer)
        });
        self.peers = peers.collect();
        if let Some(transfer) = &mut self.transfer {
            (transfer.to, transfer.deadline) = (name(transfer.to), Duration::ZERO);
            transfer.others = transfer.others.iter().map(|&id| name(id)).collect();
        }
        self.heartbeat_due = Duration::ZERO;
        self.began.1 = Duration::ZERO;
    }

    /// Leadership ends. What was accepted stays in the log, and may still commit.
    pub fn end(self, turn: &mut Turn<'_>, taken_over: bool) {
        self.reads.reject(turn);
        if let Some(transfer) = self.transfer {
            mark(if taken_over { Mark::TransferDone } else { Mark::TransferCutShort });
            let outcome = if taken_over { Ok(()) } else { Err("leadership was lost before it was handed over") };
            turn.effect(Effect::TransferEnded { to: Some(transfer.to), outcome });
        }
    }
}
