//! Clients that wait for messages of lists (`BLPOP`): whoever came first gets the first.
//!
//! A client looks before it waits, without an entry of the log. While it waits nothing is asked. A message that has come
//! wakes the one that has waited longest, at each node that has one, and that one takes it, by an entry: at one node it
//! gets the message, elsewhere it finds none and waits on in its old place. A wake-up is never lost: whoever cannot use it
//! gives it to the next, and whoever is refused (no leader, too much to do) keeps it, and looks again a little later. Until
//! then nobody else asks: they would be refused as well, or come before those who wait longer.

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
    topics: HashMap<Bytes, Topic>,
    /// The tickets of those who have been put off. While there are any, a reminder is under way.
    put_off: BTreeSet<u64>,
    next_ticket: u64,
    /// On their way to the node.
    requests: VecDeque<(NodeHandle, ClientRequest)>,
    /// Somebody is handing them over.
    is_handing_over: bool,
    /// The node has: nobody needs to try again.
    has_stopped: bool,
}

/// The tickets of those who wait for a topic, by what the next message means to them.
#[derive(Default)]
struct Topic {
    /// It wakes the first of them.
    idle: BTreeSet<u64>,
    /// They ask already. If nobody is idle the first of them is to ask again, for it may have asked too early.
    asking: BTreeSet<u64>,
    /// They will ask, whatever comes.
    others: BTreeSet<u64>,
}

struct Waiter {
    client: Arc<Client>,
    state: State,
    /// The topic whose message woke it.
    woken_by: Option<Bytes>,
    /// It waits no longer than for the answer that is on its way.
    is_leaving: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is asked: the next message wakes it.
    Idle,
    /// It asks whether there is a message. If one has come meanwhile, it is to try again.
    Looking { again: bool },
    /// It asks for one. If another one has come meanwhile, it is to try again.
    Popping { again: bool },
    /// It has to ask, but not now.
    PutOff,
}

const LOOKING: State = State::Looking { again: false };
const POPPING: State = State::Popping { again: false };

impl Topic {
    fn put(&mut self, ticket: u64, state: State) {
        self.remove(ticket);
        let place = match state {
            State::Idle => &mut self.idle,
            LOOKING | POPPING => &mut self.asking,
            _ => &mut self.others,
        };
        place.insert(ticket);
    }

    fn remove(&mut self, ticket: u64) {
        for place in [&mut self.idle, &mut self.asking, &mut self.others] {
            place.remove(&ticket);
        }
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.asking.is_empty() && self.others.is_empty()
    }
}

impl Waiting {
    /// What a client does from now on.
    fn set(&mut self, ticket: u64, state: State) {
        let Some(waiter) = self.clients.get_mut(&ticket) else { return };
        waiter.state = state;
        if state == State::Idle {
            waiter.woken_by = None;
        }
        for name in &waiter.client.topics {
            self.topics.entry(name.clone()).or_default().put(ticket, state);
        }
        if state == State::PutOff {
            self.put_off.insert(ticket)
        } else {
            self.put_off.remove(&ticket)
        };
    }

    fn remove(&mut self, ticket: u64) -> Option<Waiter> {
        let waiter = self.clients.remove(&ticket)?;
        self.put_off.remove(&ticket);
        for name in &waiter.client.topics {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.remove(ticket);
                if topic.is_empty() {
                    self.topics.remove(name);
                }
            }
        }
        Some(waiter)
    }

    /// Something has come while a client asks.
    fn tell_to_try_again(&mut self, ticket: u64) {
        match self.clients.get(&ticket).map(|waiter| waiter.state) {
            Some(State::Looking { .. }) => self.set(ticket, State::Looking { again: true }),
            Some(State::Popping { .. }) => self.set(ticket, State::Popping { again: true }),
            _ => {}
        }
    }
}

