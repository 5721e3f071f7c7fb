//! Whole clusters under both runtimes, over a network and storage in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::TryRecvError;
use raft::config::RuntimeKind;
use raft::consensus::{Entry, EntryHeader, HardState, Index, NodeId, Payload, Role, SnapshotMeta, Term};
use raft::machine::{Applied, Asked, Machine};
use raft::runtime::{
    ClientRequest, Input, Life, NodeHandle, NodeStatus, Operation, Outcome, Reply, ReplySink, Response,
};
use raft::storage::snapshot::{FileSnapshots, SnapshotStore};
use raft::storage::{LogReader, Recovered, Storage, StorageError, WriteBatch};
use raft::transport::memory::MemoryNetwork;
use raft::transport::{Failure, PeerMessage, Transport, Undelivered};
use raft::{Node, NodeOptions};

#[path = "support/runtimes.rs"]
mod runtimes;

use runtimes::runtime;

under_both! {
    every_node_takes_writes_and_reads,
    a_single_node_leads_itself_and_remembers_after_a_restart,
    pipelined_reads_see_exactly_the_earlier_writes_of_their_connection,
    order_holds_while_leadership_moves_and_nodes_are_cut_off,
    nothing_acknowledged_is_lost_while_nodes_are_killed_and_come_back,
    every_proposal_in_flight_is_answered_once_when_leadership_is_lost,
    forwarded_requests_are_answered_once_when_their_leader_is_cut_off,
    stopping_hands_over_and_answers_everything,
    nodes_that_all_stop_at_once_do_not_wait_for_each_other,
    a_follower_that_lags_is_loaded_from_the_log,
    requests_that_no_leader_can_take_are_refused_in_time,
    a_transfer_moves_leadership_and_holds_requests_meanwhile,
    a_leader_whose_disk_hangs_steps_down_and_a_hanging_node_does_not_hold_up_its_stop,
    a_failed_sync_stops_the_node,
    a_machine_that_panics_stops_its_node_and_says_so,
    brief_commands_are_applied_without_waking_another_thread,
    a_machine_that_panics_on_the_thread_of_a_turn_stops_its_node,
}

const ELECTION_TIMEOUT: Duration = Duration::from_millis(100);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(20);
/// Everything that is awaited comes long before, or the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

// A machine: lists of words. `list word` appends, and answers how many there are; a query names a list and gets its words.

#[derive(Default)]
struct Lists(BTreeMap<String, Vec<String>>);

impl Machine for Lists {
    fn apply(&mut self, applied: Applied<'_>) -> Bytes {
        let command = String::from_utf8_lossy(applied.command).into_owned();
        let (list, word) = command.split_once(' ').unwrap_or((&command, ""));
        let words = self.0.entry(list.to_owned()).or_default();
        words.push(word.to_owned());
        words.len().to_string().into()
    }

    fn query(&self, asked: Asked<'_>) -> Bytes {
        let list = String::from_utf8_lossy(asked.query);
        self.0.get(list.as_ref()).map(|words| words.join(" ")).unwrap_or_default().into()
    }

    fn is_brief(&self, _: Applied<'_>) -> bool {
        true
    }

    fn is_brief_query(&self, _: &[u8]) -> bool {
        true
    }

    fn digest(&self) -> u64 {
        self.0.values().flatten().count() as u64
    }
}

// Storage in memory whose disk can be made to hang or to fail.

#[derive(Clone, Copy, PartialEq)]
enum Disk {
    Works,
    Hangs,
    Fails,
}

#[derive(Clone)]
struct TestStorage {
    memory: Arc<RwLock<(HardState, Vec<Entry>)>>,
    disk: Arc<(Mutex<Disk>, Condvar)>,
}

impl TestStorage {
    fn new() -> Self {
        TestStorage { memory: Arc::default(), disk: Arc::new((Mutex::new(Disk::Works), Condvar::new())) }
    }

    fn set(&self, disk: Disk) {
        *self.disk.0.lock().unwrap() = disk;
        self.disk.1.notify_all();
    }
}

