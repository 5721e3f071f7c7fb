//! How long messages take, and what election timeout that calls for, where nobody knows the network beforehand.
//!
//! A server that [adapts](super::ServerConfig::adapts) asks others in which term they are. Its question carries the time by
//! its own clock, which the answer repeats: so each answer measures one way there and back, however late it comes, and
//! whatever is lost on the way measures nothing. The measurements of each peer are smoothed as TCP does it for its
//! retransmission timer (RFC 6298): a bound that few answers exceed is the smoothed time and four times its deviation.
//!
//! Asked are: by a server that wants to campaign, all others; by a follower, once a second at most, its leader, when that is
//! heard; by a leader, as rarely, all others, with a heartbeat. Nothing wakes a server to ask.
//!
//! It is all about when elections are held, never about who may win one: no safety depends on it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::common::{Common, Turn};
use super::membership::Membership;
use super::message::MessageBody;
use super::quorum::agreed;
use super::types::NodeId;

/// Outside elections a server asks no more often than this.
const PAUSE: Duration = Duration::from_secs(1);
/// However slow the network is, an election timeout is not longer, unless the one that is set is.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
/// So many times the bound on the time there and back is an election timeout: an election takes two ways there and back.
const ROUND_TRIPS: u32 = 2;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Latency {
    peers: BTreeMap<NodeId, RoundTrip>,
    /// When somebody was asked last.
    asked: Option<Duration>,
}

/// The time to a peer and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RoundTrip {
    smoothed: Duration,
    deviation: Duration,
}

impl RoundTrip {
    fn first(measured: Duration) -> Self {
        RoundTrip { smoothed: measured, deviation: measured / 2 }
    }

    fn next(self, measured: Duration) -> Self {
        RoundTrip {
            smoothed: (7 * self.smoothed + measured) / 8,
            deviation: (3 * self.deviation + self.smoothed.abs_diff(measured)) / 4,
        }
    }

    /// Few answers take longer.
    fn bound(self) -> Duration {
        self.smoothed + 4 * self.deviation
    }
}

impl Latency {
    fn measure(&mut self, peer: NodeId, measured: Duration) {
        let measured = measured.min(LONGEST_TIMEOUT);
        let round_trip = self.peers.get(&peer).map_or(RoundTrip::first(measured), |before| before.next(measured));
        self.peers.insert(peer, round_trip);
    }

    /// Within this time most answers of this peer come, if it has answered at all.
    fn bound(&self, peer: NodeId) -> Option<Duration> {
        self.peers.get(&peer).map(|round_trip| round_trip.bound())
    }

    /// Within this time most answers of a majority come, this server's own included; or of all that have answered, if those
    /// are fewer.
    fn quorum_bound(&self, membership: &Membership, me: NodeId) -> Duration {
        let slowest = self.peers.keys().filter_map(|&peer| self.bound(peer)).max().unwrap_or_default();
        let bound = |id| if id == me { Duration::ZERO } else { self.bound(id).unwrap_or(slowest) };
        let Reverse(bound) = agreed(membership, |id| Reverse(bound(id)));
        bound
    }
}

impl Common {
    /// Asks these servers in which term they are, if this one adapts.
    pub fn measure_latency(&mut self, of: &[NodeId], turn: &mut Turn<'_>) {
        let term = self.term();
        let Some(latency) = &mut self.latency else { return };
        latency.asked = Some(turn.now);
        for &to in of {
            turn.send(to, term, MessageBody::AskTerm { nonce: turn.now.as_micros() as u64 });
        }
    }

    /// Likewise, unless it has asked somebody within the last second.
    pub fn measure_latency_sometimes(&mut self, of: &[NodeId], turn: &mut Turn<'_>) {
        let asked = self.latency.as_ref().and_then(|latency| latency.asked);
        if asked.is_none_or(|asked| asked + PAUSE <= turn.now) {
            self.measure_latency(of, turn);
        }
    }

