//! The beginning of a scenario: nobody campaigns or leads before the nodes can hear each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Driver;
use crate::consensus::{ForcedRole, ForcedStart, NodeId, Role, Server};

/// A node that is not connected to all others by then begins all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// A start that is forced on this node's server and has not begun yet.
pub(super) struct Beginning {
    start: ForcedStart,
    missing: BTreeSet<NodeId>,
    at: Duration,
}

impl Beginning {
    pub fn new(start: ForcedStart, server: &Server, now: Duration) -> Self {
        let mut missing = server.membership().members();
        missing.remove(&server.id());
        let (id, term, log) = (server.id(), start.hard_state.term, &start.log);
        let role = match start.role {
            ForcedRole::Follower => Role::Follower,
            ForcedRole::Candidate => Role::Candidate,
            ForcedRole::Leader(_) => Role::Leader,
        };
        log::info!(
            "node {id} will begin as {role} in term {term} with {} entries, when all others are connected",
            log.len()
        );
        let at = if missing.is_empty() { now } else { now + PATIENCE };
        Beginning { start, missing, at }
    }
}

impl Driver {
    /// Begins as soon as all peers are connected. They may take a moment longer to be connected to this node.
    pub(super) fn beginning_linked(&mut self, peer: NodeId, up: bool) {
        let Some(beginning) = &mut self.beginning else { return };
        let changed = if up { beginning.missing.remove(&peer) } else { beginning.missing.insert(peer) };
        if changed && beginning.missing.is_empty() {
            beginning.at = beginning.at.min(self.now + self.config.heartbeat_interval);
        }
    }

    /// When the start begins, unless it has begun.
    pub(super) fn begins_at(&self) -> Option<Duration> {
        self.beginning.as_ref().map(|beginning| beginning.at)
    }

    pub(super) fn begin_if_due(&mut self) {
        let Some(Beginning { start, missing, .. }) = self.beginning.take_if(|beginning| beginning.at <= self.now)
        else {
            return;
        };
        if !missing.is_empty() {
            let missing: Vec<_> = missing.into_iter().map(|peer| self.name(peer)).collect();
            log::warn!("{} begins without {}, to which it is not connected", self.me(), missing.join(", "));
        }
        self.begin(&start);
    }
}
