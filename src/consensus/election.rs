//! Elections, from both sides: the candidate that counts votes and the server that is asked for one.

use std::collections::BTreeMap;

use super::common::{Common, Turn};
use super::message::MessageBody;
use super::quorum::{VoteResult, vote_result};
use super::types::{Index, NodeId, Term};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};

/// Asks whether an election could be won, without disturbing anybody (Raft thesis §9.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PreCandidate {
    votes: BTreeMap<NodeId, bool>,
}

/// Asks for votes in its term (Raft paper §5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    votes: BTreeMap<NodeId, bool>,
}

/// Votes under the voters' other names.
fn renamed(votes: &BTreeMap<NodeId, bool>, name: &impl Fn(NodeId) -> NodeId) -> BTreeMap<NodeId, bool> {
    votes.iter().map(|(&voter, &granted)| (name(voter), granted)).collect()
}

impl PreCandidate {
    /// Asks every other voter whether it would vote for this server in the next term.
    pub fn begin(common: &Common, turn: &mut Turn<'_>) -> Self {
        for to in common.other_voters() {
            turn.send(to, common.term().next(), request_vote(common, true, false));
        }
        PreCandidate { votes: BTreeMap::from([(common.id(), true)]) }
    }

    pub fn count(&mut self, common: &Common, from: NodeId, granted: bool) {
        if common.log.membership().is_voter(from) {
            self.votes.entry(from).or_insert(granted);
        }
    }

    pub fn result(&self, common: &Common) -> VoteResult {
        vote_result(common.log.membership(), &self.votes)
    }

    pub fn normalize(&mut self, name: &impl Fn(NodeId) -> NodeId) {
        self.votes = renamed(&self.votes, name);
    }
}

impl Candidate {
    /// Begins a term, votes for itself and asks every other voter. The requests wait until the term and the vote are
    /// durable: otherwise a crash could make this server ask twice in one term, with different logs.
    pub fn begin(common: &mut Common, transfer: bool, turn: &mut Turn<'_>) -> Self {
        common.adopt_term(common.term().next());
        common.vote_for(common.id());
        Candidate::ask(common, transfer, turn)
    }

    /// Goes on in a term for which this server has already voted for itself, durably.
    pub fn forced(common: &mut Common, turn: &mut Turn<'_>) -> Self {
        let mut candidate = Candidate::ask(common, false, turn);
        candidate.persisted(common);
        candidate
    }

    fn ask(common: &mut Common, transfer: bool, turn: &mut Turn<'_>) -> Self {
        for to in common.other_voters() {
            common.send_when_durable(to, request_vote(common, false, transfer), turn);
        }
        Candidate::default()
    }

    /// A voter's answer; only its first one counts (reliability T8).
    pub fn count(&mut self, common: &Common, from: NodeId, granted: bool) {
        if common.log.membership().is_voter(from) {
            self.votes.entry(from).or_insert(granted);
        }
    }

    /// The own vote counts once it is durable.
    pub fn persisted(&mut self, common: &Common) {
        if common.hard_state_is_durable() {
            self.count(common, common.id(), true);
        }
    }

    pub fn result(&self, common: &Common) -> VoteResult {
        vote_result(common.log.membership(), &self.votes)
    }

    pub fn normalize(&mut self, name: &impl Fn(NodeId) -> NodeId) {
        self.votes = renamed(&self.votes, name);
    }
}

fn request_vote(common: &Common, pre: bool, transfer: bool) -> MessageBody {
    MessageBody::RequestVote { pre, last_index: common.log.last_index(), last_term: common.log.last_term(), transfer }
}

/// Someone asks for a vote in `term`.
pub(super) struct VoteRequest {
    pub candidate: NodeId,
    pub term: Term,
    pub pre: bool,
    pub last_index: Index,
    pub last_term: Term,
}

impl VoteRequest {
    /// Answers. A real request has already made this server adopt its term; a pre-vote changes nothing, and promises
    /// nothing. `has_leader`: a leader of the own term is known.
    pub fn answer(&self, common: &mut Common, has_leader: bool, turn: &mut Turn<'_>) -> bool {
        let free = match common.hard_state.vote {
            Some(vote) => vote == self.candidate,
            None => !has_leader && self.term > common.no_vote_until,
        };
        let term_allows =
            if self.pre { self.term > common.term() || (self.term == common.term() && free) } else { free };
        let up_to_date = common.log.is_up_to_date(self.last_term, self.last_index);
        let granted = common.may_vote() && term_allows && up_to_date;
        self.mark(common, free, up_to_date);
        let body = MessageBody::RequestVoteResponse { pre: self.pre, granted };
        match (granted, self.pre) {
            (true, true) => turn.send(self.candidate, self.term, body),
            (true, false) => {
                common.vote_for(self.candidate);
                common.postpone_election(turn.now);
                if mutant(Mutant::M1) {
                    turn.send(self.candidate, common.term(), body);
                } else {
                    common.send_when_durable(self.candidate, body, turn);
                }
            }
            (false, _) => turn.send(self.candidate, common.term(), body),
        }
        granted
    }

    /// Which rule decided.
    fn mark(&self, common: &Common, free: bool, up_to_date: bool) {
        let vote = common.hard_state.vote;
        mark(if common.abstains() {
            Mark::VoteDeniedAbstains
        } else if common.disk_full {
            Mark::VoteDeniedDiskFull
        } else if !up_to_date {
            Mark::VoteDeniedShorterLog
        } else if self.pre {
            return;
        } else if free && vote.is_some() {
            Mark::VoteGivenAgain
        } else if vote.is_some() {
            Mark::VoteDeniedGivenAlready
        } else if !free {
            Mark::VoteDeniedLeaderKnown
        } else {
            return;
        });
    }
}
