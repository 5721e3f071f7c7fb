//! Simulated clients: each asks, waits, gives up, and goes elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::dice::Dice;
use super::oracle::{Check, FIRST, Look, Operation, OperationId, Outline};
use super::scenario::{Scenario, Way};
use super::simulation::{Happening, Simulation};
use crate::consensus::{NodeId, Payload, SessionSequence};
use crate::machine::command::{Answer, Change, Command, Condition, Query};
use crate::machine::queue::command::{QueueAnswer, QueueChange, Settlement, TopicLimits};
use crate::runtime::{ClientRequest, Operation as Asked, Outcome, Reply, ReplySink, Response};

/// What all clients are answered, until it is looked at.
#[derive(Default)]
pub struct Answers(Mutex<Vec<(u64, Outcome)>>);

impl Answers {
    fn take(&self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReplySink for Answers {
    fn reply(&self, slot: u64, outcome: Outcome) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((slot, outcome));
    }
}

/// A client.
pub struct Client {
    dice: Dice,
    number: usize,
    /// The node that it asks.
    target: NodeId,
    /// Its connection there: another one after every trouble.
    connection: u64,
    connections: u64,
    /// Requests that were made.
    asked: u64,
    /// What it will ask, until it reaches the node.
    planned: BTreeMap<u64, Outline>,
    /// What was asked and not answered, and since when, in order of both.
    waiting: Vec<(OperationId, Duration)>,
    /// It is about to do something.
    is_planned: bool,
    /// It will look whether it has waited for too long.
    is_impatient: bool,
    /// When the last request reaches its node: those of a connection arrive in order.
    arrives: Duration,
    /// The last value that it wrote to some key, to compare with.
    last: Option<(Bytes, Bytes)>,
    session: Session,
}

/// What is the matter between clients and nodes.
#[derive(Default)]
pub struct ClientLinks {
    /// What goes to a node, and what comes from one: until when nothing gets through, and whether it does then.
    cut: [BTreeMap<NodeId, (Duration, bool)>; 2],
}

impl ClientLinks {
    const TO: usize = 0;
    const FROM: usize = 1;

    /// Until then, the node and clients do not hear each other; `held`: but then they do.
    pub fn cut(&mut self, id: NodeId, way: Way, held: bool, until: Duration) {
        let [to, from] = &mut self.cut;
        for (links, spared) in [(to, Way::Out), (from, Way::In)] {
            if way != spared {
                links.insert(id, (until, held));
            }
        }
    }

    /// When something that comes this way now arrives, if it ever does.
    fn arrives(&self, way: usize, id: NodeId, now: Duration) -> Option<Duration> {
        match self.cut[way].get(&id) {
            Some(&(until, held)) if until > now => held.then_some(until),
            _ => Some(now),
        }
    }
}

/// A client's session: one command at a time, sent again until it is answered.
#[derive(Default)]
struct Session {
    id: Option<u64>,
    /// The last command's number.
    sequence: u64,
    /// What is to be done, until it is answered.
    unanswered: Option<Bytes>,
    /// It, or the opening of the session, is on its way.
    is_under_way: bool,
    /// Messages that it has leased: the topic, the message and the lease.
    leased: Vec<(Bytes, u64, u64)>,
}

/// The nth connection of a client.
fn connection(client: usize, nth: u64) -> u64 {
    (client as u64) << 32 | nth
}

/// The client whose connection this is.
fn owner(connection: u64) -> usize {
    (connection >> 32) as usize
}

impl Client {
    /// A client that begins somewhere.
    pub fn new(number: usize, scenario: &Scenario) -> Self {
        let mut dice = Dice::new(scenario.seed, &format!("client {number}"));
        let target = NodeId(dice.between(1, scenario.nodes));
        Client {
            dice,
            number,
            target,
            connection: connection(number, 0),
            connections: 0,
            asked: 0,
            planned: BTreeMap::new(),
            waiting: Vec::new(),
            is_planned: true,
            is_impatient: false,
            arrives: Duration::ZERO,
            last: None,
            session: Session::default(),
        }
    }

    /// Its place among what it waits for, if it does.
    fn waits_for(&self, operation: OperationId) -> Option<usize> {
        self.waiting.binary_search_by_key(&operation, |(waiting, _)| *waiting).ok()
    }

    /// Goes elsewhere, with a new connection.
    fn leave(&mut self, nodes: u64) {
        self.connections += 1;
        self.connection = connection(self.number, self.connections);
        self.target = NodeId(self.dice.between(1, nodes));
        self.waiting.clear();
        self.planned.clear();
        self.session.is_under_way = false;
    }

