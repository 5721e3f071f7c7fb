//! Each workload's requests, their answers and their errors.

use std::collections::BTreeSet;

use super::*;

/// A client's request without `msg_id`, and its answer without `in_reply_to`.
fn ask(bench: &mut Bench, mut body: Value) -> Value {
    body["msg_id"] = json!(3);
    let mut answer = bench.ask(body);
    assert_eq!(answer.as_object_mut().unwrap().remove("in_reply_to"), Some(json!(3)), "{answer}");
    answer
}

fn code(bench: &mut Bench, body: Value) -> Value {
    let answer = ask(bench, body);
    assert_eq!(answer["type"], "error", "{answer}");
    answer["code"].clone()
}

#[test]
fn names_lead_back_to_workloads() {
    for (name, workload) in Workload::NAMES {
        assert_eq!((name.parse(), workload.to_string()), (Ok(workload), name.to_owned()));
    }
    assert!("lin".parse::<Workload>().unwrap_err().contains("lin-kv, txn-list-append"));
}

#[test]
fn a_node_answers_by_itself_what_is_not_about_the_others() {
    let mut bench = Bench::open();
    bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1", "n2", "n3"]}));
    bench.hear();
    // Nobody serves what goes to the state machine.
    for echo in [json!("please"), json!(null), json!({"b": [1, 2.50], "a": "é"})] {
        assert_eq!(ask(&mut bench, json!({"type": "echo", "echo": echo})), json!({"type": "echo_ok", "echo": echo}));
    }
    assert_eq!(code(&mut bench, json!({"type": "echo"})), 12);
    assert_eq!(
        ask(&mut bench, json!({"type": "topology", "topology": {"n1": ["n2"]}})),
        json!({"type": "topology_ok"})
    );
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let answer = ask(&mut bench, json!({"type": "generate"}));
        assert_eq!(answer["type"], "generate_ok");
        ids.insert(answer["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 100);
    let random = |id: &String| id.strip_prefix("n1-").unwrap().split_once('-').unwrap().0.to_owned();
    let lives: BTreeSet<_> = ids.iter().map(random).collect();
    assert!(lives.len() == 1 && lives.iter().all(|bits| bits.len() == 32), "{lives:?}");

    let mut later = Bench::serving();
    let id = ask(&mut later, json!({"type": "generate"}))["id"].as_str().unwrap().to_owned();
    assert!(!lives.contains(&random(&id)), "another life draws other bits");
}

#[test]
fn broadcast() {
    let mut bench = Bench::serving_for(Workload::Broadcast);
    assert_eq!(ask(&mut bench, json!({"type": "read"})), json!({"type": "read_ok", "messages": []}));
    for message in [json!(5), json!("5"), json!({"b": 1, "a": 2}), json!(5)] {
        let body = json!({"type": "broadcast", "message": message});
        assert_eq!(ask(&mut bench, body), json!({"type": "broadcast_ok"}));
    }
    let expected = json!({"type": "read_ok", "messages": [5, "5", {"a": 2, "b": 1}]});
    assert_eq!(ask(&mut bench, json!({"type": "read"})), expected);
    assert_eq!(code(&mut bench, json!({"type": "broadcast"})), 12);
    assert_eq!(code(&mut bench, json!({"type": "read", "key": 5})), 20, "a `read` with a key reads a register");
}

#[test]
fn grow_only_set() {
    let mut bench = Bench::serving_for(Workload::GSet);
    assert_eq!(ask(&mut bench, json!({"type": "read"})), json!({"type": "read_ok", "value": []}));
    for element in [3, 1, 3] {
        assert_eq!(ask(&mut bench, json!({"type": "add", "element": element})), json!({"type": "add_ok"}));
    }
    assert_eq!(ask(&mut bench, json!({"type": "read"})), json!({"type": "read_ok", "value": [3, 1]}));
    assert_eq!(code(&mut bench, json!({"type": "add"})), 12);
    assert_eq!(code(&mut bench, json!({"type": "add", "element": 1, "delta": 1})), 12);
}

#[test]
fn a_set_of_many_pages_is_read_whole() {
    let mut bench = Bench::serving_for(Workload::GSet);
    let element = |number: usize| format!("{number}{}", "x".repeat(90_000));
    let add = |bench: &mut Bench, numbers: std::ops::Range<usize>| {
        for number in numbers {
            assert_eq!(ask(bench, json!({"type": "add", "element": element(number)}))["type"], "add_ok");
        }
    };
    let pages = 50 * 90_000 / command::MAX_ANSWER_BYTES + 1;
    assert_eq!(pages, 2);
    add(&mut bench, 0..50);
    let expected: Vec<String> = (0..50).map(element).collect();
    assert!(ask(&mut bench, json!({"type": "read"}))["value"] == json!(expected));
    add(&mut bench, 50..100);
    assert_eq!(code(&mut bench, json!({"type": "read"})), 10, "more than one line should hold");
}

#[test]
fn counters() {
    let mut bench = Bench::serving_for(Workload::PnCounter);
    let add = |delta: Value| json!({"type": "add", "delta": delta});
    assert_eq!(ask(&mut bench, json!({"type": "read"})), json!({"type": "read_ok", "value": 0}));
    for delta in [5, -7, 0] {
        assert_eq!(ask(&mut bench, add(json!(delta))), json!({"type": "add_ok"}));
    }
    assert_eq!(ask(&mut bench, json!({"type": "read"}))["value"], json!(-2));
    for delta in [json!(1.5), json!("1"), json!(i64::MIN)] {
        assert_eq!(code(&mut bench, add(delta)), 12);
    }
    assert_eq!(ask(&mut bench, json!({"type": "read"}))["value"], json!(-2), "what was refused had no effect");

    let mut bench = Bench::serving_for(Workload::GCounter);
    assert_eq!(ask(&mut bench, add(json!(3)))["type"], "add_ok");
    assert_eq!(code(&mut bench, add(json!(-1))), 12);
    assert_eq!(ask(&mut bench, json!({"type": "read"}))["value"], json!(3));
}

#[test]
fn a_read_without_a_key_needs_a_workload() {
    for workload in [Workload::LinKv, Workload::Kafka, Workload::Echo] {
        let mut bench = Bench::serving_for(workload);
        let answer = ask(&mut bench, json!({"type": "read"}));
        assert_eq!(answer["code"], 12);
        assert!(answer["text"].as_str().unwrap().contains("--workload"), "{answer}");
    }
}

#[test]
fn kafka() {
    let mut bench = Bench::serving_for(Workload::Kafka);
    let send = |key: &str, msg: Value| json!({"type": "send", "key": key, "msg": msg});
    for (offset, msg) in [json!(9), json!({"b": 1, "a": null}), json!(9)].into_iter().enumerate() {
        assert_eq!(ask(&mut bench, send("k1", msg)), json!({"type": "send_ok", "offset": offset}));
    }
    assert_eq!(ask(&mut bench, send("k\"\u{0}2", json!("x")))["offset"], json!(0));
    let poll = json!({"type": "poll", "offsets": {"k1": 1, "k\"\u{0}2": 0, "k": 0, "k1 ": 7}});
    let msgs = json!({"k1": [[1, {"a": null, "b": 1}], [2, 9]], "k\"\u{0}2": [[0, "x"]], "k": [], "k1 ": []});
    assert_eq!(ask(&mut bench, poll), json!({"type": "poll_ok", "msgs": msgs}));

    let list = json!({"type": "list_committed_offsets", "keys": ["k1", "k2", "k1"]});
    assert_eq!(ask(&mut bench, list.clone()), json!({"type": "list_committed_offsets_ok", "offsets": {}}));
    for (upto, then) in [(2, 2), (1, 2), (3, 3)] {
        let commit = json!({"type": "commit_offsets", "offsets": {"k1": upto}});
        assert_eq!(ask(&mut bench, commit), json!({"type": "commit_offsets_ok"}));
        assert_eq!(ask(&mut bench, list.clone())["offsets"], json!({"k1": then}), "never back");
    }
    for nonsense in [
        json!({"type": "send", "key": 1, "msg": 1}),
        json!({"type": "send", "key": "k1"}),
        json!({"type": "poll", "offsets": {"k1": -1}}),
        json!({"type": "poll", "offsets": ["k1"]}),
        json!({"type": "commit_offsets", "offsets": {"k1": u64::MAX}}),
        json!({"type": "list_committed_offsets"}),
    ] {
        assert_eq!(code(&mut bench, nonsense), 12);
    }
    assert_eq!(ask(&mut bench, send("k1", json!(1)))["offset"], json!(3), "nothing else had an effect");
}

#[test]
fn a_poll_is_bounded_and_the_next_one_goes_on() {
    let mut bench = Bench::serving_for(Workload::Kafka);
    let message = |number: usize| format!("{number}{}", "x".repeat(90_000));
    for number in 0..60 {
        ask(&mut bench, json!({"type": "send", "key": "k", "msg": message(number)}));
    }
    ask(&mut bench, json!({"type": "send", "key": "l", "msg": message(0)}));
    let (mut read, mut polls) = (0, 0);
    while read < 60 {
        let answer = ask(&mut bench, json!({"type": "poll", "offsets": {"k": read, "l": 0}}));
        let messages = answer["msgs"]["k"].as_array().unwrap();
        assert!(!messages.is_empty());
        for found in messages {
            assert!(*found == json!([read, message(read)]));
            read += 1;
        }
        polls += 1;
    }
    assert_eq!(polls, 2);
}

#[test]
fn transactions_over_lists() {
    let mut bench = Bench::serving_for(Workload::TxnListAppend);
    let txn = |operations: Value| json!({"type": "txn", "txn": operations});
    let asked = json!([["r", 1, null], ["append", 1, 5], ["r", 1, null], ["append", 1, [6]], ["append", 10, 7]]);
    let done = json!([["r", 1, null], ["append", 1, 5], ["r", 1, [5]], ["append", 1, [6]], ["append", 10, 7]]);
    assert_eq!(ask(&mut bench, txn(asked)), json!({"type": "txn_ok", "txn": done}));
    let done = json!([["r", 1, [5, [6]]], ["r", 10, [7]], ["r", "1", null]]);
    let asked = json!([["r", 1, null], ["r", 10, null], ["r", "1", null]]);
    assert_eq!(ask(&mut bench, txn(asked)), json!({"type": "txn_ok", "txn": done}));
    assert_eq!(ask(&mut bench, txn(json!([])))["txn"], json!([]));
    for nonsense in [
        json!([["append", 1, 5], ["w", 1, 6]]),
        json!([["x", 1, 5]]),
        json!([["append", 1]]),
        json!("r"),
        json!(vec![json!(["append", 1, 5]); command::MAX_TRANSACTION_STEPS + 1]),
    ] {
        assert_eq!(code(&mut bench, txn(nonsense)), 12);
    }
    assert_eq!(code(&mut bench, json!({"type": "txn"})), 12);
    let read = ask(&mut bench, txn(json!([["r", 1, null]])));
    assert_eq!(read["txn"], json!([["r", 1, [5, [6]]]]), "what was refused had no effect");
}

#[test]
fn transactions_over_registers() {
    let mut bench = Bench::serving_for(Workload::TxnRwRegister);
    let txn = |operations: Value| json!({"type": "txn", "txn": operations});
    let asked = json!([["r", 1, null], ["w", 1, 5], ["r", 1, null], ["w", 1, {"b": 1, "a": 2}]]);
    let done = json!([["r", 1, null], ["w", 1, 5], ["r", 1, 5], ["w", 1, {"a": 2, "b": 1}]]);
    assert_eq!(ask(&mut bench, txn(asked)), json!({"type": "txn_ok", "txn": done}));
    let read = ask(&mut bench, txn(json!([["r", 1, null], ["r", 2, null]])));
    assert_eq!(read["txn"], json!([["r", 1, {"a": 2, "b": 1}], ["r", 2, null]]));
    let register = ask(&mut bench, json!({"type": "read", "key": 1}));
    assert_eq!(register["value"], json!({"a": 2, "b": 1}), "the register of lin-kv");

    let mut bench = Bench::serving();
    assert_eq!(ask(&mut bench, txn(json!([["w", 1, 5], ["r", 1, null]])))["txn"], json!([["w", 1, 5], ["r", 1, 5]]));
    let answer = ask(&mut bench, txn(json!([["r", 1, null]])));
    assert!(answer["code"] == 12 && answer["text"].as_str().unwrap().contains("--workload"), "{answer}");
}

#[test]
fn lists_registers_logs_and_sets_of_one_name_are_apart() {
    let mut bench = Bench::serving_for(Workload::TxnListAppend);
    let txn = |operations: Value| json!({"type": "txn", "txn": operations});
    for body in [
        txn(json!([["append", "k", 1]])),
        txn(json!([["w", "k", 2], ["r", "k", null]])),
        json!({"type": "send", "key": "k", "msg": 3}),
        json!({"type": "add", "element": "k"}),
        json!({"type": "add", "delta": 4}),
        json!({"type": "broadcast", "message": "k"}),
        json!({"type": "commit_offsets", "offsets": {"k": 5}}),
    ] {
        let answer = ask(&mut bench, body);
        assert_ne!(answer["type"], "error", "{answer}");
    }
    assert_eq!(ask(&mut bench, txn(json!([["r", "k", null]])))["txn"], json!([["r", "k", [1]]]));
    assert_eq!(ask(&mut bench, json!({"type": "read", "key": "k"}))["value"], json!(2));
    assert_eq!(ask(&mut bench, json!({"type": "poll", "offsets": {"k": 0}}))["msgs"], json!({"k": [[0, 3]]}));
    // A transaction that appends sees lists, one that writes registers.
    let answer = ask(&mut bench, txn(json!([["r", "k", null], ["append", "l", 1]])));
    assert_eq!(answer["txn"], json!([["r", "k", [1]], ["append", "l", 1]]));
    let answer = ask(&mut bench, txn(json!([["r", "k", null], ["w", "l", 1]])));
    assert_eq!(answer["txn"], json!([["r", "k", 2], ["w", "l", 1]]));
}

#[test]
fn what_is_read_in_a_transaction_may_be_too_large() {
    let mut bench = Bench::serving_for(Workload::TxnListAppend);
    let txn = |operations: Value| json!({"type": "txn", "txn": operations});
    let large = "x".repeat(90_000);
    for _ in 0..50 {
        ask(&mut bench, txn(json!([["append", 1, large]])));
    }
    assert_eq!(code(&mut bench, txn(json!([["r", 1, null]]))), 10, "a read has no effect");
    assert_eq!(code(&mut bench, txn(json!([["append", 2, 1], ["r", 1, null]]))), 13, "what it appends, it has");
    assert_eq!(ask(&mut bench, txn(json!([["r", 2, null]])))["txn"], json!([["r", 2, [1]]]));
}

#[test]
fn reads_need_no_entry_of_the_log() {
    let requests = [
        (Workload::LinKv, json!({"type": "read", "key": 1})),
        (Workload::Broadcast, json!({"type": "read"})),
        (Workload::GSet, json!({"type": "read"})),
        (Workload::PnCounter, json!({"type": "read"})),
        (Workload::Kafka, json!({"type": "poll", "offsets": {"k": 0}})),
        (Workload::Kafka, json!({"type": "list_committed_offsets", "keys": ["k"]})),
        (Workload::TxnListAppend, json!({"type": "txn", "txn": [["r", 1, null], ["r", 2, null]]})),
        (Workload::TxnRwRegister, json!({"type": "txn", "txn": [["r", 1, null]]})),
    ];
    for (workload, mut body) in requests {
        let mut bench = Bench::open_with(workload, |_| Ok(()));
        bench.say(json!({"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1"]}));
        bench.hear();
        let (inboxes, _) = bench.node.recv_timeout(PATIENCE).unwrap();
        body["msg_id"] = json!(2);
        bench.say(body);
        let request = inboxes.clients.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(request.operation, Operation::Read(_)), "{workload}: {:?}", request.operation);
        request.reply.send(Err(Failure::Unknown("lost".into()))).flush();
        assert_eq!(bench.hear()["code"], json!(13));
    }
}
