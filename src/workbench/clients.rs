//! The clients: each asks one thing at a time, at one node, and all together as often as they are told to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::{Value, json};

use super::history::{Operation, Outcome};
use super::options::Options;
use super::router::{Event, Router};
use super::workload::Generator;
use crate::runtime::simulated::dice::Dice;

/// How often whoever watches is told, and it is looked whether to stop.
pub const WATCH: Duration = Duration::from_millis(50);
/// After a refusal, a request that has to be served is asked again so much later.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The error codes that say that a request did not and will not take effect.
const DEFINITE: [u64; 9] = [1, 10, 11, 12, 14, 20, 21, 22, 30];

/// Why clients ask no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A node did what it must not do; for people.
    Trouble(String),
    /// Whoever watches wants it.
    Stopped,
}

/// Looks on while clients ask: called several times a second with how many requests there were and how many had an answer. False: stop.
pub type Watch<'a> = dyn FnMut(usize, usize) -> bool + 'a;

/// All clients, and what they saw.
pub struct Clients<'a> {
    router: &'a Router,
    events: &'a Receiver<Event>,
    watch: &'a mut Watch<'a>,
    watched: Instant,
    generator: Box<dyn Generator>,
    origin: Instant,
    timeout: Duration,
    /// Those of the clients, and behind them those of the observers, one for each node, who ask at the end.
    places: Vec<Place>,
    /// The first of these.
    observers: usize,
    /// Places of which nobody waits for anything, the longest idle first.
    free: VecDeque<usize>,
    history: Vec<Operation>,
    answered: usize,
}

/// A place for a client. One that does not know what came of its request leaves it to another.
struct Place {
    process: u64,
    node: usize,
    asked: u64,
    waiting: Option<Waiting>,
}

struct Waiting {
    msg_id: u64,
    operation: usize,
    deadline: Instant,
}

/// What a node is to be asked at rest.
struct ToAsk {
    queue: VecDeque<Value>,
    /// The operation that it is being asked.
    asked: Option<usize>,
    /// When it may be asked the next.
    due: Instant,
}

impl ToAsk {
    /// What came of an operation leads to another one, or to the same again.
    fn heard(&mut self, operation: &Operation, generator: &dyn Generator, now: Instant) {
        match &operation.outcome {
            Outcome::Answered(answer) => self.queue.extend(generator.further(&operation.request, answer)),
            other if other.is_served() => {}
            _ => {
                self.queue.push_back(operation.request.clone());
                self.due = now + ASK_AGAIN;
            }
        }
    }
}

impl<'a> Clients<'a> {
    /// As many clients as there are to be, and one more for each node for what is asked at the end.
    pub fn new(
        options: &Options,
        generator: Box<dyn Generator>,
        router: &'a Router,
        events: &'a Receiver<Event>,
        origin: Instant,
        watch: &'a mut Watch<'a>,
    ) -> Self {
        let place = |node| Place { process: router.client(), node, asked: 0, waiting: None };
        let load = (0..options.clients).map(|client| place(client % options.nodes));
        let places = load.collect::<Vec<_>>().into_iter().chain((0..options.nodes).map(place)).collect();
        Clients {
            router,
            events,
            watch,
            watched: origin,
            generator,
            origin,
            timeout: options.timeout,
            places,
            observers: options.clients,
            free: (0..options.clients).collect(),
            history: Vec::new(),
            answered: 0,
        }
    }

    /// How many requests had an answer.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// All that was asked, in order.
    pub fn into_history(self) -> Vec<Operation> {
        self.history
    }

    /// Waits until every node has taken its `init`.
    ///
    /// # Errors
    /// When one does not within this time, or makes trouble.
    pub fn ready(&mut self, nodes: usize, patience: Duration) -> Result<(), End> {
        let deadline = Instant::now() + patience;
        let mut waiting: Vec<usize> = (0..nodes).collect();
        while let Some(first) = waiting.first() {
            if Instant::now() >= deadline {
                return Err(End::Trouble(format!("n{first} has not answered `init` within {patience:?}")));
            }
            if let Some(node) = self.turn(deadline)? {
                waiting.retain(|other| *other != node);
            }
        }
        Ok(())
    }

    /// Asks as often as `options` say, for as long as they say.
    ///
    /// # Errors
    /// When a node makes trouble, or whoever watches wants to stop.
    pub fn load(&mut self, options: &Options) -> Result<(), End> {
        let mut schedule = Schedule::new(options);
        let mut due = Instant::now();
        let end = due + options.time;
        due += schedule.gap();
        while Instant::now() < end {
            if due > Instant::now() {
                self.turn(due.min(end))?;
            } else if let Some(place) = self.free.pop_front() {
                let request = self.generator.next(place, &mut schedule.requests);
                self.ask(place, request, false);
                due += schedule.gap();
            } else {
                self.turn(end)?;
                // Everybody waits: what could not be asked in the meantime is not made up for.
                due = due.max(Instant::now());
            }
        }
        Ok(())
    }