    /// Its next request is on its way, and arrives then, or right after the one before.
    fn ask(&mut self, scenario: &Scenario, arrives: Duration) -> Happening {
        let outline = self.next(scenario);
        let number = self.asked;
        self.planned.insert(number, outline);
        self.asked += 1;
        self.arrives = arrives.max(self.arrives + Duration::from_nanos(1));
        Happening::Request { client: self.number, to: self.target, number }
    }

    /// The next thing that it wants. No two writes have the same bytes.
    fn next(&mut self, scenario: &Scenario) -> Outline {
        let load = &scenario.load;
        let key: Bytes = format!("k{}", self.dice.below(load.keys)).into();
        if self.dice.below(100) < load.reads {
            let is_plain = load.numbers == 0 || self.dice.below(100) >= load.numbers;
            return if is_plain { Outline::Read(key) } else { self.look_at_numbers(load.keys) };
        }
        if load.sessions > 0 && !self.session.is_under_way && self.dice.below(100) < load.sessions {
            self.session.is_under_way = true;
            return self.next_in_session(key, scenario);
        }
        Outline::Write(Command::Change(self.any_change(key, scenario)).encode())
    }

    /// A command in the session: the one that has no answer yet, or the next.
    fn next_in_session(&mut self, key: Bytes, scenario: &Scenario) -> Outline {
        let Some(session) = self.session.id else { return Outline::OpenSession };
        let command = match self.session.unanswered.take() {
            Some(command) => command,
            None => {
                self.session.sequence += 1;
                let is_for_queue = self.dice.below(100) < scenario.load.queue;
                let change = if is_for_queue { self.queue_change(scenario) } else { self.any_change(key, scenario) };
                Command::Change(change).encode()
            }
        };
        self.session.unanswered = Some(command.clone());
        Outline::InSession(SessionSequence { session, sequence: self.session.sequence }, command)
    }

    fn queue_change(&mut self, scenario: &Scenario) -> Change {
        let dice = &mut self.dice;
        if !self.session.leased.is_empty() && dice.once_in(2) {
            let (topic, id, lease) =
                self.session.leased.swap_remove(dice.below(self.session.leased.len() as u64) as usize);
            let how = match dice.below(4) {
                0 => Settlement::Nack,
                1 => Settlement::Extend { lease_ms: dice.between(1, 500) },
                _ => Settlement::Ack,
            };
            return Change::Queue { topic, change: QueueChange::Settle { id, lease, how } };
        }
        let length = dice.between(1, scenario.load.value_bytes.min(64)) as usize;
        let change = match dice.below(32) {
            0 => QueueChange::Delete,
            1 => QueueChange::Purge,
            2..4 => {
                let (messages, bytes) = (dice.between(1, 8), dice.between(20, 500));
                QueueChange::Create { limits: TopicLimits { messages, bytes, deliveries: dice.below(4) as u32 } }
            }
            4..10 => QueueChange::Take { max: dice.between(1, 3) },
            10..18 => QueueChange::Receive { max: dice.between(1, 3), lease_ms: dice.of_any_size(1, 1_000) },
            _ => {
                let mut message = format!("{}-{}-", self.number, self.asked).into_bytes();
                message.resize(message.len().max(length), b'.');
                QueueChange::Put { message: message.into(), create: !dice.once_in(4) }
            }
        };
        Change::Queue { topic: format!("t{}", self.dice.below(3)).into(), change }
    }

    /// The command of the session has its answer.
    fn answered_in_session(&mut self, outline: &Outline, answer: &Bytes) {
        if !matches!(outline, Outline::OpenSession | Outline::InSession(..)) {
            return;
        }
        self.session.is_under_way = false;
        match (outline, Answer::decode(answer)) {
            (Outline::OpenSession, Ok(Answer::Session { id })) => {
                self.session = Session { id: Some(id), ..Session::default() };
            }
            (Outline::InSession(..), Ok(Answer::SessionUnknown)) => self.session = Session::default(),
            (Outline::InSession(_, command), Ok(answer)) => {
                self.session.unanswered = None;
                if let Answer::Queue(QueueAnswer::Deliveries(deliveries)) = answer
                    && let Ok(Command::Change(Change::Queue { topic, .. })) = Command::decode(command)
                {
                    self.session.leased.extend(deliveries.iter().map(|it| (topic.clone(), it.id, it.lease)));
                }
            }
            _ => {}
        }
    }

    fn any_change(&mut self, key: Bytes, scenario: &Scenario) -> Change {
        let numbers = scenario.load.numbers;
        let is_plain = numbers == 0 || self.dice.below(100) >= numbers;
        if is_plain { self.change(key, scenario) } else { self.change_of_number(key, scenario.load.keys) }
    }

    /// A number, a list, and now and then what should be one and is none.
    fn number_key(&mut self, keys: u64) -> Bytes {
        format!("{}{}", self.dice.pick(&["n", "n", "n", "l", "l", "l", "k"]), self.dice.below(keys)).into()
    }

