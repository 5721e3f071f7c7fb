//! A driver by hand: one real server, its peers and stages played by the test, no thread and no clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::consensus::{
    AppendEntries, Entry, EntryHeader, EntryKind, LogTime, Membership, Payload, Remembered, ServerConfig, SnapshotMeta,
    Term,
};
use crate::machine::MachineSnapshot;
use crate::runtime::SnapshotView;
use crate::runtime::stage::{Jobs, queue};
use crate::runtime::{Life, Loaded, Operation, Outcome, PeerReply, Reply, ReplySink, Response};
use crate::storage::snapshot::{FileSnapshots, SnapshotInfo};
use crate::transport::{Failure, Forward, ForwardKind, Undelivered};

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
const TIMEOUT: Duration = Duration::from_millis(100);
const SNAPSHOT_AGE: Duration = Duration::from_secs(60);
const LIFE: Life = Life { incarnation: 7, boot: 1 };

type SentSnapshots = Arc<Mutex<Vec<(NodeId, Term, Index)>>>;
type Sent = Arc<Mutex<Vec<(NodeId, PeerMessage)>>>;

/// Called when the transport is dropped.
type HangUp = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

struct Wire {
    hang_up: HangUp,
    sent: Sent,
    /// Messages overtake each other.
    unordered: Arc<AtomicBool>,
    down: Arc<Mutex<BTreeSet<NodeId>>>,
    snapshots: SentSnapshots,
}

impl Transport for Wire {
    fn life(&self) -> Life {
        LIFE
    }

    fn keeps_order(&self) -> bool {
        !self.unordered.load(Ordering::Relaxed)
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) -> Result<(), Undelivered> {
        if self.down.lock().unwrap().contains(&to) {
            return Err(Undelivered);
        }
        self.sent.lock().unwrap().push((to, message));
        Ok(())
    }

    fn flush(&mut self) {}

    fn keep_snapshots_in(&mut self, _: Arc<dyn SnapshotStore>) {}

    fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<(), Undelivered> {
        self.snapshots.lock().unwrap().push((to, term, snapshot.index));
        Ok(())
    }

    fn abandon_snapshots(&mut self) {
        self.snapshots.lock().unwrap().clear();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(hang_up) = self.hang_up.lock().unwrap().take() {
            hang_up();
        }
    }
}

#[derive(Default)]
struct Answers(Mutex<BTreeMap<u64, Outcome>>);

impl ReplySink for Answers {
    fn reply(&self, slot: u64, outcome: Outcome) {
        assert!(self.0.lock().unwrap().insert(slot, outcome).is_none(), "slot {slot} was answered twice");
    }
}

struct Bench {
    driver: Driver,
    now: Duration,
    hang_up: HangUp,
    sent: Sent,
    unordered: Arc<AtomicBool>,
    down: Arc<Mutex<BTreeSet<NodeId>>>,
    storage: Jobs<StorageJob>,
    apply: Jobs<ApplyJob>,
    loader: Jobs<LoadRequest>,
    snapshot: Jobs<SnapshotJob>,
    snapshots: SentSnapshots,
    store: Arc<FileSnapshots>,
    answers: Arc<Answers>,
    next_slot: u64,
}

impl Bench {
    fn new() -> Self {
        Bench::with(1 << 20, 1 << 20)
    }

    fn with(max_pending_bytes: u64, max_inflight_bytes: u64) -> Self {
        Bench::of([ME, PEER, OTHER], max_pending_bytes, max_inflight_bytes)
    }

    fn of(voters: impl IntoIterator<Item = NodeId>, max_pending_bytes: u64, max_inflight_bytes: u64) -> Self {
        Bench::assemble(voters, max_pending_bytes, |config| config.max_inflight_bytes = max_inflight_bytes)
    }

    fn with_config(change: impl FnOnce(&mut DriverConfig)) -> Self {
        Bench::assemble([ME, PEER, OTHER], 1 << 20, change)
    }

    fn assemble(
        voters: impl IntoIterator<Item = NodeId>,
        max_pending_bytes: u64,
        change: impl FnOnce(&mut DriverConfig),
    ) -> Self {
        let server_config =
            ServerConfig { max_pending_bytes, ..ServerConfig::new(ME, TIMEOUT, Duration::from_millis(20)) };
        let remembered = Remembered { membership: Membership::of_voters(voters), ..Remembered::default() };
        let server = Server::new(server_config, remembered, 1, Duration::ZERO);
        let labels = BTreeMap::from([(PEER, "B".to_owned())]);
        let mut config = DriverConfig {
            labels,
            election_timeout: TIMEOUT,
            heartbeat_interval: Duration::from_millis(20),
            start: None,
            max_inflight_bytes: 1 << 20,
            snapshot_bytes: 1 << 20,
            snapshot_entries: 20,
            snapshot_age: Some(SNAPSHOT_AGE),
        };
        change(&mut config);
        let (sent, down, snapshots) = (Sent::default(), Arc::default(), SentSnapshots::default());
        let unordered: Arc<AtomicBool> = Arc::default();
        let hang_up = HangUp::default();
        let wire = Wire {
            hang_up: Arc::clone(&hang_up),
            sent: Arc::clone(&sent),
            unordered: Arc::clone(&unordered),
            down: Arc::clone(&down),
            snapshots: Arc::clone(&snapshots),
        };
        let (to_storage, storage) = queue();
        let (to_apply, apply) = queue();
        let (to_loader, loader) = queue();
        let (to_snapshot, snapshot) = queue();
        let stages = Stages { storage: to_storage, apply: to_apply, loader: to_loader, snapshot: to_snapshot };
        let store = Arc::new(FileSnapshots::in_memory());
        let driver = Driver::new(config, server, Box::new(wire), stages, store.clone(), Duration::ZERO);
        let answers = Arc::default();
        Bench {
            driver,
            now: Duration::ZERO,
            hang_up,
            sent,
            unordered,
            down,
            storage,
            apply,
            loader,
            snapshot,
            snapshots,
            store,
            answers,
            next_slot: 0,
        }
    }

    fn leader() -> Self {
        let mut bench = Bench::new();
        bench.elect();
        bench
    }

    fn elect(&mut self) {
        self.now = self.driver.election_deadline().unwrap();
        self.turn([Input::Tick], []);
        let term = self.driver.server.term().next();
        self.hear(PEER, term, MessageBody::RequestVoteResponse { pre: true, granted: true });
        self.persist();
        self.hear(PEER, term, MessageBody::RequestVoteResponse { pre: false, granted: true });
        assert_eq!(self.driver.server.role(), Role::Leader);
        self.persist();
        self.acknowledge();
        self.sent.lock().unwrap().clear();
        self.apply.try_iter().for_each(drop);
    }

    /// Hears of a leader, and takes these entries from it.
    fn follow(&mut self, leader: NodeId, term: u64, after: (u64, u64), entries: &[(u64, &str)]) {
        let input = from_leader(leader, term, after, entries);
        self.turn([input], []);
        self.sent.lock().unwrap().clear();
    }

    fn turn(&mut self, inputs: impl IntoIterator<Item = Input>, requests: impl IntoIterator<Item = ClientRequest>) {
        self.driver.turn(self.now, inputs, requests);
    }

    fn hear(&mut self, from: NodeId, term: Term, body: MessageBody) {
        let message = PeerMessage::Raft { message: Message { term, body }, payloads: Vec::new() };
        self.turn([Input::Peer { from, life: LIFE, message }], []);
    }

    fn persist(&mut self) -> Vec<StorageJob> {
        let jobs: Vec<StorageJob> = self.storage.try_iter().collect();
        if let Some(job) = jobs.last() {
            self.turn([Input::Persisted { token: job.token }], []);
        }
        jobs
    }

    /// The peer has everything, and has heard the latest round.
    fn acknowledge(&mut self) {
        let rounds = self.appends(PEER).into_iter().map(|(append, _)| append.round);
        let round = rounds.max().unwrap_or_default();
        let matched = self.driver.server.last_index();
        let term = self.driver.server.term();
        self.hear(PEER, term, MessageBody::AppendAccepted { matched, round, abstains: false });
    }

