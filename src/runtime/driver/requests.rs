//! Clients' requests on their way: to this node's own log, to the leader, and back when leadership changes.
//!
//! Requests of one connection take effect in the order they came in. Between nodes: a request is sent to a leader only
//! while nothing of its connection is under way to another one. At the leader: writes get their places in the log in
//! order, and a read gets an explicit position, the place of its connection's last write before it. A read cannot miss
//! that position, since leadership is confirmed for it before any later write of its connection commits: the read is fed
//! before the turn's writes and so begins a round, later entries carry that round to the peers, and so each answer that
//! helps to commit them confirms the read first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::connections::{ConnectionKey, Connections, Request, Route, Scope};
use super::waiters::{Waiter, Waiters};
use super::{Driver, report};
use crate::consensus::{Event, Index, LogTime, NodeId, Payload, Role, Term, Ticket};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};
use crate::runtime::stage::apply::Look;
use crate::runtime::stage::{Asker, Load};
use crate::runtime::{ClientRequest, Life, Operation, Outcome, Response};
use crate::transport::{Failure, ForwardKind};

/// Every request that has no answer yet.
pub(super) struct Requests {
    load: Arc<Load>,
    /// Longest time between a request and its answer.
    limit: Duration,
    next_order: u64,
    pub next_ticket: u64,
    pub next_sequence: u64,
    pub connections: Connections,
    /// This turn's requests for this node's own server.
    pub batch: Vec<Request>,
    /// Given to the own server, and not done: reads.
    pub submitted: BTreeMap<Ticket, Submitted>,
    /// Reads whose leadership is confirmed, by position: they wait until that is committed, since only then is it
    /// certain that the state machine will ever get there.
    pub confirmed: BTreeSet<(Index, Ticket)>,
    /// In the own log.
    pub waiters: Waiters,
    /// Sent to another leader, by sequence number.
    pub forwarded: BTreeMap<u64, Forwarded>,
    /// What this node, as the leader, has heard from each peer that forwards.
    senders: HashMap<NodeId, (Life, Seen)>,
    /// The latest term whose leader has refused a request: it leads no more, even if nobody has said so yet.
    pub refused_term: Term,
    /// Held requests may be able to go on.
    pub release: bool,
}

/// A request that the own server was given.
pub(super) struct Submitted {
    pub request: Request,
    /// A read's position: its connection's last write before it.
    pub position: Index,
    /// Log time when a read was confirmed.
    pub time: LogTime,
}

impl Submitted {
    /// Not confirmed yet.
    pub fn new(request: Request, position: Index) -> Self {
        Submitted { request, position, time: LogTime(0) }
    }
}

/// A request that was sent to another node.
pub(super) struct Forwarded {
    pub request: Request,
    pub route: Route,
    /// When to give up.
    pub answer_by: Duration,
}

/// Where a request can go now.
enum Way {
    Open(Route),
    /// Nowhere yet.
    Wait,
    Refused(Failure),
}

impl Requests {
    pub fn new(load: Arc<Load>, limit: Duration) -> Self {
        Requests {
            load,
            limit,
            next_order: 0,
            next_ticket: 0,
            next_sequence: 0,
            connections: Connections::default(),
            batch: Vec::new(),
            submitted: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            waiters: Waiters::default(),
            forwarded: BTreeMap::new(),
            senders: HashMap::new(),
            refused_term: Term(0),
            release: false,
        }
    }

    /// Requests of own clients that have no answer yet.
    pub fn unanswered(&self) -> u64 {
        self.load.requests()
    }

    /// How many wait for the log, a confirmation or another node.
    pub fn under_way(&self) -> usize {
        self.waiters.len() + self.forwarded.len() + self.submitted.len()
    }

    /// Whether nothing waits at all.
    pub fn is_idle(&self) -> bool {
        self.under_way() == 0 && self.connections.hold_nothing()
    }

    fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// Whether a peer's forwarded request was not seen before, so that none runs twice. Where messages keep their order it is
    /// newer than all that were.
    pub fn is_new(&mut self, from: NodeId, life: Life, sequence: u64, in_order: bool) -> bool {
        let (known, seen) = self.senders.entry(from).or_default();
        // The transport never delivers an earlier life's messages after a later one's: another life is a new one.
        if *known != life {
            (*known, *seen) = (life, Seen::default());
        }
        seen.add(sequence, in_order) || mutant(Mutant::P5)
    }
}

/// Which of a peer's forwarded requests were seen.
#[derive(Default)]
struct Seen {
    /// All up to here count as seen.
    up_to: u64,
    /// And these.
    after: BTreeSet<u64>,
}

impl Seen {
    /// So many later ones may overtake a request; more, and it is dropped.
    const OVERTAKING_MAX: usize = 4096;

    /// Whether this one was not seen. It is from now on.
    fn add(&mut self, sequence: u64, in_order: bool) -> bool {
        if sequence <= self.up_to || !self.after.insert(sequence) {
            return false;
        }
        let kept = if in_order { 0 } else { Seen::OVERTAKING_MAX };
        while self.after.len() > kept {
            self.up_to = self.after.pop_first().unwrap_or(self.up_to);
        }
        true
    }
}

