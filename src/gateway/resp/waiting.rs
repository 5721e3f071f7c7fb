//! Clients that wait for messages of lists (`BLPOP`): whoever came first gets the first.
//!
//! A client looks before it waits, without an entry of the log. While it waits nothing is asked. A message that has come
//! wakes the one that has waited longest, at each node that has one, and that one takes it, by an entry: at one node it
//! gets the message, elsewhere it finds none and waits on in its old place. A wake-up is never lost: whoever cannot use it
//! gives it to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::slots::Slots;
use crate::consensus::Payload;
use crate::machine::command::{Answer, Change, Command, Query};
use crate::runtime::{ClientRequest, NodeHandle, Operation, Outcome, Reply, ReplySink, Response, Woken};
use crate::transport::Failure;

/// Everybody who waits at this node. Clones share it.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<Waiting>>);

/// One that wants to wait.
pub struct Client {
    /// Names of topics, the first that has a message first.
    pub topics: Vec<Bytes>,
    /// The node that is asked.
    pub node: NodeHandle,
    /// The client's connection.
    pub connection: u64,
    /// Whether requests may be passed on to the leader.
    pub forward: bool,
    /// Where its answer goes.
    pub slots: Arc<Slots>,
    /// Its place there.
    pub slot: u64,
}

#[derive(Default)]
struct Waiting {
    /// By ticket: in the order in which they came.
    clients: BTreeMap<u64, Waiter>,
    by_topic: HashMap<Bytes, BTreeSet<u64>>,
    next_ticket: u64,
    /// On their way to the node.
    requests: VecDeque<(NodeHandle, ClientRequest)>,
    /// Somebody is handing them over.
    is_handing_over: bool,
}

struct Waiter {
    client: Arc<Client>,
    state: State,
    /// It was woken while it asked: it is to try again.
    again: bool,
    /// It waits no longer than for the answer that is on its way.
    is_leaving: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is asked: the next message wakes it.
    Idle,
    /// It asks whether there is a message.
    Looking,
    /// It asks for one.
    Popping,
}

impl Waiters {
    /// One more waits, until it is answered. Its ticket.
    pub fn join(&self, client: Client) -> u64 {
        let mut waiting = self.lock();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        // Where somebody waits there is nothing to be had.
        let is_idle = |other: &u64| waiting.clients.get(other).is_some_and(|other| other.state == State::Idle);
        let waits = |topic: &Bytes| waiting.by_topic.get(topic).is_some_and(|others| others.iter().any(is_idle));
        let nothing_there = client.topics.iter().all(waits);
        for topic in &client.topics {
            waiting.by_topic.entry(topic.clone()).or_default().insert(ticket);
        }
        let waiter = Waiter { client: Arc::new(client), state: State::Idle, again: false, is_leaving: false };
        waiting.clients.insert(ticket, waiter);
        if !nothing_there {
            self.ask(&mut waiting, ticket, State::Looking);
        }
        drop(waiting);
        self.hand_over();
        ticket
    }

    /// Whether the client of this ticket still waits.
    pub fn is_waiting(&self, ticket: u64) -> bool {
        self.lock().clients.contains_key(&ticket)
    }

