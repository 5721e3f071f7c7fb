//! The Raft server: one role at a time over what all roles share; dispatches events, keeps the rules about terms.

mod forced;

use std::time::Duration;

use super::common::{Common, Turn};
use super::effect::{Effect, RejectReason, Role};
use super::election::{Candidate, PreCandidate, VoteRequest};
use super::event::Event;
use super::follower::Follower;
use super::invariants::Watermarks;
use super::leader::{Answer, Leader, Rejection};
use super::log::{ENTRY_OVERHEAD_BYTES, Log};
use super::membership::Membership;
use super::message::{Message, MessageBody, SnapshotMeta};
use super::quorum::VoteResult;
use super::types::{EntryHeader, HardState, Index, NodeId, Term};
use crate::marks::{Mark, mark, mark_if};
use crate::mutants::{Mutant, mutant};
pub use forced::{ForcedRole, ForcedStart};

/// What a server is told once, when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerConfig {
    /// This server.
    pub id: NodeId,
    /// Each election timeout is drawn from [T, 2T). Also how long a follower protects its leader, and a leader goes on
    /// without hearing from a quorum.
    pub election_timeout: Duration,
    /// Time between heartbeats; below `election_timeout`.
    pub heartbeat_interval: Duration,
    /// Lower bound between two appends with entries to one peer.
    pub min_replication_interval: Duration,
    /// Most bytes of entries in one request; a larger entry travels alone.
    pub max_batch_bytes: u64,
    /// Most requests with entries under way to one peer.
    pub max_inflight_requests: usize,
    /// Most bytes of entries under way to one peer.
    pub max_inflight_bytes: u64,
    /// Most bytes accepted from clients but not yet applied.
    pub max_pending_bytes: u64,
    /// Ask before campaigning (Raft thesis §9.6). On, except to study what happens without.
    pub pre_vote: bool,
    /// A leader that hears from no quorum steps down, and a follower with a live leader ignores other candidates (Raft
    /// thesis §6.2 and §4.2.3). On, except to study what happens without.
    pub check_quorum: bool,
    /// This server may have forgotten what it promised: it never campaigns, grants no vote, and leaders do not count it
    /// towards commits, reads and their quorum. It receives the log like any other member.
    pub abstains: bool,
    /// The election timeout follows what messages are measured to take, from `election_timeout` up to 10 s. Off, unless nobody
    /// has told what the network is like.
    pub adapts: bool,
}

impl ServerConfig {
    /// The usual limits.
    pub fn new(id: NodeId, election_timeout: Duration, heartbeat_interval: Duration) -> Self {
        ServerConfig {
            id,
            election_timeout,
            heartbeat_interval,
            min_replication_interval: Duration::ZERO,
            max_batch_bytes: 256 << 10,
            max_inflight_requests: 64,
            max_inflight_bytes: 8 << 20,
            max_pending_bytes: 64 << 20,
            pre_vote: true,
            check_quorum: true,
            abstains: false,
            adapts: false,
        }
    }
}

/// What a server remembers from before it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot: of an entry of the log, or the one before its first.
    pub snapshot: Option<SnapshotMeta>,
    /// Index and term of the entry before the log's first.
    pub base: (Index, Term),
    /// The log, as far as it was [remembered](Remembered::append).
    pub log: Log,
    /// The membership before the first entry, if there is no snapshot.
    pub membership: Membership,
}

impl Remembered {
    /// The log's next entry, or its first. Takes a few bytes, so that logs of any size can be remembered one by one.
    pub fn append(&mut self, header: &EntryHeader) {
        if self.log.is_empty() {
            self.log.begin_after((header.index.prev(), Term(0)), Membership::default());
        }
        self.log.append(header);
    }

    /// Whether the log contains what this snapshot covers, or begins right after it. One that was received, but did not
    /// replace the log before the node ended, it does not know.
    pub fn knows(&self, snapshot: &SnapshotMeta) -> bool {
        let place = (snapshot.index, snapshot.term);
        place == self.base || (place.0 > self.base.0 && self.log.term_at(place.0) == Some(place.1))
    }
}

