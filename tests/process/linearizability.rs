//! What clients see while leaders are killed, paused and moved is what one key-value store on one machine could have
//! shown them: `raft::checker` says so, which `tests/checker` checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::checker::formats::{jepsen, porcupine};
use raft::checker::key_value::{Action, Answer, KeyValue, Operation};
use raft::checker::{Failure, Outcome, check, history};
use raft::consensus::NodeId;

use crate::support::cluster::{Cluster, rounds};
use crate::support::random::Random;

/// How long the search for an order may take, and how many points it may remember.
const PATIENCE: (Duration, usize) = (Duration::from_secs(20), 5_000_000);

const KEYS: u64 = 3;
const CLIENTS: u64 = 8;

/// One client: one operation after the other, each through a node of its choice.
struct Client {
    random: Random,
    nodes: Vec<redis::Client>,
    connections: BTreeMap<usize, redis::Connection>,
    /// What it has seen of each key, so that some swaps succeed.
    last_seen: BTreeMap<u64, Option<Bytes>>,
}

impl Client {
    fn new(cluster: &Cluster, seed: u64) -> Self {
        let node = |id| redis::Client::open(format!("redis://{}/", cluster.client_address(id))).expect("a redis URL");
        let nodes = cluster.ids().into_iter().map(node).collect();
        Client { random: Random::new(seed), nodes, connections: BTreeMap::new(), last_seen: BTreeMap::new() }
    }

    fn choose(&mut self, key: u64, value: Bytes) -> Action {
        match self.random.below(8) {
            0..=2 => Action::Get,
            3 | 4 => Action::Set(value),
            5 => Action::Delete,
            _ => match self.last_seen.get(&key) {
                Some(Some(from)) => Action::CompareAndSet(from.clone(), value),
                _ => Action::Set(value),
            },
        }
    }

    fn perform(&mut self, key: u64, action: &Action) -> Outcome<Answer> {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        if !self.connections.contains_key(&node) {
            let Ok(connection) = self.nodes[node].get_connection_with_timeout(Duration::from_millis(200)) else {
                return Outcome::Failed;
            };
            connection.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
            self.connections.insert(node, connection);
        }
        let wants_revision = self.random.below(2) == 0;
        let connection = self.connections.get_mut(&node).expect("there is one now");
        let error = match request(connection, key, action, wants_revision) {
            Ok(answer) => {
                let seen = match (action, &answer) {
                    (_, Answer::Found(value, _)) => Some(value.clone()),
                    (Action::Set(value) | Action::CompareAndSet(_, value), _) => Some(value.clone()),
                    _ => None,
                };
                self.last_seen.insert(key, seen);
                return Outcome::Answered(answer);
            }
            Err(error) => error,
        };
        match error.code() {
            Some("NOTREADY" | "OVERLOADED") => Outcome::Failed,
            Some("UNKNOWN") => Outcome::Unknown,
            Some(code) => panic!("{action} was answered {code}: {error}"),
            // The connection is lost, or its answer is late.
            None => {
                self.connections.remove(&node);
                Outcome::Unknown
            }
        }
    }
}

