use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::codec::frame::HEADER_BYTES;
use crate::consensus::{LogTime, NodeId, SessionSequence};

const LIMIT: usize = 1 << 20;

const LIFE: Life = Life { incarnation: 8, boot: 2 };

fn frame_of(message: &PeerMessage) -> Frame {
    let mut out = Vec::new();
    encode(message, LIMIT, &mut out).unwrap();
    frame::decode(&mut BytesMut::from(&out[..]), LIMIT).unwrap().unwrap()
}

/// Encodes without looking, as a faulty node would.
fn frame_unchecked(message: &Message, payloads: &[Payload]) -> Frame {
    let mut out = Vec::new();
    encode_parts(Kind::Raft, LIMIT, &mut out, message, payloads).unwrap();
    frame::decode(&mut BytesMut::from(&out[..]), LIMIT).unwrap().unwrap()
}

fn entry(index: u64, term: u64, size: u32) -> EntryHeader {
    EntryHeader {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Command,
        time: LogTime(index * 10),
        session: None,
        size,
    }
}

/// Entries 5 (term 2), 6 and 7 (term 3) with payloads of 3, 0 and 2 bytes, sent in term 3.
fn append() -> (AppendEntries, Vec<Payload>) {
    let append = AppendEntries {
        prev_index: Index(4),
        prev_term: Term(2),
        commit: Index(4),
        round: 8,
        entries: vec![entry(5, 2, 3), entry(6, 3, 0), entry(7, 3, 2)],
    };
    (append, [&b"abc"[..], b"", b"de"].map(|bytes| Payload::from(bytes.to_vec())).to_vec())
}

fn membership(voters: u64) -> Membership {
    Membership::of_voters((1..=voters).map(NodeId))
}

#[test]
fn received_payloads_are_slices_of_the_frame() {
    let (append, payloads) = append();
    let message = Message { term: Term(3), body: MessageBody::AppendEntries(append) };
    let frame = frame_of(&PeerMessage::Raft { message, payloads });
    let range = frame.body.as_ptr_range();
    let Ok(PeerMessage::Raft { payloads, .. }) = decode(frame) else { panic!("not a Raft message") };
    assert!(range.contains(&payloads[0].as_ptr()) && range.contains(&payloads[2].as_ptr()));
    assert_eq!(payloads[2].as_ptr_range().end, range.end);
}

#[test]
fn what_no_correct_node_says_is_refused_by_name() {
    type Change = fn(&mut AppendEntries, &mut Vec<Payload>);
    let cases: [(Change, &str); 14] = [
        (|append, _| append.entries[1].index = Index(7), "entry 7 follows entry 5"),
        (|append, _| append.entries[0].index = Index(0), "entry 0 follows entry 4"),
        (|append, _| append.prev_index = Index(3), "entry 5 follows entry 3"),
        (|append, _| append.prev_index = Index(u64::MAX), "entry 5 follows entry 18446744073709551615"),
        (|append, _| append.entries[2].term = Term(1), "entry 7 of term 1 follows one of term 3"),
        (|append, _| append.entries[2].term = Term(4), "entry 7 of term 4 in a message of term 3"),
        (|append, _| append.prev_term = Term(3), "entry 5 of term 2 follows one of term 3"),
        (|append, _| append.prev_term = Term(4), "previous entry of term 4 in a message of term 3"),
        (|append, _| append.prev_term = Term(0), "previous entry with index 4 and term 0"),
        (|append, _| append.prev_index = Index(0), "previous entry with index 0 and term 2"),
        (|append, _| append.entries[0].size = 4, "payloads of 6 bytes announced, 5 found"),
        (|append, _| append.entries[0].size = u32::MAX, "payloads of 4294967297 bytes announced, 5 found"),
        (|append, _| append.entries[0].kind = EntryKind::Noop, "entry 5, no command, has a payload"),
        (
            |append, _| append.entries[1].kind = EntryKind::Membership(membership(0).into()),
            "a membership without voters",
        ),
    ];
    for (change, expected) in cases {
        let (mut append, mut payloads) = append();
        change(&mut append, &mut payloads);
        let message = Message { term: Term(3), body: MessageBody::AppendEntries(append) };
        assert_eq!(decode(frame_unchecked(&message, &payloads)), Err(Malformed(expected.into())));
    }
    let first = AppendEntries { prev_index: Index(0), prev_term: Term(0), entries: vec![entry(1, 0, 0)], ..append().0 };
    let message = Message { term: Term(1), body: MessageBody::AppendEntries(first) };
    assert_eq!(decode(frame_unchecked(&message, &[])), Err(Malformed("entry 1 of term 0".into())));
}