impl Waiters {
    /// One more waits, until it is answered. Its ticket.
    pub fn join(&self, client: Client) -> u64 {
        let mut waiting = self.lock();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        // Where somebody just waits there is nothing to be had.
        let waits = |name: &Bytes| waiting.topics.get(name).is_some_and(|topic| !topic.idle.is_empty());
        let nothing_there = client.topics.iter().all(waits);
        let waiter = Waiter { client: Arc::new(client), state: State::Idle, woken_by: None, is_leaving: false };
        waiting.clients.insert(ticket, waiter);
        if nothing_there {
            waiting.set(ticket, State::Idle);
        } else {
            self.ask_in_turn(&mut waiting, ticket, LOOKING);
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
        if matches!(waiter.state, State::Popping { .. }) {
            waiter.is_leaving = true;
            return;
        }
        let is_idle = waiter.state == State::Idle;
        let left = waiting.remove(ticket);
        if let Some(waiter) = left.as_ref().filter(|_| !is_idle) {
            self.give_on(&mut waiting, waiter);
        }
        drop(waiting);
        if let Some(Waiter { client, .. }) = left {
            client.answer(nothing());
        }
        self.hand_over();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a client ask the node.
    fn ask(&self, waiting: &mut Waiting, ticket: u64, state: State) {
        waiting.set(ticket, state);
        let Some(waiter) = waiting.clients.get(&ticket) else { return };
        let Client { topics, node, connection, forward, .. } = &*waiter.client;
        let operation = if matches!(state, State::Popping { .. }) {
            Operation::Write(Payload(Command::from(Change::Pop { topics: topics.clone() }).encode()))
        } else {
            Operation::Read(Payload(Query::Exists { keys: topics.clone() }.encode()))
        };
        let attempt = Attempt { waiters: self.clone(), ticket, client: waiter.client.clone() };
        let (connection, forward, reply) = (*connection, *forward, Reply::new(Arc::new(attempt), 0));
        waiting.requests.push_back((node.clone(), ClientRequest { connection, operation, forward, reply }));
    }

    /// Has a client ask the node, or puts it off behind those who have been put off.
    fn ask_in_turn(&self, waiting: &mut Waiting, ticket: u64, state: State) {
        let has_to_wait = |waiter: &Waiter| waiter.client.forward && !waiting.put_off.is_empty();
        if waiting.clients.get(&ticket).is_some_and(has_to_wait) {
            waiting.set(ticket, State::PutOff);
        } else {
            self.ask(waiting, ticket, state);
        }
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
                request.reply.send(Err(Failure::inbox_is_full())).flush();
            }
            waiting = self.lock();
        }
        waiting.is_handing_over = false;
    }

    /// A message has come: who has waited longest asks for it, or, if nobody just waits, one of those who ask already asks
    /// again. False if there is nobody to be told.
    fn wake(&self, waiting: &mut Waiting, name: &Bytes) -> bool {
        let Some(topic) = waiting.topics.get(name) else { return false };
        let (idle, asking) = (topic.idle.first().copied(), topic.asking.first().copied());
        if let Some(ticket) = idle {
            if let Some(waiter) = waiting.clients.get_mut(&ticket) {
                waiter.woken_by = Some(name.clone());
            }
            self.ask_in_turn(waiting, ticket, POPPING);
        } else if let Some(ticket) = asking {
            waiting.tell_to_try_again(ticket);
        }
        idle.or(asking).is_some()
    }

