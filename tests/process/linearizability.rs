//! What clients see while leaders are killed, paused and moved is what one key-value store on one machine could have
//! shown them.
//!
//! The checker is the search of Wing and Gong with the memory of Lowe: take any operation that may come first, apply it
//! to a register, go on with the rest; never look twice at the same set of operations in the same state. Keys are
//! independent, so each key's history is checked by itself. A definite failure is no operation at all. One whose outcome
//! is unknown may take effect at any time after it began, or never.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, rounds};
use crate::support::random::Random;
use raft::consensus::NodeId;

/// A value; 0 is none.
type Value = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Answers the value.
    Get,
    Set(Value),
    /// Answers whether there was one.
    Delete,
    /// From, to. Answers whether it was done.
    Swap(Value, Value),
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Unknown,
    /// The value, or yes (1) or no (0).
    Answer(Value),
}

/// An operation that may have taken effect. Times are counted from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation {
    action: Action,
    seen: Seen,
    began: u64,
    /// Of an unknown outcome, never.
    ended: u64,
}

const NEVER: u64 = u64::MAX;

impl Operation {
    /// The state afterwards; nothing if a store in this state would have answered otherwise.
    fn apply(&self, state: Value) -> Option<Value> {
        let (answer, after) = match self.action {
            Action::Get => (state, state),
            Action::Set(value) => (1, value),
            Action::Delete => (Value::from(state != 0), 0),
            Action::Swap(from, to) => (Value::from(state == from), if state == from { to } else { state }),
        };
        (self.seen == Seen::Unknown || self.seen == Seen::Answer(answer)).then_some(after)
    }
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Linearizable,
    /// There is no order that explains what was seen.
    Broken,
    /// The search took too long.
    Undecided,
}

/// Whether some order of these operations on one key explains what was seen.
fn check(history: &[Operation], patience: Duration) -> Verdict {
    let (mut unknown, mut certain): (Vec<Operation>, Vec<Operation>) =
        history.iter().partition(|operation| operation.seen == Seen::Unknown);
    // Nobody saw what an unknown read saw.
    unknown.retain(|operation| operation.action != Action::Get);
    certain.sort_by_key(|operation| operation.began);
    unknown.sort_by_key(|operation| operation.began);
    let noticed = history.iter().filter_map(|operation| match (operation.action, operation.seen) {
        (Action::Get, Seen::Answer(value)) | (Action::Swap(value, _), _) => Some(value),
        _ => None,
    });
    let noticed = noticed.collect();
    Search { certain, unknown, noticed, tried: HashSet::new() }.run(Instant::now() + patience)
}

struct Search {
    /// Operations that were answered, in the order they began.
    certain: Vec<Operation>,
    /// The others, likewise.
    unknown: Vec<Operation>,
    /// Values that make a difference to somebody.
    noticed: HashSet<Value>,
    tried: HashSet<Point>,
}

/// Where the search stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    state: Value,
    /// All certain operations before this one are done.
    first: usize,
    /// Later ones that are done, in order. They are few, for most have to wait for the end of others.
    beyond: Vec<usize>,
    /// Unknown ones that have happened, in order.
    happened: Vec<usize>,
    /// The state before the unknown one that happened just now.
    before: Option<Value>,
}

impl Point {
    fn after_certain(&self, at: usize, state: Value) -> Point {
        let mut next = Point { state, before: None, ..self.clone() };
        insert(&mut next.beyond, at);
        let joined = next.beyond.iter().zip(next.first..).take_while(|(at, first)| **at == *first).count();
        next.beyond.drain(..joined);
        next.first += joined;
        next
    }

    fn after_unknown(&self, at: usize, state: Value) -> Point {
        let mut next = Point { state, before: Some(self.state), ..self.clone() };
        insert(&mut next.happened, at);
        next
    }
}

fn insert(sorted: &mut Vec<usize>, item: usize) {
    if let Err(place) = sorted.binary_search(&item) {
        sorted.insert(place, item);
    }
}

