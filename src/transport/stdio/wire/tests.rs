//! Every kind of message there and back, and what must be refused.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::consensus::{EntryKind, Membership};
use crate::machine::command::{Change, Command, Condition};

fn wire(me: &str, incarnation: u64) -> Wire {
    wire_of(me, Life { incarnation, boot: 3 })
}

fn wire_of(me: &str, life: Life) -> Wire {
    let names = ["n2", "n1", "n10"].map(str::to_owned).to_vec();
    let wire = Wire::new(Names::new(me, names).unwrap());
    wire.begin_life(life);
    wire
}

fn encode(wire: &Wire, to: NodeId, message: &PeerMessage) -> Value {
    let mut line = Vec::new();
    wire.encode(to, message, &mut line).unwrap();
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    serde_json::from_slice(&line).unwrap()
}

fn decode(wire: &Wire, from: NodeId, body: &Value) -> Result<Option<Received>, String> {
    wire.decode(from, &serde_json::value::to_raw_value(body).unwrap())
}

/// Node 1 is `n1`, node 2 is `n10`, node 3 is `n2`.
const TO: NodeId = NodeId(3);

fn raft(term: u64, body: MessageBody) -> PeerMessage {
    PeerMessage::Raft { message: Message { term: Term(term), body }, payloads: Vec::new() }
}

fn entry(index: u64, kind: EntryKind, payload: Payload) -> (EntryHeader, Payload) {
    let size = payload.len() as u32;
    (EntryHeader { index: Index(index), term: Term(2), kind, time: LogTime(70), session: None, size }, payload)
}

fn append(prev_index: u64, entries: Vec<(EntryHeader, Payload)>) -> PeerMessage {
    let (entries, payloads) = entries.into_iter().unzip();
    let append =
        AppendEntries { prev_index: Index(prev_index), prev_term: Term(1), commit: Index(3), round: 9, entries };
    PeerMessage::Raft { message: Message { term: Term(2), body: MessageBody::AppendEntries(append) }, payloads }
}