    /// Whoever has gone does not need its wake-ups: others may.
    fn give_on(&self, waiting: &mut Waiting, gone: &Waiter) {
        for name in &gone.client.topics {
            self.wake(waiting, name);
        }
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
        let has_stopped = waiting.has_stopped;
        let &Waiter { ref client, state, is_leaving, .. } = waiting.clients.get(&ticket)?;
        let (popping, again) = match state {
            State::Looking { again } => (false, again),
            State::Popping { again } => (true, again),
            State::Idle | State::PutOff => return None,
        };
        let answer = match &outcome {
            Ok(Response::Answer(bytes)) => Answer::decode(bytes).ok(),
            _ => None,
        };
        let is_refused = matches!(outcome, Err(Failure::NotReady(_) | Failure::Overloaded(_)));
        let may_try_later = is_refused && client.forward && !has_stopped;
        match answer {
            Some(Answer::Count(0) | Answer::Popped(None)) if !is_leaving => {
                if again {
                    self.ask(waiting, ticket, POPPING);
                } else {
                    waiting.set(ticket, State::Idle);
                }
                None
            }
            Some(Answer::Count(_)) if !popping => {
                self.ask(waiting, ticket, State::Popping { again });
                None
            }
            _ if may_try_later && !is_leaving => {
                self.put_off(waiting, ticket, again);
                None
            }
            Some(Answer::Popped(popped)) => {
                let gone = waiting.remove(ticket)?;
                match (&gone.woken_by, &popped) {
                    _ if again => self.give_on(waiting, &gone),
                    // It was woken for a message that is still there.
                    (Some(by), Some((from, _))) if by != from => _ = self.wake(waiting, by),
                    _ => {}
                }
                Some((gone.client, outcome))
            }
            _ => {
                let gone = waiting.remove(ticket)?;
                self.give_on(waiting, &gone);
                Some((gone.client, if may_try_later { nothing() } else { outcome }))
            }
        }
    }

    /// A client was refused: it looks again a little later.
    fn put_off(&self, waiting: &mut Waiting, ticket: u64, again: bool) {
        let is_first = waiting.put_off.is_empty();
        waiting.set(ticket, State::PutOff);
        let Some(client) = waiting.clients.get(&ticket).map(|waiter| waiter.client.clone()) else { return };
        if is_first {
            client.node.remind();
        }
        if again {
            // It has two wake-ups, and can use one.
            for name in &client.topics {
                self.wake(waiting, name);
            }
        }
    }
}

impl Client {
    fn answer(&self, outcome: Outcome) {
        self.slots.reply(self.slot, outcome);
        self.slots.flush();
    }
}

/// No message has come in time.
fn nothing() -> Outcome {
    Ok(Response::Answer(Answer::Popped(None).encode()))
}

impl Woken for Waiters {
    fn woken(&self, names: &[(Bytes, u64)]) {
        let mut waiting = self.lock();
        if waiting.clients.is_empty() {
            return;
        }
        for (name, count) in names {
            let _ = (0..*count).all(|_| self.wake(&mut waiting, name));
        }
        drop(waiting);
        self.hand_over();
    }

    fn replaced(&self) {
        let mut waiting = self.lock();
        let tickets: Vec<u64> = waiting.clients.keys().copied().collect();
        for ticket in tickets {
            match waiting.clients.get(&ticket).map(|waiter| waiter.state) {
                Some(State::Idle) => self.ask_in_turn(&mut waiting, ticket, LOOKING),
                _ => waiting.tell_to_try_again(ticket),
            }
        }
        drop(waiting);
        self.hand_over();
    }

    fn reminded(&self) {
        let mut waiting = self.lock();
        for ticket in std::mem::take(&mut waiting.put_off) {
            self.ask(&mut waiting, ticket, LOOKING);
        }
        drop(waiting);
        self.hand_over();
    }

    fn stopped(&self) {
        let mut waiting = self.lock();
        waiting.has_stopped = true;
        // What is popping may still get its message.
        let is_popping = |waiter: &Waiter| matches!(waiter.state, State::Popping { .. });
        let tickets = waiting.clients.iter().filter(|(_, waiter)| !is_popping(waiter)).map(|(ticket, _)| *ticket);
        let tickets: Vec<u64> = tickets.collect();
        let gone: Vec<Waiter> = tickets.into_iter().filter_map(|ticket| waiting.remove(ticket)).collect();
        drop(waiting);
        for Waiter { client, .. } in gone {
            client.answer(Err(Failure::NotReady("this node has stopped".into())));
        }
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
