//! What a server has in every role: term and vote, log, commit and applied index, and what is on its way to the disk.

use std::collections::VecDeque;
use std::time::Duration;

use super::effect::{Effect, Persist, Violation};
use super::latency::Latency;
use super::log::Log;
use super::message::{Message, MessageBody, SnapshotMeta};
use super::random::Random;
use super::recall::Recall;
use super::server::ServerConfig;
use super::types::{EntryHeader, HardState, Index, LogTime, NodeId, Term};
use crate::marks::{Mark, mark, mark_if};
use crate::mutants::{Mutant, mutant};

/// One call of [`Server::handle`](super::Server::handle): the time, and where the effects go.
pub(super) struct Turn<'a> {
    pub now: Duration,
    pub effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Sends at once what vouches for nothing durable.
    pub fn send(&mut self, to: NodeId, term: Term, body: MessageBody) {
        self.effect(Effect::Send { to, message: Message { term, body } });
    }

    pub fn refuse(&mut self, from: NodeId, reason: &'static str) {
        self.effect(Effect::Refused { from, reason });
    }

    pub fn fail(&mut self, invariant: &'static str, details: String) {
        self.effect(Effect::Fail(Violation { invariant, details }));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Common {
    pub config: ServerConfig,
    pub hard_state: HardState,
    pub log: Log,
    /// Everything up to here is durable.
    pub durable: Index,
    /// Everything up to here is committed.
    pub commit: Index,
    /// Everything up to here is applied to the state machine.
    pub applied: Index,
    /// When something falls due in the state machine next.
    pub machine_deadline: Option<LogTime>,
    /// A leader said that everything up to here is committed, and it was verified to be equal here. The commit index
    /// follows as far as the own log is durable.
    pub learned: Index,
    pub random: Random,
    /// When this server will ask for an election, unless it hears from a leader or leads.
    pub election_deadline: Duration,
    /// Each election timeout is drawn from [T, 2T).
    election_timeout: Duration,
    /// The current one. Drawn anew when role or term change, so that in between hearing from the leader only ever moves the
    /// deadline further away, and never wakes the clock.
    drawn_timeout: Duration,
    /// What was measured, if this server adapts.
    pub latency: Option<Latency>,
    unwritten: Unwritten,
    outstanding: VecDeque<Outstanding>,
    held: VecDeque<Held>,
    last_token: u64,
    /// Nothing more becomes durable until there is space again.
    pub disk_full: bool,
    /// Set while this server does not know what it promised in an earlier life.
    pub recall: Option<Recall>,
    /// In this term and before it may have given votes of which it does not know.
    pub no_vote_until: Term,
}

/// What this turn has changed and the next persist will carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Unwritten {
    hard_state: bool,
    truncate_from: Option<Index>,
    append: Option<(Index, Index)>,
    snapshot: Option<SnapshotMeta>,
}

/// A persist that is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outstanding {
    token: u64,
    hard_state: bool,
    /// Durable up to here when it is done. Lowered when a truncation overtakes it, so that the completion of an
    /// overwritten write never vouches for the entries that replaced it (reliability T27).
    last: Option<Index>,
    since: Duration,
}

/// A message that vouches for something: it leaves when the persist with this token is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    token: u64,
    to: NodeId,
    message: Message,
}

impl Common {
    /// Everything up to `applied` is committed and in the machine's snapshot.
    pub fn new(
        config: ServerConfig,
        hard_state: HardState,
        log: Log,
        applied: Index,
        seed: u64,
        now: Duration,
    ) -> Self {
        let mut common = Common {
            durable: log.last_index(),
            commit: applied,
            applied,
            learned: applied,
            machine_deadline: None,
            random: Random::new(seed),
            election_deadline: now,
            election_timeout: config.election_timeout,
            drawn_timeout: config.election_timeout,
            latency: config.adapts.then(Latency::default),
            config,
            hard_state,
            log,
            unwritten: Unwritten::default(),
            outstanding: VecDeque::new(),
            held: VecDeque::new(),
            last_token: 0,
            disk_full: false,
            recall: None,
            no_vote_until: Term(0),
        };
        common.draw_election_timeout(now);
        if common.may_campaign() && !common.has_rivals() {
            // The random wait keeps candidates apart: this one would wait for nobody.
            common.election_deadline = now;
        }
        common
    }

    pub fn id(&self) -> NodeId {
        self.config.id
    }

    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Whether this server may have forgotten what it promised, so that it neither votes nor counts.
    pub fn abstains(&self) -> bool {
        self.config.abstains || self.recall.is_some()
    }

    /// Whether this server may vote for anybody: it remembers what it promised, and has where to keep another promise.
    pub fn may_vote(&self) -> bool {
        (!self.abstains() || mutant(Mutant::P7)) && !self.disk_full
    }

    /// Whether this server may campaign: it votes, and does so in its own membership.
    pub fn may_campaign(&self) -> bool {
        self.may_vote() && self.log.membership().is_voter(self.id())
    }