#[test]
fn impossible_votes_hints_and_snapshots_are_refused() {
    let vote = |term, last_index, last_term| Message {
        term: Term(term),
        body: MessageBody::RequestVote {
            pre: false,
            last_index: Index(last_index),
            last_term: Term(last_term),
            transfer: false,
        },
    };
    let hint = |hint_index, hint_term| Message {
        term: Term(3),
        body: MessageBody::AppendRejected {
            prev_index: Index(5),
            hint_index: Index(hint_index),
            hint_term: Term(hint_term),
            round: 0,
            abstains: false,
        },
    };
    let snapshot = |index, term, voters| Message {
        term: Term(3),
        body: MessageBody::InstallSnapshot {
            snapshot: SnapshotMeta {
                index: Index(index),
                term: Term(term),
                time: LogTime(0),
                membership: membership(voters),
            },
        },
    };
    let cases = [
        (vote(0, 0, 0), "a vote request in term 0"),
        (vote(2, 0, 1), "last entry with index 0 and term 1"),
        (vote(2, 1, 3), "last entry of term 3 in a message of term 2"),
        (hint(6, 1), "hint 6 above the refused index 5"),
        (hint(5, 4), "hint of term 4 in a message of term 3"),
        (snapshot(0, 0, 1), "a snapshot of nothing"),
        (snapshot(4, 4, 1), "last entry of the snapshot of term 4 in a message of term 3"),
        (snapshot(4, 3, 0), "a membership without voters"),
    ];
    for (message, expected) in cases {
        assert_eq!(decode(frame_unchecked(&message, &[])), Err(Malformed(expected.into())));
    }
    for message in [vote(1, 0, 0), hint(0, 0), snapshot(4, 3, 3)] {
        assert!(decode(frame_unchecked(&message, &[])).is_ok(), "{message:?}");
    }
}

#[test]
fn bytes_left_over_and_missing_are_refused() {
    let refused = |kind, body: &[u8], expected: &str| {
        let error = decode(Frame { kind, body: Bytes::copy_from_slice(body) }).unwrap_err();
        assert!(error.0.contains(expected), "{error}");
    };
    refused(Kind::Raft, &[], "a body of 0 bytes");
    refused(Kind::Raft, &[1, 0, 0], "a body of 3 bytes");
    refused(Kind::Raft, &[255, 255, 255, 255, 0], "a head of 4294967295 bytes with 1 left");
    refused(Kind::Forward, &[1, 0, 0, 0, 0], "cannot decode ForwardHead");
    refused(Kind::Hello, &[], "a Hello frame after the handshake");

    let timeout = Message { term: Term(1), body: MessageBody::TimeoutNow };
    let stray = frame_unchecked(&timeout, &[Payload::from(vec![1])]);
    assert_eq!(decode(stray), Err(Malformed("payloads of 0 bytes announced, 1 found".into())));

    let failure = PeerMessage::ForwardReply { life: LIFE, sequence: 1, outcome: Err(Failure::Unknown("lost".into())) };
    let body = [&frame_of(&failure).body[..], b"x"].concat();
    refused(Kind::ForwardReply, &body, "a failure is followed by 1 bytes");
}

#[test]
fn a_count_of_entries_larger_than_the_frame_is_refused() {
    let (append, _) = append();
    let heartbeat = AppendEntries { entries: vec![], ..append };
    let message = Message { term: Term(3), body: MessageBody::AppendEntries(heartbeat) };
    let body = frame_unchecked(&message, &[]).body;
    for count in [1u64, 1 << 31, u64::MAX] {
        let mut body = body.to_vec();
        let at = body.len() - 8;
        body[at..].copy_from_slice(&count.to_le_bytes());
        assert!(decode(Frame { kind: Kind::Raft, body: body.into() }).is_err(), "{count} entries");
    }
}