    fn appends(&self, to: NodeId) -> Vec<(AppendEntries, Vec<Payload>)> {
        let sent = self.sent.lock().unwrap();
        let to_peer = sent.iter().filter(|(receiver, _)| *receiver == to);
        let append = |(_, message): &(NodeId, PeerMessage)| match message {
            PeerMessage::Raft { message: Message { body: MessageBody::AppendEntries(append), .. }, payloads } => {
                Some((append.clone(), payloads.clone()))
            }
            _ => None,
        };
        to_peer.filter_map(append).collect()
    }

    fn forwards(&self) -> Vec<(NodeId, Forward)> {
        let mut sent = self.sent.lock().unwrap();
        let forward = |(to, message)| match message {
            PeerMessage::Forward(forward) => Some((to, forward)),
            _ => None,
        };
        sent.drain(..).filter_map(forward).collect()
    }

    fn forward_replies(&self) -> Vec<(u64, Result<Payload, Failure>)> {
        let mut sent = self.sent.lock().unwrap();
        let reply = |(_, message)| match message {
            PeerMessage::ForwardReply { sequence, outcome, .. } => Some((sequence, outcome)),
            _ => None,
        };
        sent.drain(..).filter_map(reply).collect()
    }

    fn request(&mut self, connection: u64, text: &str) -> ClientRequest {
        let slot = self.next_slot;
        self.next_slot += 1;
        let payload = Payload(Bytes::from(text.to_owned()));
        let operation = if text.starts_with('?') { Operation::Read(payload) } else { Operation::Write(payload) };
        let reply = Reply::new(self.answers.clone(), slot);
        ClientRequest { connection, operation, forward: true, reply }
    }

    /// One turn with these requests: (connection, text), a read if it begins with `?`.
    fn ask(&mut self, requests: &[(u64, &str)]) {
        let requests: Vec<_> = requests.iter().map(|(connection, text)| self.request(*connection, text)).collect();
        self.turn([], requests);
    }

    fn answered(&self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut *self.answers.0.lock().unwrap()).into_iter().collect()
    }

    fn reads(&self) -> Vec<(u64, String)> {
        let jobs: Vec<ApplyJob> = self.apply.try_iter().collect();
        let reads = jobs.into_iter().flat_map(|job| job.reads);
        reads.map(|read| (read.position.0, String::from_utf8_lossy(&read.query).into_owned())).collect()
    }
}

fn entries_after(after: u64, entries: &[(u64, &str)]) -> Vec<Entry> {
    let header = |index, term, size| EntryHeader {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Command,
        time: LogTime(0),
        session: None,
        size,
    };
    (after + 1..)
        .zip(entries)
        .map(|(index, (term, text))| Entry {
            header: header(index, *term, text.len() as u32),
            payload: Payload(Bytes::from((*text).to_owned())),
        })
        .collect()
}

fn from_leader(from: NodeId, term: u64, after: (u64, u64), entries: &[(u64, &str)]) -> Input {
    let (entries, payloads) =
        entries_after(after.0, entries).into_iter().map(|entry| (entry.header, entry.payload)).unzip();
    let (prev_index, prev_term) = (Index(after.0), Term(after.1));
    let append = AppendEntries { prev_index, prev_term, commit: Index(0), round: 0, entries };
    let message = Message { term: Term(term), body: MessageBody::AppendEntries(append) };
    Input::Peer { from, life: LIFE, message: PeerMessage::Raft { message, payloads } }
}

fn forward(term: u64, sequence: u64, kind: ForwardKind, text: &str) -> Input {
    forward_in(LIFE, term, sequence, kind, text)
}

fn forward_in(life: Life, term: u64, sequence: u64, kind: ForwardKind, text: &str) -> Input {
    let payload = Payload(Bytes::from(text.to_owned()));
    let forward = Forward { term, sequence, connection: 5, kind, payload };
    Input::Peer { from: PEER, life, message: PeerMessage::Forward(forward) }
}

fn reply(from: NodeId, sequence: u64, outcome: Result<Payload, Failure>) -> Input {
    Input::Peer { from, life: LIFE, message: PeerMessage::ForwardReply { life: LIFE, sequence, outcome } }
}

fn not_ready() -> Result<Payload, Failure> {
    Err(Failure::NotReady("not the leader".into()))
}

fn is_unknown(outcome: &Outcome) -> bool {
    outcome.as_ref().is_err_and(|failure| !failure.is_definite())
}

#[test]
fn a_turn_is_one_write_to_the_disk_and_one_message_to_each_peer() {
    let mut bench = Bench::leader();
    bench.ask(&[(1, "a"), (2, "b"), (1, "c")]);
    let jobs: Vec<StorageJob> = bench.storage.try_iter().collect();
    assert_eq!(jobs.len(), 1);
    let written: Vec<&[u8]> = jobs[0].batch.entries.iter().map(|entry| &*entry.payload).collect();
    assert_eq!(written, [b"a", b"b", b"c"]);
    let appends = bench.appends(PEER);
    assert_eq!(appends.len(), 1);
    assert_eq!(appends[0].1.len(), 3);
}

#[test]
fn a_read_gets_the_position_of_its_connections_last_write_before_it() {
    let mut bench = Bench::leader();
    bench.ask(&[(7, "?r1"), (7, "w2"), (7, "?r2"), (8, "?other"), (7, "w3"), (7, "?r3")]);
    bench.ask(&[(7, "?again"), (7, "w4")]);
    bench.persist();
    assert_eq!(bench.reads(), [], "nothing is confirmed yet");
    bench.acknowledge();
    let mut reads = bench.reads();
    reads.sort();
    let expected = [(1, "?other"), (1, "?r1"), (2, "?r2"), (3, "?again"), (3, "?r3")];
    assert_eq!(reads, expected.map(|(position, query)| (position, query.to_owned())));
}

#[test]
fn reads_reach_the_state_machine_before_what_is_committed_with_them() {
    let mut bench = Bench::leader();
    bench.ask(&[(7, "w2"), (7, "?r"), (7, "w3")]);
    bench.persist();
    bench.acknowledge();
    let jobs: Vec<ApplyJob> = bench.apply.try_iter().collect();
    assert_eq!(jobs.len(), 1, "one job for the turn, and reads come first in a job");
    assert_eq!(jobs[0].reads[0].position, Index(2));
    let commit = jobs[0].commit.as_ref().unwrap();
    assert_eq!((commit.last, commit.entries.len(), commit.askers.len()), (Index(3), 2, 2));
}

#[test]
fn a_confirmed_read_whose_write_is_lost_does_not_wait_for_ever() {
    let mut bench = Bench::leader();
    bench.ask(&[(7, "w2"), (7, "?r")]);
    bench.acknowledge_round_only();
    assert_eq!(bench.reads(), [], "confirmed, but its position is not committed");
    // Another leader has no entry 2.
    bench.follow(PEER, 9, (1, 1), &[]);
    bench.now += TIMEOUT;
    bench.turn([], []);
    let answers = bench.answered();
    assert!(is_unknown(&answers[0].1), "{answers:?}");
    assert_eq!(bench.forwards().len(), 1, "the read goes to the new leader");
}

impl Bench {
    fn acknowledge_round_only(&mut self) {
        let round = self.appends(PEER).into_iter().map(|(append, _)| append.round).max().unwrap();
        let term = self.driver.server.term();
        self.hear(PEER, term, MessageBody::AppendAccepted { matched: Index(1), round, abstains: false });
    }
}

#[test]
fn what_is_too_much_is_refused_and_the_rest_is_not() {
    let mut bench = Bench::with(400, 1 << 20);
    bench.elect();
    let big = "x".repeat(150);
    bench.ask(&[(1, &big), (1, &big), (1, &big), (1, "?r")]);
    let refused = bench.answered();
    assert!(!refused.is_empty(), "over the limit");
    assert!(refused.iter().all(|(_, outcome)| matches!(outcome, Err(Failure::Overloaded(_)))), "{refused:?}");
    bench.persist();
    bench.acknowledge();
    let last = bench.driver.server.last_index().0;
    assert_eq!(bench.reads(), [(last, "?r".to_owned())], "behind what was accepted, not behind what was refused");
}

