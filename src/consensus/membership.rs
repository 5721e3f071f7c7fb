//! Who votes and who only listens.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::types::NodeId;

/// The members of a cluster. Carried by the log, so that changing it is a log entry like any other (Raft thesis §4.3).
/// While a change is under way `outgoing` is not empty, and every decision needs a majority of both sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// Vote and count towards commit.
    pub voters: BTreeSet<NodeId>,
    /// The voters before a change that has not finished: joint consensus.
    pub outgoing: BTreeSet<NodeId>,
    /// Receive the log, neither vote nor count.
    pub learners: BTreeSet<NodeId>,
}

impl Membership {
    /// A membership of these voters and nothing else.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Membership { voters: voters.into_iter().collect(), ..Default::default() }
    }

    /// Whether this node's vote counts.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether this node receives the log.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// The same membership under other names.
    pub fn renamed(&self, name: &impl Fn(NodeId) -> NodeId) -> Self {
        let renamed = |ids: &BTreeSet<NodeId>| ids.iter().map(|&id| name(id)).collect();
        Membership {
            voters: renamed(&self.voters),
            outgoing: renamed(&self.outgoing),
            learners: renamed(&self.learners),
        }
    }

    /// Every member once, in order of id.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }
}