#[test]
fn messages_have_the_names_of_the_guide() {
    let wire = wire("n1", 0xabc);
    let line = |message| {
        let mut line = Vec::new();
        wire.encode(TO, &message, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    };
    let body = MessageBody::RequestVote { pre: true, last_index: Index(7), last_term: Term(2), transfer: false };
    assert_eq!(
        line(raft(3, body)),
        r#"{"src":"n1","dest":"n2","body":{"type":"request_vote","term":3,"candidate_id":"n1","last_log_index":7,"#
            .to_owned()
            + r#""last_log_term":2,"pre_vote":true,"transfer":false,"life":["abc",3]}}"#
            + "\n"
    );
    let write = Change::Set { key: "1".into(), value: "2".into(), condition: Condition::Always, want_old: false };
    let entries = vec![
        entry(5, EntryKind::Noop, Payload::EMPTY),
        entry(6, EntryKind::Command, Payload(Command::Change(write).encode())),
    ];
    assert_eq!(
        line(append(4, entries)),
        r#"{"src":"n1","dest":"n2","body":{"type":"append_entries","term":2,"leader_id":"n1","prev_log_index":4,"#
            .to_owned()
            + r#""prev_log_term":1,"leader_commit":3,"round":9,"entries":["#
            + r#"{"index":5,"term":2,"time":70,"op":{"type":"noop"}},"#
            + r#"{"index":6,"term":2,"time":70,"op":{"type":"write","key":1,"value":2}}],"life":["abc",3]}}"#
            + "\n"
    );
    assert_eq!(
        line(raft(3, MessageBody::AppendAccepted { matched: Index(6), round: 9, abstains: false })),
        r#"{"src":"n1","dest":"n2","body":{"type":"append_entries_res","term":3,"success":true,"match_index":6,"round":9,"#
            .to_owned()
            + r#""life":["abc",3]}}"#
            + "\n"
    );
    assert_eq!(
        line(raft(3, MessageBody::SnapshotInstalled { matched: Index(6), abstains: true })),
        r#"{"src":"n1","dest":"n2","body":{"type":"install_snapshot_res","term":3,"match_index":6,"abstains":true,"#
            .to_owned()
            + r#""life":["abc",3]}}"#
            + "\n"
    );
}

#[test]
fn an_answer_to_an_earlier_life_is_dropped() {
    let (one, two, two_again) = (wire("n1", 1), wire("n2", 2), wire("n2", 3));
    let request =
        raft(1, MessageBody::RequestVote { pre: false, last_index: Index(0), last_term: Term(0), transfer: false });
    let answer = raft(1, MessageBody::RequestVoteResponse { pre: false, granted: true });
    let (n1, n2) = (NodeId(1), NodeId(3));
    let request_line = encode(&two, n1, &request);
    let received = decode(&one, n2, &request_line["body"]).unwrap().unwrap();
    assert_eq!(received, Received { life: Life { incarnation: 2, boot: 3 }, said: Said::Message(request.clone()) });
    let answer_line = encode(&one, n2, &answer);
    assert_eq!(decode(&two, n1, &answer_line["body"]).unwrap().unwrap().said, Said::Message(answer));
    assert_eq!(decode(&two_again, n1, &answer_line["body"]), Ok(None));
    let request_line = encode(&one, n2, &request);
    assert!(decode(&two_again, n1, &request_line["body"]).unwrap().is_some(), "a request is for whoever gets it");

    // What an earlier life has forwarded is answered to that one, even if a later one was heard meanwhile.
    let later = wire_of("n2", Life { incarnation: 2, boot: 4 });
    decode(&one, n2, &encode(&later, n1, &request)["body"]).unwrap().unwrap();
    let life = Life { incarnation: 2, boot: 3 };
    let reply = encode(&one, n2, &PeerMessage::ForwardReply { life, sequence: 1, outcome: Ok(Payload::EMPTY) });
    assert_eq!(decode(&later, n1, &reply["body"]), Ok(None));
}

#[test]
fn an_earlier_life_is_not_heard_after_a_later_one() {
    let hear = |wire: &Wire, incarnation: u64, boot: u64| {
        let sender = wire_of("n2", Life { incarnation, boot });
        let line = encode(&sender, NodeId(1), &raft(1, MessageBody::TimeoutNow));
        decode(wire, NodeId(3), &line["body"]).unwrap().is_some()
    };
    let one = wire("n1", 1);
    assert!(hear(&one, 8, 4));
    assert!(hear(&one, 8, 4));
    assert!(hear(&one, 8, 5));
    assert!(!hear(&one, 8, 4), "an earlier start");
    assert!(!hear(&one, 9, 5), "another folder: which of the two is later?");
    assert!(hear(&one, 9, 6));
    assert!(!hear(&one, 8, 5));
}

#[test]
fn nonsense_is_refused() {
    let (one, two) = (wire("n1", 1), wire("n2", 2));
    let from = NodeId(1);
    let noop = |index| entry(index, EntryKind::Noop, Payload::EMPTY);
    let good = encode(&one, TO, &append(4, vec![noop(5), noop(6)]))["body"].clone();
    assert!(decode(&two, from, &good).is_ok());
    let refused = |path: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(path).unwrap() = value;
        decode(&two, from, &body).expect_err(path)
    };
    assert!(refused("/type", "shout".into()).contains("unknown type"));
    assert!(refused("/leader_id", "n2".into()).contains("calls itself"));
    assert!(refused("/entries/1/index", 7.into()).contains("entry 7 stands where entry 6 belongs"));
    assert!(refused("/prev_log_index", u64::MAX.into()).contains("2^53"));
    assert!(refused("/prev_log_index", (-1).into()).contains("invalid value"));
    for path in
        ["/type", "/term", "/leader_id", "/entries", "/entries/0", "/entries/0/op", "/life", "/life/0", "/round"]
    {
        refused(path, Value::Null);
        refused(path, Value::from(vec![Value::Null; 2]));
    }
    for name in ["type", "term", "leader_id", "prev_log_index", "entries", "life"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        assert!(decode(&two, from, &body).unwrap_err().contains(name), "{name}");
    }
    assert!(decode(&two, from, &Value::from(vec![1])).is_err());
    assert!(one.encode(NodeId(4), &append(0, vec![]), &mut Vec::new()).is_err());
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 0..=Exact::MAX]
}

