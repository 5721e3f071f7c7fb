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
