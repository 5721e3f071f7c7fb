//! What the connections that carry snapshots endure from whoever knows the cluster's name: rubbish, lies about sizes and
//! offsets, damage, and peers that come and go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use raft::codec::handshake::Purpose;
use raft::codec::snapshot::{self, LIMIT_BYTES, Spoken};
use raft::codec::{frame, peer};
use raft::consensus::{Index, LogTime, Membership, Message, MessageBody, NodeId, SnapshotMeta, Term};
use raft::storage::cluster_id;
use raft::storage::files::DiskFiles;
use raft::storage::snapshot::{FileSnapshots, SnapshotStore};
use raft::transport::PeerMessage;
use raft::transport::transfer::{Offer, Progress};

use crate::attack::{descriptors, resident_bytes};
use crate::peers::impersonate;
use crate::support::cluster::{Cluster, PATIENCE, rounds, wait_until};
use crate::support::random::Random;

const PART_BYTES: usize = 70_000;

/// A peer that sends a snapshot, or says it does.
struct Sender {
    stream: TcpStream,
    input: BytesMut,
}

impl Sender {
    fn connect(cluster: &Cluster, to: u64) -> Self {
        let stream = impersonate(cluster, 3, to, Purpose::Snapshot);
        Sender { stream, input: BytesMut::new() }
    }

    fn say(&mut self, bytes: &[u8]) {
        // Whoever has hung up says so when it is asked for its answer.
        let _ = self.stream.write_all(bytes);
    }

    /// `None`: the connection is closed.
    fn answer(&mut self) -> Option<Result<Progress, String>> {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        loop {
            if let Some(frame) = frame::decode(&mut self.input, LIMIT_BYTES).expect("a frame") {
                return match snapshot::decode(frame).expect("an answer") {
                    Spoken::Progress(progress) => Some(Ok(progress)),
                    Spoken::Refused(refused) => Some(Err(refused.reason)),
                    other => panic!("no answer: {other:?}"),
                };
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither an answer nor an end: {error}"),
            }
        }
    }

    fn offer(&mut self, offer: &Offer) -> Option<Result<Progress, String>> {
        self.say(&offer_bytes(offer));
        self.answer()
    }

    fn refusal(&mut self, offset: u64, bytes: &[u8]) -> String {
        self.say(&chunk_bytes(offset, bytes));
        self.answer().expect("the reason comes before the end").expect_err("it is refused")
    }
}

fn offer_bytes(offer: &Offer) -> Vec<u8> {
    let mut out = Vec::new();
    snapshot::encode_offer(offer, &mut out).expect("it fits into a frame");
    out
}

fn chunk_bytes(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    snapshot::encode_chunk(offset, bytes, &mut out).expect("it fits into a frame");
    out
}

fn members() -> Membership {
    Membership::of_voters([1, 2, 3].map(NodeId))
}

fn offer(term: u64, index: u64, bytes: u64) -> Offer {
    let snapshot = SnapshotMeta { index: Index(index), term: Term(1), time: LogTime(1), membership: members() };
    Offer { term: Term(term), snapshot, bytes }
}

/// The file of a snapshot with so many bytes of state, which is no state of the machine.
fn file(index: u64, state_bytes: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = Arc::new(DiskFiles);
    let store = FileSnapshots::open(files, folder.path(), cluster_id("raft", &members())).expect("a store");
    let meta = offer(1, index, 0).snapshot;
    let mut writer = store.create(&meta).expect("a writer");
    writer.write_all(&vec![7; state_bytes]).expect("it takes all");
    let info = writer.finish().expect("it is complete");
    let mut bytes = vec![0; info.bytes as usize];
    store.open(&meta).expect("it is there").read_at(0, &mut bytes).expect("it is read");
    bytes
}

/// What a node keeps of snapshots, whole or not.
fn kept(cluster: &Cluster, id: u64) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cluster.data_folder(id)).expect("a data folder").filter_map(Result::ok);
    files.map(|file| file.path()).filter(|path| path.to_string_lossy().contains(".snapshot")).collect()
}

/// Two nodes that run, the third is played; and which one leads.
fn cluster() -> (Cluster, u64) {
    let mut cluster = Cluster::prepare(3, "ElectionTimeout = 500\nHeartbeatInterval = 50\n");
    cluster.spawn(1);
    cluster.spawn(2);
    let leader = cluster.wait_for_leader();
    cluster.client().set(b"k", b"before").expect("a write");
    (cluster, leader)
}

/// The nodes serve as before, and have nothing of what was done to them.
fn assert_unharmed(cluster: &Cluster, leader: u64) {
    cluster.client().set(b"k", b"after").expect("a write");
    assert_eq!(cluster.wait_for_leader(), leader, "nothing of that disturbed the cluster");
    for id in [1, 2] {
        let log = cluster.log(id);
        assert!(!log.contains("panicked") && !log.contains("goes on from the snapshot"), "{log}");
        assert!(kept(cluster, id).is_empty(), "{:?}", kept(cluster, id));
    }
}

