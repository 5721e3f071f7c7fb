//! The invariants that a server can check by itself after every event, cheaply enough for release builds. The numbers are
//! those of the project's catalogue (`docs/ARCHITECTURE.md`).

use super::common::{Common, Turn};
use super::types::{HardState, Index, NodeId};

/// What was true after the event before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watermarks {
    hard_state: HardState,
    last: Index,
    commit: Index,
    applied: Index,
    leads: bool,
}

impl Watermarks {
    pub fn new(common: &Common) -> Self {
        Watermarks {
            hard_state: common.hard_state,
            last: common.log.last_index(),
            commit: common.commit,
            applied: common.applied,
            leads: false,
        }
    }

    pub fn normalize(&mut self, name: &impl Fn(NodeId) -> NodeId) {
        self.hard_state.vote = self.hard_state.vote.map(name);
    }

    /// Compares with the state now, then takes it over.
    pub fn check(&mut self, common: &Common, leads: bool, turn: &mut Turn<'_>) {
        let now = Watermarks { leads, ..Watermarks::new(common) };
        let same_term = now.hard_state.term == self.hard_state.term;
        let rules = [
            ("the term never goes down (I8)", now.hard_state.term >= self.hard_state.term),
            (
                "a vote is given once in a term (I1)",
                !same_term || self.hard_state.vote.is_none() || now.hard_state.vote == self.hard_state.vote,
            ),
            ("the commit index never goes down (I8)", now.commit >= self.commit),
            ("the applied index never goes down (I8)", now.applied >= self.applied),
            ("a leader only appends (I3)", !(same_term && leads && self.leads) || now.last >= self.last),
            ("only what is in the log is committed (I7)", now.commit <= now.last),
            ("only what is committed is applied (I12)", now.applied <= now.commit),
            ("only what is in the log is durable (I10)", common.durable <= now.last),
            ("no entry is of a later term than the server (I15)", common.log.last_term() <= now.hard_state.term),
        ];
        for (invariant, _) in rules.iter().filter(|(_, holds)| !holds) {
            turn.fail(invariant, format!("{now:?} after {self:?}"));
        }
        *self = now;
    }
}
