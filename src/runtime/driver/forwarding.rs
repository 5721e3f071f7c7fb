//! Requests between nodes: a follower's side, and the leader's.

use std::collections::BTreeMap;

use super::connections::{ConnectionKey, Request, Route, Scope};
use super::requests::Forwarded;
use super::{Driver, report};
use crate::consensus::{NodeId, Payload, Term};
use crate::marks::{Mark, mark};
use crate::runtime::stage::Asker;
use crate::runtime::{Life, PeerReply, Response};
use crate::transport::{Failure, Forward, ForwardKind, PeerMessage};

impl Driver {
    /// Sends a request to the leader. False if it could not be sent, and is held.
    pub(super) fn forward(&mut self, route: Route, request: Request) -> bool {
        self.requests.next_sequence += 1;
        let sequence = self.requests.next_sequence;
        let forward = Forward {
            term: route.term.0,
            sequence,
            connection: request.connection.connection,
            kind: request.kind,
            payload: request.payload.clone(),
        };
        if self.transport.send(route.leader, PeerMessage::Forward(forward)).is_err() {
            // Tried again when the connection is up, there is another leader, or after a while; not at once.
            self.requests.connections.settled(request.connection);
            self.hold(request);
            return false;
        }
        let answer_by = request.expires;
        self.requests.forwarded.insert(sequence, Forwarded { request, route, answer_by });
        true
    }

    /// A request that a peer has forwarded.
    pub(super) fn forward_received(&mut self, from: NodeId, life: Life, forward: Forward) {
        let Forward { term, sequence, connection, kind, payload } = forward;
        if self.requests.is_new(from, life, sequence, self.transport.keeps_order()) {
            let key = ConnectionKey { node: from, connection };
            let asker = Asker::Peer { node: from, life, sequence };
            self.accept(key, kind, payload, Scope::ThisTerm(Term(term)), asker);
        } else {
            mark(Mark::ForwardTwice);
        }
    }

    /// A leader's answer to a request that was forwarded in this life of the node, or in an earlier one: whoever asked
    /// then is gone.
    pub(super) fn forward_answered(
        &mut self,
        from: NodeId,
        life: Life,
        sequence: u64,
        outcome: Result<Payload, Failure>,
    ) {
        if life != self.transport.life() {
            return mark(Mark::ForwardAnswerEarlierLife);
        }
        if self.requests.forwarded.get(&sequence).is_none_or(|forwarded| forwarded.route.leader != from) {
            return;
        }
        let Some(Forwarded { request, route, .. }) = self.requests.forwarded.remove(&sequence) else { return };
        match outcome {
            Err(Failure::NotReady(_)) => self.refused_by_leader(route, sequence, request),
            Err(Failure::Unknown(_)) if request.kind == ForwardKind::Read => self.repeat_read(request),
            outcome => {
                self.settled(request.connection);
                self.answer(request.asker, outcome.map(|payload| Response::Answer(payload.0)));
            }
        }
    }

    /// The leader leads no more, and has turned this request away at its door. So it does with everything sent to it
    /// later, if messages keep their order: all of it goes to the next leader. Otherwise it may have taken some of that.
    fn refused_by_leader(&mut self, route: Route, sequence: u64, first: Request) {
        self.requests.refused_term = self.requests.refused_term.max(route.term);
        let mut later = match self.transport.keeps_order() {
            true => self.requests.forwarded.split_off(&sequence),
            false => BTreeMap::new(),
        };
        let others: Vec<u64> = later.iter().filter(|(_, sent)| sent.route != route).map(|(&at, _)| at).collect();
        for sequence in others {
            self.requests.forwarded.extend(later.remove_entry(&sequence));
        }
        mark(Mark::ForwardRefused);
        for request in std::iter::once(first).chain(later.into_values().map(|forwarded| forwarded.request)) {
            self.settled(request.connection);
            self.hold(request);
        }
        self.requests.release = true;
    }

    /// The connection to a peer broke: nothing that was forwarded to it will be answered.
    pub(super) fn give_up_forwarded_to(&mut self, peer: NodeId) {
        self.give_up_forwarded(|forwarded| forwarded.route.leader == peer);
    }

    /// Writes may have taken effect or not; reads are sent again.
    pub(super) fn give_up_forwarded(&mut self, is_hopeless: impl Fn(&Forwarded) -> bool) {
        let hopeless: Vec<u64> = self
            .requests
            .forwarded
            .iter()
            .filter(|(_, sent)| is_hopeless(sent))
            .map(|(&sequence, _)| sequence)
            .collect();
        for sequence in hopeless {
            let Some(Forwarded { request, .. }) = self.requests.forwarded.remove(&sequence) else { continue };
            match request.kind {
                ForwardKind::Read => self.repeat_read(request),
                ForwardKind::Write | ForwardKind::SessionWrite(_) => {
                    self.settled(request.connection);
                    self.answer(request.asker, Err(report::leadership_lost()));
                }
            }
        }
    }

    /// Sends an answer to the node that had forwarded the request. If it is lost, that node gives up in time.
    pub(super) fn reply_to_peer(&mut self, reply: PeerReply) {
        let PeerReply { to, life, sequence, outcome } = reply;
        let _ = self.transport.send(to, PeerMessage::ForwardReply { life, sequence, outcome });
    }
}
