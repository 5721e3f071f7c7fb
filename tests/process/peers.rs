//! A peer that knows the cluster's name and the protocol, and talks nonsense: well-formed messages that no node would send.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use raft::codec::handshake::{self, Handshake, Hello, PROTOCOL, Purpose};
use raft::codec::{frame, peer};
use raft::consensus::{AppendEntries, Index, Membership, Message, MessageBody, NodeId, Payload, Term};
use raft::runtime::Life;
use raft::storage::cluster_id;
use raft::transport::{Failure, Forward, ForwardKind, PeerMessage};

use crate::support::cluster::{Cluster, PATIENCE, wait_until};

const LIFE: Life = Life { incarnation: 1, boot: 1 };

/// Connects to a node as another one of its cluster. The number of a connection for messages has to grow with each.
pub fn impersonate(cluster: &Cluster, from: u64, to: u64, purpose: Purpose) -> TcpStream {
    let membership = Membership::of_voters(cluster.ids().into_iter().map(NodeId));
    let hello = Hello {
        protocol: PROTOCOL,
        cluster_id: cluster_id("raft", &membership),
        from: NodeId(from),
        to: NodeId(to),
        life: LIFE,
        nonce: 1,
        earlier: Vec::new(),
        abstains: false,
        purpose,
    };
    let mut stream = TcpStream::connect(cluster.peer_address(to)).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.write_all(&Handshake::Hello(hello).encode()).expect("bytes are taken");
    let mut input = BytesMut::new();
    loop {
        let mut buffer = [0; 256];
        let count = stream.read(&mut buffer).expect("an answer to the handshake");
        assert!(count > 0, "the connection was closed");
        input.extend_from_slice(&buffer[..count]);
        if let Some(frame) = frame::decode(&mut input, handshake::LIMIT_BYTES).expect("a frame") {
            let answer = Handshake::decode(&frame).expect("a handshake");
            assert!(matches!(answer, Handshake::Welcome(_)), "{answer:?}");
            return stream;
        }
    }
}

fn raft(term: u64, body: MessageBody) -> PeerMessage {
    PeerMessage::Raft { message: Message { term: Term(term), body }, payloads: Vec::new() }
}

fn forward(term: u64, sequence: u64, kind: ForwardKind, payload: &'static [u8]) -> PeerMessage {
    PeerMessage::Forward(Forward { term, sequence, connection: u64::MAX, kind, payload: Payload(payload.into()) })
}

/// What no node of term `term` would say, to its leader or to a follower.
fn nonsense(term: u64) -> Vec<PeerMessage> {
    let (far, round) = (Index(1 << 60), u64::MAX);
    let append = |prev_index, prev_term| {
        let prev_term = Term(prev_term);
        MessageBody::AppendEntries(AppendEntries { prev_index, prev_term, commit: far, round, entries: Vec::new() })
    };
    let vote = |pre, transfer| MessageBody::RequestVote { pre, last_index: Index(0), last_term: Term(0), transfer };
    vec![
        raft(term, append(Index(0), 0)),
        raft(term, append(far, term)),
        raft(1, append(far, 1)),
        raft(term, MessageBody::AppendAccepted { matched: far, round, abstains: false }),
        raft(term, MessageBody::SnapshotInstalled { matched: far, abstains: false }),
        raft(
            term,
            MessageBody::AppendRejected {
                prev_index: far,
                hint_index: far,
                hint_term: Term(term),
                round,
                abstains: false,
            },
        ),
        raft(
            term,
            MessageBody::AppendRejected {
                prev_index: Index(0),
                hint_index: Index(0),
                hint_term: Term(0),
                round,
                abstains: false,
            },
        ),
        raft(term, MessageBody::TimeoutNow),
        raft(term, MessageBody::RequestVoteResponse { pre: false, granted: true }),
        raft(term + 1, MessageBody::RequestVoteResponse { pre: true, granted: true }),
        raft(term, vote(false, true)),
        raft(1 << 50, vote(true, false)),
        forward(term + 7, 1, ForwardKind::Write, b"late"),
        forward(term, 2, ForwardKind::Write, b"no command at all"),
        forward(term, 3, ForwardKind::Write, b""),
        forward(term, 4, ForwardKind::Read, b"no query"),
        forward(term, 4, ForwardKind::Read, b"the same again"),
        forward(term, u64::MAX, ForwardKind::Read, b""),
        PeerMessage::ForwardReply { life: LIFE, sequence: 0, outcome: Ok(Payload::EMPTY) },
        PeerMessage::ForwardReply { life: LIFE, sequence: u64::MAX, outcome: Err(Failure::NotReady("no".into())) },
        // Late, for it changes the term.
        raft(term + 1_000, append(Index(0), 0)),
        raft(1 << 40, vote(false, true)),
        raft(1 << 41, MessageBody::AppendAccepted { matched: far, round, abstains: false }),
    ]
}

#[test]
pub fn nonsense_of_a_peer_neither_ends_nor_deceives_a_node() {
    let mut cluster = Cluster::prepare(3, "ElectionTimeout = 200\nHeartbeatInterval = 40\n");
    cluster.spawn(1);
    cluster.spawn(2);
    let mut dial = 0;
    for number in 0..nonsense(1).len() {
        for to in [1, 2] {
            cluster.wait_for_leader();
            let mut client = cluster.client();
            let term = client.leader().expect("there is a leader").term;
            let message = nonsense(term).swap_remove(number);
            dial += 1;
            let mut stream = impersonate(&cluster, 3, to, Purpose::Messages { dial });
            let mut bytes = Vec::new();
            peer::encode(&message, 1 << 20, &mut bytes).expect("it fits into a frame");
            stream.write_all(&bytes).expect("bytes are taken");
            let value = format!("{number}-{to}");
            wait_until("the cluster serves", || client.set(b"k", value.as_bytes()).ok());
            let read = wait_until("the cluster serves", || client.get(b"k").ok()).expect("the key is there");
            assert_eq!(read.bytes, value, "after {message:?}");
            for id in [1, 2] {
                let log = cluster.log(id);
                assert!(!log.contains("panicked") && !log.contains("invariant"), "{message:?} to {to}: {log}");
            }
        }
    }
    cluster.wait_until_caught_up();
}