#[test]
fn a_forwarded_request_runs_once_and_only_in_its_term() {
    let mut bench = Bench::leader();
    let term = bench.driver.server.term().0;
    let write = ForwardKind::Write;
    bench.turn([forward(term, 4, write, "a"), forward(term, 4, write, "a"), forward(term, 3, write, "b")], []);
    assert_eq!(bench.driver.server.last_index(), Index(2), "once");
    bench.sent.lock().unwrap().clear();
    bench.turn([forward(term - 1, 5, write, "c"), forward(term + 1, 6, write, "d")], []);
    let refused = bench.forward_replies();
    assert_eq!(refused.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [5, 6]);
    assert!(refused.iter().all(|(_, outcome)| matches!(outcome, Err(Failure::NotReady(_)))));
    bench.turn([forward_in(Life { boot: 2, ..LIFE }, term, 1, write, "e")], []);
    assert_eq!(bench.driver.server.last_index(), Index(3), "a new life counts from the beginning");
    bench.persist();
    bench.acknowledge();
    let job = bench.apply.try_iter().next().unwrap();
    let askers = job.commit.unwrap().askers;
    assert_eq!(askers.iter().map(|(index, _)| index.0).collect::<Vec<_>>(), [2, 3]);
    bench
        .turn([Input::Replies(vec![PeerReply { to: PEER, life: LIFE, sequence: 4, outcome: Ok(Payload::EMPTY) }])], []);
    assert_eq!(bench.forward_replies(), [(4, Ok(Payload::EMPTY))]);
}

#[test]
fn where_messages_overtake_each_other_each_forwarded_request_runs_once_all_the_same() {
    let mut bench = Bench::leader();
    bench.unordered.store(true, Ordering::Relaxed);
    let (term, write) = (bench.driver.server.term().0, ForwardKind::Write);
    for (sequence, last) in [(4, 2), (2, 3), (4, 3), (3, 4), (2, 4), (1, 5), (3, 5)] {
        bench.turn([forward(term, sequence, write, "a")], []);
        assert_eq!(bench.driver.server.last_index(), Index(last), "{sequence}");
    }
    let late = 6 + 4096;
    for sequence in 6..=late {
        bench.turn([forward(term, sequence, ForwardKind::Read, "?")], []);
    }
    bench.turn([forward(term, 5, write, "too late to know")], []);
    assert_eq!(bench.driver.server.last_index(), Index(5));
}

#[test]
fn where_messages_overtake_each_other_requests_of_a_connection_are_forwarded_one_by_one() {
    let mut bench = Bench::new();
    bench.unordered.store(true, Ordering::Relaxed);
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.ask(&[(1, "a"), (1, "b"), (2, "c"), (1, "?d")]);
    let payloads = |bench: &Bench| -> Vec<_> {
        bench.forwards().into_iter().map(|(_, forward)| (forward.sequence, forward.payload)).collect()
    };
    let payload = |text: &'static str| Payload(Bytes::from_static(text.as_bytes()));
    assert_eq!(payloads(&bench), [(1, payload("a")), (2, payload("c"))]);
    // The second request is refused, which says nothing of the first, and goes to the next leader.
    bench.turn([reply(PEER, 2, not_ready())], []);
    bench.follow(OTHER, 2, (0, 0), &[]);
    bench.turn([reply(PEER, 1, Ok(Payload::EMPTY))], []);
    let answered = bench.answered();
    assert!(matches!(answered[..], [(0, Ok(_))]), "{answered:?}");
    let mut sent = payloads(&bench);
    sent.sort();
    assert_eq!(sent, [(4, payload("b"))]);
    bench.turn([reply(OTHER, 4, Ok(Payload::EMPTY))], []);
    assert_eq!(payloads(&bench), [(5, payload("?d"))]);
}

#[test]
fn an_answer_names_the_life_that_asked_and_no_later_one_takes_it() {
    let mut bench = Bench::leader();
    let term = bench.driver.server.term().0;
    let earlier = Life { boot: 0, ..LIFE };
    bench.turn([forward_in(earlier, term, 1, ForwardKind::Write, "a")], []);
    bench.turn([forward_in(LIFE, term, 1, ForwardKind::Write, "b")], []);
    bench.persist();
    bench.acknowledge();
    let askers = bench.apply.try_iter().next().unwrap().commit.unwrap().askers;
    let life = |(_, asker): &(Index, Asker)| match asker {
        Asker::Peer { life, .. } => *life,
        Asker::Client { .. } => panic!("nobody else asked"),
    };
    assert_eq!(askers.iter().map(life).collect::<Vec<_>>(), [earlier, LIFE]);

    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.ask(&[(5, "w1")]);
    assert_eq!(bench.forwards().len(), 1);
    let stray = PeerMessage::ForwardReply { life: earlier, sequence: 1, outcome: Ok(Payload::EMPTY) };
    bench.turn([Input::Peer { from: PEER, life: LIFE, message: stray }], []);
    assert_eq!(bench.answered(), [], "it answers what this node had asked before it was restarted");
    bench.turn([reply(PEER, 1, Ok(Payload::EMPTY))], []);
    assert_eq!(bench.answered(), [(0, Ok(Response::Answer(Bytes::new())))]);
}

#[test]
fn leadership_goes_to_voters_and_need_not_go_to_whoever_has_it() {
    let mut bench = Bench::leader();
    for to in [ME, NodeId(9)] {
        let request = bench.request(1, "");
        bench.turn([], [ClientRequest { operation: Operation::Transfer { to: Some(to) }, ..request }]);
    }
    let answers = bench.answered();
    assert_eq!(answers[0], (0, Ok(Response::Done)));
    assert!(matches!(answers[1], (1, Err(Failure::Refused(_)))), "{answers:?}");
    bench.ask(&[(1, "w")]);
    assert_eq!(bench.driver.server.last_index(), Index(2), "nothing is handed over");
}

#[test]
fn a_transfer_that_takes_long_does_not_look_like_the_end_of_the_term() {
    let mut bench = Bench::leader();
    let term = bench.driver.server.term().0;
    let transfer = |bench: &mut Bench| {
        let request = bench.request(1, "");
        bench.turn([], [ClientRequest { operation: Operation::Transfer { to: Some(OTHER) }, ..request }]);
    };
    transfer(&mut bench);
    bench.turn([forward(term, 1, ForwardKind::Write, "a")], []);
    assert_eq!(bench.forward_replies(), [], "held meanwhile");
    bench.acknowledge();
    bench.now += 2 * TIMEOUT;
    bench.hear(PEER, Term(term), MessageBody::AppendAccepted { matched: Index(1), round: 0, abstains: false });
    bench.turn([Input::Tick], []);
    let replies = bench.forward_replies();
    assert!(replies.is_empty() || matches!(replies[..], [(1, Err(Failure::Overloaded(_)))]), "{replies:?}");
    assert!(bench.answered()[0].1.is_err(), "the transfer was given up");
    bench.turn([forward(term, 2, ForwardKind::Write, "b")], []);
    assert!(bench.driver.server.last_index() >= Index(2), "this node still leads, and takes requests again");
}

#[test]
fn only_the_door_tells_a_peer_that_nothing_sent_later_will_be_taken() {
    let mut bench = Bench::leader();
    let term = bench.driver.server.term().0;
    bench.turn([forward(term, 1, ForwardKind::Write, "a"), forward(term, 2, ForwardKind::Read, "?r")], []);
    bench.sent.lock().unwrap().clear();
    // Another leader, whose entry takes the place of ours.
    bench.turn([from_leader(PEER, term + 8, (1, term), &[(term + 8, "x")])], []);
    bench.persist();
    let mut commit = from_leader(PEER, term + 8, (2, term + 8), &[]);
    if let Input::Peer { message: PeerMessage::Raft { message, .. }, .. } = &mut commit
        && let MessageBody::AppendEntries(append) = &mut message.body
    {
        append.commit = Index(2);
    }
    bench.turn([commit, forward(term, 3, ForwardKind::Write, "b")], []);
    let mut replies = bench.forward_replies();
    replies.sort_by_key(|(sequence, _)| *sequence);
    assert!(matches!(&replies[0], (1, Err(Failure::Unknown(_)))), "{replies:?}");
    assert!(matches!(&replies[1], (2, Err(Failure::Unknown(_)))), "{replies:?}");
    assert!(matches!(&replies[2], (3, Err(Failure::NotReady(_)))), "{replies:?}");
}