impl Driver {
    /// A client's request.
    pub(super) fn request(&mut self, request: ClientRequest) {
        let ClientRequest { connection, operation, forward, reply } = request;
        let Some(permit) = self.requests.load.admit(operation.payload_bytes() as u64) else {
            mark(Mark::ClientOverloaded);
            self.metrics.too_much_unanswered.add(1);
            self.sinks.add(reply.send(Err(report::overloaded())));
            return;
        };
        let asker = Asker::Client { reply, permit };
        let scope = if forward { Scope::Cluster } else { Scope::ThisNode };
        let key = ConnectionKey { node: self.server.id(), connection };
        match operation {
            Operation::Write(payload) => self.accept(key, ForwardKind::Write, payload, scope, asker),
            Operation::SessionWrite(stamp, payload) => {
                self.accept(key, ForwardKind::SessionWrite(stamp), payload, scope, asker);
            }
            Operation::Read(payload) => self.accept(key, ForwardKind::Read, payload, scope, asker),
            Operation::LocalRead(query) => self.apply_job.looks.push(Look::LocalRead { query, asker }),
            Operation::Status => {
                let status = self.status();
                self.answer(asker, Ok(Response::Status(Box::new(status))));
            }
            Operation::Log { from, count } => {
                let (first, last) = (self.server.base_index().next(), self.server.last_index());
                let from = from.map(Index);
                self.apply_job.looks.push(Look::Log { from, count, first, last, asker });
            }
            Operation::Debug => {
                self.dump();
                self.answer(asker, Ok(Response::Done));
            }
            Operation::Transfer { to } => self.transfer_requested(to, asker),
        }
    }

    fn transfer_requested(&mut self, to: Option<NodeId>, asker: Asker) {
        let refusal = if self.is_ending() {
            Some(self.shutting_down())
        } else if self.server.role() != Role::Leader {
            Some(self.not_the_leader())
        } else if to == Some(self.server.id()) {
            // So that asking again, after an answer was lost, does no harm.
            return self.answer(asker, Ok(Response::Done));
        } else if to.is_some_and(|to| !self.server.membership().is_voter(to)) {
            Some(Failure::Refused("leadership can be handed to voters only".into()))
        } else if self.transfer.is_some() {
            Some(Failure::NotReady("leadership is being handed over already".into()))
        } else {
            None
        };
        match refusal {
            Some(failure) => self.answer(asker, Err(failure)),
            None => self.begin_transfer(Event::Transfer { to }, vec![asker]),
        }
    }

    pub(super) fn accept(
        &mut self,
        connection: ConnectionKey,
        kind: ForwardKind,
        payload: Payload,
        scope: Scope,
        asker: Asker,
    ) {
        if u32::try_from(payload.len()).is_err() {
            return self.answer(asker, Err(Failure::Refused("a request must be smaller than 4 GiB".into())));
        }
        let order = self.requests.next_order();
        let expires = self.now + self.requests.limit;
        self.dispatch(Request { connection, order, kind, payload, scope, asker, expires });
    }

    /// Sends a request where it can go now, or holds it.
    fn dispatch(&mut self, request: Request) {
        match self.way(request.scope) {
            Way::Refused(failure) => self.turn_away(request.asker, failure),
            Way::Open(route) if self.requests.connections.may_send(&request, route, self.keeps_order(route)) => {
                self.send_request(route, request);
            }
            // Each of those before it may take as long as a request may.
            Way::Open(route) if !self.keeps_order(route) => {
                let expires = request.expires;
                self.requests.connections.hold(request, expires);
            }
            Way::Open(_) => {
                mark(Mark::HeldBehindOthers);
                self.hold(request);
            }
            Way::Wait => {
                mark(Mark::HeldWithoutLeader);
                self.hold(request);
            }
        }
    }

    fn way(&self, scope: Scope) -> Way {
        if self.is_ending() {
            return Way::Refused(self.shutting_down());
        }
        let (me, term) = (self.server.id(), self.server.term());
        let leads = self.server.role() == Role::Leader;
        let here = || match self.transfer {
            None => Way::Open(Route { leader: me, term }),
            Some(_) => Way::Wait,
        };
        match scope {
            Scope::Cluster | Scope::ThisNode if leads => here(),
            Scope::ThisTerm(asked) if leads && asked == term => here(),
            Scope::Cluster => match self.server.leader() {
                Some(leader) if term > self.requests.refused_term => Way::Open(Route { leader, term }),
                _ => Way::Wait,
            },
            Scope::ThisNode | Scope::ThisTerm(_) => Way::Refused(self.not_the_leader()),
        }
    }

    /// Whether requests take effect in the order in which they are sent there.
    fn keeps_order(&self, route: Route) -> bool {
        route.leader == self.server.id() || self.transport.keeps_order()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.stop.is_some() || self.ended.is_some()
    }

    /// Sends a request. False if it could not be sent, and is held.
    fn send_request(&mut self, route: Route, request: Request) -> bool {
        self.requests.connections.sent(&request, route);
        if route.leader != self.server.id() {
            return self.forward(route, request);
        }
        self.requests.batch.push(request);
        true
    }