#[test]
fn rubbish_and_lies_on_a_connection_for_a_snapshot_leave_no_trace() {
    let seed = 23;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let (cluster, leader) = cluster();
    let good = offer(1, 1 << 40, 1_000_000);
    let offered = offer_bytes(&good);
    let garbage = vec![9; 5_000];
    let mut flipped = chunk_bytes(0, &garbage);
    flipped[40] ^= 1;
    for to in [1, 2] {
        let (open, resident) = (descriptors(cluster.pid(to)), resident_bytes(cluster.pid(to)));
        for _ in 0..rounds(200, 5_000) {
            // Nothing but noise; noise after an offer; an offer that breaks off.
            let mut bytes = if random.next().is_multiple_of(2) { offered.clone() } else { Vec::new() };
            let noise = random.bytes(300);
            bytes.extend(noise);
            let cut = 1 + random.next() as usize % offered.len();
            let mut sender = Sender::connect(&cluster, to);
            sender.say(if random.next().is_multiple_of(3) { &offered[..cut.min(offered.len() - 1)] } else { &bytes });
        }
        // An offer that still waits for its turn would take the place of a later one.
        let all_closed = || (descriptors(cluster.pid(to)) <= open + 4).then_some(());
        wait_until("every descriptor is closed again", all_closed);
        let mut sender = Sender::connect(&cluster, to);
        assert_eq!(sender.offer(&good), Some(Ok(Progress { received: 0, complete: false })));
        sender.say(&flipped);
        assert_eq!(sender.answer(), None, "a frame with a wrong checksum ends the connection");

        let mut sender = Sender::connect(&cluster, to);
        sender.say(&chunk_bytes(0, &garbage));
        assert_eq!(sender.answer(), None, "nothing was offered");
        for (offset, what) in [(999_999, "expected those at"), (u64::MAX, "expected those at"), (0, "does not begin")] {
            let mut sender = Sender::connect(&cluster, to);
            assert!(sender.offer(&good).is_some_and(|answer| answer.is_ok()));
            let refused = sender.refusal(offset, &garbage);
            assert!(refused.contains(what), "{refused}");
        }
        for bytes in [1 << 50, u64::MAX] {
            let mut sender = Sender::connect(&cluster, to);
            assert_eq!(
                sender.offer(&Offer { bytes, ..good.clone() }),
                Some(Ok(Progress { received: 0, complete: false })),
                "no room is taken before the bytes are there"
            );
            assert!(sender.refusal(1, &garbage).contains("expected those at"));
        }
        let mut nothing = good.clone();
        nothing.snapshot.index = Index(0);
        assert_eq!(Sender::connect(&cluster, to).offer(&nothing), None);

        // An offer that is smaller than the header of its file, to be done with what is left of the others.
        let mut sender = Sender::connect(&cluster, to);
        assert!(sender.offer(&offer(1, 1 << 41, 10)).is_some_and(|answer| answer.is_ok()));
        let start = file(1 << 41, 100);
        assert!(sender.refusal(0, &start[..10]).contains("damaged"));
        drop(sender);
        wait_until("every descriptor is closed again", all_closed);
        assert!(resident_bytes(cluster.pid(to)) < resident + (32 << 20));
    }
    assert_unharmed(&cluster, leader);
}

#[test]
fn a_peer_that_disconnects_a_hundred_times_goes_on_where_it_was_and_damage_is_found_in_the_end() {
    let (cluster, leader) = cluster();
    let to = 3 - leader;
    let index = 1 << 40;
    let mut bytes = file(index, 120 * 65_536);
    let end = bytes.len();
    bytes[end - 30] ^= 1;
    let offer = offer(1, index, end as u64);
    let open = descriptors(cluster.pid(to));
    let (mut sent, mut before) = (0, None);
    for _ in 0..100 {
        let mut sender = Sender::connect(&cluster, to);
        let progress = sender.offer(&offer).expect("an answer").expect("it is wanted");
        assert!(!progress.complete && Some(progress.received) > before, "{progress:?} after {before:?}");
        before = Some(progress.received);
        let offset = progress.received as usize;
        let part = &bytes[offset..end.min(offset + PART_BYTES)];
        sender.say(&chunk_bytes(offset as u64, part));
        let acknowledged = sender.answer().expect("an answer").expect("it is taken");
        assert_eq!(acknowledged.received as usize, offset + part.len());
        // And half of the next.
        let next = chunk_bytes(acknowledged.received, part);
        sender.say(&next[..next.len() / 2]);
        sent += part.len();
    }
    let kept_bytes = before.expect("a hundred times") as usize;
    assert!(kept_bytes > 90 * 65_536, "each connection went on after the last: {kept_bytes}");
    assert!(sent < kept_bytes + 101 * PART_BYTES - 90 * 65_536, "{sent} bytes were sent for {kept_bytes}");
    let mut sender = Sender::connect(&cluster, to);
    let mut offset = sender.offer(&offer).expect("an answer").expect("it is wanted").received as usize;
    let refused = loop {
        let part = &bytes[offset..end.min(offset + PART_BYTES)];
        sender.say(&chunk_bytes(offset as u64, part));
        match sender.answer().expect("an answer") {
            Ok(progress) => offset = progress.received as usize,
            Err(refused) => break refused,
        }
    };
    assert!(refused.contains("damaged"), "{refused}");
    wait_until("every descriptor is closed again", || (descriptors(cluster.pid(to)) <= open + 4).then_some(()));
    assert_unharmed(&cluster, leader);
}