/// One Raft server: events in, effects out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    common: Common,
    role: RoleState,
    watermarks: Watermarks,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RoleState {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// How a server is, for people and for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Its vote in that term.
    pub vote: Option<NodeId>,
    /// The leader of the term, if known.
    pub leader: Option<NodeId>,
    /// First index that its log still has; one more than `last` if there is none.
    pub first: Index,
    /// Last index of its log.
    pub last: Index,
    /// Last durable index.
    pub durable: Index,
    /// Last committed index.
    pub commit: Index,
    /// Last applied index.
    pub applied: Index,
    /// It neither votes nor counts.
    pub abstains: bool,
    /// A leader's view of its peers, in order of id.
    pub peers: Vec<PeerProgress>,
}

/// A leader's view of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer.
    pub id: NodeId,
    /// Highest index known to be durable there.
    pub matched: Index,
    /// Next index to send.
    pub next: Index,
    /// `probe`, `replicate` or `snapshot`.
    pub state: &'static str,
    /// When it was last heard.
    pub heard: Duration,
    /// It neither votes nor counts.
    pub abstains: bool,
}

impl Server {
    /// A server that was just started. `seed` decides its election timeouts: it should differ between servers.
    pub fn new(config: ServerConfig, remembered: Remembered, seed: u64, now: Duration) -> Self {
        let Remembered { hard_state, snapshot, base, mut log, membership } = remembered;
        // The log may begin before the snapshot. What was in force there does not matter: what a snapshot covers is
        // committed, and never truncated.
        let (applied, membership) = match snapshot {
            Some(snapshot) => {
                log.advance_time(snapshot.time);
                (snapshot.index, snapshot.membership)
            }
            None => (base.0, membership),
        };
        log.begin_after(base, membership);
        let common = Common::new(config, hard_state, log, applied, seed, now);
        let watermarks = Watermarks::new(&common);
        Server { common, role: RoleState::Follower(Follower::default()), watermarks }
    }