    /// Whether leadership could be somebody else's.
    pub fn has_rivals(&self) -> bool {
        self.log.membership().voters.len() > 1
    }

    /// Every other member.
    pub fn others(&self) -> Vec<NodeId> {
        let me = self.id();
        self.log.membership().members().into_iter().filter(|&id| id != me).collect()
    }

    /// Every other voter.
    pub fn other_voters(&self) -> Vec<NodeId> {
        self.others().into_iter().filter(|&id| self.log.membership().is_voter(id)).collect()
    }

    /// A new random timeout from [T, 2T), counted from now.
    pub fn draw_election_timeout(&mut self, now: Duration) {
        let base = self.election_timeout;
        self.drawn_timeout = base + Duration::from_nanos(self.random.below(base.as_nanos() as u64));
        self.election_deadline = now + self.drawn_timeout;
    }

    /// How long this server protects its leader, and leads without hearing from a quorum; the shortest that it waits for a
    /// leader.
    pub fn election_timeout(&self) -> Duration {
        self.election_timeout
    }

    /// Another election timeout, from the next sign of life or the next draw on.
    pub fn set_election_timeout(&mut self, timeout: Duration) {
        // What was drawn keeps its place between T and 2T.
        let drawn = self.drawn_timeout.as_nanos() * timeout.as_nanos() / self.election_timeout.as_nanos().max(1);
        (self.drawn_timeout, self.election_timeout) = (Duration::from_nanos(drawn as u64), timeout);
    }

    /// Something was heard that postpones the election.
    pub fn postpone_election(&mut self, now: Duration) {
        self.election_deadline = now + self.drawn_timeout;
    }

    /// A higher term begins: nobody has this server's vote.
    pub fn adopt_term(&mut self, term: Term) {
        debug_assert!(term > self.hard_state.term);
        let vote = if mutant(Mutant::M11a) { self.hard_state.vote } else { None };
        self.hard_state = HardState { term, vote };
        self.unwritten.hard_state = true;
    }

    pub fn vote_for(&mut self, candidate: NodeId) {
        if self.hard_state.vote != Some(candidate) {
            self.hard_state.vote = Some(candidate);
            self.unwritten.hard_state = true;
        }
    }

    pub fn append(&mut self, entries: Vec<EntryHeader>, turn: &mut Turn<'_>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (first, last) = (first.index, last.index);
        for entry in &entries {
            self.log.append(entry);
        }
        let first = self.unwritten.append.map_or(first, |(earlier, _)| earlier);
        self.unwritten.append = Some((first, last));
        turn.effect(Effect::Append { entries });
    }

    /// Removes the entries from `from` on, which must be above the commit index.
    pub fn truncate(&mut self, from: Index, turn: &mut Turn<'_>) {
        self.log.truncate(from);
        self.durable = self.durable.min(from.prev());
        mark_if(self.outstanding.iter().any(|write| write.last >= Some(from)), Mark::TruncationOvertookWrite);
        for outstanding in self.outstanding.iter_mut().filter(|_| !mutant(Mutant::P4)) {
            outstanding.last = outstanding.last.map(|last| last.min(from.prev()));
        }
        self.unwritten.append = self
            .unwritten
            .append
            .filter(|(first, _)| *first < from)
            .map(|(first, last)| (first, last.min(from.prev())));
        let earlier = self.unwritten.truncate_from.unwrap_or(from);
        self.unwritten.truncate_from = Some(earlier.min(from));
        turn.effect(Effect::Truncate { from });
    }

    /// Replaces log and state by a snapshot.
    pub fn install(&mut self, snapshot: SnapshotMeta, turn: &mut Turn<'_>) {
        self.log = Log::after_snapshot(&snapshot);
        // Until the snapshot is durable, a crash brings the old log back: of that, what was committed agrees.
        self.durable = self.durable.min(self.commit);
        self.commit = snapshot.index;
        self.applied = snapshot.index;
        self.learned = snapshot.index;
        mark_if(self.outstanding.iter().any(|write| write.last.is_some()), Mark::SnapshotOvertookWrite);
        for outstanding in &mut self.outstanding {
            outstanding.last = None;
        }
        self.unwritten = Unwritten {
            hard_state: self.unwritten.hard_state,
            snapshot: Some(snapshot.clone()),
            ..Unwritten::default()
        };
        turn.effect(Effect::InstallSnapshot { snapshot });
    }

    /// Moves the commit index up, never down.
    pub fn commit_to(&mut self, index: Index, turn: &mut Turn<'_>) {
        if index > self.commit || mutant(Mutant::M10a) {
            self.commit = index;
            turn.effect(Effect::Commit { index });
        }
    }