impl Storage for TestStorage {
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
        let memory = self.memory.read().unwrap();
        memory.1.iter().for_each(|found| entry(found.header.clone()));
        Ok(Recovered { hard_state: memory.0, last: Index(memory.1.len() as u64), ..Recovered::default() })
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        let mut memory = self.memory.write().unwrap();
        memory.0 = batch.hard_state.unwrap_or(memory.0);
        if let Some(from) = batch.truncate_from {
            memory.1.truncate(from.prev().0 as usize);
        }
        for entry in &batch.entries {
            assert_eq!(entry.header.index, Index(memory.1.len() as u64 + 1), "entries follow each other");
            memory.1.push(entry.clone());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let disk = self.disk.1.wait_while(self.disk.0.lock().unwrap(), |disk| *disk == Disk::Hangs).unwrap();
        if *disk == Disk::Fails { Err(StorageError::Io("the disk is on fire".into())) } else { Ok(()) }
    }

    fn compact(&mut self, _: Index) -> Result<(), StorageError> {
        unreachable!("there are no snapshots here")
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        Arc::new(FileSnapshots::in_memory())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.clone())
    }
}

impl LogReader for TestStorage {
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let memory = self.memory.read().unwrap();
        let mut bytes = 0;
        let range = memory.1.iter().skip(first.prev().0 as usize).take((last.0 + 1 - first.0) as usize);
        let within = |entry: &&Entry| {
            let fits = bytes <= max_bytes;
            bytes += entry.payload.len() as u64;
            fits
        };
        Ok(range.take_while(within).cloned().collect())
    }
}

// A cluster.

struct Cluster {
    network: MemoryNetwork,
    members: Vec<NodeId>,
    max_bytes: u64,
    nodes: BTreeMap<NodeId, Node>,
    storages: BTreeMap<NodeId, TestStorage>,
}

impl Cluster {
    fn new(size: u64) -> Self {
        Cluster::with_limit(size, 64 << 20)
    }

    fn with_limit(size: u64, max_bytes: u64) -> Self {
        Cluster::of((1..=size).map(NodeId).collect(), max_bytes)
    }

    fn of(members: Vec<NodeId>, max_bytes: u64) -> Self {
        let mut cluster = Cluster {
            network: MemoryNetwork::new(),
            storages: members.iter().map(|&id| (id, TestStorage::new())).collect(),
            members: members.clone(),
            max_bytes,
            nodes: BTreeMap::new(),
        };
        members.into_iter().for_each(|id| cluster.start(id));
        cluster
    }

    fn start(&mut self, id: NodeId) {
        let mut options = NodeOptions::new(id, self.members.clone());
        options.server.election_timeout = ELECTION_TIMEOUT;
        options.server.heartbeat_interval = HEARTBEAT_INTERVAL;
        options.server.max_pending_bytes = self.max_bytes;
        options.labels = self.members.iter().map(|&id| (id, format!("N{id}"))).collect();
        let storage = Box::new(self.storages[&id].clone());
        let connect = |handle: &NodeHandle| self.network.transport(id, handle);
        let node = Node::start_on(runtime(), options, storage, Box::<Lists>::default(), connect).unwrap();
        self.nodes.insert(id, node);
    }

    fn status(&self, id: NodeId) -> NodeStatus {
        self.nodes[&id].status().unwrap()
    }

    /// The leader that a majority of the nodes other than `except` follows.
    fn leader_without(&self, except: Option<NodeId>) -> NodeId {
        let mut leader = None;
        await_that("a leader that a majority follows", || {
            let others = self.nodes.keys().filter(|id| Some(**id) != except);
            let statuses: Vec<NodeStatus> = others.map(|&id| self.status(id)).collect();
            let leads = statuses.iter().find(|status| status.role == Role::Leader);
            leader = leads.map(|status| status.id);
            let follow = |status: &&NodeStatus| {
                status.leader.is_some() && status.leader == leader && Some(status.term) == leads.map(|leads| leads.term)
            };
            statuses.iter().filter(follow).count() > self.members.len() / 2
        });
        leader.unwrap()
    }

    fn leader(&self) -> NodeId {
        self.leader_without(None)
    }

    fn follower(&self) -> NodeId {
        let leader = self.leader();
        self.members.iter().copied().find(|id| *id != leader).unwrap()
    }

    fn client(&self, id: NodeId) -> Client {
        Client::new(self.nodes[&id].handle())
    }

    fn words(&self, through: NodeId, list: &str) -> Vec<String> {
        let mut words = None;
        await_that("a read", || {
            words = self.nodes[&through].query(list.to_owned()).ok();
            words.is_some()
        });
        String::from_utf8(words.unwrap().to_vec()).unwrap().split_whitespace().map(str::to_owned).collect()
    }
}

fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(1));
    }
}

// A client that pipelines on one connection.

#[derive(Default)]
struct Answers {
    by_slot: Mutex<BTreeMap<u64, (Outcome, Instant)>>,
    changed: Condvar,
}

impl ReplySink for Answers {
    fn reply(&self, slot: u64, outcome: Outcome) {
        let before = self.by_slot.lock().unwrap().insert(slot, (outcome, Instant::now()));
        assert!(before.is_none(), "slot {slot} was answered twice");
    }

    fn flush(&self) {
        self.changed.notify_all();
    }
}

struct Client {
    node: NodeHandle,
    connection: u64,
    answers: Arc<Answers>,
    sent: Vec<(String, Instant)>,
}

impl Client {
    fn new(node: NodeHandle) -> Self {
        static CONNECTIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let connection = CONNECTIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Client { node, connection, answers: Arc::default(), sent: Vec::new() }
    }

    fn send(&mut self, operation: Operation, forward: bool) -> usize {
        let slot = self.sent.len();
        let text = match &operation {
            Operation::Write(payload) | Operation::Read(payload) => String::from_utf8_lossy(payload).into_owned(),
            other => format!("{other:?}"),
        };
        self.sent.push((text, Instant::now()));
        let reply = Reply::new(self.answers.clone(), slot as u64);
        let request = ClientRequest { connection: self.connection, operation, forward, reply };
        assert!(self.node.request(request).is_ok(), "the inbox has room");
        slot
    }

    fn write(&mut self, command: impl Into<String>) -> usize {
        self.send(Operation::Write(Payload(Bytes::from(command.into()))), true)
    }

    fn read(&mut self, query: impl Into<String>) -> usize {
        self.send(Operation::Read(Payload(Bytes::from(query.into()))), true)
    }

    /// Waits for every answer; returns them, and how long each took.
    fn answers(&self) -> Vec<(Outcome, Duration)> {
        let (answers, late) = self
            .answers
            .changed
            .wait_timeout_while(self.answers.by_slot.lock().unwrap(), PATIENCE, |answers| {
                answers.len() < self.sent.len()
            })
            .unwrap();
        assert!(!late.timed_out(), "{} of {} were answered", answers.len(), self.sent.len());
        answers.iter().map(|(slot, (outcome, at))| (outcome.clone(), *at - self.sent[*slot as usize].1)).collect()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.answers().into_iter().map(|(outcome, _)| outcome).collect()
    }
}

