//! Histories by hand: for every anomaly one that has it, and beside it one that is as it should be.

mod alone;
mod counter;
mod kafka;
mod lin_kv;
mod set;
mod txn;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::check;
use crate::gateway::maelstrom::Workload;
use crate::workbench::history::{Operation, Outcome};
use crate::workbench::verdict::Verdict;

/// A request and its answer, both without what goes without saying. Times are in milliseconds.
fn answered(process: u64, began: u64, ended: u64, request: Value, mut answer: Value) -> Operation {
    answer["type"] = format!("{}_ok", request["type"].as_str().unwrap()).into();
    with(process, began, ended, request, Outcome::Answered(answer))
}

fn refused(process: u64, began: u64, ended: u64, request: Value, code: u64) -> Operation {
    with(process, began, ended, request, Outcome::Refused { code, text: "no".into() })
}

fn unknown(process: u64, began: u64, request: Value) -> Operation {
    with(process, began, began + 5_000, request, Outcome::Unknown("no answer".into()))
}

fn with(process: u64, began: u64, ended: u64, request: Value, outcome: Outcome) -> Operation {
    let (began, ended) = (Duration::from_millis(began), Duration::from_millis(ended));
    Operation { process, node: process as usize % 5, request, outcome, began, ended, at_rest: false }
}

fn at_rest(operation: Operation) -> Operation {
    Operation { at_rest: true, ..operation }
}

/// The names of all anomalies. What else there is to a verdict holds for all of them: each tells of operations, and in words.
fn names(workload: Workload, history: &[Operation]) -> Vec<&'static str> {
    let verdict = check(workload, history);
    for anomaly in &verdict.anomalies {
        assert!(!anomaly.operations.is_empty() && anomaly.explanation.contains("process"), "{anomaly:?}");
        assert!(anomaly.operations.iter().all(|at| *at < history.len()), "{anomaly:?}");
        assert!(!anomaly.explanation.contains("   "), "{anomaly:?}");
    }
    let names: BTreeSet<_> = verdict.anomalies.iter().map(|anomaly| anomaly.name).collect();
    names.into_iter().collect()
}

fn fact<'a>(verdict: &'a Verdict, name: &str) -> &'a str {
    let found = verdict.facts.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("no fact is called {name:?}: {:?}", verdict.facts)).1
}

/// Answers that no correct node gives, to any request.
fn nonsense() -> Vec<Value> {
    let mut bodies = vec![json!(null), json!(7), json!([]), json!("read_ok"), json!({}), json!({"type": 7})];
    for field in ["value", "messages", "id", "echo", "offset", "msgs", "offsets", "txn"] {
        for value in
            [json!(null), json!(-1.5), json!("x"), json!([1, [2]]), json!({"5": [[], [1], ["x", 2], {}]}), json!([[]])]
                .into_iter()
                .chain([json!(u64::MAX), json!({"k": [[u64::MAX, 1]], "l": [[u64::MAX, 1]]})])
        {
            bodies.push(json!({ field: value }));
        }
    }
    bodies
}

#[test]
fn no_answer_stops_a_check() {
    let requests = [
        json!({"type": "read", "key": 1}),
        json!({"type": "read"}),
        json!({"type": "write", "key": 1, "value": 2}),
        json!({"type": "cas", "key": 1, "from": 2, "to": 3}),
        json!({"type": "broadcast", "message": 1}),
        json!({"type": "add", "element": 1}),
        json!({"type": "add", "delta": 1}),
        json!({"type": "echo", "echo": "x"}),
        json!({"type": "generate"}),
        json!({"type": "txn", "txn": [["r", 1, null], ["append", 1, 1]]}),
        json!({"type": "txn", "txn": [["r", 1, null], ["w", 1, 1]]}),
        json!({"type": "send", "key": "k", "msg": 1}),
        json!({"type": "send", "key": "l", "msg": 1}),
        json!({"type": "poll", "offsets": {"k": 0, "l": 0}}),
        json!({"type": "commit_offsets", "offsets": {"k": 0}}),
        json!({"type": "list_committed_offsets", "keys": ["k"]}),
        json!({"type": 5}),
        json!(null),
    ];
    let mut malformed = 0;
    for body in nonsense() {
        let mut history = Vec::new();
        for (began, request) in (0..).step_by(10).zip(&requests) {
            let mut typed = body.clone();
            if let (Some(kind), true) = (request["type"].as_str(), body.is_object()) {
                typed["type"] = format!("{kind}_ok").into();
            }
            history.extend(
                [body.clone(), typed]
                    .map(|body| at_rest(with(1, began, began + 1, request.clone(), Outcome::Answered(body)))),
            );
        }
        for (_, workload) in Workload::NAMES {
            malformed += usize::from(names(workload, &history).contains(&"malformed answer"));
        }
    }
    assert!(malformed > nonsense().len() * 5, "most of these make no sense to anybody: {malformed}");
}

#[test]
fn an_answer_of_another_type_is_malformed() {
    let echo = json!({"type": "echo", "echo": 1});
    let wrong = Outcome::Answered(json!({"type": "generate_ok", "echo": 1}));
    let verdict = check(Workload::Echo, &[with(3, 1_000, 2_000, echo, wrong)]);
    let [anomaly] = &verdict.anomalies[..] else { panic!("{verdict:?}") };
    assert_eq!(anomaly.name, "malformed answer");
    let expected = "An answer makes no sense: its type is not \"echo_ok\".
  process 3 on n3, 1.000000..2.000000 s: echo echo 1 -> generate_ok echo 1";
    assert_eq!(anomaly.explanation, expected);
}

#[test]
fn what_happens_often_is_explained_a_few_times_and_counted() {
    let echo = |at| answered(1, at, at + 1, json!({"type": "echo", "echo": 1}), json!({"echo": 2}));
    let verdict = check(Workload::Echo, &(0..20).map(echo).collect::<Vec<_>>());
    assert_eq!(verdict.anomalies.len(), 5);
    assert_eq!(fact(&verdict, "wrong echo"), "20 found, 5 of them explained");
}

#[test]
fn a_node_with_nothing_right_is_checked_in_time() {
    const MANY: u64 = 10_000;
    let began = Instant::now();
    let all: Vec<u64> = (0..MANY).collect();
    let read = answered(1, 0, 5, json!({"type": "read"}), json!({ "value": all }));
    let verdict = check(Workload::GSet, &[at_rest(read)]);
    assert_eq!(fact(&verdict, "unexpected"), "10000 found, 5 of them explained");
    let pairs: Vec<_> = all.iter().map(|at| json!([at, at])).collect();
    let poll = answered(1, 0, 5, json!({"type": "poll", "offsets": {"k": 0}}), json!({"msgs": {"k": pairs}}));
    let verdict = check(Workload::Kafka, &[at_rest(poll)]);
    assert_eq!(fact(&verdict, "unexpected"), "10000 found, 5 of them explained");
    let txn = answered(1, 0, 5, json!({"type": "txn", "txn": [["r", 5, null]]}), json!({"txn": [["r", 5, all]]}));
    let verdict = check(Workload::TxnListAppend, &[txn]);
    assert_eq!(fact(&verdict, "unexpected"), "10000 found, 5 of them explained");
    assert!(began.elapsed() < Duration::from_secs(5), "explained so that nobody reads it: {:?}", began.elapsed());
}
