//! A start that is forced on a server, for scenarios: the only way into a role that no event leads to.
//!
//! Term, vote and log are what the server remembers, as after any restart. It acts in its role later, from [`Server::begin`] on,
//! and only if it is still where it was started. That the states of several servers go together is for whoever forces them
//! to see to.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Candidate, Effect, Follower, HardState, Index, Leader, NodeId, Remembered, RoleState, Server, ServerConfig, Term,
    Turn,
};

/// Where a server begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForcedStart {
    /// Term and vote.
    pub hard_state: HardState,
    /// The term of each entry of its log, from index 1.
    pub log: Vec<Term>,
    /// The role that it takes.
    pub role: ForcedRole,
}

/// A role to begin in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForcedRole {
    /// Waits for a leader, for an election timeout.
    #[default]
    Follower,
    /// Asks for votes, in the term it is in and without a pre-vote. It must have voted for itself.
    Candidate,
    /// Leads the term it is in, for which it must have voted for itself, and appends nothing until it is asked something. Of
    /// each peer it believes to know up to which index its log is equal, and which index to send next, which is higher.
    Leader(BTreeMap<NodeId, (Index, Index)>),
}

impl Server {
    /// A server that was just started, with the term, vote and log of a forced start in `remembered`. A candidate is one from
    /// now on, and can be deposed, but speaks only when it [begins](Self::begin).
    pub fn forced(
        config: ServerConfig,
        remembered: Remembered,
        start: &ForcedStart,
        seed: u64,
        now: Duration,
    ) -> Server {
        let mut server = Server::new(config, remembered, seed, now);
        if start.role == ForcedRole::Candidate && server.may_be_forced(start) {
            server.role = RoleState::Candidate(Candidate::default());
        }
        server
    }