    /// Waits until nobody waits for anything.
    ///
    /// # Errors
    /// When a node makes trouble, or whoever watches wants to stop.
    pub fn settle(&mut self) -> Result<(), End> {
        while let Some(deadline) = self.places.iter().filter_map(|place| Some(place.waiting.as_ref()?.deadline)).max() {
            self.turn(deadline)?;
        }
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// When a node makes trouble, or whoever watches wants to stop.
    pub fn idle(&mut self, time: Duration) -> Result<(), End> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    /// Asks a node until it serves, for so long. False: it does not.
    ///
    /// # Errors
    /// When a node makes trouble, or whoever watches wants to stop.
    pub fn recovers(&mut self, node: usize, patience: Duration) -> Result<bool, End> {
        let deadline = Instant::now() + patience;
        let probe = self.generator.probe();
        while Instant::now() < deadline {
            let operation = self.one(node, probe.clone(), false)?;
            if self.history.get(operation).is_some_and(|operation| operation.outcome.is_served()) {
                return Ok(true);
            }
            self.idle(ASK_AGAIN)?;
        }
        Ok(false)
    }

    /// One more request of the workload at a node, and its outcome.
    ///
    /// # Errors
    /// When a node makes trouble, or whoever watches wants to stop.
    pub fn single(&mut self, node: usize, dice: &mut Dice) -> Result<(), End> {
        let place = self.observer(node);
        let request = self.generator.next(place, dice);
        self.one(node, request, false).map(drop)
    }

    /// Asks for all there is, once nothing else happens any more. False: not everything was answered within this time.
    ///
    /// # Errors
    /// When a node makes trouble, or whoever watches wants to stop.
    pub fn at_rest(&mut self, nodes: usize, patience: Duration) -> Result<bool, End> {
        let (mut now, deadline) = (Instant::now(), Instant::now() + patience);
        let ask = |node| ToAsk { queue: self.generator.at_rest(node, nodes).into(), asked: None, due: now };
        let mut all: Vec<ToAsk> = (0..nodes).map(ask).collect();
        while now < deadline {
            let (mut is_over, mut until) = (true, deadline);
            for (node, ask) in all.iter_mut().enumerate() {
                let place = self.observer(node);
                if self.places.get(place).is_some_and(|place| place.waiting.is_some()) {
                    is_over = false;
                    continue;
                }
                if let Some(operation) = ask.asked.take().and_then(|operation| self.history.get(operation)) {
                    ask.heard(operation, &*self.generator, now);
                }
                is_over &= ask.queue.is_empty();
                if ask.due > now {
                    until = until.min(ask.due);
                } else if let Some(request) = ask.queue.pop_front() {
                    ask.asked = Some(self.ask(place, request, true));
                }
            }
            if is_over {
                return Ok(true);
            }
            self.turn(until)?;
            now = Instant::now();
        }
        self.settle()?;
        Ok(false)
    }

    /// The place of the client that asks this node at the end.
    fn observer(&self, node: usize) -> usize {
        self.observers + node
    }

    /// Asks a node, and waits for the outcome.
    fn one(&mut self, node: usize, request: Value, at_rest: bool) -> Result<usize, End> {
        let place = self.observer(node);
        let operation = self.ask(place, request, at_rest);
        while let Some(deadline) = self.places.get(place).and_then(|place| Some(place.waiting.as_ref()?.deadline)) {
            self.turn(deadline)?;
        }
        Ok(operation)
    }

    fn ask(&mut self, place: usize, request: Value, at_rest: bool) -> usize {
        let operation = self.history.len();
        let Some(Place { process, node, asked, waiting }) = self.places.get_mut(place) else { return operation };
        *asked += 1;
        let msg_id = *asked;
        let mut body = request.clone();
        body["msg_id"] = json!(msg_id);
        let began = Instant::now();
        *waiting = Some(Waiting { msg_id, operation, deadline: began + self.timeout });
        self.router.request(*process, *node, &body);
        let began = began - self.origin;
        let outcome = Outcome::Unknown("the run was over before an answer came".into());
        self.history.push(Operation { process: *process, node: *node, request, outcome, began, ended: began, at_rest });
        operation
    }

    /// Waits until something happens, or this time comes: the node that has taken its `init`, if that is what happened.
    fn turn(&mut self, until: Instant) -> Result<Option<usize>, End> {
        let deadlines = self.places.iter().filter_map(|place| Some(place.waiting.as_ref()?.deadline));
        let until = deadlines.min().map_or(until, |first| first.min(until)).min(self.watched + WATCH);
        let ready = match self.events.recv_deadline(until) {
            Ok(Event::Ready { node }) => Some(node),
            Ok(Event::Trouble(why)) => return Err(End::Trouble(why)),
            Ok(Event::Answer { process, in_reply_to, body, at }) => {
                self.hear(process, in_reply_to, body, at)?;
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err(End::Stopped),
        };
        let now = Instant::now();
        self.give_up(now);
        if now >= self.watched + WATCH {
            self.watched = now;
            if !(self.watch)(self.history.len(), self.answered) {
                return Err(End::Stopped);
            }
        }
        Ok(ready)
    }

    fn hear(&mut self, process: u64, in_reply_to: u64, body: Value, at: Instant) -> Result<(), End> {
        let place = self.places.iter().position(|place| place.process == process);
        let is_awaited = |place: &Place| place.waiting.as_ref().is_some_and(|waiting| waiting.msg_id == in_reply_to);
        let Some(place) = place.filter(|place| self.places.get(*place).is_some_and(is_awaited)) else {
            // Nobody waits for it any more.
            return Ok(());
        };
        self.answered += 1;
        let Some(waiting) = self.places.get_mut(place).and_then(|place| place.waiting.take()) else { return Ok(()) };
        let Some(operation) = self.history.get_mut(waiting.operation) else { return Ok(()) };
        operation.ended = at - self.origin;
        operation.outcome = outcome(body)
            .map_err(|why| End::Trouble(format!("n{} answered {} {why}", operation.node, operation.request)))?;
        let is_unknown = matches!(operation.outcome, Outcome::Unknown(_));
        if let Outcome::Answered(answer) = &operation.outcome {
            self.generator.answered(place, &operation.request, answer);
        }
        self.vacate(place, is_unknown);
        Ok(())
    }

    /// Whoever has waited for too long does not know what came of it.
    fn give_up(&mut self, now: Instant) {
        for place in 0..self.places.len() {
            let waiting = self.places.get_mut(place).map(|place| &mut place.waiting);
            let Some(late) = waiting.and_then(|waiting| waiting.take_if(|waiting| waiting.deadline <= now)) else {
                continue;
            };
            if let Some(operation) = self.history.get_mut(late.operation) {
                operation.ended = now - self.origin;
                operation.outcome = Outcome::Unknown(format!("no answer within {:?}", self.timeout));
            }
            self.vacate(place, true);
        }
    }

    /// The client in this place may ask something else, or another one in its stead.
    fn vacate(&mut self, place: usize, is_replaced: bool) {
        if is_replaced && let Some(vacant) = self.places.get_mut(place) {
            vacant.process = self.router.client();
            vacant.asked = 0;
            self.generator.replaced(place);
        }
        if place < self.observers {
            self.free.push_back(place);
        }
    }
}

/// What an answer says. Whether it says that of this request is for the check to decide. Fails, saying why, if it says nothing.
fn outcome(answer: Value) -> Result<Outcome, String> {
    if answer["type"] != "error" {
        return Ok(Outcome::Answered(without(answer, ["in_reply_to", "msg_id"])));
    }
    let code = answer["code"].as_u64().ok_or_else(|| format!("with an error without a `code`: {answer}"))?;
    let text = answer["text"].as_str().unwrap_or_default().to_owned();
    Ok(match DEFINITE.contains(&code) {
        true => Outcome::Refused { code, text },
        false => Outcome::Unknown(format!("error {code}: {text}")),
    })
}

fn without<const N: usize>(mut body: Value, fields: [&str; N]) -> Value {
    if let Some(members) = body.as_object_mut() {
        fields.iter().for_each(|field| drop(members.remove(*field)));
    }
    body
}

/// When what is asked: drawn from the seed, so that it is the same every time, as far as requests do not depend on answers.
struct Schedule {
    gaps: Dice,
    requests: Dice,
    mean: Duration,
}

impl Schedule {
    fn new(options: &Options) -> Self {
        let mean = Duration::from_secs_f64(1.0 / options.rate.max(1e-3));
        Schedule { gaps: Dice::new(options.seed, "gaps"), requests: Dice::new(options.seed, "requests"), mean }
    }

    /// How long it takes until the next request: twice the mean at most.
    fn gap(&mut self) -> Duration {
        Duration::from_nanos(self.gaps.below(2 * self.mean.as_nanos() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_definite_or_leaves_everything_open() {
        let error =
            |code: u64| outcome(json!({"type": "error", "code": code, "text": "why", "in_reply_to": 3})).unwrap();
        for code in DEFINITE {
            assert_eq!(error(code), Outcome::Refused { code, text: "why".into() });
        }
        for code in [0, 2, 13, 1000] {
            assert_eq!(error(code), Outcome::Unknown(format!("error {code}: why")));
        }
        assert!(outcome(json!({"type": "error", "text": "why"})).is_err(), "an error has a code");
        let answer = json!({"type": "read_ok", "value": 5, "in_reply_to": 3, "msg_id": 9});
        assert_eq!(outcome(answer), Ok(Outcome::Answered(json!({"type": "read_ok", "value": 5}))));
    }

    #[test]
    fn a_seed_has_one_schedule_of_the_rate_that_was_asked_for() {
        let gaps = |seed| {
            let mean = Duration::from_millis(10);
            let mut schedule = Schedule { gaps: Dice::new(seed, "gaps"), requests: Dice::new(seed, "requests"), mean };
            (0..10_000).map(|_| schedule.gap()).collect::<Vec<_>>()
        };
        assert!(gaps(7) == gaps(7) && gaps(7) != gaps(8));
        let all: Duration = gaps(7).iter().sum();
        assert!((98..102).contains(&all.as_secs()), "{all:?} for 10,000 requests, 100 a second");
        assert!(gaps(7).iter().all(|gap| *gap <= Duration::from_millis(20)));
    }
}