    /// A server has answered the question that was asked at the time `asked_us`, in microseconds. The election timeout follows: it
    /// gives time to hear from a quorum, and from the leader.
    pub fn latency_measured(&mut self, from: NodeId, asked_us: u64, leader: Option<NodeId>, now: Duration) {
        let me = self.id();
        // A peer might repeat anything.
        let (Some(latency), Some(measured)) = (&mut self.latency, now.checked_sub(Duration::from_micros(asked_us)))
        else {
            return;
        };
        latency.measure(from, measured);
        let quorum = latency.quorum_bound(self.log.membership(), me);
        let leader = leader.and_then(|leader| latency.bound(leader)).unwrap_or_default();
        let needed = ROUND_TRIPS * quorum.max(leader);
        self.set_election_timeout(needed.min(LONGEST_TIMEOUT).max(self.config.election_timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{AppendEntries, Effect, Event, Index, Message, Remembered, Server, ServerConfig, Term};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_network_is_known_exactly_and_an_unsteady_one_with_a_margin() {
        let mut latency = Latency::default();
        latency.measure(NodeId(2), 100 * MS);
        assert_eq!(latency.bound(NodeId(2)), Some(300 * MS), "one answer tells little");
        (0..50).for_each(|_| latency.measure(NodeId(2), 100 * MS));
        assert_eq!(latency.bound(NodeId(2)).unwrap().as_millis(), 100);

        // 0, 200, 0, 200, ...: 100 on average, 100 off each time.
        (0..200).for_each(|turn| latency.measure(NodeId(3), 200 * MS * (turn % 2)));
        let bound = latency.bound(NodeId(3)).unwrap().as_millis();
        assert!((450..=550).contains(&bound), "{bound}");
        latency.measure(NodeId(4), Duration::from_secs(3600));
        assert_eq!(latency.bound(NodeId(4)), Some(3 * LONGEST_TIMEOUT), "whatever is measured is bounded");
    }

    fn server(adapts: bool) -> Server {
        let config = ServerConfig { adapts, ..ServerConfig::new(NodeId(1), 500 * MS, 100 * MS) };
        let membership = Membership::of_voters((1..=5).map(NodeId));
        Server::new(config, Remembered { membership, ..Remembered::default() }, 7, Duration::ZERO)
    }

    fn heartbeat() -> MessageBody {
        let (prev_index, prev_term, commit) = (Index(0), Term(0), Index(0));
        MessageBody::AppendEntries(AppendEntries { prev_index, prev_term, commit, round: 0, entries: Vec::new() })
    }

    fn questions(effects: &[Effect]) -> Vec<(NodeId, u64)> {
        let question = |effect: &Effect| match effect {
            Effect::Send { to, message: Message { body: MessageBody::AskTerm { nonce }, .. } } => Some((*to, *nonce)),
            _ => None,
        };
        effects.iter().filter_map(question).collect()
    }

    /// Lets the server campaign, and answers all its questions so much later. Returns its election timeout then.
    fn campaign(server: &mut Server, answered_after: &[(u64, Duration)]) -> Duration {
        let mut effects = Vec::new();
        let now = server.election_deadline().expect("it does not lead");
        server.handle(now, Event::Tick, &mut effects);
        let questions = questions(&effects);
        for &(id, after) in answered_after {
            let (from, nonce) = *questions.iter().find(|(to, _)| *to == NodeId(id)).expect("it was asked");
            let message = Message { term: Term(0), body: MessageBody::TellTerm { nonce } };
            server.handle(now + after, Event::Receive { from, message }, &mut effects);
        }
        server.election_timeout()
    }

    #[test]
    fn whoever_campaigns_measures_a_quorum() {
        let mut adapts = server(true);
        assert_eq!(adapts.election_timeout(), 500 * MS);
        assert_eq!(campaign(&mut adapts, &[(2, MS), (3, 10 * MS)]), 500 * MS, "never below what is set");
        let after = [(2, 400 * MS), (3, 400 * MS), (4, 400 * MS)];
        let timeout = campaign(&mut adapts, &after);
        assert!(timeout > 800 * MS, "two of four with itself take this long: {timeout:?}");
        let after = [(2, 400_000 * MS), (3, 400_000 * MS), (4, 400_000 * MS), (5, 400_000 * MS)];
        assert_eq!(campaign(&mut adapts, &after), LONGEST_TIMEOUT);
        for _ in 0..100 {
            campaign(&mut adapts, &[(2, MS), (3, MS)]);
        }
        assert_eq!(adapts.election_timeout(), 500 * MS, "the network is fast again");
    }

    #[test]
    fn one_slow_peer_of_many_does_not_matter_unless_it_leads() {
        let mut adapts = server(true);
        assert_eq!(campaign(&mut adapts, &[(2, MS), (3, MS), (4, MS), (5, 2_000 * MS)]), 500 * MS);
        let now = adapts.election_deadline().expect("it does not lead");
        for (term, leader, expected) in [(1, 3, 500 * MS), (2, 5, LONGEST_TIMEOUT)] {
            let from = NodeId(leader);
            let message = Message { term: Term(term), body: heartbeat() };
            adapts.handle(now, Event::Receive { from, message }, &mut Vec::new());
            let (from, nonce) = (NodeId(2), now.as_micros() as u64);
            let message = Message { term: Term(0), body: MessageBody::TellTerm { nonce } };
            adapts.handle(now, Event::Receive { from, message }, &mut Vec::new());
            assert_eq!(adapts.election_timeout(), expected, "node {leader} leads");
            let waits = adapts.election_deadline().expect("it follows") - now;
            assert!(waits >= 500 * MS && waits < 2 * expected);
        }
    }

    #[test]
    fn a_follower_asks_its_leader_and_a_leader_asks_all_once_a_second() {
        let mut adapts = server(true);
        let mut asked = Vec::new();
        for hundreds in 0..25 {
            let mut effects = Vec::new();
            let message = Message { term: Term(1), body: heartbeat() };
            adapts.handle(hundreds * 100 * MS, Event::Receive { from: NodeId(4), message }, &mut effects);
            asked.extend(questions(&effects));
        }
        assert_eq!(asked, [0, 1_000_000, 2_000_000].map(|asked_us| (NodeId(4), asked_us)));
        let (deadline, term) = (adapts.election_deadline().expect("it follows"), Term(2));
        let mut effects = Vec::new();
        adapts.handle(deadline, Event::Persisted { token: 1 }, &mut effects);
        adapts.handle(deadline, Event::Tick, &mut effects);
        for pre in [true, false] {
            for id in [2, 3] {
                let body = MessageBody::RequestVoteResponse { pre, granted: true };
                let message = Message { term, body };
                adapts.handle(deadline, Event::Receive { from: NodeId(id), message }, &mut effects);
            }
            adapts.handle(deadline, Event::Persisted { token: 2 }, &mut effects);
        }
        assert!(questions(&effects).len() == 4, "it campaigned: {effects:?}");
        let mut asked = Vec::new();
        adapts.handle(deadline, Event::Persisted { token: 3 }, &mut effects);
        for _ in 0..25 {
            let mut effects = Vec::new();
            for id in [2, 3] {
                let body = MessageBody::AppendAccepted { matched: Index(0), round: 0, abstains: false };
                let now = adapts.heartbeat_deadline().expect("it leads");
                adapts.handle(now, Event::Receive { from: NodeId(id), message: Message { term, body } }, &mut effects);
            }
            adapts.handle(adapts.heartbeat_deadline().expect("it leads"), Event::Tick, &mut effects);
            asked.extend(questions(&effects));
        }
        assert_eq!(asked.len(), 2 * 4, "{asked:?}");
    }

    #[test]
    fn without_the_switch_nobody_is_asked_and_nothing_changes() {
        let mut fixed = server(false);
        let mut effects = Vec::new();
        let now = fixed.election_deadline().expect("it does not lead");
        fixed.handle(now, Event::Tick, &mut effects);
        assert!(!effects.is_empty() && questions(&effects).is_empty(), "{effects:?}");
        let message = Message { term: Term(0), body: MessageBody::TellTerm { nonce: 0 } };
        fixed.handle(now + 10_000 * MS, Event::Receive { from: NodeId(2), message }, &mut effects);
        assert_eq!(fixed.election_timeout(), 500 * MS);
    }

    #[test]
    fn an_answer_from_the_future_measures_nothing() {
        let mut adapts = server(true);
        let message = Message { term: Term(0), body: MessageBody::TellTerm { nonce: u64::MAX } };
        adapts.handle(MS, Event::Receive { from: NodeId(2), message }, &mut Vec::new());
        assert_eq!(adapts.election_timeout(), 500 * MS);
    }
}