#[test]
fn of_two_senders_the_later_is_heard_and_one_of_an_old_term_changes_nothing() {
    let (cluster, leader) = cluster();
    let to = 3 - leader;
    let (first_file, second_file) = (file(1 << 40, 300_000), file(1 << 41, 300_000));
    let (mut first, mut second) = (Sender::connect(&cluster, to), Sender::connect(&cluster, to));
    assert!(first.offer(&offer(1, 1 << 40, first_file.len() as u64)).is_some_and(|answer| answer.is_ok()));
    first.say(&chunk_bytes(0, &first_file[..100_000]));
    assert_eq!(first.answer(), Some(Ok(Progress { received: 100_000, complete: false })));
    assert!(second.offer(&offer(1, 1 << 41, second_file.len() as u64)).is_some_and(|answer| answer.is_ok()));
    assert_eq!(first.answer(), None, "the earlier is hung up on");
    assert_eq!(kept(&cluster, to).len(), 1, "and what it had sent goes");
    // Nothing of the one is mixed into the other.
    assert!(second.refusal(0, &first_file[..100]).contains("does not begin"));
    drop(second);

    // Term 0 has no leader, and nobody may speak of it.
    let mut stale = Sender::connect(&cluster, to);
    assert_eq!(stale.offer(&offer(0, 1 << 42, 1_000)), None);
    let mut message = Vec::new();
    let body = MessageBody::InstallSnapshot { snapshot: offer(1, 1 << 40, 0).snapshot };
    let stale = PeerMessage::Raft { message: Message { term: Term(1), body }, payloads: Vec::new() };
    peer::encode(&stale, 1 << 20, &mut message).expect("it fits into a frame");
    let mut messages = impersonate(&cluster, 3, to, Purpose::Messages { dial: 1 });
    messages.write_all(&message).expect("bytes are taken");
    wait_until("it is refused", || cluster.log(to).contains("that it has not sent").then_some(()));
    let mut last = Sender::connect(&cluster, to);
    assert!(last.offer(&offer(1, 1 << 43, 10)).is_some_and(|answer| answer.is_ok()));
    assert!(last.refusal(0, &file(1 << 43, 10)[..10]).contains("damaged"));
    assert_unharmed(&cluster, leader);
}

/// A byte at a time, for as long as it takes: whoever trickles holds up neither the cluster nor another sender.
#[test]
fn a_sender_that_trickles_holds_up_nobody() {
    let (cluster, leader) = cluster();
    let to = 3 - leader;
    let slow_file = file(1 << 40, 300_000);
    let mut slow = Sender::connect(&cluster, to);
    assert!(slow.offer(&offer(1, 1 << 40, slow_file.len() as u64)).is_some_and(|answer| answer.is_ok()));
    let chunk = chunk_bytes(0, &slow_file[..100_000]);
    slow.stream.set_nodelay(true).expect("each byte goes at once");
    let mut client = cluster.client();
    // Each byte arrives on its own: the cluster has answered a write since the one before.
    for (number, byte) in chunk[..500].iter().enumerate() {
        slow.stream.write_all(&[*byte]).expect("it is still listened to");
        client.set(b"trickle", number.to_string().as_bytes()).expect("a write beside the trickle");
    }
    assert_eq!(cluster.wait_for_leader(), leader, "heartbeats do not wait for it");
    let mut other = Sender::connect(&cluster, to);
    assert!(other.offer(&offer(1, 1 << 41, 10)).is_some_and(|answer| answer.is_ok()));
    assert_eq!(slow.answer(), None, "the one that trickled is hung up on");
    assert!(other.refusal(0, &slow_file[..10]).contains("damaged"));
    assert_unharmed(&cluster, leader);
}
