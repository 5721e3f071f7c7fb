use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The first requests of a workload, drawn with this seed, none of which is ever answered.
fn requests(workload: Workload, seed: u64, count: usize) -> Vec<Value> {
    let (mut generator, mut dice) = (generator(workload, 4, 5), Dice::new(seed, "requests"));
    (0..count).map(|number| generator.next(number % 4, &mut dice)).collect()
}

#[test]
fn a_seed_always_asks_the_same() {
    for (name, workload) in Workload::NAMES {
        assert_eq!(requests(workload, 7, 500), requests(workload, 7, 500), "{name}");
        let has_choice = workload != Workload::UniqueIds;
        assert_eq!(requests(workload, 7, 500) != requests(workload, 8, 500), has_choice, "{name}");
    }
}

#[test]
fn every_type_of_request_comes() {
    for (workload, expected) in [
        (Workload::LinKv, vec!["cas", "read", "write"]),
        (Workload::TxnListAppend, vec!["txn"]),
        (Workload::Kafka, vec!["list_committed_offsets", "poll", "send"]),
        (Workload::Broadcast, vec!["broadcast", "read"]),
        (Workload::GSet, vec!["add", "read"]),
        (Workload::PnCounter, vec!["add", "read"]),
        (Workload::Echo, vec!["echo"]),
        (Workload::UniqueIds, vec!["generate"]),
    ] {
        let requests = requests(workload, 7, 500);
        let kinds: BTreeSet<_> = requests.iter().filter_map(|request| request["type"].as_str()).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn no_value_is_written_twice_and_keys_are_given_up() {
    let mut values = BTreeSet::new();
    let mut uses = BTreeMap::<u64, usize>::new();
    for request in requests(Workload::LinKv, 7, 3_000) {
        let value = request.get("value").or(request.get("to")).and_then(Value::as_u64);
        assert!(value.is_none_or(|value| values.insert(value)), "{request}");
        *uses.entry(request["key"].as_u64().unwrap()).or_default() += 1;
    }
    assert!(uses.len() >= 50 && uses.values().all(|count| *count <= 60), "{uses:?}");
}

#[test]
fn transactions_are_short_and_write_each_value_once() {
    let (mut values, mut writes, mut lengths) = (BTreeSet::new(), BTreeMap::<u64, usize>::new(), BTreeSet::new());
    for request in requests(Workload::TxnListAppend, 7, 3_000) {
        let steps = request["txn"].as_array().unwrap();
        lengths.insert(steps.len());
        for step in steps.iter().filter(|step| step[0] == "append") {
            assert!(values.insert(step[2].as_u64().unwrap()));
            *writes.entry(step[1].as_u64().unwrap()).or_default() += 1;
        }
    }
    assert_eq!(lengths, BTreeSet::from([1, 2, 3, 4]));
    assert!(writes.values().all(|count| *count <= 32) && writes.len() > 100, "{writes:?}");
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let (mut kafka, mut dice) = (kafka::Kafka::new(1, 1), Dice::new(7, "requests"));
    let mut ask = |kafka: &mut kafka::Kafka, kind: &str| loop {
        let request = kafka.next(0, &mut dice);
        if request["type"] == kind {
            return request;
        }
    };
    let committed = ask(&mut kafka, "list_committed_offsets");
    kafka.answered(0, &committed, &json!({"type": "list_committed_offsets_ok", "offsets": {"0": 4}}));
    let poll = ask(&mut kafka, "poll");
    assert_eq!(poll, json!({"type": "poll", "offsets": {"0": 5}}));
    let answer = json!({"type": "poll_ok", "msgs": {"0": [[5, 9], [6, 10]]}});
    kafka.answered(0, &poll, &answer);
    assert_eq!(ask(&mut kafka, "commit_offsets"), json!({"type": "commit_offsets", "offsets": {"0": 6}}));
    assert_eq!(kafka.further(&poll, &answer), Some(json!({"type": "poll", "offsets": {"0": 7}})));
    assert_eq!(kafka.further(&poll, &json!({"type": "poll_ok", "msgs": {"0": []}})), None);
}

#[test]
fn at_the_end_everything_is_read() {
    let read_by_all = |workload| {
        let mut generator = generator(workload, 4, 5);
        let mut dice = Dice::new(7, "requests");
        (0..1_000).for_each(|number| drop(generator.next(number % 4, &mut dice)));
        (0..3).flat_map(|node| generator.at_rest(node, 3)).collect::<Vec<_>>()
    };
    let keys: BTreeSet<_> = read_by_all(Workload::LinKv).iter().filter_map(|read| read["key"].as_u64()).collect();
    assert!(keys.len() >= 16 && keys.iter().copied().eq(0..keys.len() as u64), "{keys:?}");
    let steps = read_by_all(Workload::TxnRwRegister);
    let steps = steps.iter().flat_map(|request| request["txn"].as_array().unwrap());
    let keys: BTreeSet<_> = steps.map(|step| step[1].as_u64().unwrap()).collect();
    assert!(keys.len() >= 16 && keys.iter().copied().eq(0..keys.len() as u64), "{keys:?}");
    assert_eq!(read_by_all(Workload::Kafka).len(), 3 * 5, "every log from every node");
    assert_eq!(read_by_all(Workload::GSet), vec![read(); 3]);
}
