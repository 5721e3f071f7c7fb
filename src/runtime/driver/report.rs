//! What people are told: status, the dump of a node's state, and why requests fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Driver;
use crate::consensus::{Membership, NodeId, Role, Term};
use crate::runtime::{NodeStatus, PeerStatus};
use crate::transport::Failure;

/// Shortest time between two warnings about one peer.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// When each peer was last warned about, and how often it was not since.
#[derive(Default)]
pub(super) struct RateLimit(BTreeMap<NodeId, (Duration, u64)>);

impl RateLimit {
    /// Whether to warn now; then, how often that was not done since the last time.
    fn admit(&mut self, peer: NodeId, now: Duration) -> Option<u64> {
        match self.0.get_mut(&peer) {
            Some((last, suppressed)) if now < *last + WARNING_INTERVAL => {
                *suppressed += 1;
                None
            }
            _ => Some(self.0.insert(peer, (now, 0)).map_or(0, |(_, suppressed)| suppressed)),
        }
    }
}

/// In a log, or maybe so, and nobody will say.
pub(super) fn leadership_lost() -> Failure {
    Failure::Unknown("outcome unknown: the leader was lost before it answered".into())
}

/// A read that cannot be repeated without breaking the order of its connection.
pub(super) fn read_without_leader() -> Failure {
    Failure::NotReady("the leader was lost before it answered this read; ask again".into())
}

/// Another leader's entry was committed in its place.
pub(super) fn overwritten() -> Failure {
    Failure::NotReady("the leader was lost before it could replicate this command, which never took effect".into())
}

/// Over a limit.
pub(super) fn overloaded() -> Failure {
    Failure::Overloaded("too many requests wait for an answer already; try again later".into())
}

/// Held while leadership was being handed over, for too long.
pub(super) fn handing_over() -> Failure {
    Failure::Overloaded("the leader tries to hand leadership over and takes no requests; try again".into())
}

impl Driver {
    /// A node's name for people.
    pub(super) fn name(&self, id: NodeId) -> String {
        match self.config.labels.get(&id) {
            Some(label) => format!("node {id} ({label})"),
            None => format!("node {id}"),
        }
    }

    /// This node in the log, where its label is in front of the line already, or in the lines before.
    pub(super) fn me(&self) -> String {
        format!("node {}", self.server.id())
    }

    /// Logs a change of role, term or leader. What comes again and again while no election is won is told once.
    pub(super) fn tell(&mut self, role: Role, term: Term, leader: Option<NodeId>, reason: &str) {
        let me = self.me();
        let is_news = match role {
            Role::Leader => true,
            Role::Follower => leader.is_some() || self.told == Role::Leader,
            Role::PreCandidate | Role::Candidate => !matches!(self.told, Role::PreCandidate | Role::Candidate),
        };
        if is_news {
            self.told = role;
        }
        let level = if is_news { log::Level::Info } else { log::Level::Debug };
        match (role, leader) {
            // `raft cluster` looks for these words.
            (Role::Leader, _) => log::log!(level, "{me} is leader of term {term}"),
            (_, Some(leader)) => log::log!(level, "{me} follows {} in term {term}", self.name(leader)),
            (_, None) => log::log!(level, "{me} is {role} in term {term}: {reason}"),
        }
    }

    /// Logs that the election timeout has adapted, when that makes a difference.
    pub(super) fn tell_timeout(&mut self) {
        let timeout = self.server.election_timeout();
        if timeout >= 2 * self.told_timeout || 2 * timeout <= self.told_timeout {
            let timeout_ms = timeout.as_millis();
            log::info!("{} has an election timeout of {timeout_ms} ms now, as messages take their time", self.me());
            self.told_timeout = timeout;
        }
    }

    pub(super) fn not_the_leader(&self) -> Failure {
        Failure::NotReady(match self.server.leader() {
            Some(leader) if leader != self.server.id() => {
                format!("not the leader; the leader is {}", self.name(leader))
            }
            Some(_) => "the leader of another term".into(),
            None => "not the leader, and no leader is known".into(),
        })
    }

    pub(super) fn shutting_down(&self) -> Failure {
        Failure::NotReady(format!("{} is shutting down", self.name(self.server.id())))
    }

    pub(super) fn disk_is_full(&self) -> Failure {
        let name = self.name(self.server.id());
        Failure::Overloaded(format!(
            "the disk of {name} is full, so it takes no writes; make room on it, and try again"
        ))
    }

    pub(super) fn no_leader(&self) -> Failure {
        let waited_ms = 2 * self.server.election_timeout().as_millis();
        Failure::NotReady(match self.server.leader() {
            Some(leader) => format!("{} leads, but could not take this within {waited_ms} ms", self.name(leader)),
            None => format!("no leader was found within {waited_ms} ms"),
        })
    }

    /// A peer's message made no sense. Warned about once a second.
    pub(super) fn refused(&mut self, from: NodeId, reason: &'static str) {
        if let Some(suppressed) = self.refusals.admit(from, self.now) {
            let more = if suppressed > 0 { format!(" ({suppressed} more like this before)") } else { String::new() };
            log::warn!("ignored a message: {} {reason}{more}", self.name(from));
        }
    }

    /// How the node and its cluster are.
    pub(super) fn status(&self) -> NodeStatus {
        let status = self.server.status();
        let peers = status.peers.iter().map(|peer| PeerStatus {
            id: peer.id,
            matched: peer.matched.0,
            progress: peer.state.into(),
            heard_ms: self.now.saturating_sub(peer.heard).as_millis() as u64,
            abstains: peer.abstains,
        });
        NodeStatus {
            id: self.server.id(),
            label: self.config.labels.get(&self.server.id()).cloned().unwrap_or_default(),
            role: status.role,
            term: status.term.0,
            leader: status.leader,
            last: status.last.0,
            commit: status.commit.0,
            applied: status.applied.0,
            abstains: status.abstains,
            peers: peers.collect(),
        }
    }

    /// Writes the whole state to the log.
    pub(super) fn dump(&self) {
        let status = self.server.status();
        let leader = status.leader.map_or_else(|| "nobody".into(), |leader| self.name(leader));
        let vote = status.vote.map_or_else(|| "nobody".into(), |vote| self.name(vote));
        log::info!("{}: {} in term {}, voted for {vote}, led by {leader}", self.me(), status.role, status.term);
        log::info!(
            "log: entries {} to {}, durable up to {}, committed up to {}, applied up to {}; in memory from {}, {} bytes",
            status.first,
            status.last,
            status.durable,
            status.commit,
            status.applied,
            self.tail.first(),
            self.tail.bytes()
        );
        let Membership { voters, outgoing, learners } = self.server.membership();
        for (kind, nodes) in [("voters", voters), ("outgoing voters", outgoing), ("learners", learners)] {
            if !nodes.is_empty() {
                log::info!("{kind}: {}", nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", "));
            }
        }
        for peer in &status.peers {
            let heard_ms = self.now.saturating_sub(peer.heard).as_millis();
            let name = self.name(peer.id);
            log::info!("{name}: {}, matched {}, next {}, heard {heard_ms} ms ago", peer.state, peer.matched, peer.next);
        }
        log::info!(
            "requests: {} unanswered; {} in the log, {} reads to confirm, {} forwarded",
            self.requests.unanswered(),
            self.requests.waiters.len(),
            self.requests.submitted.len(),
            self.requests.forwarded.len()
        );
    }
}