fn kinds() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        Just(EntryKind::Noop),
        Just(EntryKind::Tick),
        Just(EntryKind::Command),
        (1u64..9).prop_map(|voters| EntryKind::Membership(membership(voters).into())),
    ]
}

fn appends() -> impl Strategy<Value = PeerMessage> {
    let entries = prop::collection::vec((kinds(), 0u64..2, prop::option::of(any::<u64>())), 0..9);
    (entries, 0u64..3, any::<u32>(), prop::collection::vec(any::<u8>(), 0..99)).prop_map(
        |(drawn, prev_index, round, bytes)| {
            let prev_term = prev_index.min(1);
            let (mut term, mut entries, mut payloads) = (prev_term.max(1), vec![], vec![]);
            for (offset, (kind, step, session)) in (1..).zip(drawn) {
                let payload = if kind == EntryKind::Command { bytes.clone() } else { vec![] };
                term += step;
                entries.push(EntryHeader {
                    kind,
                    session: session.map(|session| SessionSequence { session, sequence: offset }),
                    ..entry(prev_index + offset, term, payload.len() as u32)
                });
                payloads.push(Payload::from(payload));
            }
            let append = AppendEntries {
                prev_index: Index(prev_index),
                prev_term: Term(prev_term),
                commit: Index(0),
                round: round.into(),
                entries,
            };
            PeerMessage::Raft {
                message: Message { term: Term(term), body: MessageBody::AppendEntries(append) },
                payloads,
            }
        },
    )
}

fn messages() -> impl Strategy<Value = PeerMessage> {
    let payload = || prop::collection::vec(any::<u8>(), 0..99).prop_map(Payload::from);
    let forward =
        (any::<[u64; 3]>(), any::<bool>(), payload()).prop_map(|([term, sequence, connection], read, payload)| {
            let kind = if read { ForwardKind::Read } else { ForwardKind::Write };
            PeerMessage::Forward(Forward { term, sequence, connection, kind, payload })
        });
    let failure = ".*".prop_map(Failure::Overloaded);
    let outcome = prop_oneof![payload().prop_map(Ok), failure.prop_map(Err)];
    let reply = (any::<[u64; 3]>(), outcome).prop_map(|([incarnation, boot, sequence], outcome)| {
        PeerMessage::ForwardReply { life: Life { incarnation, boot }, sequence, outcome }
    });
    prop_oneof![appends(), forward, reply]
}

proptest! {
    #[test]
    fn every_message_survives_the_way(message in messages()) {
        prop_assert_eq!(decode(frame_of(&message)), Ok(message));
    }

    #[test]
    fn no_bytes_make_decoding_panic(
        kind in prop::sample::select(vec![Kind::Raft, Kind::Forward, Kind::ForwardReply]),
        body in prop::collection::vec(any::<u8>(), 0..200),
        head in 0u32..60,
    ) {
        let _ = decode(Frame { kind, body: body.clone().into() });
        let body = [&head.to_le_bytes()[..], &body].concat();
        let _ = decode(Frame { kind, body: body.into() });
    }

    /// The checksum would catch these; a faulty node computes its checksum over them.
    #[test]
    fn no_mutation_of_a_message_makes_decoding_panic(message in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let frame = frame_of(&message);
        let mut body = frame.body.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decode(Frame { kind: frame.kind, body: body.into() });
    }

    #[test]
    fn a_message_over_the_limit_is_not_encoded(message in messages()) {
        let mut out = Vec::new();
        encode(&message, LIMIT, &mut out).unwrap();
        let length = out.len() - HEADER_BYTES;
        out.clear();
        prop_assert_eq!(encode(&message, length - 1, &mut out), Err(FrameError::TooLong { length, limit: length - 1 }));
        prop_assert!(out.is_empty());
    }
}