    /// Numbers and lists of one moment.
    fn look_at_numbers(&mut self, keys: u64) -> Outline {
        let count = self.dice.between(1, 3);
        let looks = (0..count).map(|_| match self.dice.below(3) {
            0 => Look::Under(format!("l{}", self.dice.below(keys)).into()),
            _ => Look::Key(self.number_key(keys)),
        });
        Outline::ReadTogether(looks.collect())
    }

    /// A change of a number or a list, like no other.
    fn change_of_number(&mut self, key: Bytes, keys: u64) -> Change {
        let unique = (self.asked as i64) << 16 | self.number as i64;
        let key = if self.dice.once_in(32) { key } else { self.number_key(keys) };
        match self.dice.below(32) {
            // Lists begin again, or they would grow for ever.
            0..3 => Change::Delete { keys: vec![key, format!("none {unique}").into()] },
            // The sum may be too large.
            3 => Change::Add { key, delta: i64::MAX - unique },
            4..10 => Change::Add { key, delta: unique },
            10..14 => Change::Add { key, delta: -unique },
            14..20 => Change::Raise { key, to: (self.dice.below(4) as i64) << 44 | unique },
            _ => Change::Append { key, value: unique.to_string().into() },
        }
    }

    /// A change like no other.
    fn change(&mut self, key: Bytes, scenario: &Scenario) -> Change {
        let mut value = format!("{}-{}-", self.number, self.asked).into_bytes();
        let length = self.dice.of_any_size(1, scenario.load.value_bytes) as usize;
        value.resize(value.len().max(length), b'.');
        let (value, dice) = (Bytes::from(value), &mut self.dice);
        let last = self.last.replace((key.clone(), value.clone()));
        let (change, from) = (dice.below(10), last.filter(|_| dice.once_in(2)));
        match (change, from) {
            (0, _) => {
                // A key that never is there makes the command like no other.
                Change::Delete { keys: vec![key, format!("none {}-{}", self.number, self.asked).into()] }
            }
            (1..3, Some((key, from))) => Change::CompareAndSet { key, from, to: value, create: false },
            (3, _) => Change::Set { key, value, condition: Condition::Absent, want_old: true },
            (4, Some((key, from))) => Change::Set { key, value, condition: Condition::Equals(from), want_old: false },
            _ => Change::Set { key, value, condition: Condition::Always, want_old: dice.once_in(3) },
        }
    }
}

fn query(look: &Look) -> Query {
    match look {
        Look::Key(key) => Query::Get { key: key.clone() },
        Look::Under(key) => Query::List { prefix: key.clone(), after: Some(key.clone()), limit: FIRST as u64 },
    }
}

impl Simulation {
    fn plan_client(&mut self, number: usize, after: Duration) {
        let Some(client) = self.clients.get_mut(number) else { return };
        if !std::mem::replace(&mut client.is_planned, true) {
            self.schedule.at(self.now + after, Happening::Client(number));
        }
    }

    pub(super) fn client_acts(&mut self, number: usize) -> Check {
        let now = self.now;
        let timeout = self.scenario.election_timeout();
        if self.liveness.as_ref().is_some_and(|liveness| liveness.is_quiet(now, timeout)) {
            return Ok(());
        }
        let way = self.network.way();
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        client.is_planned = false;
        if client.waiting.len() + client.planned.len() >= self.scenario.load.depth as usize {
            return Ok(());
        }
        if client.dice.once_in(50) && client.waiting.is_empty() && client.planned.is_empty() {
            client.leave(self.scenario.nodes);
        }
        let request = client.ask(&self.scenario, now + way);
        self.schedule.at(client.arrives, request);
        let pause = client.dice.around(Duration::from_micros(self.scenario.load.pause_us));
        self.plan_client(number, pause);
        Ok(())
    }

    /// Some client goes to this node and sends so many requests at once.
    pub(super) fn rush(&mut self, to: NodeId, requests: u64) {
        let number = self.dice.below(self.clients.len() as u64) as usize;
        let Some(client) = self.clients.get_mut(number) else { return self.report.skipped += 1 };
        client.leave(self.scenario.nodes);
        client.target = to;
        let arrives = self.now + self.network.way();
        for _ in 0..requests {
            let request = client.ask(&self.scenario, arrives);
            self.schedule.at(client.arrives, request);
        }
    }

