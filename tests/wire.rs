//! The bytes between nodes, one frame of each kind, checked in: what these files say must stay readable.
//!
//! `UPDATE_GOLDEN=1` writes them anew; a change there is a change of the format.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::BytesMut;
use raft::codec::handshake::{self, Handshake, Hello, PROTOCOL, Purpose, RefusalCode, Refused, Welcome};
use raft::codec::{frame, peer};
use raft::consensus::{
    AppendEntries, EntryHeader, EntryKind, Index, LogTime, Membership, Message, MessageBody, NodeId, Payload,
    SessionSequence, SnapshotMeta, Term,
};
use raft::runtime::Life;
use raft::transport::{Failure, Forward, ForwardKind, PeerMessage};

const LIMIT: usize = 1 << 20;

/// Compares bytes with the file, which is hex, 16 bytes a line, after lines of `#` that say what it means.
fn golden(name: &str, meaning: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire").join(format!("{name}.hex"));
    let mut text = format!("# {meaning}\n");
    for line in bytes.chunks(16) {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", hex.join(" ")).unwrap();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, expected, "{} differs", path.display());
}

fn decode(bytes: &[u8]) -> frame::Frame {
    frame::decode(&mut BytesMut::from(bytes), LIMIT).unwrap().unwrap()
}

fn handshake(name: &str, meaning: &str, value: Handshake) {
    let bytes = value.encode();
    golden(name, meaning, &bytes);
    assert!(bytes.len() <= handshake::LIMIT_BYTES + frame::HEADER_BYTES);
    assert_eq!(Handshake::decode(&decode(&bytes)), Ok(value));
}

fn message(name: &str, meaning: &str, value: PeerMessage) {
    let mut bytes = Vec::new();
    peer::encode(&value, LIMIT, &mut bytes).unwrap();
    golden(name, meaning, &bytes);
    assert_eq!(peer::decode(decode(&bytes)), Ok(value));
}

fn raft(name: &str, meaning: &str, body: MessageBody) {
    message(name, meaning, PeerMessage::Raft { message: Message { term: Term(7), body }, payloads: vec![] });
}

#[test]
fn the_handshake() {
    let life = Life { incarnation: 0x1122_3344_5566_7788, boot: 3 };
    let (from, to) = (NodeId(1), NodeId(2));
    let purpose = Purpose::Messages { dial: 5 };
    let (protocol, cluster_id, earlier) = (PROTOCOL, 0xc1, vec![5, 4]);
    let hello = Hello { protocol, cluster_id, from, to, life, nonce: 6, earlier, abstains: false, purpose };
    handshake(
        "hello",
        "Hello: protocol 3, cluster c1, from node 1 to node 2, incarnation 1122334455667788, boot 3, nonce 6, before it 5 and 4, \
         dial 5, votes and counts",
        Handshake::Hello(hello),
    );
    let life = Life { boot: 9, ..life };
    let welcome = Welcome { protocol, cluster_id, from: to, life, nonce: 7, earlier: Vec::new(), abstains: true };
    handshake(
        "welcome",
        "Welcome: protocol 3, cluster c1, from node 2, incarnation 1122334455667788, boot 9, nonce 7, none known before it, abstains",
        Handshake::Welcome(welcome),
    );
    for (name, code) in [
        ("refused", RefusalCode::Other),
        ("refused_older_boot", RefusalCode::OlderBoot),
        ("refused_other_incarnation", RefusalCode::OtherIncarnation),
    ] {
        handshake(
            name,
            &format!("Refused: cluster c1, from node 2, {code:?}, \"why\""),
            Handshake::Refused(Refused { cluster_id: 0xc1, from: to, code, reason: "why".into() }),
        );
    }
}

#[test]
fn votes() {
    raft(
        "request_vote",
        "Raft, term 7: RequestVote, pre-vote, last entry 9 of term 6, no transfer",
        MessageBody::RequestVote { pre: true, last_index: Index(9), last_term: Term(6), transfer: false },
    );
    raft(
        "request_vote_response",
        "Raft, term 7: RequestVoteResponse, no pre-vote, granted",
        MessageBody::RequestVoteResponse { pre: false, granted: true },
    );
    raft("timeout_now", "Raft, term 7: TimeoutNow", MessageBody::TimeoutNow);
    raft("ask_term", "Raft, term 7: AskTerm, nonce 9", MessageBody::AskTerm { nonce: 9 });
    raft("tell_term", "Raft, term 7: TellTerm, nonce 9", MessageBody::TellTerm { nonce: 9 });
}

#[test]
fn entries() {
    let header = |index, kind, size| EntryHeader {
        index: Index(index),
        term: Term(7),
        kind,
        time: LogTime(1000),
        session: None,
        size,
    };
    let stamped = Some(SessionSequence { session: 0x5e, sequence: 2 });
    let append = AppendEntries {
        prev_index: Index(9),
        prev_term: Term(6),
        commit: Index(8),
        round: 4,
        entries: vec![
            header(10, EntryKind::Noop, 0),
            EntryHeader { session: stamped, ..header(11, EntryKind::Command, 3) },
            header(12, EntryKind::Membership(Membership::of_voters([NodeId(1), NodeId(2)]).into()), 0),
            header(13, EntryKind::Tick, 0),
        ],
    };
    let payloads = vec![Payload::EMPTY, Payload::from(b"set".to_vec()), Payload::EMPTY, Payload::EMPTY];
    message(
        "append_entries",
        "Raft, term 7: AppendEntries after entry 9 of term 6, commit 8, round 4: 10 noop; 11 command \"set\" of session 5e, \
         sequence 2; 12 voters 1 and 2; 13 tick; all at log time 1000",
        PeerMessage::Raft { message: Message { term: Term(7), body: MessageBody::AppendEntries(append) }, payloads },
    );
    raft(
        "append_accepted",
        "Raft, term 7: AppendAccepted up to 13, round 4",
        MessageBody::AppendAccepted { matched: Index(13), round: 4, abstains: false },
    );
    raft(
        "append_rejected",
        "Raft, term 7: AppendRejected after 9, hint 5 of term 2, round 4",
        MessageBody::AppendRejected {
            prev_index: Index(9),
            hint_index: Index(5),
            hint_term: Term(2),
            round: 4,
            abstains: false,
        },
    );
}

#[test]
fn snapshots() {
    let snapshot = SnapshotMeta {
        index: Index(100),
        term: Term(6),
        time: LogTime(5000),
        membership: Membership::of_voters([NodeId(1)]),
    };
    raft(
        "install_snapshot",
        "Raft, term 7: InstallSnapshot up to entry 100 of term 6, log time 5000, voter 1",
        MessageBody::InstallSnapshot { snapshot },
    );
    raft(
        "snapshot_installed",
        "Raft, term 7: SnapshotInstalled up to 100",
        MessageBody::SnapshotInstalled { matched: Index(100), abstains: false },
    );
}

#[test]
fn forwarded_requests() {
    let payload = Payload::from(b"set".to_vec());
    let in_session = ForwardKind::SessionWrite(SessionSequence { session: 5, sequence: 1 });
    let kinds = [
        ("forward_write", ForwardKind::Write),
        ("forward_read", ForwardKind::Read),
        ("forward_session_write", in_session),
    ];
    for (name, kind) in kinds {
        message(
            name,
            &format!("Forward: term 7, sequence 3, connection 12, {kind:?}, payload \"set\""),
            PeerMessage::Forward(Forward { term: 7, sequence: 3, connection: 12, kind, payload: payload.clone() }),
        );
    }
    let life = Life { incarnation: 8, boot: 2 };
    message(
        "forward_answer",
        "ForwardReply: incarnation 8, boot 2, sequence 3, payload \"set\"",
        PeerMessage::ForwardReply { life, sequence: 3, outcome: Ok(payload) },
    );
    let why = || "why".to_string();
    for (name, failure) in [
        ("not_ready", Failure::NotReady(why())),
        ("overloaded", Failure::Overloaded(why())),
        ("refused", Failure::Refused(why())),
        ("unknown", Failure::Unknown(why())),
    ] {
        message(
            &format!("forward_{name}"),
            &format!("ForwardReply: incarnation 8, boot 2, sequence 3, {name}: \"why\""),
            PeerMessage::ForwardReply { life, sequence: 3, outcome: Err(failure) },
        );
    }
}