#[test]
fn a_peers_connection_does_not_wait_for_what_it_sent_in_an_earlier_term() {
    let mut bench = Bench::leader();
    let term = bench.driver.server.term().0;
    bench.turn([forward(term, 1, ForwardKind::Write, "a")], []);
    bench.follow(OTHER, term + 1, (1, term), &[]);
    bench.persist();
    bench.hear(OTHER, Term(term + 1), MessageBody::TimeoutNow);
    bench.persist();
    bench.hear(PEER, Term(term + 2), MessageBody::RequestVoteResponse { pre: false, granted: true });
    assert_eq!(bench.driver.requests.waiters.len(), 1, "no time has passed");
    let term = bench.driver.server.term().0;
    let last = bench.driver.server.last_index();
    bench.turn([forward(term, 2, ForwardKind::Write, "b")], []);
    assert_eq!(
        bench.driver.server.last_index(),
        last.next(),
        "if it waited, a later one might be taken before it is refused"
    );
}

#[test]
fn what_a_deposed_leader_refuses_goes_to_the_next_one_in_order() {
    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.ask(&[(5, "w1"), (5, "?r2"), (5, "w3"), (6, "w4")]);
    let sent = bench.forwards();
    assert_eq!(
        sent.iter().map(|(to, forward)| (*to, forward.sequence)).collect::<Vec<_>>(),
        [1, 2, 3, 4].map(|n| (PEER, n))
    );
    bench.turn([reply(PEER, 1, Ok(Payload::EMPTY)), reply(PEER, 2, not_ready())], []);
    assert_eq!(bench.answered(), [(0, Ok(Response::Answer(Bytes::new())))]);
    bench.ask(&[(5, "w5")]);
    assert_eq!(bench.forwards(), [], "that leader leads no more");
    bench.follow_keeping(OTHER, 2);
    let again: Vec<(NodeId, u64, String)> = bench
        .forwards()
        .into_iter()
        .map(|(to, forward)| (to, forward.connection, String::from_utf8_lossy(&forward.payload).into_owned()))
        .collect();
    let expected = [(OTHER, 5, "?r2"), (OTHER, 5, "w3"), (OTHER, 5, "w5"), (OTHER, 6, "w4")];
    assert_eq!(again, expected.map(|(to, connection, text)| (to, connection, text.to_owned())));
    bench.turn([reply(PEER, 3, Ok(Payload::EMPTY))], []);
    assert_eq!(bench.answered(), [], "what the old leader says of it no longer counts");
}

impl Bench {
    fn follow_keeping(&mut self, leader: NodeId, term: u64) {
        let input = from_leader(leader, term, (0, 0), &[]);
        self.turn([input], []);
    }
}

#[test]
fn a_broken_connection_leaves_writes_unknown_and_repeats_reads_that_no_later_write_can_disturb() {
    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.ask(&[(5, "?r0"), (5, "w1"), (5, "?r2"), (6, "?r3")]);
    bench.sent.lock().unwrap().clear();
    bench.turn([Input::Link { peer: PEER, up: false }], []);
    let answers = bench.answered();
    assert!(matches!(answers[0], (0, Err(Failure::NotReady(_)))), "it might see w1 now: {answers:?}");
    assert!(answers[1].0 == 1 && is_unknown(&answers[1].1));
    assert_eq!(answers.len(), 2);
    let repeated: Vec<Payload> = bench.forwards().into_iter().map(|(_, forward)| forward.payload).collect();
    assert_eq!(repeated.iter().map(|payload| &**payload).collect::<Vec<_>>(), [b"?r2", b"?r3"]);
}

#[test]
fn a_connection_waits_for_what_is_under_way_to_the_last_leader() {
    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.ask(&[(5, "w1")]);
    bench.sent.lock().unwrap().clear();
    bench.follow_keeping(OTHER, 2);
    bench.ask(&[(5, "w2"), (6, "w3")]);
    let sent = bench.forwards();
    assert_eq!(sent.len(), 1, "w2 waits, another connection does not");
    assert_eq!(sent[0].1.connection, 6);
    bench.now += TIMEOUT;
    // A heartbeat, so that the leader stays known.
    bench.turn([from_leader(OTHER, 2, (0, 0), &[])], []);
    bench.turn([], []);
    assert!(is_unknown(&bench.answered()[0].1), "one election timeout for the last leader's answer");
    assert_eq!(bench.forwards()[0].1.connection, 5);
}

#[test]
fn without_a_leader_requests_are_held_and_then_refused() {
    let mut bench = Bench::new();
    bench.ask(&[(5, "w1"), (5, "?r2")]);
    assert_eq!(bench.answered(), []);
    let due = bench.driver.next_turn().expect("something waits");
    assert!(due <= TIMEOUT);
    bench.now = 2 * TIMEOUT;
    bench.turn([], []);
    assert!(bench.answered().iter().all(|(_, outcome)| matches!(outcome, Err(Failure::NotReady(_)))));
    assert_eq!(bench.driver.next_turn(), None, "nothing waits any more, and nobody wakes up for it");
}

/// A driver of a scenario, in which this node is blank.
fn scenario(voters: &[NodeId]) -> Bench {
    Bench::assemble(voters.iter().copied(), 1 << 20, |config| config.start = Some(ForcedStart::default()))
}

#[test]
fn in_a_scenario_no_clock_runs_before_all_peers_are_connected() {
    let mut bench = scenario(&[ME, PEER, OTHER]);
    bench.turn([link(PEER, true), link(OTHER, true), link(PEER, false)], []);
    bench.now = Duration::from_secs(1);
    bench.turn([link(OTHER, true)], []);
    assert_eq!(bench.driver.election_deadline(), None);
    bench.turn([link(PEER, true)], []);
    let begins = bench.driver.next_turn().expect("it begins a heartbeat later");
    assert_eq!(begins, bench.now + Duration::from_millis(20));
    assert_eq!(bench.driver.election_deadline(), None);
    bench.now = begins;
    bench.turn([], []);
    assert!(bench.driver.election_deadline().is_some_and(|at| at >= begins + TIMEOUT), "a whole election timeout");
    assert_eq!(bench.driver.next_turn(), None);
}

#[test]
fn a_scenario_begins_after_five_seconds_at_the_latest() {
    let mut bench = scenario(&[ME, PEER, OTHER]);
    bench.turn([Input::Link { peer: PEER, up: true }], []);
    assert_eq!(bench.driver.next_turn(), Some(Duration::from_secs(5)));
    bench.now = Duration::from_secs(5);
    bench.turn([], []);
    assert!(bench.driver.election_deadline().is_some());

    let mut alone = scenario(&[ME]);
    alone.turn([], []);
    assert!(alone.driver.election_deadline().is_some(), "there is nobody to wait for");

    let mut forgetful = scenario(&[ME, PEER]);
    forgetful.turn([Input::Forgot { reason: "seen before".into() }], []);
    assert_eq!(forgetful.driver.begins_at(), None, "it has begun in an earlier life");
}

#[test]
fn an_unreachable_leader_is_tried_again_but_not_all_the_time() {
    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.down.lock().unwrap().insert(PEER);
    bench.ask(&[(5, "w1"), (5, "w2")]);
    assert!(bench.driver.next_turn().is_some_and(|at| at > bench.now), "not at once");
    bench.down.lock().unwrap().clear();
    bench.turn([Input::Link { peer: PEER, up: true }], []);
    let sent: Vec<Payload> = bench.forwards().into_iter().map(|(_, forward)| forward.payload).collect();
    assert_eq!(sent.iter().map(|payload| &**payload).collect::<Vec<_>>(), [b"w1", b"w2"]);
}