impl Search {
    fn run(&mut self, deadline: Instant) -> Verdict {
        let mut stack = vec![Point { state: 0, first: 0, beyond: Vec::new(), happened: Vec::new(), before: None }];
        while let Some(point) = stack.pop() {
            // What is unknown need not have happened.
            if point.first == self.certain.len() {
                return Verdict::Linearizable;
            }
            if Instant::now() >= deadline {
                return Verdict::Undecided;
            }
            for next in self.next(&point) {
                if self.tried.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
        Verdict::Broken
    }

    /// One operation further: any that began before the end of each that is not done. The most promising is the last:
    /// one that is certain, and ended first.
    ///
    /// An unknown operation has all the time in the world: it may as well happen just before one that would have gone
    /// otherwise without it. So nothing else is tried after it. Of several that make no difference, the first will do.
    fn next(&self, point: &Point) -> Vec<Point> {
        let mut earliest_end = NEVER;
        let mut candidates = Vec::new();
        for (at, operation) in self.certain.iter().enumerate().skip(point.first) {
            if operation.began > earliest_end {
                break;
            }
            if point.beyond.binary_search(&at).is_err() {
                earliest_end = earliest_end.min(operation.ended);
                candidates.push((at, operation));
            }
        }
        candidates.sort_by_key(|(_, operation)| std::cmp::Reverse(operation.ended));
        let mut alike = HashSet::new();
        let unknown = self.unknown.iter().enumerate().filter_map(|(at, operation)| {
            let may = operation.began <= earliest_end && point.happened.binary_search(&at).is_err();
            let is_first = may && self.kind(operation).is_none_or(|kind| alike.insert(kind));
            let after = is_first.then(|| operation.apply(point.state)).flatten()?;
            let needs_last = point.before.is_none_or(|before| operation.apply(before) != Some(after));
            (needs_last && after != point.state).then(|| point.after_unknown(at, after))
        });
        let certain = candidates.into_iter().filter_map(|(at, operation)| {
            let needs_last = point.before.is_none_or(|before| operation.apply(before).is_none());
            needs_last.then(|| operation.apply(point.state)).flatten().map(|after| point.after_certain(at, after))
        });
        unknown.chain(certain).collect()
    }

    /// Unknown operations of one kind can stand for each other: deletions, and writes of values that nobody noticed.
    fn kind(&self, operation: &Operation) -> Option<Action> {
        match operation.action {
            Action::Set(value) if !self.noticed.contains(&value) => Some(Action::Set(0)),
            Action::Delete => Some(Action::Delete),
            _ => None,
        }
    }
}

/// The truth about tiny histories: every order of every choice of the unknown ones.
fn check_by_force(history: &[Operation]) -> bool {
    fn try_all(history: &[Operation], done: &mut Vec<bool>, state: Value) -> bool {
        let open = |at: &usize| !done[*at];
        let is_over = (0..history.len()).filter(open).all(|at| history[at].seen == Seen::Unknown);
        if is_over {
            return true;
        }
        for at in 0..history.len() {
            let waits = |other: usize| !done[other] && history[other].ended < history[at].began;
            if done[at] || (0..history.len()).any(waits) {
                continue;
            }
            if let Some(after) = history[at].apply(state) {
                done[at] = true;
                if try_all(history, done, after) {
                    return true;
                }
                done[at] = false;
            }
        }
        false
    }
    try_all(history, &mut vec![false; history.len()], 0)
}

/// A history that a correct store could have produced: each operation takes effect at a moment between its two ends.
/// They overlap more the larger `width` is, and one in `vague` outcomes is unknown.
fn invent(random: &mut Random, length: usize, width: u64, vague: u64) -> Vec<Operation> {
    let mut clock = 0;
    let mut state = 0;
    let mut history = Vec::new();
    for number in 1..=length as u32 {
        clock += 1 + random.below(10);
        let action = match random.below(5) {
            0 | 1 => Action::Get,
            2 => Action::Set(number),
            3 => Action::Delete,
            _ => Action::Swap(if random.below(2) == 0 { state } else { 77 }, number),
        };
        let action = if action == Action::Swap(0, number) { Action::Set(number) } else { action };
        let (began, ended) = (clock.saturating_sub(random.below(width)), clock + random.below(width));
        let takes_effect = random.below(2 * vague) != 0;
        let mut operation = Operation { action, seen: Seen::Unknown, began, ended: NEVER };
        if takes_effect {
            let before = state;
            state = operation.apply(state).expect("an unknown outcome is always possible");
            if random.below(2 * vague) != 0 {
                let told = match action {
                    Action::Get => before,
                    Action::Set(_) => 1,
                    Action::Delete => Value::from(before != 0),
                    Action::Swap(from, _) => Value::from(before == from),
                };
                operation = Operation { seen: Seen::Answer(told), ended, ..operation };
            }
        }
        history.push(operation);
    }
    history
}

const PATIENCE_OF_SEARCH: Duration = Duration::from_secs(20);

#[test]
fn the_checker_agrees_with_brute_force_on_tiny_histories() {
    let mut broken = 0;
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let length = 2 + random.below(6) as usize;
        let mut history = invent(&mut random, length, 30, 4);
        if seed % 2 == 0 {
            let victim = random.below(history.len() as u64) as usize;
            history[victim].seen = Seen::Answer(random.below(8) as u32);
            history[victim].ended = history[victim].began + random.below(30);
        }
        let expected = if check_by_force(&history) { Verdict::Linearizable } else { Verdict::Broken };
        assert_eq!(check(&history, PATIENCE_OF_SEARCH), expected, "seed {seed}: {history:?}");
        broken += u32::from(expected == Verdict::Broken);
    }
    assert!((300..1_500).contains(&broken), "both kinds were among them: {broken} were broken");
}

#[test]
fn the_checker_accepts_long_histories_and_finds_one_wrong_answer_in_them() {
    for seed in 0..rounds(10, 100) as u64 {
        let history = invent(&mut Random::new(seed), 400, 10, 50);
        assert_eq!(check(&history, PATIENCE_OF_SEARCH), Verdict::Linearizable, "seed {seed}");
        // A value that was never written; one that was overwritten long ago; a write that was lost.
        let reads = |operation: &&mut Operation| operation.action == Action::Get && operation.seen != Seen::Unknown;
        let mut never_written = history.clone();
        never_written.iter_mut().filter(reads).nth(50).expect("a read").seen = Seen::Answer(5_000);
        assert_eq!(check(&never_written, PATIENCE_OF_SEARCH), Verdict::Broken, "seed {seed}");
        let mut stale = history.clone();
        let old = history.iter().find_map(|operation| match (operation.action, operation.seen) {
            (Action::Set(value), Seen::Answer(_)) => Some(value),
            _ => None,
        });
        stale.iter_mut().rev().find(reads).expect("a read").seen = Seen::Answer(old.expect("a write"));
        assert_eq!(check(&stale, PATIENCE_OF_SEARCH), Verdict::Broken, "seed {seed}");
    }
}

// The real thing.

const KEYS: u64 = 3;
const CLIENTS: u64 = 8;

/// One client: one operation after the other, each through a node of its choice.
struct Client {
    random: Random,
    nodes: Vec<redis::Client>,
    connections: BTreeMap<usize, redis::Connection>,
    /// What it has seen of each key, so that some swaps succeed.
    last_seen: BTreeMap<u64, Value>,
}

impl Client {
    fn new(cluster: &Cluster, seed: u64) -> Self {
        let node = |id| redis::Client::open(format!("redis://{}/", cluster.client_address(id))).expect("a redis URL");
        let nodes = cluster.ids().into_iter().map(node).collect();
        Client { random: Random::new(seed), nodes, connections: BTreeMap::new(), last_seen: BTreeMap::new() }
    }