fn membership() -> impl Strategy<Value = Membership> {
    let ids = || prop::collection::btree_set((1..=3_u64).prop_map(NodeId), 0..=3);
    (ids(), ids(), ids()).prop_map(|(voters, outgoing, learners)| Membership { voters, outgoing, learners })
}

fn any_entry() -> impl Strategy<Value = (EntryHeader, Payload)> {
    let command = any::<Vec<u8>>().prop_map(|bytes| (EntryKind::Command, Payload::from(bytes)));
    let kind = prop_oneof![
        Just((EntryKind::Noop, Payload::EMPTY)),
        Just((EntryKind::Tick, Payload::EMPTY)),
        membership().prop_map(|membership| (EntryKind::Membership(membership.into()), Payload::EMPTY)),
        command,
    ];
    let session = prop::option::of((any::<u64>(), any::<u64>()));
    (number(), number(), session, kind).prop_map(|(term, time, session, (kind, payload))| {
        let session = session.map(|(session, sequence)| SessionSequence { session, sequence });
        let size = payload.len() as u32;
        (EntryHeader { index: Index(0), term: Term(term), kind, time: LogTime(time), session, size }, payload)
    })
}

fn any_append() -> impl Strategy<Value = PeerMessage> {
    let entries = prop::collection::vec(any_entry(), 0..5);
    (number(), 0..1_u64 << 50, number(), number(), number(), entries).prop_map(
        |(term, prev_index, prev_term, commit, round, entries)| {
            let (mut headers, payloads): (Vec<EntryHeader>, _) = entries.into_iter().unzip();
            for (header, index) in headers.iter_mut().zip(prev_index + 1..) {
                header.index = Index(index);
            }
            let append = AppendEntries {
                prev_index: Index(prev_index),
                prev_term: Term(prev_term),
                commit: Index(commit),
                round,
                entries: headers,
            };
            let message = Message { term: Term(term), body: MessageBody::AppendEntries(append) };
            PeerMessage::Raft { message, payloads }
        },
    )
}

fn any_body() -> impl Strategy<Value = MessageBody> {
    let index = || number().prop_map(Index);
    let term = || number().prop_map(Term);
    prop_oneof![
        (any::<bool>(), index(), term(), any::<bool>()).prop_map(|(pre, last_index, last_term, transfer)| {
            MessageBody::RequestVote { pre, last_index, last_term, transfer }
        }),
        any::<(bool, bool)>().prop_map(|(pre, granted)| MessageBody::RequestVoteResponse { pre, granted }),
        (index(), number(), any::<bool>()).prop_map(|(matched, round, abstains)| MessageBody::AppendAccepted {
            matched,
            round,
            abstains
        }),
        (index(), index(), term(), number(), any::<bool>()).prop_map(
            |(prev_index, hint_index, hint_term, round, abstains)| {
                MessageBody::AppendRejected { prev_index, hint_index, hint_term, round, abstains }
            },
        ),
        (index(), term(), number(), membership()).prop_map(|(index, term, time, membership)| {
            MessageBody::InstallSnapshot { snapshot: SnapshotMeta { index, term, time: LogTime(time), membership } }
        }),
        (index(), any::<bool>()).prop_map(|(matched, abstains)| MessageBody::SnapshotInstalled { matched, abstains }),
        Just(MessageBody::TimeoutNow),
        number().prop_map(|nonce| MessageBody::AskTerm { nonce }),
        number().prop_map(|nonce| MessageBody::TellTerm { nonce }),
    ]
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    let payload = || any::<Vec<u8>>().prop_map(Payload::from);
    let kind = prop_oneof![Just(ForwardKind::Write), Just(ForwardKind::Read)];
    let failure = (0..4, ".*").prop_map(|(kind, text)| match kind {
        0 => Failure::NotReady(text),
        1 => Failure::Overloaded(text),
        2 => Failure::Refused(text),
        _ => Failure::Unknown(text),
    });
    let outcome = prop_oneof![payload().prop_map(Ok), failure.prop_map(Err)];
    prop_oneof![
        any_append(),
        (number(), any_body()).prop_map(|(term, body)| raft(term, body)),
        (number(), number(), any::<u64>(), kind, payload()).prop_map(|(term, sequence, connection, kind, payload)| {
            PeerMessage::Forward(Forward { term, sequence, connection, kind, payload })
        }),
        // To the life that the other side has.
        (number(), outcome).prop_map(|(sequence, outcome)| {
            PeerMessage::ForwardReply { life: Life { incarnation: 0, boot: 3 }, sequence, outcome }
        }),
    ]
}