/// Asks a node. Half of the gets are `RAFT GET`, which answers the revision, too.
fn request(
    node: &mut redis::Connection,
    key: u64,
    action: &Action,
    wants_revision: bool,
) -> redis::RedisResult<Answer> {
    let bytes = |value: &Bytes| value.to_vec();
    match action {
        Action::Get if wants_revision => {
            let found: Option<(Vec<u8>, u64)> = redis::cmd("RAFT").arg("GET").arg(key).query(node)?;
            Ok(found.map_or(Answer::Missing, |(value, revision)| Answer::Found(value.into(), Some(revision))))
        }
        Action::Get => {
            let found: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(node)?;
            Ok(found.map_or(Answer::Missing, |value| Answer::Found(value.into(), None)))
        }
        Action::Set(value) => redis::cmd("SET").arg(key).arg(bytes(value)).exec(node).map(|()| Answer::Done(None)),
        Action::Delete => {
            let count: u64 = redis::cmd("DEL").arg(key).query(node)?;
            Ok(if count == 0 { Answer::Missing } else { Answer::Done(None) })
        }
        Action::CompareAndSet(from, to) => {
            let swapped = redis::cmd("RAFT").arg("CAS").arg(key).arg(bytes(from)).arg(bytes(to)).exec(node);
            match swapped {
                Ok(()) => Ok(Answer::Done(None)),
                Err(error) if error.code() == Some("MISSING") => Ok(Answer::Missing),
                Err(error) if error.code() == Some("DIFFERENT") => Ok(Answer::Different(None)),
                Err(error) => Err(error),
            }
        }
        Action::Append(_) => panic!("our store cannot append"),
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

/// Some seconds of operations and disturbances on keys of their own.
fn play(cluster: &mut Cluster, random: &mut Random, round: u64, duration: Duration) -> Vec<Operation> {
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    let values = AtomicU32::new(1);
    let history: Mutex<Vec<Operation>> = Mutex::default();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(cluster, random.next())).collect();
    std::thread::scope(|scope| {
        for (number, mut client) in (0..).zip(clients) {
            let (stop, values, history) = (&stop, &values, &history);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let key = round * KEYS + client.random.below(KEYS);
                    let value = values.fetch_add(1, Ordering::Relaxed).to_string();
                    let action = client.choose(key, value.into());
                    let began = start.elapsed().as_nanos() as u64;
                    let outcome = client.perform(key, &action);
                    let ended = start.elapsed().as_nanos() as u64;
                    let partition = key.to_string().into();
                    let operation = Operation { client: number, partition, action, outcome, began, ended };
                    history.lock().expect("no client panicked").push(operation);
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

/// Keeps a history in every format, for people and for other people's checkers; answers where.
fn save(folder: &Path, history: &[Operation]) -> PathBuf {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a history can be saved");
    write("history.txt", &history::write(history));
    write("jepsen.edn", &jepsen::write(history).expect("keys and values are numbers"));
    write("porcupine.txt", &porcupine::write(history).expect("keys and values are numbers"));
    folder.to_owned()
}

/// The verdict; of a history that does not pass, with the place where it was saved.
fn verdict(history: &[Operation]) -> Result<(), (Failure<Action, Answer>, PathBuf)> {
    let deadline = Instant::now() + PATIENCE.0;
    check(&KeyValue, history, &mut |points| points < PATIENCE.1 && Instant::now() < deadline).map_err(|failure| {
        let folder = tempfile::Builder::new().prefix("raft-history-").tempdir().expect("a folder").keep();
        (failure, save(&folder, history))
    })
}

#[test]
fn a_history_that_does_not_pass_is_saved_in_every_format() {
    let lines = "1 7 0..10 set 1 -> done\n2 7 20..30 get -> missing\n";
    let broken = history::read(lines).expect("a history");
    let (failure, folder) = verdict(&broken).expect_err("the write was lost");
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a saved history");
    let saved = [
        history::read(&file("history.txt")).expect("lines"),
        jepsen::read(&file("jepsen.edn")).expect("Jepsen's format"),
        porcupine::read(&file("porcupine.txt")).expect("Porcupine's format"),
    ];
    for history in saved {
        assert!(matches!(check(&KeyValue, &history, &mut |_| true), Err(Failure::Broken(_))), "{history:?}");
    }
    assert!(failure.to_string().contains("2 7 20..30 get -> missing"), "{failure}");
    std::fs::remove_dir_all(folder).expect("it can go");
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
        if let Err((failure, folder)) = verdict(&history) {
            panic!("seed {seed}, round {round}: {failure}\nthe history is kept in {}", folder.display());
        }
        for operation in history {
            match operation.outcome {
                Outcome::Answered(_) => certain += 1,
                Outcome::Unknown => unknown += 1,
                Outcome::Failed => {}
            }
        }
    }
    println!("{certain} operations were answered, {unknown} are unknown");
    assert!(certain > 1_000, "the cluster served: {certain} answers, {unknown} unknown");
    for id in cluster.ids() {
        let log = cluster.log(id);
        assert!(!log.contains("panicked"), "node {id}: {log}");
    }
}