fn text(outcome: &Outcome) -> String {
    match outcome {
        Ok(Response::Answer(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// A small generator: the tests print its seed.
struct Random(u64);

impl Random {
    fn seeded(name: &str) -> Self {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        println!("{name}: seed {seed}");
        Random(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn every_node_takes_writes_and_reads() {
    let cluster = Cluster::new(3);
    cluster.leader();
    for (count, (_, node)) in cluster.nodes.iter().enumerate() {
        let answer = node.propose(format!("letters {count}")).unwrap();
        assert_eq!(answer, Bytes::from((count + 1).to_string()));
    }
    for &id in &cluster.members {
        assert_eq!(cluster.words(id, "letters"), ["0", "1", "2"]);
    }
}

fn a_single_node_leads_itself_and_remembers_after_a_restart() {
    let mut cluster = Cluster::new(1);
    let id = cluster.leader();
    for word in 0..100 {
        let answer = cluster.nodes[&id].propose(format!("w {word}"));
        assert_eq!(answer, Ok(Bytes::from((word + 1).to_string())));
    }
    let term = cluster.status(id).term;
    // For as long as it takes.
    assert_eq!(cluster.nodes.remove(&id).unwrap().stop(Duration::MAX), Ok(()));
    cluster.start(id);
    assert_eq!(cluster.words(id, "w").len(), 100);
    assert!(cluster.status(id).term > term);
}

fn pipelined_reads_see_exactly_the_earlier_writes_of_their_connection() {
    let cluster = Cluster::new(3);
    cluster.leader();
    let mut random = Random::seeded("pipelined reads");
    let mut clients = Vec::new();
    for number in 0..12u64 {
        let through = cluster.members[number as usize % 3];
        let mut seed = Random(random.below(u64::MAX) | 1);
        let (node, list) = (cluster.client(through), format!("list{number}"));
        clients.push(thread::spawn(move || {
            let mut client = node;
            let mut expected = Vec::new();
            let mut words = Vec::new();
            for step in 0..400 {
                if seed.below(2) == 0 {
                    words.push(step.to_string());
                    client.write(format!("{list} {step}"));
                    expected.push(words.len().to_string());
                } else {
                    client.read(list.clone());
                    expected.push(words.join(" "));
                }
                if seed.below(40) == 0 {
                    client.answers();
                }
            }
            let answers: Vec<String> = client.outcomes().iter().map(text).collect();
            assert_eq!(answers, expected, "through node {through}");
        }));
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// What one connection was told must fit together: a read sees every acknowledged write before it, none after it, none
/// that was definitely refused, and those it sees in the order sent.
fn check_order(sent: &[(String, Instant)], outcomes: &[Outcome], list: &str) {
    let is_read = |slot: usize| sent[slot].0 == list;
    let word = |slot: usize| sent[slot].0.split_once(' ').unwrap().1.to_owned();
    for read in (0..sent.len()).filter(|&slot| is_read(slot)) {
        let Ok(Response::Answer(answer)) = &outcomes[read] else { continue };
        let seen: Vec<String> = String::from_utf8_lossy(answer).split_whitespace().map(str::to_owned).collect();
        let mut places = Vec::new();
        for word_seen in &seen {
            let write = (0..sent.len()).find(|&slot| !is_read(slot) && word(slot) == *word_seen).unwrap();
            assert!(write < read, "read {read} saw the later write {write}");
            assert!(
                outcomes[write].as_ref().err().is_none_or(|failure| !failure.is_definite()),
                "write {write} was refused"
            );
            places.push(write);
        }
        let acknowledged = (0..read).filter(|&slot| !is_read(slot) && outcomes[slot].is_ok());
        for write in acknowledged {
            assert!(places.contains(&write), "read {read} missed write {write}");
        }
        assert!(places.is_sorted(), "read {read} saw writes out of order: {places:?}");
    }
}

fn order_holds_while_leadership_moves_and_nodes_are_cut_off() {
    let cluster = Cluster::new(3);
    cluster.leader();
    let mut random = Random::seeded("order under change");
    let clients: Vec<_> = (0..9u64)
        .map(|number| {
            let mut client = cluster.client(cluster.members[number as usize % 3]);
            let mut seed = Random(random.below(u64::MAX) | 1);
            thread::spawn(move || {
                let list = format!("list{number}");
                let deadline = Instant::now() + Duration::from_secs(3);
                let mut step = 0;
                while Instant::now() < deadline {
                    for _ in 0..=seed.below(20) {
                        step += 1;
                        if seed.below(2) == 0 {
                            client.write(format!("{list} {step}"))
                        } else {
                            client.read(list.clone())
                        };
                    }
                    client.answers();
                }
                let outcomes = client.outcomes();
                check_order(&client.sent, &outcomes, &list);
                let acknowledged = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                assert!(acknowledged > 0, "something succeeded");
                (list, client.sent.clone(), outcomes)
            })
        })
        .collect();
    let mut changes = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        let leader = cluster.leader();
        if changes % 2 == 0 {
            let mut admin = cluster.client(leader);
            admin.send(Operation::Transfer { to: None }, true);
            admin.answers();
        } else {
            cluster.network.isolate(leader);
            cluster.leader_without(Some(leader));
            cluster.network.heal();
        }
        changes += 1;
    }
    println!("{changes} changes of leadership");
    let through = cluster.leader();
    for client in clients {
        let (list, sent, outcomes) = client.join().unwrap();
        check_presence(&cluster.words(through, &list), &sent, &outcomes);
    }
}

/// What is acknowledged is there once, what is refused is not, and nothing is there twice.
fn check_presence(present: &[String], sent: &[(String, Instant)], outcomes: &[Outcome]) {
    for ((operation, _), outcome) in sent.iter().zip(outcomes) {
        let Some((_, word)) = operation.split_once(' ') else { continue };
        let count = present.iter().filter(|present| *present == word).count();
        match outcome {
            Ok(_) => assert_eq!(count, 1, "{operation} was acknowledged"),
            Err(failure) if failure.is_definite() => assert_eq!(count, 0, "{operation}: {failure}"),
            Err(_) => assert!(count <= 1, "{operation} ran twice"),
        }
    }
}

fn nothing_acknowledged_is_lost_while_nodes_are_killed_and_come_back() {
    let mut cluster = Cluster::new(3);
    cluster.leader();
    let mut random = Random::seeded("kills");
    let handles: Arc<Mutex<BTreeMap<NodeId, NodeHandle>>> = Arc::default();
    let publish = |cluster: &Cluster| {
        *handles.lock().unwrap() = cluster.nodes.iter().map(|(id, node)| (*id, node.handle())).collect();
    };
    publish(&cluster);
    let clients: Vec<_> = (0..8u64)
        .map(|number| {
            let handles = Arc::clone(&handles);
            let mut seed = Random(random.below(u64::MAX) | 1);
            thread::spawn(move || {
                let deadline = Instant::now() + Duration::from_secs(3);
                let mut batches = Vec::new();
                while Instant::now() < deadline {
                    let list = format!("client{number}batch{}", batches.len());
                    let through = NodeId(1 + seed.below(3));
                    let Some(node) = handles.lock().unwrap().get(&through).cloned() else { continue };
                    let mut client = Client::new(node);
                    for step in 0..=seed.below(30) {
                        if seed.below(2) == 0 {
                            client.write(format!("{list} {step}"))
                        } else {
                            client.read(list.clone())
                        };
                    }
                    let outcomes = client.outcomes();
                    check_order(&client.sent, &outcomes, &list);
                    batches.push((list, client.sent, outcomes));
                }
                batches
            })
        })
        .collect();
    let mut kills = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        let victim = if kills % 3 == 2 { cluster.follower() } else { cluster.leader() };
        cluster.nodes.remove(&victim).unwrap().kill();
        publish(&cluster);
        cluster.leader_without(Some(victim));
        cluster.start(victim);
        publish(&cluster);
        kills += 1;
    }
    println!("{kills} kills");
    let through = cluster.leader();
    let mut acknowledged = 0;
    for (list, sent, outcomes) in clients.into_iter().flat_map(|client| client.join().unwrap()) {
        check_presence(&cluster.words(through, &list), &sent, &outcomes);
        acknowledged += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    }
    assert!(acknowledged > 100, "only {acknowledged} requests succeeded");
}

fn every_proposal_in_flight_is_answered_once_when_leadership_is_lost() {
    let cluster = Cluster::new(3);
    let old = cluster.leader();
    cluster.network.isolate(old);
    let mut client = cluster.client(old);
    for number in 0..100 {
        client.write(format!("flight {number}"));
    }
    let new = cluster.leader_without(Some(old));
    cluster.nodes[&new].propose("flight new").unwrap();
    let answers = client.answers();
    for (outcome, took) in &answers {
        assert!(outcome.is_err(), "a minority acknowledges nothing");
        // A leader that hears nobody steps down after one timeout, and its clients wait one more; the rest is for a busy machine.
        assert!(*took < 15 * ELECTION_TIMEOUT, "{outcome:?} after {took:?}");
    }
    cluster.network.heal();
    await_that("the old leader to follow", || cluster.status(old).leader == Some(cluster.leader()));
    let present = cluster.words(old, "flight");
    for (number, (outcome, _)) in answers.iter().enumerate() {
        let is_there = present.contains(&number.to_string());
        assert!(!is_there || outcome.as_ref().is_err_and(|failure| !failure.is_definite()), "{number}: {outcome:?}");
    }
    assert!(present.contains(&"new".to_owned()));
}

fn forwarded_requests_are_answered_once_when_their_leader_is_cut_off() {
    let cluster = Cluster::new(3);
    let old = cluster.leader();
    let through = cluster.follower();
    cluster.nodes[&through].propose("f before").unwrap();
    cluster.network.isolate(old);
    let mut client = cluster.client(through);
    for number in 0..50 {
        client.write(format!("f {number}"));
        client.read("f");
    }
    let outcomes = client.outcomes();
    check_order(&client.sent[..], &outcomes, "f_other");
    cluster.leader_without(Some(old));
    assert!(cluster.nodes[&through].propose("f after").is_ok());
    cluster.network.heal();
    let present = cluster.words(through, "f");
    assert_eq!(present.iter().filter(|word| *word == "before").count(), 1);
    for (slot, outcome) in outcomes.iter().enumerate().step_by(2) {
        let word = (slot / 2).to_string();
        let count = present.iter().filter(|present| **present == word).count();
        match outcome {
            Ok(_) => assert_eq!(count, 1),
            Err(failure) if failure.is_definite() => assert_eq!(count, 0),
            Err(_) => assert!(count <= 1),
        }
    }
}

fn stopping_hands_over_and_answers_everything() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    let mut through_follower = cluster.client(cluster.follower());
    for number in 0..1000 {
        client.write(format!("s {number}"));
        through_follower.write(format!("t {number}"));
    }
    let began = Instant::now();
    assert_eq!(cluster.nodes.remove(&leader).unwrap().stop(Duration::from_secs(2)), Ok(()));
    assert!(began.elapsed() < Duration::from_secs(2));
    let outcomes = client.outcomes();
    let next = cluster.leader_without(Some(leader));
    let present = cluster.words(next, "s");
    for (number, outcome) in outcomes.iter().enumerate() {
        let is_there = present.contains(&number.to_string());
        match outcome {
            Ok(_) => assert!(is_there),
            Err(failure) if failure.is_definite() => assert!(!is_there, "{failure}"),
            Err(_) => {}
        }
    }
    assert_eq!(through_follower.outcomes().len(), 1000);
    let mut late = client;
    late.write("s late");
    assert_eq!(late.outcomes().last().unwrap(), &Err(Failure::NotReady("this node has stopped".into())));
}

/// Remembers what nodes say.
struct Said(Mutex<Vec<String>>);

impl log::Log for Said {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

static SAID: Said = Said(Mutex::new(Vec::new()));

fn nodes_that_all_stop_at_once_do_not_wait_for_each_other() {
    // It is set by now if the other runtime had its turn before.
    let _ = log::set_logger(&SAID);
    log::set_max_level(log::LevelFilter::Info);
    // Other tests beside this one have other nodes.
    let first = if runtime() == RuntimeKind::ThreadedRuntime { 11 } else { 21 };
    let members: Vec<NodeId> = (first..first + 5).map(NodeId).collect();
    for _ in 0..3 {
        let mut cluster = Cluster::of(members.clone(), 64 << 20);
        cluster.leader();
        let nodes = std::mem::take(&mut cluster.nodes);
        thread::scope(|scope| {
            let stopping: Vec<_> =
                nodes.into_values().map(|node| scope.spawn(move || node.stop(Duration::from_secs(10)))).collect();
            stopping.into_iter().for_each(|stopped| assert_eq!(stopped.join().unwrap(), Ok(())));
        });
    }
    let said = SAID.0.lock().unwrap();
    let by_them = |line: &&String| members.iter().any(|id| line.starts_with(&format!("node {id} ")));
    let said: Vec<_> = said.iter().filter(by_them).collect();
    assert!(said.iter().any(|line| line.contains("hands leadership over before it stops")), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("stops without waiting any longer")), "{said:#?}");
}

fn a_follower_that_lags_is_loaded_from_the_log() {
    let mut cluster = Cluster::with_limit(3, 20_000);
    let leader = cluster.leader();
    let lagging = cluster.follower();
    cluster.network.isolate(lagging);
    let filler = "x".repeat(500);
    for number in 0..300 {
        let answer = cluster.nodes[&leader].propose(format!("big {number}{filler}"));
        assert!(answer.is_ok(), "{answer:?}");
    }
    cluster.network.heal();
    let last = cluster.status(cluster.leader()).last;
    await_that("the follower to catch up", || cluster.status(lagging).applied >= last);
    // And a restarted node applies its own log, without having it in memory.
    assert_eq!(cluster.nodes.remove(&lagging).unwrap().stop(PATIENCE), Ok(()));
    cluster.start(lagging);
    await_that("the restarted node to apply its log", || cluster.status(lagging).applied >= last);
    assert_eq!(cluster.words(lagging, "big").len(), 300);
}

fn requests_that_no_leader_can_take_are_refused_in_time() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader();
    let follower = cluster.follower();
    let mut client = cluster.client(follower);
    client.send(Operation::Write(Payload(Bytes::from("a b"))), false);
    client.send(Operation::Transfer { to: None }, true);
    let hint = Failure::NotReady(format!("not the leader; the leader is node {leader} (N{leader})"));
    assert_eq!(client.outcomes(), [Err(hint.clone()), Err(hint)]);

    let others: Vec<NodeId> = cluster.members.iter().copied().filter(|id| *id != follower).collect();
    for id in others {
        cluster.nodes.remove(&id).unwrap().stop(PATIENCE).unwrap();
    }
    await_that("the follower to notice", || {
        let status = cluster.status(follower);
        status.leader.is_none() || status.role == Role::Leader
    });
    let mut client = cluster.client(follower);
    client.write("a c");
    client.read("a");
    for (outcome, took) in client.answers() {
        assert!(outcome.is_err(), "{outcome:?}");
        assert!(took < 15 * ELECTION_TIMEOUT, "{took:?}");
    }
}

fn a_transfer_moves_leadership_and_holds_requests_meanwhile() {
    let cluster = Cluster::new(3);
    let old = cluster.leader();
    let target = cluster.follower();
    let mut client = cluster.client(old);
    client.write("a 1");
    client.send(Operation::Transfer { to: Some(target) }, true);
    client.write("a 2");
    client.read("a");
    let outcomes = client.outcomes();
    assert_eq!(outcomes[1], Ok(Response::Done));
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(text(&outcomes[2]), "2");
    assert_eq!(text(&outcomes[3]), "1 2");
    assert_eq!(cluster.leader(), target);
}

fn a_leader_whose_disk_hangs_steps_down_and_a_hanging_node_does_not_hold_up_its_stop() {
    let mut cluster = Cluster::new(3);
    let old = cluster.leader();
    cluster.storages[&old].set(Disk::Hangs);
    let mut client = cluster.client(old);
    client.write("h 1");
    let new = cluster.leader_without(Some(old));
    assert_ne!(new, old);
    assert_eq!(client.outcomes().len(), 1);
    cluster.nodes[&new].propose("h 2").unwrap();
    let began = Instant::now();
    let ended = cluster.nodes.remove(&old).unwrap().stop(Duration::from_millis(1500));
    assert!(ended.as_ref().is_err_and(|reason| reason.contains("storage")), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    cluster.storages[&old].set(Disk::Works);
}

fn a_failed_sync_stops_the_node() {
    let cluster = Cluster::new(3);
    let leader = cluster.leader();
    cluster.storages[&leader].set(Disk::Fails);
    let mut client = cluster.client(leader);
    for number in 0..10 {
        client.write(format!("z {number}"));
    }
    assert_eq!(cluster.nodes[&leader].wait(), Err("storage: the disk is on fire".into()));
    assert_eq!(client.outcomes().len(), 10);
    let mut listing = String::new();
    for outcome in client.outcomes() {
        writeln!(listing, "{outcome:?}").unwrap();
    }
    assert!(
        cluster.members.iter().filter(|id| **id != leader).all(|id| cluster.nodes[id].status().is_ok()),
        "{listing}"
    );
}

fn a_machine_that_panics_stops_its_node_and_says_so() {
    struct Fragile;
    impl Machine for Fragile {
        fn apply(&mut self, _: Applied<'_>) -> Bytes {
            panic!("on purpose")
        }
        fn query(&self, _: Asked<'_>) -> Bytes {
            Bytes::new()
        }
        fn digest(&self) -> u64 {
            0
        }
    }
    let network = MemoryNetwork::new();
    let id = NodeId(1);
    let connect = |handle: &NodeHandle| network.transport(id, handle);
    let (options, storage) = (NodeOptions::new(id, [id]), Box::new(TestStorage::new()));
    let node = Node::start_on(runtime(), options, storage, Box::new(Fragile), connect).unwrap();
    assert!(node.propose("boom").is_err_and(|failure| !failure.is_definite()));
    assert_eq!(node.wait(), Err("the apply thread panicked".into()));
    node.handle().deliver(Input::Tick);
}

/// Notes where commands are applied, and panics elsewhere than on the thread for that.
struct Whereabouts {
    threads: Arc<Mutex<BTreeSet<String>>>,
    panics: bool,
}

impl Machine for Whereabouts {
    fn apply(&mut self, _: Applied<'_>) -> Bytes {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        assert!(!self.panics || thread == "apply", "on purpose");
        self.threads.lock().unwrap().insert(thread);
        Bytes::new()
    }

    fn query(&self, _: Asked<'_>) -> Bytes {
        Bytes::new()
    }

    fn is_brief(&self, applied: Applied<'_>) -> bool {
        applied.command == "brief"
    }

    fn digest(&self) -> u64 {
        0
    }
}

fn node_that_notes_threads(panics: bool) -> (Node, Arc<Mutex<BTreeSet<String>>>) {
    let (network, id, threads) = (MemoryNetwork::new(), NodeId(1), Arc::default());
    let machine = Whereabouts { threads: Arc::clone(&threads), panics };
    let connect = |handle: &NodeHandle| network.transport(id, handle);
    let (options, storage) = (NodeOptions::new(id, [id]), Box::new(TestStorage::new()));
    (Node::start_on(runtime(), options, storage, Box::new(machine), connect).unwrap(), threads)
}

fn brief_commands_are_applied_without_waking_another_thread() {
    let (node, threads) = node_that_notes_threads(false);
    node.propose("long").unwrap();
    assert_eq!(*threads.lock().unwrap(), BTreeSet::from(["apply".to_owned()]));
    await_that("a command applied elsewhere", || {
        // What comes first after another one may find its thread still busy with that.
        node.propose("brief").unwrap();
        threads.lock().unwrap().len() > 1
    });
    assert_eq!(node.stop(PATIENCE), Ok(()));
}

fn a_machine_that_panics_on_the_thread_of_a_turn_stops_its_node() {
    let (node, _) = node_that_notes_threads(true);
    let running = node.running().clone();
    await_that("a command applied elsewhere", || {
        let _ = node.propose("brief");
        running.is_empty() && running.try_recv() == Err(TryRecvError::Disconnected)
    });
    let ended = node.wait();
    assert!(ended.as_ref().is_err_and(|reason| reason.contains("panicked")), "{ended:?}");
    let late = node.propose("brief");
    assert!(matches!(&late, Err(Failure::NotReady(_))), "{late:?}");
}

// Turns of the event handler on other threads, which only the threaded runtime has.

/// Notes on which threads messages leave, and panics on those of one name if it shall.
struct Noting<T> {
    transport: T,
    threads: Arc<Mutex<BTreeSet<String>>>,
    panics_on: Option<&'static str>,
}

impl<T: Transport> Transport for Noting<T> {
    fn life(&self) -> Life {
        self.transport.life()
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
        let thread = thread::current();
        assert!(thread.name() != self.panics_on, "on purpose");
        self.threads.lock().unwrap().extend(thread.name().map(ToOwned::to_owned));
        self.transport.send(to, message)
    }

    fn flush(&mut self) {
        self.transport.flush();
    }

    fn keep_snapshots_in(&mut self, store: Arc<dyn SnapshotStore>) {
        self.transport.keep_snapshots_in(store);
    }

    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        self.transport.send_snapshot(to, term, snapshot)
    }

    fn abandon_snapshots(&mut self) {
        self.transport.abandon_snapshots();
    }
}

/// Three nodes, and the threads on which messages left them. On those of this name the first node panics.
fn noting_cluster(panics_on: Option<&'static str>) -> (Vec<Node>, Arc<Mutex<BTreeSet<String>>>) {
    let (network, threads) = (MemoryNetwork::new(), Arc::<Mutex<BTreeSet<String>>>::default());
    let members = [1, 2, 3].map(NodeId);
    let start = |id: NodeId| {
        let connect = |handle: &NodeHandle| Noting {
            transport: network.transport(id, handle),
            threads: threads.clone(),
            panics_on: panics_on.filter(|_| id == members[0]),
        };
        let (options, storage) = (NodeOptions::new(id, members), Box::new(TestStorage::new()));
        Node::start(options, storage, Box::<Lists>::default(), connect).unwrap()
    };
    let nodes = members.map(start).into();
    (nodes, threads)
}

#[test]
fn acknowledgements_leave_on_the_thread_that_has_synced() {
    let (nodes, threads) = noting_cluster(None);
    await_that("a turn on the storage thread of a node", || {
        // Whether the event handler is free just then is up to the system.
        let _ = nodes[0].propose("list word");
        threads.lock().unwrap().contains("storage")
    });
    assert!(threads.lock().unwrap().contains("event handler"));
    for node in nodes {
        assert_eq!(node.stop(PATIENCE), Ok(()));
    }
}

#[test]
fn a_turn_that_panics_on_another_thread_stops_the_node() {
    let (nodes, _) = noting_cluster(Some("storage"));
    let running = nodes[0].running().clone();
    await_that("a turn on the storage thread of the first node", || {
        let _ = nodes[1].propose("list word");
        running.is_empty() && running.try_recv() == Err(TryRecvError::Disconnected)
    });
    assert_eq!(nodes[0].wait(), Err("the event handler panicked on another thread".into()));
    let late = nodes[0].propose("list word");
    assert!(matches!(&late, Err(Failure::NotReady(_))), "{late:?}");
}