    /// The client of this ticket waits no longer. If it has asked for a message already, it waits for the answer.
    pub fn leave(&self, ticket: u64) {
        let mut waiting = self.lock();
        let Some(waiter) = waiting.clients.get_mut(&ticket) else { return };
        if waiter.state == State::Popping {
            waiter.is_leaving = true;
            return;
        }
        let left = self.remove(&mut waiting, ticket, false);
        drop(waiting);
        if let Some(client) = left {
            client.slots.reply(client.slot, nothing());
            client.slots.flush();
        }
        self.hand_over();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a client ask the node.
    fn ask(&self, waiting: &mut Waiting, ticket: u64, state: State) {
        let Waiting { clients, requests, .. } = waiting;
        let Some(waiter) = clients.get_mut(&ticket) else { return };
        (waiter.state, waiter.again) = (state, false);
        let Client { topics, node, connection, forward, .. } = &*waiter.client;
        let operation = if state == State::Popping {
            Operation::Write(Payload(Command::from(Change::Pop { topics: topics.clone() }).encode()))
        } else {
            Operation::Read(Payload(Query::Exists { keys: topics.clone() }.encode()))
        };
        let attempt = Attempt { waiters: self.clone(), ticket, client: waiter.client.clone() };
        let (connection, forward, reply) = (*connection, *forward, Reply::new(Arc::new(attempt), 0));
        requests.push_back((node.clone(), ClientRequest { connection, operation, forward, reply }));
    }

    /// Hands the requests over, one thread at a time: a node that refuses answers at once, which may lead to the next.
    fn hand_over(&self) {
        let mut waiting = self.lock();
        if std::mem::replace(&mut waiting.is_handing_over, true) {
            return;
        }
        while let Some((node, request)) = waiting.requests.pop_front() {
            drop(waiting);
            if let Err(request) = node.request(request) {
                let why = "this node has more requests waiting than it can take: try again later";
                request.reply.send(Err(Failure::Overloaded(why.into()))).flush();
            }
            waiting = self.lock();
        }
        waiting.is_handing_over = false;
    }

    /// A message has come: who has waited longest asks for it, or, if nobody just waits, one of those who ask already asks
    /// again.
    fn wake(&self, waiting: &mut Waiting, topic: &[u8]) {
        let Some(tickets) = waiting.by_topic.get(topic) else { return };
        let state = |ticket: &&u64| waiting.clients.get(ticket).map(|waiter| (waiter.state, waiter.again));
        let idle = tickets.iter().find(|ticket| matches!(state(ticket), Some((State::Idle, _)))).copied();
        if let Some(ticket) = idle {
            return self.ask(waiting, ticket, State::Popping);
        }
        let busy = tickets.iter().find(|ticket| matches!(state(ticket), Some((_, false)))).copied();
        if let Some(waiter) = busy.and_then(|ticket| waiting.clients.get_mut(&ticket)) {
            waiter.again = true;
        }
    }

    /// A client goes. It gives on a wake-up that it did not use, and this one if `unused`.
    fn remove(&self, waiting: &mut Waiting, ticket: u64, unused: bool) -> Option<Arc<Client>> {
        let Waiter { client, again, .. } = waiting.clients.remove(&ticket)?;
        for topic in &client.topics {
            if let Some(tickets) = waiting.by_topic.get_mut(topic) {
                tickets.remove(&ticket);
                if tickets.is_empty() {
                    waiting.by_topic.remove(topic);
                }
            }
        }
        if again || unused {
            client.topics.iter().for_each(|topic| self.wake(waiting, topic));
        }
        Some(client)
    }

    /// The node has answered a client's request.
    fn answered(&self, ticket: u64, outcome: Outcome) {
        let mut waiting = self.lock();
        let done = self.settle(&mut waiting, ticket, outcome);
        drop(waiting);
        if let Some((client, outcome)) = done {
            client.slots.reply(client.slot, outcome);
        }
        self.hand_over();
    }

    /// How a client goes on after this answer: who is done, and with what.
    fn settle(&self, waiting: &mut Waiting, ticket: u64, outcome: Outcome) -> Option<(Arc<Client>, Outcome)> {
        // Who looked may have left.
        let waiter = waiting.clients.get_mut(&ticket)?;
        let answer = match &outcome {
            Ok(Response::Answer(bytes)) => Answer::decode(bytes).ok(),
            _ => None,
        };
        match (waiter.state, answer) {
            (State::Looking, Some(Answer::Count(0))) | (State::Popping, Some(Answer::Popped(None))) => {
                if waiter.is_leaving {
                    return Some((self.remove(waiting, ticket, false)?, nothing()));
                }
                if waiter.again {
                    self.ask(waiting, ticket, State::Popping);
                } else {
                    waiter.state = State::Idle;
                }
                None
            }
            (State::Looking, Some(Answer::Count(_))) => {
                let again = waiter.again;
                self.ask(waiting, ticket, State::Popping);
                waiting.clients.get_mut(&ticket)?.again = again;
                None
            }
            (state, _) => {
                let unused = state == State::Popping && outcome.is_err();
                Some((self.remove(waiting, ticket, unused)?, outcome))
            }
        }
    }
}

/// No message has come in time.
fn nothing() -> Outcome {
    Ok(Response::Answer(Answer::Popped(None).encode()))
}

impl Woken for Waiters {
    fn woken(&self, names: &[Bytes]) {
        let mut waiting = self.lock();
        if waiting.clients.is_empty() {
            return;
        }
        names.iter().for_each(|name| self.wake(&mut waiting, name));
        drop(waiting);
        self.hand_over();
    }

    fn replaced(&self) {
        let mut waiting = self.lock();
        let tickets: Vec<u64> = waiting.clients.keys().copied().collect();
        for ticket in tickets {
            match waiting.clients.get_mut(&ticket) {
                Some(waiter) if waiter.state != State::Idle => waiter.again = true,
                _ => self.ask(&mut waiting, ticket, State::Looking),
            }
        }
        drop(waiting);
        self.hand_over();
    }
}

impl Debug for Waiters {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiters").field(&self.lock().clients.len()).finish()
    }
}

/// A waiting client's request.
struct Attempt {
    waiters: Waiters,
    ticket: u64,
    client: Arc<Client>,
}

impl ReplySink for Attempt {
    fn reply(&self, _slot: u64, outcome: Outcome) {
        self.waiters.answered(self.ticket, outcome);
    }

    fn flush(&self) {
        self.client.slots.flush();
    }
}