    fn choose(&mut self, key: u64, value: Value) -> Action {
        match self.random.below(8) {
            0..=2 => Action::Get,
            3 | 4 => Action::Set(value),
            5 => Action::Delete,
            _ => match self.last_seen.get(&key) {
                Some(&from) if from != 0 => Action::Swap(from, value),
                _ => Action::Set(value),
            },
        }
    }

    /// What the client was told; nothing if that means that nothing happened.
    fn perform(&mut self, key: u64, action: Action) -> Option<Seen> {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        if !self.connections.contains_key(&node) {
            let connection = self.nodes[node].get_connection_with_timeout(Duration::from_millis(200)).ok()?;
            connection.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
            self.connections.insert(node, connection);
        }
        let told = request(self.connections.get_mut(&node)?, key, action);
        if let Ok(answer) = told {
            let value = match action {
                Action::Get => answer,
                Action::Set(value) | Action::Swap(_, value) => value,
                Action::Delete => 0,
            };
            self.last_seen.insert(key, value);
            return Some(Seen::Answer(answer));
        }
        let error = told.err()?;
        match error.code() {
            Some("NOTREADY" | "OVERLOADED") => None,
            Some("UNKNOWN") => Some(Seen::Unknown),
            Some(code) => panic!("{action:?} was answered {code}: {error}"),
            // The connection is lost, or its answer is late.
            None => {
                self.connections.remove(&node);
                Some(Seen::Unknown)
            }
        }
    }
}

fn request(node: &mut redis::Connection, key: u64, action: Action) -> redis::RedisResult<Value> {
    match action {
        Action::Get => redis::cmd("GET").arg(key).query::<Option<Value>>(node).map(Option::unwrap_or_default),
        Action::Set(value) => redis::cmd("SET").arg(key).arg(value).exec(node).map(|()| 1),
        Action::Delete => redis::cmd("DEL").arg(key).query(node),
        Action::Swap(from, to) => match redis::cmd("RAFT").arg("CAS").arg(key).arg(from).arg(to).exec(node) {
            Ok(()) => Ok(1),
            Err(error) if matches!(error.code(), Some("MISSING" | "DIFFERENT")) => Ok(0),
            Err(error) => Err(error),
        },
    }
}

/// Does something terrible.
fn disturb(cluster: &mut Cluster, random: &mut Random) {
    let ids = cluster.ids();
    let mut any = || ids[random.below(ids.len() as u64) as usize];
    let (someone, other) = (any(), any());
    let mut client = cluster.client_with_timeout(Duration::from_millis(500));
    let victim = client.leader().map_or(someone, |leader| leader.id.0);
    let victim = if random.below(3) == 0 { someone } else { victim };
    match random.below(4) {
        0 => {
            cluster.kill(victim);
            std::thread::sleep(Duration::from_millis(random.below(400)));
            cluster.spawn(victim);
        }
        1 | 2 => {
            let victims = if random.below(2) == 0 { vec![victim, other] } else { vec![victim] };
            victims.iter().for_each(|&id| cluster.pause(id));
            // A follower may be killed in its sleep, too.
            std::thread::sleep(Duration::from_millis(100 + random.below(1_500)));
            if random.below(4) == 0 {
                cluster.kill(other);
                cluster.spawn(other);
            }
            victims.iter().for_each(|&id| cluster.resume(id));
        }
        _ => {
            // It may fail: then it was no disturbance.
            let _ = client.transfer(NodeId(someone));
        }
    }
    std::thread::sleep(Duration::from_millis(random.below(600)));
}

type History = BTreeMap<u64, Vec<Operation>>;

/// Some seconds of operations and disturbances on keys of their own.
fn play(cluster: &mut Cluster, random: &mut Random, round: u64, duration: Duration) -> History {
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    let values = AtomicU32::new(1);
    let history: Mutex<History> = Mutex::default();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(cluster, random.next())).collect();
    std::thread::scope(|scope| {
        for mut client in clients {
            let (stop, values, history) = (&stop, &values, &history);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let key = round * KEYS + client.random.below(KEYS);
                    let action = client.choose(key, values.fetch_add(1, Ordering::Relaxed));
                    let began = start.elapsed().as_nanos() as u64;
                    if let Some(seen) = client.perform(key, action) {
                        let ended = if seen == Seen::Unknown { NEVER } else { start.elapsed().as_nanos() as u64 };
                        let operation = Operation { action, seen, began, ended };
                        history.lock().expect("no client panicked").entry(key).or_default().push(operation);
                    }
                }
            });
        }
        while start.elapsed() < duration {
            disturb(cluster, random);
        }
        stop.store(true, Ordering::Relaxed);
    });
    history.into_inner().expect("no client panicked")
}

#[test]
fn what_clients_see_is_linearizable_while_nodes_are_killed_paused_and_moved() {
    let seed = std::env::var("RAFT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut cluster = Cluster::with(3, "ElectionTimeout = 200\nHeartbeatInterval = 40\n");
    cluster.wait_for_leader();
    let (mut certain, mut unknown) = (0, 0);
    for round in 0..rounds(2, 60) as u64 {
        let history = play(&mut cluster, &mut random, round, Duration::from_secs(5));
        for (key, operations) in history {
            let verdict = check(&operations, PATIENCE_OF_SEARCH);
            assert_eq!(verdict, Verdict::Linearizable, "seed {seed}, round {round}, key {key}: {operations:?}");
            let vague = operations.iter().filter(|operation| operation.seen == Seen::Unknown).count();
            (certain, unknown) = (certain + operations.len() - vague, unknown + vague);
        }
    }
    println!("{certain} operations were answered, {unknown} are unknown");
    assert!(certain > 1_000, "the cluster served: {certain} answers, {unknown} unknown");
    for id in cluster.ids() {
        let log = cluster.log(id);
        assert!(!log.contains("panicked"), "node {id}: {log}");
    }
}