#[test]
fn the_persists_of_a_turn_are_one_job_in_which_a_truncation_removes_what_it_overtook() {
    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[(1, "a"), (1, "b")]);
    bench.storage.try_iter().for_each(drop);
    let longer = from_leader(PEER, 1, (2, 1), &[(1, "c"), (1, "d")]);
    let newer = from_leader(OTHER, 2, (1, 1), &[(2, "B"), (2, "C")]);
    bench.turn([longer, newer], []);
    let jobs: Vec<StorageJob> = bench.storage.try_iter().collect();
    assert_eq!(jobs.len(), 1);
    let batch = &jobs[0].batch;
    assert_eq!(batch.truncate_from, Some(Index(2)));
    assert_eq!(batch.hard_state.unwrap().term, Term(2));
    let written: Vec<(u64, &[u8])> =
        batch.entries.iter().map(|entry| (entry.header.index.0, &*entry.payload)).collect();
    assert_eq!(written, [(2, b"B".as_slice()), (3, b"C")]);
}

#[test]
fn a_message_whose_payloads_do_not_fit_never_reaches_the_server() {
    let mut bench = Bench::new();
    for spoil in
        [|payloads: &mut Vec<Payload>| payloads.clear(), |payloads: &mut Vec<Payload>| payloads[0] = Payload::EMPTY]
    {
        let mut input = from_leader(PEER, 1, (0, 0), &[(1, "a")]);
        if let Input::Peer { message: PeerMessage::Raft { payloads, .. }, .. } = &mut input {
            spoil(payloads);
        }
        bench.turn([input], []);
        assert_eq!(bench.driver.server.last_index(), Index(0));
        assert!(bench.driver.ended().is_none());
    }
}

#[test]
fn a_lagging_peer_is_served_from_the_log_in_order() {
    let mut bench = Bench::with(1 << 20, 300);
    bench.elect();
    for text in ["a", "b", "c", "d", "e"] {
        bench.ask(&[(1, text)]);
        bench.persist();
        bench.acknowledge();
    }
    assert!(bench.driver.tail.first() > Index(2), "the first entries have left memory");
    bench.sent.lock().unwrap().clear();
    // The other follower turns out to have nothing at all.
    let refusal = MessageBody::AppendRejected {
        prev_index: Index(1),
        hint_index: Index(0),
        hint_term: Term(0),
        round: 0,
        abstains: false,
    };
    let term = bench.driver.server.term();
    bench.hear(
        OTHER,
        term,
        MessageBody::AppendRejected {
            prev_index: Index(0),
            hint_index: Index(0),
            hint_term: Term(0),
            round: 0,
            abstains: false,
        },
    );
    bench.hear(OTHER, term, refusal);
    let loads: Vec<LoadRequest> = bench.loader.try_iter().collect();
    let Some(load) = loads.last().copied() else { panic!("nothing was asked of the loader") };
    bench.now = bench.driver.heartbeat_deadline().unwrap();
    bench.turn([Input::Tick], []);
    assert_eq!(bench.appends(OTHER).len(), 0, "a heartbeat does not overtake");
    let texts = ["", "a", "b", "c", "d", "e"];
    let mut entries = entries_after(0, &texts.map(|text| (term.0, text)));
    entries.retain(|entry| entry.header.index >= load.first && entry.header.index <= load.last);
    let loaded = |term, entries| Input::Loaded(Loaded { peer: OTHER, term, first: load.first, entries });
    bench.turn([loaded(Term(99), entries.clone())], []);
    assert_eq!(bench.appends(OTHER).len(), 0, "asked for in another term");
    bench.turn([loaded(term, entries)], []);
    let appends = bench.appends(OTHER);
    assert_eq!(appends.len(), 2);
    assert_eq!(appends[0].0.entries.len(), appends[0].1.len());
    assert_eq!(appends[0].0.entries.first().map(|header| header.index), Some(load.first));
    assert!(appends[1].0.entries.is_empty(), "then the heartbeat");
}

#[test]
fn shutting_down_leaves_nobody_without_an_answer() {
    let mut bench = Bench::leader();
    bench.ask(&[(1, "appended"), (1, "?read")]);
    let term = bench.driver.server.term().0;
    bench.turn([forward(term, 1, ForwardKind::Write, "peer's")], []);
    bench.sent.lock().unwrap().clear();
    let queued = bench.request(1, "queued");
    let Bench { driver, answers, sent, .. } = bench;
    assert_eq!(driver.shut_down([queued]), Ok(()));
    let answers = answers.0.lock().unwrap();
    assert!(is_unknown(&answers[&0]), "in the log");
    assert!(matches!(answers[&1], Err(Failure::NotReady(_))));
    assert!(matches!(answers[&2], Err(Failure::NotReady(_))));
    let sent = sent.lock().unwrap();
    assert!(sent.iter().any(|(to, message)| *to == PEER
        && matches!(message, PeerMessage::ForwardReply { sequence: 1, outcome: Err(Failure::Unknown(_)), .. })));
}

#[test]
fn the_stages_hear_of_the_end_before_the_transport_takes_its_time() {
    let Bench { driver, storage, apply, hang_up, .. } = Bench::leader();
    let (told, hears) = crossbeam_channel::bounded(1);
    let has_ended = move || {
        storage.try_iter().for_each(drop);
        apply.try_iter().for_each(drop);
        let ended = (storage.try_recv().err(), apply.try_recv().err());
        told.send(ended).unwrap();
    };
    *hang_up.lock().unwrap() = Some(Box::new(has_ended));
    assert_eq!(driver.shut_down([]), Ok(()));
    let disconnected = Some(crossbeam_channel::TryRecvError::Disconnected);
    assert_eq!(hears.try_recv(), Ok((disconnected, disconnected)));
}

/// Link to a peer goes up or down.
fn link(peer: NodeId, up: bool) -> Input {
    Input::Link { peer, up }
}

impl Bench {
    /// Who was told to take over since the last time.
    fn told_to_take_over(&self) -> Vec<NodeId> {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        let order = |message: &PeerMessage| {
            matches!(message, PeerMessage::Raft { message: Message { body: MessageBody::TimeoutNow, .. }, .. })
        };
        sent.into_iter().filter(|(_, message)| order(message)).map(|(to, _)| to).collect()
    }

    /// The peer campaigns in the next term, as it was told to, and gets this node's vote.
    fn vote_for_successor(&mut self, peer: NodeId) {
        let (last_index, last_term) = (self.driver.server.last_index(), self.driver.server.term());
        let body = MessageBody::RequestVote { pre: false, last_index, last_term, transfer: true };
        self.hear(peer, last_term.next(), body);
        self.sent.lock().unwrap().clear();
        self.persist();
        let sent = self.sent.lock().unwrap();
        let vote = MessageBody::RequestVoteResponse { pre: false, granted: true };
        let is_vote =
            |message: &PeerMessage| matches!(message, PeerMessage::Raft { message, .. } if message.body == vote);
        assert!(sent.iter().any(|(to, message)| *to == peer && is_vote(message)), "{sent:?}");
    }

    /// When a node that stops ends, if nothing more comes in.
    fn ends_at(&mut self) -> Duration {
        while self.driver.ended().is_none() {
            self.now = self.driver.next_turn().expect("it looks again");
            self.turn([], []);
        }
        assert_eq!(self.driver.ended(), Some(&Ok(())));
        self.now
    }
}

/// A leader of three that was asked to stop and has handed over, to a successor who has its vote.
fn handed_over() -> Bench {
    let mut bench = Bench::leader();
    bench.turn([link(PEER, true), link(OTHER, true), Input::Stop], []);
    assert_eq!(bench.told_to_take_over(), [PEER]);
    bench.vote_for_successor(PEER);
    assert!(bench.driver.ended().is_none(), "had its vote been lost, it would be needed again");
    bench
}

