//! The beginning of a scenario: nobody campaigns or leads before the nodes can hear each other.

use std::time::Duration;

use super::Driver;
use crate::consensus::{ForcedRole, ForcedStart, NodeId, Role, Server};

/// A node that is not connected to all others by then begins all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// A start that is forced on this node's server and has not begun yet.
pub(super) struct Beginning {
    start: ForcedStart,
    /// All other members were connected at the last look.
    complete: bool,
    /// Soon, once all are connected; otherwise when patience ends.
    at: Duration,
    patience_ends: Duration,
}

impl Beginning {
    pub fn new(start: ForcedStart, server: &Server, now: Duration) -> Self {
        let complete = server.membership().members().iter().all(|member| *member == server.id());
        let (id, term) = (server.id(), start.hard_state.term);
        let log: Vec<_> = start.log.iter().map(ToString::to_string).collect();
        let role = match start.role {
            ForcedRole::Follower => Role::Follower,
            ForcedRole::Candidate => Role::Candidate,
            ForcedRole::Leader(_) => Role::Leader,
        };
        let log = log.join(" ");
        log::info!("node {id} begins as {role} in term {term} with the log [{log}] as soon as all nodes are connected");
        let patience_ends = now + PATIENCE;
        let at = if complete { now } else { patience_ends };
        Beginning { start, complete, at, patience_ends }
    }
}

impl Driver {
    /// Begins as soon as all peers are connected. They may take a moment longer to be connected to this node.
    pub(super) fn beginning_linked(&mut self) {
        let complete = self.missing().is_empty();
        let Some(beginning) = &mut self.beginning else { return };
        let was_complete = std::mem::replace(&mut beginning.complete, complete);
        if !complete {
            beginning.at = beginning.patience_ends;
        } else if !was_complete {
            beginning.at = beginning.patience_ends.min(self.now + self.config.heartbeat_interval);
        }
    }

    /// The other members to whom there is no connection.
    fn missing(&self) -> Vec<NodeId> {
        let me = self.server.id();
        let members = self.server.membership().members().into_iter();
        members.filter(|member| *member != me && !self.linked.contains(member)).collect()
    }

    /// When the start begins, unless it has begun.
    pub(super) fn begins_at(&self) -> Option<Duration> {
        self.beginning.as_ref().map(|beginning| beginning.at)
    }

    pub(super) fn begin_if_due(&mut self) {
        let Some(Beginning { start, .. }) = self.beginning.take_if(|beginning| beginning.at <= self.now) else {
            return;
        };
        let missing = self.missing();
        if !missing.is_empty() {
            let missing: Vec<_> = missing.into_iter().map(|peer| self.name(peer)).collect();
            log::warn!("{} begins without {}, to which it is not connected", self.me(), missing.join(", "));
        }
        self.begin(&start);
    }
}
