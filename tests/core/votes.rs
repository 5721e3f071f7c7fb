//! The rule for votes, as a table of every case (T5; Raft paper §5.2 and §5.4.1).

use std::time::Duration;

use raft::consensus::{
    Effect, EntryHeader, EntryKind, Event, HardState, Index, LogTime, Membership, Message, MessageBody, NodeId,
    Remembered, Role, Server, ServerConfig, Term,
};

const VOTER: NodeId = NodeId(1);
const CANDIDATE: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
const TERM: u64 = 5;
const NOW: Duration = Duration::from_secs(10);

/// Below, equal, above: of the candidate's term, last index or last term, compared with the voter's.
const COMPARED: [i64; 3] = [-1, 0, 1];

#[test]
fn a_vote_is_granted_in_exactly_the_right_cases() {
    let mut rows = 0;
    for (role, vote) in voters() {
        for term in COMPARED {
            for last_term in COMPARED {
                for last_index in COMPARED {
                    for pre in [false, true] {
                        let case = Case { role, vote, term, last_term, last_index, pre };
                        assert_eq!(case.ask(), case.expected(), "{case:?}");
                        rows += 1;
                    }
                }
            }
        }
    }
    assert_eq!(rows, 2 * 243);
}

/// Every role with every vote. A candidate or leader has voted for itself, whatever it had voted in an earlier term.
fn voters() -> impl Iterator<Item = (Role, Option<NodeId>)> {
    let votes = [None, Some(CANDIDATE), Some(OTHER)];
    [Role::Follower, Role::Candidate, Role::Leader].into_iter().flat_map(move |role| votes.map(|vote| (role, vote)))
}

#[derive(Debug)]
struct Case {
    role: Role,
    vote: Option<NodeId>,
    term: i64,
    last_term: i64,
    last_index: i64,
    pre: bool,
}

/// What a request leads to.
#[derive(Debug, PartialEq)]
struct Outcome {
    granted: bool,
    term: u64,
    vote: Option<NodeId>,
}

impl Case {
    fn expected(&self) -> Outcome {
        let own_vote = if self.role == Role::Follower { self.vote } else { Some(VOTER) };
        let up_to_date = (self.last_term, self.last_index) >= (0, 0);
        let free = own_vote.is_none_or(|vote| vote == CANDIDATE);
        let granted = up_to_date && (self.term > 0 || self.term == 0 && free);
        match self.pre {
            true => Outcome { granted, term: TERM, vote: own_vote },
            false => {
                let kept = own_vote.filter(|_| self.term <= 0);
                let term = TERM.saturating_add_signed(self.term.max(0));
                Outcome { granted, term, vote: if granted { Some(CANDIDATE) } else { kept } }
            }
        }
    }

    /// Asks a server that was brought into the role.
    fn ask(&self) -> Outcome {
        let mut server = self.voter();
        let last = server.last_index();
        let body = MessageBody::RequestVote {
            pre: self.pre,
            last_index: Index(last.0.saturating_add_signed(self.last_index)),
            last_term: Term(server.term_at(last).unwrap_or_default().0.saturating_add_signed(self.last_term)),
            transfer: false,
        };
        let term = Term(TERM.saturating_add_signed(self.term));
        let effects = take(&mut server, NOW, Event::Receive { from: CANDIDATE, message: Message { term, body } });
        let granted = effects.iter().any(|effect| {
            let Effect::Send { to: CANDIDATE, message } = effect else { return false };
            let wanted = MessageBody::RequestVoteResponse { pre: self.pre, granted: true };
            message.body == wanted && message.term == term
        });
        Outcome { granted, term: server.term().0, vote: server.status().vote }
    }

    fn voter(&self) -> Server {
        let mut config = ServerConfig::new(VOTER, Duration::from_millis(100), Duration::from_millis(20));
        // No leader is protected, so that nothing but the rule decides; and no one asks before it campaigns.
        (config.pre_vote, config.check_quorum) = (false, false);
        let hard_state = match self.role {
            Role::Follower => HardState { term: Term(TERM), vote: self.vote },
            _ => HardState { term: Term(TERM - 1), vote: self.vote },
        };
        let headers = [1, 2, 2].into_iter().zip(1..).map(|(term, index)| EntryHeader {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Command,
            time: LogTime(0),
            session: None,
            size: 1,
        });
        let membership = Membership::of_voters([VOTER, CANDIDATE, OTHER]);
        let mut remembered = Remembered { hard_state, membership, ..Remembered::default() };
        headers.for_each(|header| remembered.append(&header));
        let mut server = Server::new(config, remembered, 1, Duration::ZERO);
        if self.role != Role::Follower {
            take(&mut server, NOW, Event::Tick);
        }
        if self.role == Role::Leader {
            let body = MessageBody::RequestVoteResponse { pre: false, granted: true };
            take(&mut server, NOW, Event::Receive { from: OTHER, message: Message { term: Term(TERM), body } });
        }
        assert_eq!((server.role(), server.term()), (self.role, Term(TERM)));
        server
    }
}

/// Lets a server with an immediate disk take an event.
fn take(server: &mut Server, now: Duration, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    server.handle(now, event, &mut effects);
    let mut at = 0;
    while let Some(effect) = effects.get(at) {
        if let Effect::Persist(persist) = effect {
            server.handle(now, Event::Persisted { token: persist.token }, &mut effects);
        }
        at += 1;
    }
    effects
}