    /// The entries up to `index` are committed, and equal here. They count as far as they are durable here (B42).
    pub fn learn_commit(&mut self, index: Index, turn: &mut Turn<'_>) {
        self.learned = if mutant(Mutant::M10a) { index } else { self.learned.max(index) };
        self.commit_to(self.learned.min(self.durable), turn);
    }

    /// Sends a message that vouches for what this server has seen so far, as soon as all of that is durable.
    pub fn send_when_durable(&mut self, to: NodeId, body: MessageBody, turn: &mut Turn<'_>) {
        let message = Message { term: self.term(), body };
        let token = match self.is_dirty() {
            true => self.last_token + 1,
            false => match self.outstanding.back() {
                Some(outstanding) => outstanding.token,
                None => return turn.effect(Effect::Send { to, message }),
            },
        };
        // Of answers in a row that wait for the same write, the last one says it all. So heartbeats add none while the disk hangs;
        // entries do, one for each write, as far as the leader's window lets it send them.
        if let Some(last) = self.held.back_mut()
            && (last.token, last.to, last.message.term) == (token, to, message.term)
            && let MessageBody::AppendAccepted { matched: held_matched, round: held_round, .. } = &mut last.message.body
            && let MessageBody::AppendAccepted { matched, round, .. } = message.body
        {
            mark(Mark::AnswersMerged);
            (*held_matched, *held_round) = (matched.max(*held_matched), round.max(*held_round));
        } else {
            self.held.push_back(Held { token, to, message });
        }
    }

    /// What was to be sent once it is durable never is.
    pub fn drop_held(&mut self) {
        self.held.clear();
    }

    fn is_dirty(&self) -> bool {
        self.unwritten != Unwritten::default()
    }

    /// Whether term and vote are durable as they are.
    pub fn hard_state_is_durable(&self) -> bool {
        !self.unwritten.hard_state && !self.outstanding.iter().any(|outstanding| outstanding.hard_state)
    }

    /// Ends a turn: everything it changed goes to the disk as one unit.
    pub fn persist(&mut self, turn: &mut Turn<'_>) {
        if !self.is_dirty() {
            return;
        }
        let unwritten = std::mem::take(&mut self.unwritten);
        self.last_token += 1;
        let appended = unwritten.append.map(|(_, last)| last);
        self.outstanding.push_back(Outstanding {
            token: self.last_token,
            hard_state: unwritten.hard_state,
            last: appended.or(unwritten.snapshot.as_ref().map(|snapshot| snapshot.index)),
            since: turn.now,
        });
        turn.effect(Effect::Persist(Persist {
            token: self.last_token,
            hard_state: unwritten.hard_state.then_some(self.hard_state),
            snapshot: unwritten.snapshot,
            truncate_from: unwritten.truncate_from,
            append: unwritten.append,
        }));
    }

    /// The persists up to `token` are durable: what vouches for them may leave. What was to be said in an earlier term is
    /// dropped, for nobody would listen.
    pub fn persisted(&mut self, token: u64, turn: &mut Turn<'_>) {
        if token > self.last_token {
            return turn.fail("a completed persist was asked for", format!("token {token} of {}", self.last_token));
        }
        while let Some(done) = self.outstanding.pop_front_if(|outstanding| outstanding.token <= token) {
            self.durable = self.durable.max(done.last.unwrap_or_default());
        }
        self.commit_to(self.learned.min(self.durable), turn);
        while let Some(held) = self.held.pop_front_if(|held| held.token <= token) {
            if held.message.term == self.term() {
                turn.effect(Effect::Send { to: held.to, message: held.message });
            } else {
                mark(Mark::AnswerVoid);
            }
        }
    }

    /// The part of [`Server::normal_form`](super::Server::normal_form) that every role has.
    pub fn normalize(&mut self, name: &impl Fn(NodeId) -> NodeId) {
        self.config.id = name(self.config.id);
        self.hard_state.vote = self.hard_state.vote.map(name);
        self.log.rename(name);
        self.random = Random::new(0);
        self.drawn_timeout = self.election_timeout;
        self.election_deadline = self.election_timeout;
        // Every outstanding persist has its token, without gaps.
        let passed = self.last_token - self.outstanding.len() as u64;
        self.last_token -= passed;
        for outstanding in &mut self.outstanding {
            (outstanding.token, outstanding.since) = (outstanding.token - passed, Duration::ZERO);
        }
        for held in &mut self.held {
            (held.token, held.to) = (held.token - passed, name(held.to));
        }
        // What is said twice at the same time is said.
        let mut once: VecDeque<Held> = VecDeque::new();
        for held in std::mem::take(&mut self.held) {
            if !once.contains(&held) {
                once.push_back(held);
            }
        }
        self.held = once;
    }

    /// Whether the own disk has not finished a write for longer than an election timeout (reliability T42).
    pub fn disk_hangs(&self, now: Duration) -> bool {
        self.outstanding.front().is_some_and(|oldest| now.saturating_sub(oldest.since) > self.config.election_timeout)
    }
}