    pub(super) fn request_arrives(&mut self, number: usize, to: NodeId, asked: u64) -> Check {
        let now = self.now;
        let arrives = self.client_links.arrives(ClientLinks::TO, to, now);
        let Some(client) = self.clients.get_mut(number).filter(|client| client.planned.contains_key(&asked)) else {
            return Ok(());
        };
        self.report.unheard += u64::from(arrives != Some(now));
        if let Some(later) = arrives.filter(|at| *at > now) {
            self.schedule.at(later, Happening::Request { client: number, to, number: asked });
            return Ok(());
        }
        let Some(outline) = client.planned.remove(&asked) else { return Ok(()) };
        let is_there = self.hosts.get(&to).is_some_and(|host| host.process.is_some());
        if !is_there {
            // Nobody listens: it was not sent.
            client.leave(self.scenario.nodes);
            self.plan_client(number, Duration::from_millis(5));
            return Ok(());
        }
        let operation = match &outline {
            Outline::Write(command) => Asked::Write(Payload(command.clone())),
            Outline::InSession(stamp, command) => Asked::SessionWrite(*stamp, Payload(command.clone())),
            Outline::OpenSession => Asked::Write(Payload(Command::OpenSession.encode())),
            Outline::Read(key) => Asked::Read(Payload(Query::Get { key: key.clone() }.encode())),
            Outline::ReadTogether(looks) => {
                let queries = looks.iter().map(|look| query(look).encode()).collect();
                Asked::Read(Payload(Query::Together { queries }.encode()))
            }
        };
        let connection = client.connection;
        let id = self.oracle.begins(Operation { connection, outline });
        client.waiting.push((id, now));
        self.plan_give_up(number);
        if arrives.is_none() {
            return Ok(());
        }
        let reply = Reply::new(self.answers.clone(), id.0);
        let request = ClientRequest { connection, operation, forward: true, reply };
        let Some(host) = self.hosts.get_mut(&to) else { return Ok(()) };
        if let Some(process) = &mut host.process {
            process.requests.push(request);
        }
        self.give(to, []);
        Ok(())
    }

    /// The client that waits for this, and its place there.
    fn asker(&self, id: OperationId) -> Option<(usize, usize)> {
        let number = owner(self.oracle.operation(id)?.connection);
        Some((number, self.clients.get(number)?.waits_for(id)?))
    }

    /// When the first of what it waits for will have taken too long, the client is to look.
    fn plan_give_up(&mut self, number: usize) {
        let patience = Duration::from_millis(self.scenario.load.patience_ms);
        let Some(client) = self.clients.get_mut(number) else { return };
        if let Some((_, since)) = client.waiting.first().filter(|_| !client.is_impatient) {
            client.is_impatient = true;
            self.schedule.at(*since + patience, Happening::GiveUp { client: number });
        }
    }

    pub(super) fn give_up(&mut self, number: usize) -> Check {
        let patience = Duration::from_millis(self.scenario.load.patience_ms);
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        client.is_impatient = false;
        if client.waiting.first().is_some_and(|(_, since)| *since + patience <= self.now) {
            self.report.given_up += 1;
            client.leave(self.scenario.nodes);
            self.plan_client(number, Duration::from_millis(1));
        }
        self.plan_give_up(number);
        Ok(())
    }

    /// Lets clients and the oracle have what was answered.
    pub(super) fn take_answers(&mut self) -> Check {
        for (slot, outcome) in self.answers.take() {
            let id = OperationId(slot);
            self.oracle.answered(id, &outcome)?;
            self.report.mix(slot);
            match &outcome {
                Ok(Response::Answer(answer)) => self.report.mix_bytes(answer),
                Ok(_) => self.report.mix(1),
                Err(failure) => self.report.mix_bytes(failure.to_string().as_bytes()),
            }
            let Some((number, _)) = self.asker(id) else { continue };
            match self.client_links.arrives(ClientLinks::FROM, self.clients[number].target, self.now) {
                Some(at) if at == self.now => self.told(id, outcome)?,
                later => {
                    self.report.unheard += 1;
                    if let Some(at) = later {
                        self.schedule.at(at, Happening::Answer { operation: id, outcome });
                    }
                }
            }
        }
        Ok(())
    }

    /// A client is told what came of its request, if it still waits.
    pub(super) fn told(&mut self, id: OperationId, outcome: Outcome) -> Check {
        let Some((number, place)) = self.asker(id) else { return Ok(()) };
        let client = &mut self.clients[number];
        let (_, since) = client.waiting.remove(place);
        let mut pause = client.dice.around(Duration::from_micros(self.scenario.load.pause_us));
        match outcome {
            Ok(answer) => {
                self.report.answered += 1;
                self.report.waits.note(self.now - since);
                if let (Response::Answer(answer), Some(operation)) = (answer, self.oracle.operation(id)) {
                    client.answered_in_session(&operation.outline, &answer);
                }
            }
            Err(failure) => {
                if failure.is_definite() {
                    self.report.refusals += 1;
                } else {
                    self.report.unknown += 1;
                }
                client.leave(self.scenario.nodes);
                pause += Duration::from_millis(5);
            }
        }
        self.plan_client(number, pause);
        Ok(())
    }
}