#[test]
fn a_node_that_has_handed_over_waits_for_its_successor_only_while_its_vote_can_elect_one() {
    let mut bench = handed_over();
    bench.turn([link(PEER, false)], []);
    assert!(bench.driver.ended().is_none(), "with the other it is a majority");
    bench.turn([link(OTHER, false)], []);
    assert_eq!(bench.driver.ended(), Some(&Ok(())));

    let mut bench = handed_over();
    let term = bench.driver.server.term().0;
    bench.turn([from_leader(PEER, term, (1, term - 1), &[])], []);
    assert_eq!(bench.driver.ended(), Some(&Ok(())), "there is a leader");

    let mut bench = handed_over();
    let began = bench.now;
    let waited = bench.ends_at() - began;
    assert!(waited >= 2 * TIMEOUT && waited < 3 * TIMEOUT, "{waited:?}: nobody was elected");
}

#[test]
fn a_node_that_stops_votes_but_does_not_campaign() {
    let mut bench = handed_over();
    let term = bench.driver.server.term();
    assert_eq!(bench.driver.election_deadline(), None);
    bench.now += 2 * TIMEOUT - Duration::from_millis(1);
    let due = bench.driver.server.election_deadline().unwrap();
    assert!(due <= bench.now, "the clock had fired before");
    bench.turn([Input::Tick], []);
    bench.hear(PEER, term, MessageBody::TimeoutNow);
    assert_eq!((bench.driver.server.role(), bench.driver.server.term()), (Role::Follower, term));
    bench.vote_for_successor(OTHER);

    let mut bench = Bench::new();
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.turn([link(PEER, true), link(OTHER, true)], []);
    bench.ask(&[(1, "under way")]);
    bench.turn([Input::Stop], []);
    bench.hear(PEER, Term(1), MessageBody::TimeoutNow);
    assert_eq!((bench.driver.server.role(), bench.driver.server.term()), (Role::Follower, Term(1)));
    bench.turn([reply(PEER, 1, Ok(Payload::EMPTY))], []);
    assert_eq!(bench.driver.ended(), Some(&Ok(())));
}

#[test]
fn a_successor_that_is_asked_to_stop_itself_wins_and_hands_on() {
    let mut bench = Bench::new();
    bench.turn([link(PEER, true), link(OTHER, true)], []);
    bench.follow(PEER, 1, (0, 0), &[]);
    bench.hear(PEER, Term(1), MessageBody::TimeoutNow);
    bench.turn([Input::Stop], []);
    assert_eq!(bench.driver.server.role(), Role::Candidate);
    assert!(bench.driver.ended().is_none(), "others have given it their votes, or will");
    bench.persist();
    bench.hear(PEER, Term(2), MessageBody::RequestVoteResponse { pre: false, granted: true });
    assert_eq!(bench.driver.server.role(), Role::Leader);
    assert_eq!(bench.told_to_take_over(), [], "nobody has the term's first entry yet");
    bench.hear(OTHER, Term(2), MessageBody::AppendAccepted { matched: Index(1), round: 0, abstains: false });
    // The first choice does not answer, and its connection breaks.
    bench.turn([link(PEER, false)], []);
    assert_eq!(bench.told_to_take_over(), [OTHER]);
    bench.vote_for_successor(OTHER);
    bench.turn([from_leader(OTHER, 3, (1, 2), &[])], []);
    assert_eq!(bench.driver.ended(), Some(&Ok(())));
}

#[test]
fn a_leader_that_stops_does_not_wait_for_a_successor_that_is_gone() {
    let mut bench = Bench::leader();
    bench.turn([link(PEER, true), link(OTHER, true), Input::Stop], []);
    assert_eq!(bench.told_to_take_over(), [PEER]);
    bench.hear(
        OTHER,
        bench.driver.server.term(),
        MessageBody::AppendAccepted { matched: Index(1), round: 0, abstains: false },
    );
    bench.turn([link(PEER, false)], []);
    assert_eq!(bench.told_to_take_over(), [OTHER], "the next best");
    assert!(bench.driver.ended().is_none());
    bench.turn([link(OTHER, false)], []);
    assert_eq!(bench.driver.ended(), Some(&Ok(())));
}

#[test]
fn a_leader_that_stops_while_the_others_hang_waits_as_long_as_a_transfer_may_take() {
    let mut bench = Bench::leader();
    bench.turn([link(PEER, true), link(OTHER, true), Input::Stop], []);
    let began = bench.now;
    while bench.driver.ended().is_none() {
        let deadlines = [bench.driver.heartbeat_deadline(), bench.driver.next_turn()];
        bench.now = deadlines.into_iter().flatten().min().unwrap();
        bench.turn([Input::Tick], []);
    }
    let waited = bench.now - began;
    assert!(waited <= 2 * TIMEOUT + TIMEOUT / 4, "{waited:?}");
}

#[test]
fn a_broken_invariant_ends_the_node_and_nothing_leaves_it() {
    let mut bench = Bench::leader();
    bench.turn([Input::Persisted { token: 999 }], []);
    assert!(matches!(bench.driver.ended(), Some(Err(reason)) if reason.contains("invariant")));
    bench.ask(&[(1, "w")]);
    assert!(matches!(bench.answered()[0].1, Err(Failure::NotReady(_))));
    assert!(bench.sent.lock().unwrap().is_empty());
}

fn snapshot_at(index: u64, term: u64) -> SnapshotMeta {
    let membership = Membership::of_voters([ME, PEER, OTHER]);
    SnapshotMeta { index: Index(index), term: Term(term), time: LogTime(index), membership }
}

/// So many writes, acknowledged; what the apply stage was told of them is taken away.
fn write(bench: &mut Bench, count: u64) {
    for number in 0..count {
        bench.ask(&[(1, &format!("w{number}"))]);
        bench.persist();
        bench.acknowledge();
    }
    bench.apply.try_iter().for_each(drop);
}

fn view(index: u64, term: Term) -> Input {
    let state: Option<Box<dyn MachineSnapshot>> = Some(Box::new(Nothing));
    Input::SnapshotView(SnapshotView { index: Index(index), term, time: LogTime(index), state })
}

impl Bench {
    fn views_wanted(&self) -> usize {
        self.apply.try_iter().filter(|job| job.snapshot).count()
    }

    fn turn_at(&mut self, now: Duration, input: impl IntoIterator<Item = Input>) {
        self.now = now;
        self.turn(input, []);
    }
}

struct Nothing;