    /// Begins: a candidate asks for votes, a leader leads, unless something was heard that makes an end of it, and an election
    /// timeout begins. To be called once, with the start that the server was made with.
    pub fn begin(&mut self, now: Duration, start: &ForcedStart, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, effects };
        self.common.draw_election_timeout(now);
        if self.may_be_forced(start) {
            self.begin_role(start, turn);
        }
        self.conclude(turn);
    }

    fn begin_role(&mut self, start: &ForcedStart, turn: &mut Turn<'_>) {
        self.role = match (&self.role, &start.role) {
            (RoleState::Candidate(_), ForcedRole::Candidate) => {
                RoleState::Candidate(Candidate::forced(&mut self.common, turn))
            }
            (RoleState::Follower(Follower { leader: None }), ForcedRole::Leader(progress)) => {
                RoleState::Leader(Leader::forced(&self.common, progress, turn.now))
            }
            _ => return,
        };
        self.announce("its start is forced", turn);
        self.decide_election(turn);
    }

    /// Whether the server, which may vote, is where it was started, and has voted for itself there.
    fn may_be_forced(&self, start: &ForcedStart) -> bool {
        let has_own_vote = self.common.hard_state.vote == Some(self.id());
        self.common.may_campaign() && has_own_vote && self.common.hard_state == start.hard_state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{
        AppendEntries, EntryHeader, EntryKind, Event, LogTime, Membership, Message, MessageBody, Proposal, Role, Ticket,
    };

    const ME: NodeId = NodeId(1);
    const TIMEOUT: Duration = Duration::from_millis(100);
    /// Long after the start: nothing may depend on when a server was made.
    const LATER: Duration = Duration::from_secs(5);

    struct Forced {
        server: Server,
        start: ForcedStart,
        effects: Vec<Effect>,
    }

    impl Forced {
        fn new(voters: u64, term: u64, log: &[u64], role: ForcedRole) -> Forced {
            let hard_state = HardState { term: Term(term), vote: Some(ME) };
            let start = ForcedStart { hard_state, log: log.iter().copied().map(Term).collect(), role };
            let membership = Membership::of_voters((1..=voters).map(NodeId));
            let mut remembered = Remembered { hard_state, membership, ..Remembered::default() };
            for (index, &term) in (1..).map(Index).zip(&start.log) {
                let (kind, time) = (EntryKind::Command, LogTime(0));
                remembered.append(&EntryHeader { index, term, kind, time, session: None, size: 1 });
            }
            let config = ServerConfig::new(ME, TIMEOUT, Duration::from_millis(20));
            let server = Server::forced(config, remembered, &start, 1, Duration::ZERO);
            Forced { server, start, effects: Vec::new() }
        }

        /// A leader who believes that its peers have nothing, and sends them this index next.
        fn leader(term: u64, log: &[u64], next: u64) -> Forced {
            let progress = [2, 3].map(|peer| (NodeId(peer), (Index(0), Index(next))));
            Forced::new(3, term, log, ForcedRole::Leader(progress.into()))
        }

        fn begin(&mut self) -> Vec<Effect> {
            self.server.begin(LATER, &self.start, &mut self.effects);
            std::mem::take(&mut self.effects)
        }

        fn event(&mut self, event: Event) -> Vec<Effect> {
            self.server.handle(LATER, event, &mut self.effects);
            std::mem::take(&mut self.effects)
        }

        fn receive(&mut self, from: u64, term: u64, body: MessageBody) -> Vec<Effect> {
            self.event(Event::Receive { from: NodeId(from), message: Message { term: Term(term), body } })
        }

        fn accepted(&mut self, matched: u64, round: u64) -> Vec<Effect> {
            self.receive(2, 4, MessageBody::AppendAccepted { matched: Index(matched), round, abstains: false })
        }
    }

    fn heartbeat() -> MessageBody {
        let (prev_index, prev_term, commit) = (Index(0), Term(0), Index(0));
        MessageBody::AppendEntries(AppendEntries { prev_index, prev_term, commit, round: 0, entries: Vec::new() })
    }

    fn appended(effects: &[Effect]) -> Vec<&EntryKind> {
        let entries = effects.iter().filter_map(|effect| match effect {
            Effect::Append { entries } => Some(entries.iter().map(|entry| &entry.kind)),
            _ => None,
        });
        entries.flatten().collect()
    }

    /// What each peer is sent first.
    fn sent_first(effects: &[Effect]) -> BTreeMap<NodeId, Index> {
        let mut sent = BTreeMap::new();
        for effect in effects {
            if let Effect::SendEntries { to, first, .. } = effect {
                sent.entry(*to).or_insert(*first);
            }
        }
        sent
    }

    fn is_vote_request(effect: &Effect) -> bool {
        let Effect::Send { message: Message { term: Term(4), body }, .. } = effect else { return false };
        matches!(body, MessageBody::RequestVote { pre: false, last_index: Index(2), last_term: Term(2), .. })
    }

    #[test]
    fn a_forced_leader_commits_nothing_of_earlier_terms_until_a_client_writes() {
        let mut leader = Forced::leader(4, &[1, 2, 2], 2);
        assert_eq!(leader.server.role(), Role::Follower, "it waits for its peers");
        assert!(appended(&leader.begin()).is_empty());
        assert_eq!((leader.server.role(), leader.server.heartbeat_deadline()), (Role::Leader, Some(LATER)));
        let told = leader.event(Event::Tick);
        assert_eq!(leader.server.role(), Role::Leader, "the time before it began does not count against its peers");
        assert_eq!(sent_first(&told), BTreeMap::from([(NodeId(2), Index(2)), (NodeId(3), Index(2))]));
        assert!(
            told.iter().any(|effect| matches!(effect, Effect::Send { to: NodeId(3), .. })),
            "a heartbeat: {told:?}"
        );

        leader.accepted(3, 0);
        assert_eq!(leader.server.commit(), Index(0), "a majority has all of it, and nothing is of term 4");
        let proposal = Proposal { ticket: Ticket(1), size: 1, session: None };
        assert_eq!(appended(&leader.event(Event::Propose(vec![proposal]))), [&EntryKind::Command]);
        leader.accepted(4, 0);
        leader.event(Event::Persisted { token: 1 });
        assert_eq!(leader.server.commit(), Index(4));
    }

    #[test]
    fn a_read_makes_a_forced_leader_append_its_first_entry_and_waits_for_it() {
        let mut leader = Forced::leader(4, &[1, 2, 2], 4);
        leader.begin();
        assert_eq!(appended(&leader.event(Event::Read(vec![Ticket(1)]))), [&EntryKind::Noop]);
        assert!(appended(&leader.event(Event::Read(vec![Ticket(2)]))).is_empty(), "once");
        let confirmed = leader.accepted(3, 2);
        let positions: Vec<_> = confirmed
            .iter()
            .filter_map(|effect| match effect {
                Effect::ReadReady { index, .. } => Some(*index),
                _ => None,
            })
            .collect();
        assert_eq!(positions, [Index(4), Index(4)], "neither may be answered before entry 4 is applied");
        assert_eq!(leader.server.commit(), Index(0));
    }

    #[test]
    fn entries_of_its_own_term_serve_a_forced_leader_as_its_first() {
        let mut leader = Forced::leader(4, &[1, 4, 4], 4);
        leader.begin();
        assert!(appended(&leader.event(Event::Read(vec![Ticket(1)]))).is_empty());
        leader.accepted(3, 1);
        assert_eq!(leader.server.commit(), Index(3));
    }

    #[test]
    fn a_forced_candidate_asks_for_votes_in_the_term_it_is_in() {
        let mut candidate = Forced::new(3, 4, &[1, 2], ForcedRole::Candidate);
        assert_eq!(candidate.server.role(), Role::Candidate);
        let asked = candidate.begin();
        assert_eq!(asked.iter().filter(|effect| is_vote_request(effect)).count(), 2, "{asked:?}");
        candidate.receive(3, 4, MessageBody::RequestVoteResponse { pre: false, granted: true });
        assert_eq!((candidate.server.role(), candidate.server.term()), (Role::Leader, Term(4)));
        assert_eq!(candidate.server.last_index(), Index(3), "it was elected, and so appends its first entry at once");
    }

    #[test]
    fn a_forced_candidate_that_is_alone_leads() {
        let mut candidate = Forced::new(1, 4, &[1, 2], ForcedRole::Candidate);
        assert_eq!(appended(&candidate.begin()), [&EntryKind::Noop]);
        candidate.event(Event::Persisted { token: 1 });
        assert_eq!((candidate.server.role(), candidate.server.commit()), (Role::Leader, Index(3)));
    }

    #[test]
    fn what_was_heard_before_it_begins_makes_an_end_of_a_forced_role() {
        let candidate: fn() -> Forced = || Forced::new(3, 4, &[1, 2], ForcedRole::Candidate);
        let leader: fn() -> Forced = || Forced::leader(4, &[1, 2], 3);
        for (what, make) in [("a candidate", candidate), ("a leader", leader)] {
            for term in [4, 5] {
                let mut forced = make();
                forced.receive(2, term, heartbeat());
                assert_eq!(forced.server.leader(), Some(NodeId(2)));
                assert!(forced.begin().is_empty(), "{what}, and a leader of term {term}");
                assert_eq!((forced.server.role(), forced.server.term()), (Role::Follower, Term(term)));
            }
            let mut forced = make();
            let (last_index, last_term) = (Index(2), Term(2));
            forced.receive(2, 5, MessageBody::RequestVote { pre: false, last_index, last_term, transfer: false });
            assert!(forced.begin().is_empty(), "{what}, and a candidate of a later term");

            let mut forced = make();
            forced.event(Event::Forgot);
            forced.begin();
            assert_eq!(forced.server.role(), Role::Follower, "{what}, and a peer who remembers an earlier life");
        }
    }
}
