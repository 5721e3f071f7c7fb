//! Lines in, lines out, with a node that is a state machine alone.

use std::io::{BufReader, PipeWriter, pipe};

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::consensus::{Index, LogTime, Message, MessageBody, NodeId, Payload, Term};
use crate::machine::command::{self, Answer};
use crate::machine::{Applied, Asked, Composite, Machine};
use crate::runtime::{CLIENT_REQUESTS, ClientRequest, Inboxes, Input, Operation, Outcome, Response};
use crate::transport::{Failure, PeerMessage, Transport};

const PATIENCE: Duration = Duration::from_secs(10);

/// A door whose other sides are in the test's hands.
struct Bench {
    input: PipeWriter,
    lines: Receiver<String>,
    door: Door,
    /// The node's inboxes, and its transport, once it has been started.
    node: Receiver<(Inboxes, StdioTransport)>,
}

impl Bench {
    fn open() -> Bench {
        Bench::open_with(Workload::LinKv, |_| Ok(()))
    }

    fn open_with(workload: Workload, check: impl FnOnce(&Init) -> Result<(), String> + Send + 'static) -> Bench {
        let (input_end, input) = pipe().unwrap();
        let (output, output_end) = pipe().unwrap();
        let (started, node) = crossbeam_channel::bounded(1);
        let options = Options { max_request_bytes: 100_000, workload };
        let door = serve(BufReader::new(input_end), output_end, options, move |init| {
            check(init)?;
            let (handle, inboxes) = NodeHandle::new();
            started.send((inboxes, init.transport(&handle, Life { incarnation: 7, boot: 1 }, None))).unwrap();
            Ok(handle)
        })
        .unwrap();
        let (sender, lines) = crossbeam_channel::unbounded();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Bench { input, lines, door, node }
    }

    /// A bench with an `n1` of two nodes that serves.
    fn serving() -> Bench {
        Bench::serving_for(Workload::LinKv)
    }

    fn serving_for(workload: Workload) -> Bench {
        let mut bench = Bench::open_with(workload, |_| Ok(()));
        bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1", "n2"]}));
        assert_eq!(bench.hear(), json!({"type": "init_ok", "in_reply_to": 1}));
        let (inboxes, _) = bench.node.recv_timeout(PATIENCE).unwrap();
        thread::spawn(move || serve_from_machine(&inboxes));
        bench
    }

    fn write(&mut self, line: impl AsRef<[u8]>) {
        self.input.write_all(line.as_ref()).unwrap();
        self.input.write_all(b"\n").unwrap();
    }

    /// A message from the client `c1` to `n1`.
    fn say(&mut self, body: Value) {
        self.write(json!({"src": "c1", "dest": "n1", "body": body}).to_string());
    }

    /// The body of the next line, which is from `n1` to `c1`.
    fn hear(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line");
        let mut message: Value = serde_json::from_str(&line).expect("a line of JSON");
        assert_eq!((message["src"].as_str(), message["dest"].as_str()), (Some("n1"), Some("c1")));
        message["body"].take()
    }

    fn ask(&mut self, body: Value) -> Value {
        self.say(body);
        self.hear()
    }

    /// The code of the error that this is answered with.
    fn error_code(&mut self, body: Value) -> u64 {
        let msg_id = body["msg_id"].clone();
        let answer = self.ask(body);
        assert_eq!((&answer["type"], &answer["in_reply_to"]), (&json!("error"), &msg_id), "{answer}");
        assert!(!answer["text"].as_str().unwrap().is_empty());
        answer["code"].as_u64().unwrap()
    }

    /// Ends the input. Returns everything that was written until then.
    fn end(self) -> Vec<Value> {
        drop(self.input);
        assert_eq!(self.door.closed().recv_timeout(PATIENCE), Ok(Closed::EndOfInput));
        self.door.finish();
        self.lines.iter().map(|line| serde_json::from_str(&line).unwrap()).collect()
    }
}