impl MachineSnapshot for Nothing {
    fn write(self: Box<Self>, _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_snapshot_is_made_when_it_is_due_and_the_log_before_it_goes() {
    let mut bench = Bench::leader();
    write(&mut bench, 24);
    bench.turn([Input::Applied { index: Index(19) }], []);
    assert!(bench.apply.try_recv().is_err(), "not due yet");
    bench.turn([Input::Applied { index: Index(22) }, Input::Applied { index: Index(23) }], []);
    let jobs: Vec<ApplyJob> = bench.apply.try_iter().collect();
    assert!(jobs.len() == 1 && jobs[0].snapshot, "one at a time");

    let term = bench.driver.server.term();
    bench.turn([view(21, term)], []);
    let Ok(SnapshotJob::Take { meta, wanted, .. }) = bench.snapshot.try_recv() else { panic!("nothing is written") };
    assert_eq!((meta.index, meta.term, &meta.membership), (Index(21), term, bench.driver.server.membership()));
    assert!(wanted.strong_count() > 0);
    bench.turn([Input::Applied { index: Index(24) }], []);
    assert!(bench.apply.try_recv().is_err(), "still only one");

    let info = SnapshotInfo { meta: meta.clone(), bytes: 100 };
    bench.turn([Input::SnapshotTaken { info }], []);
    let job = bench.storage.try_recv().expect("the log is compacted");
    let keep_from = job.keep_from.unwrap();
    assert!(keep_from <= Index(22), "a tail stays");
    assert_eq!(bench.driver.server.base_index().next(), keep_from);
    assert!(bench.snapshot.try_recv().is_err(), "the log is not known to be durable");
    bench.turn([Input::Persisted { token: job.token }], []);
    assert!(matches!(bench.snapshot.try_recv(), Ok(SnapshotJob::RemoveOlder { than }) if than == meta));
}

/// The bench's limits are 1 MiB and 20 entries.
#[test]
fn a_large_snapshot_is_made_anew_after_as_many_more_entries_as_it_has_more_bytes() {
    let mut bench = Bench::leader();
    write(&mut bench, 64);
    let term = bench.driver.server.term();
    bench.turn([Input::Applied { index: Index(21) }], []);
    assert_eq!(bench.views_wanted(), 1);
    bench.turn([view(21, term)], []);
    let info = SnapshotInfo { meta: snapshot_at(21, term.0), bytes: 2 << 20 };
    bench.turn([Input::SnapshotTaken { info }], []);
    bench.turn([Input::Applied { index: Index(60) }], []);
    assert_eq!(bench.views_wanted(), 0, "twice as large, so not after 39 entries");
    bench.turn([Input::Applied { index: Index(61) }], []);
    assert_eq!(bench.views_wanted(), 1);
}

#[test]
fn a_snapshot_is_due_by_its_age_once_there_is_anything_new() {
    let mut bench = Bench::leader();
    write(&mut bench, 3);
    let term = bench.driver.server.term();
    // The test's leader hears from nobody: only the driver's own limits of time matter here.
    let far = bench.now + 1000 * SNAPSHOT_AGE;
    bench.turn_at(far, []);
    assert_eq!((bench.views_wanted(), bench.driver.snapshots.next_due()), (0, None), "nothing was applied");

    bench.turn_at(far, [Input::Applied { index: Index(2) }]);
    let (due, moment) = (far + SNAPSHOT_AGE, Duration::from_nanos(1));
    assert_eq!(bench.driver.snapshots.next_due(), Some(due));
    assert!(bench.driver.next_turn().is_some_and(|at| at <= due), "the runtime wakes the driver for it");
    bench.turn_at(due - moment, [Input::Applied { index: Index(3) }]);
    assert_eq!(bench.views_wanted(), 0, "what is applied later does not put it off, and it is not due yet");
    bench.turn_at(due, []);
    assert_eq!(bench.views_wanted(), 1, "without any input");
    bench.turn_at(due + SNAPSHOT_AGE, [view(3, term)]);
    assert_eq!(bench.views_wanted(), 0, "one at a time");

    let info = SnapshotInfo { meta: snapshot_at(3, term.0), bytes: 100 };
    bench.turn_at(due + SNAPSHOT_AGE, [Input::SnapshotTaken { info }]);
    bench.turn_at(far + 100 * SNAPSHOT_AGE, []);
    assert_eq!((bench.views_wanted(), bench.driver.snapshots.next_due()), (0, None), "nothing new since");
    bench.turn([Input::Applied { index: Index(4) }], []);
    assert_eq!(bench.driver.snapshots.next_due(), Some(bench.now + SNAPSHOT_AGE));
}

#[test]
fn what_is_applied_while_a_snapshot_is_made_has_its_own_age() {
    let mut bench = Bench::leader();
    write(&mut bench, 4);
    let term = bench.driver.server.term();
    let due = bench.now + SNAPSHOT_AGE;
    bench.turn([Input::Applied { index: Index(2) }], []);
    bench.turn_at(due, []);
    bench.turn([view(2, term), Input::Applied { index: Index(4) }], []);
    let taken = due + Duration::from_secs(5);
    bench.turn_at(taken, [Input::SnapshotTaken { info: SnapshotInfo { meta: snapshot_at(2, term.0), bytes: 100 } }]);
    assert_eq!(bench.driver.snapshots.next_due(), Some(taken + SNAPSHOT_AGE));
}

#[test]
fn without_an_age_a_snapshot_is_never_due_by_it() {
    let mut bench = Bench::with_config(|config| config.snapshot_age = None);
    bench.elect();
    bench.turn([Input::Applied { index: Index(1) }], []);
    assert_eq!(bench.driver.snapshots.next_due(), None);
}

#[test]
fn a_snapshot_that_was_put_off_is_tried_again_even_if_nothing_more_is_applied() {
    let mut bench = Bench::leader();
    write(&mut bench, 24);
    let term = bench.driver.server.term();
    bench.turn([Input::Applied { index: Index(23) }], []);
    assert_eq!(bench.views_wanted(), 1);
    bench.turn([view(23, term), Input::SnapshotPutOff { reason: "no space".into() }], []);
    let again = bench.driver.snapshots.next_due().expect("it is still due");
    assert!(again > bench.now && again < bench.now + SNAPSHOT_AGE, "after a while");
    assert!(bench.driver.next_turn().is_some_and(|at| at <= again));
    bench.turn_at(again, []);
    assert_eq!(bench.views_wanted(), 1);
}

#[test]
fn a_received_snapshot_replaces_the_log_the_tail_and_the_state() {
    let mut bench = Bench::new();
    bench.follow(PEER, 3, (0, 0), &[(1, "a"), (1, "b")]);
    bench.storage.try_iter().for_each(drop);
    let meta = snapshot_at(9, 2);
    // Entries that are on their way to the disk, and a snapshot in the same turn.
    let more = from_leader(PEER, 3, (2, 1), &[(1, "c")]);
    let received = Input::SnapshotReceived { from: PEER, term: Term(3), snapshot: meta.clone() };
    bench.turn([more, received], []);
    let restored: Vec<_> = bench.apply.try_iter().filter_map(|job| job.restore).collect();
    assert_eq!(restored, std::slice::from_ref(&meta));
    let job = bench.storage.try_recv().unwrap();
    assert_eq!((job.batch.install, job.batch.entries.len(), job.batch.truncate_from), (Some(meta.clone()), 0, None));
    assert_eq!(bench.driver.tail.first(), Index(10));
    let installed = |bench: &Bench| {
        let sent = bench.sent.lock().unwrap();
        let body = |message: &PeerMessage| match message {
            PeerMessage::Raft { message, .. } => Some(message.body.clone()),
            _ => None,
        };
        sent.iter()
            .any(|(_, sent)| body(sent) == Some(MessageBody::SnapshotInstalled { matched: Index(9), abstains: false }))
    };
    assert!(!installed(&bench), "not durable yet");
    bench.turn([Input::Persisted { token: job.token }], []);
    assert!(installed(&bench));
    assert!(matches!(bench.snapshot.try_recv(), Ok(SnapshotJob::RemoveOlder { than }) if than == meta));

    // The log goes on, and an older one that comes late changes nothing.
    bench.turn([from_leader(PEER, 3, (9, 2), &[(3, "d")])], []);
    let late = Input::SnapshotReceived { from: PEER, term: Term(3), snapshot: snapshot_at(5, 2) };
    bench.turn([late], []);
    assert_eq!(bench.driver.server.last_index(), Index(10));
    assert!(bench.apply.try_iter().all(|job| job.restore.is_none()));
    assert!(bench.driver.ended().is_none());
}

/// A whole snapshot that a deposed leader has sent comes when there is a new one, whose log may be another.
#[test]
fn a_whole_snapshot_of_a_stale_term_replaces_nothing() {
    let mut bench = Bench::new();
    bench.follow(PEER, 3, (0, 0), &[(1, "a"), (1, "b")]);
    bench.turn([from_leader(OTHER, 4, (2, 1), &[])], []);
    bench.sent.lock().unwrap().clear();
    let stale = Input::SnapshotReceived { from: PEER, term: Term(3), snapshot: snapshot_at(9, 2) };
    bench.turn([stale], []);
    assert!(bench.apply.try_iter().all(|job| job.restore.is_none()));
    assert!(bench.storage.try_iter().all(|job| job.batch.install.is_none()));
    assert_eq!((bench.driver.server.last_index(), bench.driver.server.term()), (Index(2), Term(4)));
    let sent = bench.sent.lock().unwrap();
    let tells_its_term = |message: &PeerMessage| {
        matches!(message, PeerMessage::Raft { message, .. } if message.term == Term(4)
            && !matches!(message.body, MessageBody::SnapshotInstalled { .. }))
    };
    assert!(sent.iter().any(|(to, message)| *to == PEER && tells_its_term(message)), "the sender learns so");
    drop(sent);
    assert!(bench.driver.ended().is_none());
}

#[test]
fn a_message_alone_installs_nothing() {
    let mut bench = Bench::new();
    bench.hear(PEER, Term(3), MessageBody::InstallSnapshot { snapshot: snapshot_at(9, 2) });
    assert_eq!(bench.driver.server.last_index(), Index(0));
    assert!(bench.storage.try_recv().is_err() && bench.apply.try_recv().is_err());
}

#[test]
fn a_peer_that_needs_one_gets_the_newest_snapshot_once() {
    let mut bench = Bench::leader();
    let term = bench.driver.server.term();
    let meta = snapshot_at(1, term.0);
    bench.store.create(&meta).unwrap().finish().unwrap();
    for _ in 0..2 {
        bench.driver.send_snapshot(OTHER, Index(1));
    }
    assert_eq!(*bench.snapshots.lock().unwrap(), [(OTHER, term, Index(1))]);
    let given_up = |index, term| Input::SnapshotSent { to: OTHER, term, index, outcome: Err("lost".into()) };
    bench.turn([given_up(Index(1), Term(0)), given_up(Index(7), term)], []);
    bench.driver.send_snapshot(OTHER, Index(1));
    assert_eq!(bench.snapshots.lock().unwrap().len(), 1, "these were others");

    // Its disk may be full, and an attempt is work for both: each waits longer than the one before.
    let mut pauses = Vec::new();
    for attempt in 2..10 {
        bench.turn([given_up(Index(1), term)], []);
        let failed = bench.now;
        while bench.snapshots.lock().unwrap().len() < attempt {
            bench.now += Duration::from_millis(250);
            bench.driver.turn(bench.now, [], []);
            bench.driver.send_snapshot(OTHER, Index(1));
        }
        pauses.push((bench.now - failed).as_millis());
    }
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    bench.turn([Input::SnapshotSent { to: OTHER, term, index: Index(1), outcome: Ok(()) }], []);
    bench.driver.send_snapshot(OTHER, Index(1));
    bench.turn([given_up(Index(1), term)], []);
    bench.now += Duration::from_millis(250);
    bench.driver.turn(bench.now, [], []);
    bench.driver.send_snapshot(OTHER, Index(1));
    assert_eq!(bench.snapshots.lock().unwrap().len(), 11, "after one that got there it begins anew");
    bench.follow(PEER, term.0 + 1, (1, term.0), &[]);
    assert_eq!(bench.snapshots.lock().unwrap().len(), 0, "whoever does not lead sends none");
}

#[test]
fn a_snapshot_that_cannot_be_sent_is_told_even_if_its_peer_was_unreachable_before_in_the_turn() {
    let mut bench = Bench::with_config(|config| config.snapshot_bytes = 100);
    bench.elect();
    write(&mut bench, 24);
    let term = bench.driver.server.term();
    bench.turn([Input::Applied { index: Index(23) }], []);
    assert_eq!(bench.views_wanted(), 1);
    bench.turn([view(23, term)], []);
    // It is complete, the log before it goes; and then it is damaged, and so not there.
    bench.turn([Input::SnapshotTaken { info: SnapshotInfo { meta: snapshot_at(23, term.0), bytes: 100 } }], []);
    let base = bench.driver.server.base_index();
    assert!(base > Index(0));
    bench.sent.lock().unwrap().clear();

    bench.down.lock().unwrap().insert(OTHER);
    bench.now += TIMEOUT / 2;
    let body = MessageBody::AppendRejected {
        prev_index: base,
        hint_index: Index(0),
        hint_term: Term(0),
        round: 0,
        abstains: false,
    };
    let message = PeerMessage::Raft { message: Message { term, body }, payloads: Vec::new() };
    bench.turn([Input::Tick, Input::Peer { from: OTHER, life: LIFE, message }], []);
    assert!(!bench.appends(PEER).is_empty(), "a heartbeat to everybody: the one to the other peer was lost");
    assert_eq!(bench.views_wanted(), 1, "a snapshot was wanted, and there is none: a new one is made");
    let status = bench.driver.server.status();
    let other = status.peers.iter().find(|peer| peer.id == OTHER).unwrap();
    assert_eq!(other.state, "probe", "nobody sends a snapshot: the leader must not wait for its end");
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_and_its_requests_follow() {
    let mut bench = Bench::leader();
    bench.ask(&[(1, "accepted")]);
    bench.acknowledge();
    bench.sent.lock().unwrap().clear();
    bench.turn([Input::DiskFull], []);
    let told = std::mem::take(&mut *bench.sent.lock().unwrap());
    let takeover = |message: &PeerMessage| {
        matches!(message, PeerMessage::Raft { message: Message { body: MessageBody::TimeoutNow, .. }, .. })
    };
    assert!(told.iter().any(|(to, message)| *to == PEER && takeover(message)), "the one that has everything: {told:?}");

    bench.ask(&[(2, "held"), (3, "?read")]);
    assert_eq!((bench.driver.server.last_index(), bench.answered()), (Index(2), vec![]), "nothing more is appended");
    let next = bench.driver.server.term().0 + 1;
    bench.turn([from_leader(PEER, next, (2, next - 1), &[])], []);
    assert_eq!(bench.driver.server.leader(), Some(PEER));
    let forwarded = bench.forwards();
    let forwarded: Vec<_> = forwarded.iter().map(|(to, forward)| (*to, &forward.payload[..])).collect();
    assert_eq!(forwarded, [(PEER, &b"held"[..]), (PEER, &b"?read"[..])]);
}

#[test]
fn a_leader_with_a_full_disk_that_nobody_relieves_steps_down_and_answers_everything() {
    let mut bench = Bench::leader();
    bench.turn([Input::DiskFull], []);
    bench.ask(&[(1, "w"), (2, "?r")]);
    assert_eq!(bench.answered(), []);
    for _ in 0..10 {
        bench.now += TIMEOUT / 4;
        bench.turn([Input::Tick], []);
    }
    assert_eq!(bench.driver.server.role(), Role::Follower);
    let answers = bench.answered();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.iter().all(|(_, outcome)| outcome.as_ref().is_err_and(Failure::is_definite)), "{answers:?}");
    assert_eq!(bench.driver.server.last_index(), Index(1), "nothing was appended");

    bench.turn([Input::DiskFreed], []);
    bench.elect();
    bench.ask(&[(1, "w")]);
    bench.persist();
    bench.acknowledge();
    let committed = bench.apply.try_iter().find_map(|job| job.commit).map(|commit| commit.last);
    assert_eq!(committed, Some(bench.driver.server.last_index()), "it leads as before");
}

#[test]
fn a_node_that_is_alone_campaigns_at_once_and_one_that_is_not_waits_for_an_election_timeout() {
    let due = |voters: &[NodeId], abstains| {
        let config = ServerConfig { abstains, ..ServerConfig::new(ME, TIMEOUT, Duration::from_millis(20)) };
        let membership = Membership::of_voters(voters.iter().copied());
        let start = Duration::from_secs(1);
        Server::new(config, Remembered { membership, ..Remembered::default() }, 1, start).election_deadline().unwrap()
            - start
    };
    assert_eq!(due(&[ME], false), Duration::ZERO);
    let waits: [(&[NodeId], bool); 3] = [(&[ME, PEER], false), (&[ME], true), (&[PEER], false)];
    for (voters, abstains) in waits {
        assert!(due(voters, abstains) >= TIMEOUT, "{voters:?}, abstains: {abstains}");
    }
}

#[test]
fn the_only_node_refuses_writes_while_its_disk_is_full() {
    let mut bench = Bench::of([ME], 1 << 20, 1 << 20);
    bench.now = bench.driver.election_deadline().unwrap();
    bench.turn([Input::Tick], []);
    (0..2).for_each(|_| drop(bench.persist()));
    assert_eq!(bench.driver.server.role(), Role::Leader);
    bench.turn([Input::DiskFull], []);
    bench.ask(&[(1, "w"), (1, "?r")]);
    let answers = bench.answered();
    let [(0, Err(Failure::Overloaded(reason)))] = &answers[..] else { panic!("{answers:?}") };
    assert!(reason.contains("disk of node 1 is full"), "{reason}");
    assert_eq!(bench.reads(), [(1, "?r".to_owned())], "what is there can be read");
    bench.turn([Input::DiskFreed], []);
    bench.ask(&[(1, "w")]);
    assert_eq!(bench.driver.server.last_index(), Index(2));
}