    pub(super) fn hold(&mut self, request: Request) {
        self.requests.connections.hold(request, self.now + 2 * self.server.election_timeout());
    }

    /// Sends what is held and can go on now, connection by connection.
    pub(super) fn release_held(&mut self) {
        if !std::mem::take(&mut self.requests.release) {
            return;
        }
        for key in self.requests.connections.holding() {
            while let Some(scope) = self.requests.connections.first_held(key) {
                let way = self.way(scope);
                if let Way::Wait = way {
                    break;
                }
                if let Way::Open(route) = way
                    && !self.requests.connections.may_release(key, scope, route, self.keeps_order(route))
                {
                    break;
                }
                let Some(request) = self.requests.connections.release(key) else { break };
                match way {
                    Way::Refused(failure) => self.turn_away(request.asker, failure),
                    Way::Open(route) if self.send_request(route, request) => {}
                    _ => break,
                }
            }
        }
    }

    /// A read lost its leader: it is sent again, if it cannot see a later write of its own connection. A peer's read is
    /// its own business; that the answer is not a definite one tells it that only this request has failed.
    pub(super) fn repeat_read(&mut self, read: Request) {
        let may_repeat = self.requests.connections.may_repeat(&read) && read.expires > self.now;
        self.settled(read.connection);
        if let Asker::Peer { .. } = read.asker {
            self.answer(read.asker, Err(report::leadership_lost()));
        } else if may_repeat {
            mark(Mark::ReadRepeated);
            self.hold(read);
            self.requests.release = true;
        } else {
            mark(Mark::ReadNotRepeated);
            self.answer(read.asker, Err(report::read_without_leader()));
        }
    }

    /// Answers everything that has waited too long, and tries again what is held.
    pub(super) fn sweep(&mut self) {
        let now = self.now;
        for waiter in self.requests.waiters.expired(now) {
            mark(Mark::ProposalTooLate);
            self.settled(waiter.connection);
            self.answer(waiter.asker, Err(report::leadership_lost()));
        }
        self.give_up_forwarded(|forwarded| forwarded.answer_by <= now);
        let late = |submitted: &Submitted| submitted.request.expires <= now;
        let late: Vec<Ticket> =
            self.requests.submitted.iter().filter(|(_, read)| late(read)).map(|(&ticket, _)| ticket).collect();
        for ticket in late {
            if let Some(submitted) = self.requests.submitted.remove(&ticket) {
                self.repeat_read(submitted.request);
            }
        }
        for request in self.requests.connections.expired(now) {
            let failure = match request.scope {
                Scope::ThisTerm(_) => report::handing_over(),
                Scope::Cluster | Scope::ThisNode => self.no_leader(),
            };
            self.answer(request.asker, Err(failure));
        }
        self.requests.release = true;
    }

    /// A request of this connection is no longer under way.
    pub(super) fn settled(&mut self, key: ConnectionKey) {
        self.requests.release |= self.requests.connections.settled(key);
    }

    /// Refuses a request at the door. Told by the leader of its term to the node that had forwarded it, "not ready" means
    /// even more: nothing that was forwarded later will be taken in that term. Only the door may say so.
    fn turn_away(&mut self, asker: Asker, failure: Failure) {
        if let Some(reply) = asker.answer(Err(failure), &mut self.sinks) {
            self.reply_to_peer(reply);
        }
    }

    /// Answers a request that was let in, here or at the node that had forwarded it.
    pub(super) fn answer(&mut self, asker: Asker, outcome: Outcome) {
        let outcome = match (&asker, outcome) {
            (Asker::Peer { .. }, Err(Failure::NotReady(reason))) => Err(Failure::Unknown(reason)),
            (_, outcome) => outcome,
        };
        if let Some(reply) = asker.answer(outcome, &mut self.sinks) {
            self.reply_to_peer(reply);
        }
    }

    /// The node ends: whatever may be in a log has an unknown outcome, everything else never will have any.
    pub(super) fn answer_everyone(&mut self) {
        let shutting_down = self.shutting_down();
        let waiters: Vec<Waiter> = self.requests.waiters.drain().collect();
        for waiter in waiters {
            self.answer(waiter.asker, Err(report::leadership_lost()));
        }
        for forwarded in std::mem::take(&mut self.requests.forwarded).into_values() {
            let failure = match forwarded.request.kind {
                ForwardKind::Write | ForwardKind::SessionWrite(_) => report::leadership_lost(),
                ForwardKind::Read => shutting_down.clone(),
            };
            self.answer(forwarded.request.asker, Err(failure));
        }
        let submitted = std::mem::take(&mut self.requests.submitted).into_values().map(|submitted| submitted.request);
        let batch = std::mem::take(&mut self.requests.batch);
        for request in submitted.chain(batch) {
            self.answer(request.asker, Err(shutting_down.clone()));
        }
        for asker in self.transfer.take().unwrap_or_default() {
            self.answer(asker, Err(shutting_down.clone()));
        }
        self.requests.release = true;
        self.release_held();
    }
}