proptest! {
    #[test]
    fn every_message_arrives_as_it_was(message in any_message(), incarnation: u64) {
        let line = encode(&wire("n1", incarnation), TO, &message);
        prop_assert_eq!(&line["src"], "n1");
        prop_assert_eq!(&line["dest"], "n2");
        let received = decode(&wire("n2", 0), NodeId(1), &line["body"]).unwrap().unwrap();
        prop_assert_eq!(received.said, Said::Message(message));
        prop_assert_eq!(received.life, Life { incarnation, boot: 3 });
    }

    #[test]
    fn damaged_messages_never_panic(message in any_message(), position: prop::sample::Index, byte: u8) {
        let mut line = serde_json::to_vec(&encode(&wire("n1", 1), TO, &message)["body"]).unwrap();
        let position = position.index(line.len());
        line[position] = byte;
        if let Ok(body) = serde_json::from_slice::<&RawValue>(&line) {
            let _ = wire("n2", 0).decode(NodeId(1), body);
        }
    }
}

#[test]
fn a_snapshot_travels_in_parts_of_bounded_size() {
    let (sender, receiver) = (wire("n1", 1), wire("n2", 2));
    let membership = Membership::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    let snapshot = SnapshotMeta { index: Index(9), term: Term(2), time: LogTime(70), membership };
    let offer = Offer { term: Term(4), snapshot, bytes: CHUNK_BYTES as u64 + 5 };
    let sent = |chunk: &Chunk| {
        let mut line = Vec::new();
        sender.encode_chunk(TO, chunk, &mut line).unwrap();
        serde_json::from_slice::<Value>(&line).unwrap()
    };
    for (offset, length) in [(0, 0), (0, CHUNK_BYTES), (CHUNK_BYTES as u64, 5)] {
        let chunk = Chunk { offer: offer.clone(), offset, bytes: vec![7; length] };
        let line = sent(&chunk);
        assert_eq!(line["body"]["done"], Value::Bool(offset > 0));
        let received = decode(&receiver, NodeId(1), &line["body"]).unwrap().unwrap();
        assert_eq!(received.said, Said::Chunk(chunk));
        assert!(decode(&receiver, NodeId(2), &line["body"]).is_err(), "of somebody else's");
    }
    let too_long = sent(&Chunk { offer, offset: 0, bytes: vec![7; CHUNK_BYTES + 1] });
    assert!(decode(&receiver, NodeId(1), &too_long["body"]).unwrap_err().contains("65536 are allowed"));

    for answer in [Ok(Progress { received: 5, complete: true }), Err("no room".to_owned())] {
        let mut line = Vec::new();
        receiver.encode_chunk_answer(NodeId(1), Index(9), answer.clone(), &mut line).unwrap();
        let line: Value = serde_json::from_slice(&line).unwrap();
        let said = decode(&sender, TO, &line["body"]).unwrap().unwrap().said;
        assert_eq!(said, Said::ChunkAnswer(Index(9), answer));
        assert_eq!(decode(&wire("n1", 8), TO, &line["body"]), Ok(None), "for an earlier life");
    }
}