    /// Takes one event and says what to do. `now` never goes back.
    pub fn handle(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, effects };
        match event {
            Event::Tick => self.tick(turn),
            Event::Receive { from, message } => self.receive(from, message, turn),
            Event::Unreachable { peer } => {
                if let RoleState::Leader(leader) = &mut self.role {
                    leader.unreachable(&self.common, peer, turn);
                }
            }
            Event::Propose(proposals) => match &mut self.role {
                RoleState::Leader(leader) => leader.propose(&mut self.common, proposals, turn),
                _ => proposals.into_iter().for_each(|proposal| {
                    turn.effect(Effect::Reject { ticket: proposal.ticket, reason: RejectReason::NotLeader });
                }),
            },
            Event::Read(tickets) => match &mut self.role {
                RoleState::Leader(leader) => leader.read(&mut self.common, tickets, turn),
                _ => tickets.into_iter().for_each(|ticket| {
                    turn.effect(Effect::Reject { ticket, reason: RejectReason::NotLeader });
                }),
            },
            Event::Persisted { token } => self.persisted(token, turn),
            Event::Forgot => self.forget(turn),
            Event::DiskFull => self.disk_full(turn),
            Event::DiskFreed => self.common.disk_full = false,
            Event::Applied { index } => self.machine_applied(index, turn),
            Event::MachineDeadline { time } => self.common.machine_deadline = time,
            Event::Transfer { to } => match &mut self.role {
                RoleState::Leader(leader) => leader.transfer(&self.common, to, turn),
                _ => turn.effect(Effect::TransferEnded { to, outcome: Err("this node is not the leader") }),
            },
            Event::SnapshotTaken { snapshot, keep_from } => {
                // Nothing that was not applied may go: it may be needed still, and its bytes are accounted for.
                self.common.log.compact(keep_from.prev().min(snapshot.index).min(self.common.applied));
            }
        }
        self.conclude(turn);
    }

    /// Ends a turn.
    fn conclude(&mut self, turn: &mut Turn<'_>) {
        self.common.ask_terms(turn);
        self.common.persist(turn);
        let leads = matches!(self.role, RoleState::Leader(_));
        self.watermarks.check(&self.common, leads, turn);
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        if let RoleState::Leader(leader) = &mut self.role {
            if let Err(reason) = leader.tick(&mut self.common, turn) {
                self.follow(self.common.term(), None, reason, turn);
            }
        } else if self.common.election_deadline <= turn.now {
            self.common.draw_election_timeout(turn.now);
            // Without a vote of its own, or a disk to keep it on, a server has no business campaigning.
            let disk_hangs = self.common.disk_hangs(turn.now);
            mark_if(disk_hangs, Mark::CampaignPutOffDiskHangs);
            if self.common.may_campaign() && !disk_hangs {
                mark_if(matches!(self.role, RoleState::Candidate(_)), Mark::ElectionUndecided);
                self.common.measure_latency(&self.common.other_voters(), turn);
                if self.common.config.pre_vote { self.pre_campaign(turn) } else { self.campaign(false, turn) }
            }
        }
    }

    fn persisted(&mut self, token: u64, turn: &mut Turn<'_>) {
        self.common.persisted(token, turn);
        match &mut self.role {
            RoleState::Leader(leader) => leader.persisted(&mut self.common, turn),
            RoleState::Candidate(candidate) => {
                candidate.persisted(&self.common);
                self.decide_election(turn);
            }
            _ => {}
        }
    }

    fn forget(&mut self, turn: &mut Turn<'_>) {
        if !self.common.abstains() {
            self.common.forget(turn.now);
            if !matches!(self.role, RoleState::Follower(_)) {
                self.follow(self.common.term(), None, "a peer remembers what this node has forgotten", turn);
            }
        }
    }

    fn disk_full(&mut self, turn: &mut Turn<'_>) {
        self.common.disk_full = true;
        match &mut self.role {
            RoleState::Leader(leader) => leader.disk_full(&self.common, turn),
            RoleState::Follower(_) => {}
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                mark(Mark::CampaignGivenUpDiskFull);
                self.follow(self.common.term(), None, "its own disk is full", turn);
            }
        }
    }

    fn machine_applied(&mut self, index: Index, turn: &mut Turn<'_>) {
        if index < self.common.applied {
            // Applied before a snapshot replaced the state.
            return mark(Mark::AppliedBeforeSnapshot);
        }
        if index > self.common.commit {
            let details = format!("applied {index}, committed {}", self.common.commit);
            return turn.fail("only committed entries are applied (I12)", details);
        }
        let before = std::mem::replace(&mut self.common.applied, index);
        if let RoleState::Leader(leader) = &mut self.role {
            leader.applied(&self.common, before);
        }
    }

    // Messages, and the rules about terms (Raft paper §5.1).

    fn receive(&mut self, from: NodeId, message: Message, turn: &mut Turn<'_>) {
        if from == self.common.id() {
            return turn.refuse(from, "claims to be this node");
        }
        if let Some(reason) = message.malformed() {
            return turn.refuse(from, reason);
        }
        let Message { term, body } = message;
        match body {
            // Whatever its own term: this server's is what the sender wants to know.
            MessageBody::AskTerm { nonce } => {
                return turn.send(from, self.common.term(), MessageBody::TellTerm { nonce });
            }
            MessageBody::TellTerm { nonce } => {
                self.common.term_told(from, nonce);
                let leader = self.leader();
                self.common.latency_measured(from, nonce, leader, turn.now);
            }
            _ => {}
        }
        if term > self.common.term() {
            if !self.rise_to(term, from, &body, turn) {
                return;
            }
        } else if term < self.common.term() && !is_vote_request(&body) {
            return self.answer_stale(from, &body, turn);
        }
        match body {
            MessageBody::RequestVote { pre, last_index, last_term, .. } => {
                self.vote(VoteRequest { candidate: from, term, pre, last_index, last_term }, turn);
            }
            MessageBody::RequestVoteResponse { pre, granted } => self.count_vote(from, term, pre, granted, turn),
            MessageBody::AppendEntries(append) => {
                if let Some((follower, common)) = self.follower_of(from, turn) {
                    follower.append(common, from, append, turn);
                }
            }
            MessageBody::InstallSnapshot { snapshot } => {
                if let Some((follower, common)) = self.follower_of(from, turn) {
                    follower.install(common, from, snapshot, turn);
                }
            }
            MessageBody::AppendAccepted { matched, round, abstains } => {
                if let RoleState::Leader(leader) = &mut self.role {
                    leader.accepted(&mut self.common, Answer { from, round, abstains }, matched, turn);
                }
            }
            MessageBody::SnapshotInstalled { matched, abstains } => {
                if let RoleState::Leader(leader) = &mut self.role {
                    // It answers no request that carried a round.
                    leader.accepted(&mut self.common, Answer { from, round: 0, abstains }, matched, turn);
                }
            }
            MessageBody::AppendRejected { prev_index, hint_index, hint_term, round, abstains } => {
                if let RoleState::Leader(leader) = &mut self.role {
                    let rejection = Rejection { prev_index, hint_index, hint_term };
                    leader.rejected(&self.common, Answer { from, round, abstains }, rejection, turn);
                }
            }
            MessageBody::TimeoutNow => {
                let from_leader = matches!(&self.role, RoleState::Follower(Follower { leader: Some((leader, _)) }) if *leader == from);
                if from_leader && self.common.may_campaign() {
                    mark(Mark::TookOver);
                    self.campaign(true, turn);
                } else {
                    mark(Mark::TakeOverTooLate);
                }
            }
            MessageBody::AskTerm { .. } | MessageBody::TellTerm { .. } => {}
        }
    }

    /// A message of a later term: adopt it, unless it is only a pre-vote, or a candidate that this server protects its
    /// leader from. False if the message deserves no further attention.
    fn rise_to(&mut self, term: Term, from: NodeId, body: &MessageBody, turn: &mut Turn<'_>) -> bool {
        match body {
            MessageBody::RequestVote { pre, transfer, last_index, last_term } => {
                if !transfer && self.common.config.check_quorum && self.has_live_leader(turn.now) {
                    mark(if *pre { Mark::PreVoteDeniedLeaderLives } else { Mark::CandidateIgnoredLeaderLives });
                    if *pre {
                        let body = MessageBody::RequestVoteResponse { pre: true, granted: false };
                        turn.send(from, self.common.term(), body);
                    }
                    return false;
                }
                if !pre {
                    let (deadline, led) = (self.common.election_deadline, self.role() == Role::Leader);
                    self.follow(term, None, "another node campaigns in a later term", turn);
                    // Only a vote for it postpones the own election (Raft paper §5.2): this server, which has more, may be the
                    // only one that can win.
                    if !led && !self.common.log.is_up_to_date(*last_term, *last_index) {
                        self.common.election_deadline = deadline;
                    }
                }
            }
            MessageBody::RequestVoteResponse { pre: true, granted } if *granted || mutant(Mutant::M29b) => {}
            MessageBody::AppendEntries(_) | MessageBody::InstallSnapshot { .. } => {
                self.follow(term, Some(from), "a later term has a leader", turn);
            }
            _ => self.follow(term, None, "another node is in a later term", turn),
        }
        true
    }

    /// A request of an earlier term: its sender must learn that the term is over, or it might never (B23, B25). Answers of
    /// an earlier term mean nothing any more.
    fn answer_stale(&mut self, from: NodeId, body: &MessageBody, turn: &mut Turn<'_>) {
        let (prev_index, prev_term) = match body {
            MessageBody::AppendEntries(append) => {
                mark(Mark::StaleAppendAnswered);
                (append.prev_index, append.prev_term)
            }
            MessageBody::InstallSnapshot { snapshot } => {
                mark(Mark::StaleSnapshotAnswered);
                (snapshot.index, snapshot.term)
            }
            _ => return mark_if(*body == MessageBody::TimeoutNow, Mark::TakeOverTooLate),
        };
        let (known, hint_term) = self.common.log.last_not_after(prev_index, prev_term);
        // A hint never lies above what it is about; the base of this log may.
        let hint_index = known.min(prev_index);
        let abstains = self.common.abstains();
        // The request's round is one of its own term. Should its sender lead this term, too, a round of that number may begin
        // later, and must not be confirmed by this.
        let body = MessageBody::AppendRejected { prev_index, hint_index, hint_term, round: 0, abstains };
        turn.send(from, self.common.term(), body);
    }

    fn vote(&mut self, request: VoteRequest, turn: &mut Turn<'_>) {
        if request.term < self.common.term() {
            mark(Mark::VoteDeniedEarlierTerm);
            let body = MessageBody::RequestVoteResponse { pre: request.pre, granted: false };
            let term = if mutant(Mutant::M29a) { request.term } else { self.common.term() };
            return turn.send(request.candidate, term, body);
        }
        let has_leader = self.leader().is_some();
        request.answer(&mut self.common, has_leader, turn);
    }

    fn count_vote(&mut self, from: NodeId, term: Term, pre: bool, granted: bool, turn: &mut Turn<'_>) {
        match &mut self.role {
            // A granted pre-vote echoes the term it was asked for: one of an earlier attempt does not count.
            RoleState::PreCandidate(candidate) if pre => {
                if !granted || term == self.common.term().next() {
                    candidate.count(&self.common, from, granted);
                } else {
                    mark(Mark::PreVoteOfEarlierAttempt);
                }
            }
            RoleState::Candidate(candidate) if !pre => candidate.count(&self.common, from, granted),
            _ => return,
        }
        self.decide_election(turn);
    }

    /// This server as the follower of `from`, who speaks as the leader of the current term.
    fn follower_of(&mut self, from: NodeId, turn: &mut Turn<'_>) -> Option<(&mut Follower, &mut Common)> {
        match &self.role {
            RoleState::Leader(_) => {
                turn.refuse(from, "claims to lead a term that this node leads");
                return None;
            }
            RoleState::Follower(Follower { leader: Some(_) }) => {}
            role => {
                mark_if(matches!(role, RoleState::Candidate(_)), Mark::CandidateFoundLeader);
                self.follow(self.common.term(), Some(from), "the term has a leader", turn);
            }
        }
        match &mut self.role {
            RoleState::Follower(follower) => Some((follower, &mut self.common)),
            _ => None,
        }
    }

    // Transitions. Each consumes the role before.

    /// Follows: in a later term, or in the same one when it has a leader, or this server gives up.
    fn follow(&mut self, term: Term, leader: Option<NodeId>, reason: &'static str, turn: &mut Turn<'_>) {
        let rises = term > self.common.term();
        if rises {
            self.common.adopt_term(term);
        }
        let follower = Follower { leader: leader.map(|leader| (leader, turn.now)) };
        let before = std::mem::replace(&mut self.role, RoleState::Follower(follower));
        self.common.draw_election_timeout(turn.now);
        if let RoleState::Leader(leader) = before {
            mark_if(rises, Mark::LeaderOverthrown);
            leader.end(turn, rises);
        }
        self.announce(reason, turn);
    }

    fn pre_campaign(&mut self, turn: &mut Turn<'_>) {
        let candidate = RoleState::PreCandidate(PreCandidate::begin(&self.common, turn));
        let before = std::mem::replace(&mut self.role, candidate);
        // A node that is cut off tries again and again: nothing has changed then.
        if !matches!(before, RoleState::PreCandidate(_)) {
            self.announce("no leader was heard for an election timeout", turn);
        }
        self.decide_election(turn);
    }

    fn campaign(&mut self, transfer: bool, turn: &mut Turn<'_>) {
        self.role = RoleState::Candidate(Candidate::begin(&mut self.common, transfer, turn));
        self.common.draw_election_timeout(turn.now);
        let reason = if transfer { "the leader hands over" } else { "an election can be won" };
        self.announce(reason, turn);
    }

    fn decide_election(&mut self, turn: &mut Turn<'_>) {
        match &self.role {
            RoleState::PreCandidate(candidate) => match candidate.result(&self.common) {
                VoteResult::Won => self.campaign(false, turn),
                VoteResult::Lost => self.give_up(turn),
                VoteResult::Pending => {}
            },
            RoleState::Candidate(candidate) => match candidate.result(&self.common) {
                VoteResult::Won => self.lead(turn),
                VoteResult::Lost => self.give_up(turn),
                VoteResult::Pending => {}
            },
            _ => {}
        }
    }

    /// The election is lost. The vote stays as it is (B20), and so does the election deadline: the next attempt comes when
    /// this one would have ended.
    fn give_up(&mut self, turn: &mut Turn<'_>) {
        mark(match self.role {
            RoleState::PreCandidate(_) => Mark::PreElectionLost,
            _ => Mark::ElectionLost,
        });
        self.role = RoleState::Follower(Follower::default());
        if mutant(Mutant::M11b) {
            self.common.hard_state.vote = None;
        }
        self.announce("a majority refused", turn);
    }

    fn lead(&mut self, turn: &mut Turn<'_>) {
        let leader = Leader::begin(&mut self.common, turn);
        self.role = RoleState::Leader(leader);
        self.announce("a majority voted for this node", turn);
    }

    fn announce(&self, reason: &'static str, turn: &mut Turn<'_>) {
        let (role, term, leader) = (self.role(), self.common.term(), self.leader());
        turn.effect(Effect::RoleChanged { role, term, leader, reason });
    }

    fn has_live_leader(&self, now: Duration) -> bool {
        match &self.role {
            RoleState::Follower(follower) => follower.has_live_leader(&self.common, now),
            RoleState::Leader(_) => true,
            _ => false,
        }
    }

    // For model checking.

    /// This server under other names, as if everything that it remembers a time of had just happened, at time zero: what
    /// was heard, asked of the disk, and began. The generator is new, and tokens of persists count from 1. Servers with
    /// the same normal form differ at most in when they do something and in how they name their persists; so do the
    /// servers that one event makes of them, if it comes where each makes the same decisions about time. `name` must give
    /// every node a name of its own.
    pub fn normal_form(&self, name: &impl Fn(NodeId) -> NodeId) -> Server {
        let mut server = self.clone();
        server.common.normalize(name);
        server.watermarks.normalize(name);
        match &mut server.role {
            RoleState::Follower(follower) => follower.normalize(name),
            RoleState::PreCandidate(candidate) => candidate.normalize(name),
            RoleState::Candidate(candidate) => candidate.normalize(name),
            RoleState::Leader(leader) => leader.normalize(&server.common, name),
        }
        server
    }

    // What the driver and people look at.

    /// This server's id.
    pub fn id(&self) -> NodeId {
        self.common.id()
    }

    /// Its role.
    pub fn role(&self) -> Role {
        match &self.role {
            RoleState::Follower(_) => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.common.term()
    }

    /// The leader of its term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Follower(follower) => follower.leader.map(|(leader, _)| leader),
            RoleState::Leader(_) => Some(self.common.id()),
            _ => None,
        }
    }

    /// Last index of its log.
    pub fn last_index(&self) -> Index {
        self.common.log.last_index()
    }

    /// Term of the entry at `index`, if it is in the log.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.common.log.term_at(index)
    }

    /// Index of the entry before the log's first.
    pub fn base_index(&self) -> Index {
        self.common.log.base_index()
    }

    /// Bytes of the entries `first..=last`, as far as they are in the log, with what each takes besides its payload.
    pub fn log_bytes(&self, first: Index, last: Index) -> u64 {
        let count = (last.0 + 1).saturating_sub(first.0);
        self.common.log.bytes(first, last) + count * ENTRY_OVERHEAD_BYTES
    }

    /// The first of the last entries up to `last` that have no more than `max_bytes` together.
    pub fn tail_start(&self, last: Index, max_bytes: u64) -> Index {
        self.common.log.tail_start(last, max_bytes)
    }

    /// The membership in force at an entry that is in the log.
    pub fn membership_at(&self, index: Index) -> &Membership {
        self.common.log.membership_at(index)
    }

    /// Last committed index.
    pub fn commit(&self) -> Index {
        self.common.commit
    }

    /// Last applied index.
    pub fn applied(&self) -> Index {
        self.common.applied
    }

    /// The membership in force.
    pub fn membership(&self) -> &Membership {
        self.common.log.membership()
    }

    /// Whether it neither votes nor counts.
    pub fn abstains(&self) -> bool {
        self.common.abstains()
    }

    /// The election timeout in force: each is drawn from [T, 2T).
    pub fn election_timeout(&self) -> Duration {
        self.common.election_timeout()
    }

    /// When the election clock must fire; a leader has no use for it.
    pub fn election_deadline(&self) -> Option<Duration> {
        match &self.role {
            RoleState::Leader(_) => None,
            _ => Some(self.common.election_deadline),
        }
    }

    /// When the heartbeat clock must fire; only a leader has use for it.
    pub fn heartbeat_deadline(&self) -> Option<Duration> {
        match &self.role {
            RoleState::Leader(leader) => Some(leader.heartbeat_deadline(&self.common)),
            _ => None,
        }
    }

    /// Whom it has voted for in its term.
    pub fn voted_for(&self) -> Option<NodeId> {
        self.common.hard_state.vote
    }

    /// What a leader knows of its peers, in order of their ids; nothing of anybody else.
    pub fn progress(&self) -> impl Iterator<Item = PeerProgress> + '_ {
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            _ => None,
        };
        leader.into_iter().flat_map(|leader| &leader.peers).map(|(&id, peer)| PeerProgress {
            id,
            matched: peer.matched,
            next: peer.next,
            state: peer.state_name(),
            heard: peer.heard,
            abstains: peer.abstains,
        })
    }

    /// Everything worth showing.
    pub fn status(&self) -> ServerStatus {
        ServerStatus {
            role: self.role(),
            term: self.term(),
            vote: self.voted_for(),
            leader: self.leader(),
            first: self.common.log.base_index().next(),
            last: self.last_index(),
            durable: self.common.durable,
            commit: self.commit(),
            applied: self.applied(),
            abstains: self.common.abstains(),
            peers: self.progress().collect(),
        }
    }
}

fn is_vote_request(body: &MessageBody) -> bool {
    matches!(body, MessageBody::RequestVote { .. })
}