fn serve_from_machine(inboxes: &Inboxes) {
    let mut machine = Composite::default();
    for (index, ClientRequest { operation, reply, .. }) in (1..).zip(&inboxes.clients) {
        let answer = match operation {
            Operation::Write(command) => machine.apply(Applied {
                index: Index(index),
                time: LogTime(0),
                session: None,
                command: &command.0,
                is_awaited: true,
            }),
            Operation::Read(query) => machine.query(Asked { time: LogTime(0), query: &query.0 }),
            other => panic!("{other:?}"),
        };
        reply.send(Ok(Response::Answer(answer))).flush();
    }
}

#[test]
fn keys_and_values_of_any_type() {
    let mut bench = Bench::serving();
    let mut msg_id = 10;
    for key in
        [json!(1), json!("1"), json!(null), json!(true), json!([1, {"a": 2}]), json!({"b": 1, "a": 2}), json!(1.5)]
    {
        for value in [json!(null), json!(7), json!("7"), json!({"z": [true], "a": {}}), json!(1.25), json!("é\n\u{0}")]
        {
            msg_id += 2;
            let wrote = bench.ask(json!({"type": "write", "msg_id": msg_id, "key": key, "value": value}));
            assert_eq!(wrote, json!({"type": "write_ok", "in_reply_to": msg_id}));
            let read = bench.ask(json!({"type": "read", "msg_id": msg_id + 1, "key": key}));
            assert_eq!(read, json!({"type": "read_ok", "in_reply_to": msg_id + 1, "value": value}));
        }
    }
    bench.write(r#"{"src":"c1","dest":"n1","body":{"type":"write","msg_id":1,"key":{"b": 1, "a": 2},"value":1.0}}"#);
    bench.hear();
    bench.write(r#"{"src":"c1","dest":"n1","body":{"type":"read","msg_id":1,"key":{"a":2,"b":1}}}"#);
    assert_eq!(bench.hear()["value"].to_string(), "1.0", "the order of an object's members does not matter");
    assert_eq!(bench.error_code(json!({"type": "read", "msg_id": 2, "key": {"a": 2}})), 20);
    let digits = "123456789012345678901234567890";
    bench.write(format!(r#"{{"src":"c1","dest":"n1","body":{{"type":"write","msg_id":1,"key":1,"value":{digits}}}}}"#));
    bench.hear();
    bench.write(r#"{"src":"c1","dest":"n1","body":{"type":"read","msg_id":1,"key":1}}"#);
    assert!(bench.lines.recv_timeout(PATIENCE).unwrap().contains(digits), "no digit is lost");
}

#[test]
fn compare_and_set() {
    let mut bench = Bench::serving();
    let cas = |from: Value, to: Value| json!({"type": "cas", "msg_id": 5, "key": "k", "from": from, "to": to});
    assert_eq!(bench.error_code(cas(json!(1), json!(2))), 20);
    let mut create = cas(json!(1), json!(2));
    create["create_if_not_exists"] = json!(true);
    assert_eq!(bench.ask(create), json!({"type": "cas_ok", "in_reply_to": 5}));
    assert_eq!(bench.ask(cas(json!(2), json!(3))), json!({"type": "cas_ok", "in_reply_to": 5}));
    let refused = bench.ask(cas(json!("3"), json!(4)));
    assert_eq!(refused, json!({"type": "error", "in_reply_to": 5, "code": 22, "text": "expected \"3\", found 3"}));
    let refused = bench.ask(cas("x".repeat(1000).into(), json!(4)));
    assert!(refused["text"].as_str().unwrap().len() < 300, "texts stay short");
    assert_eq!(bench.ask(json!({"type": "read", "msg_id": 6, "key": "k"}))["value"], json!(3));

    let mut other = cas(json!(7), json!(8));
    other["create_if_not_exists"] = json!(true);
    assert_eq!(bench.error_code(other), 22, "what exists is compared all the same");
    let mut missing = cas(json!(null), json!(1));
    missing["key"] = json!("missing");
    assert_eq!(bench.error_code(missing.clone()), 20, "null is a value, not the lack of one");
    missing["create_if_not_exists"] = json!(true);
    assert_eq!(bench.ask(missing.clone()), json!({"type": "cas_ok", "in_reply_to": 5}));
    assert_eq!(bench.error_code(missing.clone()), 22, "1 is not null");
    missing["create_if_not_exists"] = json!(null);
    assert_eq!(bench.error_code(missing), 12);
    let mut expects_null = cas(json!(3), json!(null));
    assert_eq!(bench.ask(expects_null.clone()), json!({"type": "cas_ok", "in_reply_to": 5}));
    (expects_null["from"], expects_null["to"]) = (json!(null), json!(4));
    assert_eq!(bench.ask(expects_null), json!({"type": "cas_ok", "in_reply_to": 5}));
}

#[test]
fn errors_are_answered_where_there_is_a_msg_id() {
    let mut bench = Bench::serving();
    for (body, code) in [
        (json!({"type": "read", "msg_id": 1}), 12),
        (json!({"type": "write", "msg_id": 2, "key": 1}), 12),
        (json!({"type": "write", "msg_id": 3, "value": 1}), 12),
        (json!({"type": "cas", "msg_id": 4, "key": 1, "from": 1}), 12),
        (json!({"type": "cas", "msg_id": 5, "key": 1, "from": 1, "to": 2, "create_if_not_exists": 1}), 12),
        (json!({"type": 5, "msg_id": 6}), 12),
        (json!({"msg_id": 7}), 12),
        (json!({"type": "shout", "msg_id": 8}), 10),
        (json!({"type": "init", "msg_id": 9, "node_id": "n1", "node_ids": ["n1"]}), 12),
        (json!({"type": "raft_init", "msg_id": 10, "node_id": "n1", "node_ids": ["n1"]}), 12),
        (json!({"type": "write", "msg_id": -11, "key": 1, "value": "x".repeat(100_000)}), 12),
    ] {
        assert_eq!(bench.error_code(body.clone()), code, "{body}");
    }
    bench.write(r#"{"src":"c1","body":{"type":"read","key":1,"msg_id":12}}"#);
    assert_eq!(bench.hear()["code"], json!(12), "no dest");
    bench.write(r#"{"src":"c1","dest":"n1","body":{"type":"read","key":"\ud800","msg_id":13}}"#);
    assert_eq!(bench.hear()["code"], json!(12), "half of a surrogate pair");
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    bench.write(format!(r#"{{"src":"c1","dest":"n1","body":{{"type":"read","key":{deep},"msg_id":14}}}}"#));
    assert_eq!(bench.hear()["code"], json!(12), "deep nesting");
    assert_eq!(bench.error_code(json!({"type": "read", "msg_id": 15, "key": 1})), 20, "still serving");
}

#[test]
fn what_cannot_be_answered_is_ignored() {
    let mut bench = Bench::serving();
    for line in [
        &b"garbage"[..],
        b"",
        b"  ",
        b"{",
        b"[]",
        b"null",
        b"5",
        b"\xff\xfe",
        b"{}",
        br#"{"src":"c1","dest":"n1"}"#,
        br#"{"src":"c1","dest":"n1","body":5}"#,
        br#"{"src":"c1","dest":"n1","body":{}}"#,
        br#"{"src":5,"dest":"n1","body":{"type":"read","key":1,"msg_id":1}}"#,
        br#"{"dest":"n1","body":{"type":"read","key":1,"msg_id":1}}"#,
        br#"{"src":"c1","dest":"n2","body":{"type":"read","key":1,"msg_id":1}}"#,
        br#"{"src":"n1","dest":"n1","body":{"type":"read","key":1,"msg_id":1}}"#,
        br#"{"src":"n2","dest":"n1","body":{"type":"read","key":1,"msg_id":1}}"#,
        br#"{"src":"n2","dest":"n1","body":{"type":"append_entries","term":1}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"write","key":1,"value":1}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"write","key":1,"value":1,"msg_id":"1"}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"shout"}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"read_ok","value":1,"in_reply_to":77}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"read","key":1,"msg_id":1,"in_reply_to":77}}"#,
    ] {
        bench.write(line);
    }
    bench.write(vec![b'x'; LINE_BYTES_MAX + 1]);
    assert_eq!(bench.error_code(json!({"type": "read", "msg_id": 99, "key": 1})), 20, "nothing was written either");
    assert_eq!(bench.end(), Vec::<Value>::new());
}

#[test]
fn every_request_is_answered_even_with_a_known_msg_id() {
    let mut bench = Bench::serving();
    for value in 1..=3 {
        bench.say(json!({"type": "write", "msg_id": 5, "key": 1, "value": value}));
    }
    bench.say(json!({"type": "read", "msg_id": 5, "key": 1}));
    for _ in 1..=3 {
        assert_eq!(bench.hear(), json!({"type": "write_ok", "in_reply_to": 5}));
    }
    assert_eq!(bench.hear(), json!({"type": "read_ok", "in_reply_to": 5, "value": 3}));
}

#[test]
fn nothing_is_written_before_init() {
    let mut bench = Bench::open();
    bench.say(json!({"type": "read", "msg_id": 1, "key": 1}));
    bench.say(json!({"type": "shout", "msg_id": 2}));
    bench.say(json!({"type": "init", "node_id": "n1", "node_ids": ["n1"]}));
    bench.write("garbage");
    bench.write(r#"{"src":"n2","dest":"n1","body":{"type":"timeout_now","term":1,"leader_id":"n2","life":["1",1]}}"#);
    assert_eq!(bench.end(), Vec::<Value>::new());
}

#[test]
fn init_is_checked_and_may_be_repeated_until_it_is_right() {
    let mut bench = Bench::open();
    let ten: Vec<String> = (1..=10).map(|number| format!("n{number}")).collect();
    for (node_id, node_ids) in [
        (json!("n1"), json!([])),
        (json!("n1"), json!(["n2"])),
        (json!("n1"), json!(["n1", "n1"])),
        (json!("n1"), json!(ten)),
        (json!("n1"), json!("n1")),
        (json!("n1"), json!([1])),
        (json!("n1"), json!(null)),
        (json!(1), json!(["n1"])),
        (json!("n2"), json!(["n1", "n2"])),
    ] {
        let init = json!({"type": "init", "msg_id": 1, "node_id": node_id, "node_ids": node_ids});
        assert_eq!(bench.error_code(init.clone()), 12, "{init}");
    }
    assert_eq!(bench.error_code(json!({"type": "init", "msg_id": 2})), 12);
    let answer = bench.ask(json!({"type": "raft_init", "msg_id": 3, "node_id": "n1", "node_ids": ten[..9]}));
    assert_eq!(answer, json!({"type": "raft_init_ok", "in_reply_to": 3}));
}

#[test]
fn a_node_that_does_not_start_closes_the_door() {
    let mut bench = Bench::open_with(Workload::LinKv, |init| {
        assert_eq!(init.names().me(), NodeId(1));
        Err("the disk is full".into())
    });
    let init = json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n2", "n1"]});
    assert_eq!(bench.error_code(init), 13);
    let closed = bench.door.closed().recv_timeout(PATIENCE);
    assert_eq!(closed, Ok(Closed::NotStarted("the disk is full".into())));
}

#[test]
fn a_lost_output_closes_the_door() {
    let (input_end, mut input) = pipe().unwrap();
    let (output, output_end) = pipe().unwrap();
    let (handle, _inboxes) = NodeHandle::new();
    let options = Options { max_request_bytes: 1000, workload: Workload::LinKv };
    let door = serve(BufReader::new(input_end), output_end, options, |_| Ok(handle)).unwrap();
    drop(output);
    writeln!(input, r#"{{"src":"c","dest":"n","body":{{"type":"init","msg_id":1,"node_id":"n","node_ids":["n"]}}}}"#)
        .unwrap();
    assert!(matches!(door.closed().recv_timeout(PATIENCE), Ok(Closed::OutputLost(_))));
    door.finish();
}

#[test]
fn failures_have_the_codes_of_the_table() {
    let mut bench = Bench::open();
    bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1"]}));
    bench.hear();
    let (inboxes, _) = bench.node.recv_timeout(PATIENCE).unwrap();
    let mut fail = |outcome: Outcome| {
        bench.say(json!({"type": "read", "msg_id": 2, "key": 1}));
        inboxes.clients.recv_timeout(PATIENCE).unwrap().reply.send(outcome).flush();
        bench.hear()["code"].as_u64().unwrap()
    };
    assert_eq!(fail(Err(Failure::NotReady("no leader".into()))), 11);
    assert_eq!(fail(Err(Failure::Overloaded("busy".into()))), 11);
    assert_eq!(fail(Err(Failure::Refused("no".into()))), 12);
    assert_eq!(fail(Err(Failure::Unknown("lost".into()))), 13);
    assert_eq!(fail(Ok(Response::Done)), 13);
    assert_eq!(fail(Ok(Response::Answer(Bytes::from_static(b"?")))), 13);
    let value = command::Value { bytes: Bytes::from_static(b"no JSON"), revision: 1 };
    assert_eq!(fail(Ok(Response::Answer(Answer::Value(Some(value)).encode()))), 13);

    drop(inboxes);
    assert_eq!(bench.error_code(json!({"type": "read", "msg_id": 3, "key": 1})), 11, "the node has stopped");
}

#[test]
fn a_full_inbox_is_answered_at_once() {
    let mut bench = Bench::open();
    bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1"]}));
    bench.hear();
    let (inboxes, _) = bench.node.recv_timeout(PATIENCE).unwrap();
    for _ in 0..CLIENT_REQUESTS {
        bench.say(json!({"type": "read", "msg_id": 2, "key": 1}));
    }
    assert_eq!(bench.error_code(json!({"type": "read", "msg_id": 3, "key": 1})), 11);
    assert_eq!(inboxes.clients.len(), CLIENT_REQUESTS);
}

#[test]
fn each_client_is_one_connection() {
    let mut bench = Bench::open();
    bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1"]}));
    bench.hear();
    let (inboxes, _) = bench.node.recv_timeout(PATIENCE).unwrap();
    let mut connection = |client: &str| {
        bench.write(json!({"src": client, "dest": "n1", "body": {"type": "read", "msg_id": 1, "key": 1}}).to_string());
        inboxes.clients.recv_timeout(PATIENCE).unwrap().connection
    };
    let (one, two) = (connection("c1"), connection("c2"));
    assert_ne!(one, two);
    assert_eq!((connection("c1"), connection("c2")), (one, two));
}

#[test]
fn peers_messages_go_both_ways() {
    let mut bench = Bench::open();
    bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1", "n0"]}));
    bench.hear();
    let (inboxes, mut transport) = bench.node.recv_timeout(PATIENCE).unwrap();
    let n0 = NodeId(1);
    let next = || inboxes.internal.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next(), Input::Link { peer, up: true } if peer == n0));

    let life = json!(["ff", 2]);
    bench.write(
        json!({"src": "n0", "dest": "n1", "body": {"type": "timeout_now", "term": 4, "leader_id": "n0", "life": life}})
            .to_string(),
    );
    let Input::Peer { from, life, message } = next() else { panic!("a peer's message") };
    let raft = |term, body| {
        let message = Message { term: Term(term), body };
        PeerMessage::Raft { message, payloads: Vec::<Payload>::new() }
    };
    assert_eq!((from, life), (n0, Life { incarnation: 255, boot: 2 }));
    assert_eq!(message, raft(4, MessageBody::TimeoutNow));

    let accepted = |index| raft(4, MessageBody::AppendAccepted { matched: Index(index), round: 1, abstains: false });
    transport.send(n0, accepted(1)).unwrap();
    transport.send(n0, accepted(2)).unwrap();
    assert!(transport.send(NodeId(3), accepted(1)).is_err(), "nobody has this id");
    transport.flush();
    for index in [1, 2] {
        let line: Value = serde_json::from_str(&bench.lines.recv_timeout(PATIENCE).unwrap()).unwrap();
        let body = json!({"type": "append_entries_res", "term": 4, "success": true, "match_index": index, "round": 1,
            "life": ["7", 1], "to_life": ["ff", 2]});
        assert_eq!(line, json!({"src": "n1", "dest": "n0", "body": body}));
    }
}

mod workloads;
