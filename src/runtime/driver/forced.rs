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
    /// Soon, once all are connected; otherwise when patience ends.
    at: Duration,
    patience_ends: Duration,
}

impl Beginning {
    pub fn new(start: ForcedStart, server: &Server, now: Duration) -> Self {
        let mut missing = server.membership().members();
        missing.remove(&server.id());
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
        let at = if missing.is_empty() { now } else { patience_ends };
        Beginning { start, missing, at, patience_ends }
    }
}

impl Driver {
    /// Begins as soon as all peers are connected. They may take a moment longer to be connected to this node.
    pub(super) fn beginning_linked(&mut self, peer: NodeId, up: bool) {
        let Some(beginning) = &mut self.beginning else { return };
        let was_connected = beginning.missing.is_empty();
        if up {
            beginning.missing.remove(&peer);
        } else if self.server.membership().members().contains(&peer) {
            beginning.missing.insert(peer);
        }
        if !beginning.missing.is_empty() {
            beginning.at = beginning.patience_ends;
        } else if !was_connected {
            beginning.at = beginning.patience_ends.min(self.now + self.config.heartbeat_interval);
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
