use super::*;

fn write(process: u64, began: u64, ended: u64, value: u64) -> Operation {
    answered(process, began, ended, json!({"type": "write", "key": 5, "value": value}), json!({}))
}

fn read(process: u64, began: u64, ended: u64, value: u64) -> Operation {
    answered(process, began, ended, json!({"type": "read", "key": 5}), json!({ "value": value }))
}

fn cas(from: u64, to: u64) -> Value {
    json!({"type": "cas", "key": 5, "from": from, "to": to})
}

fn cas_or_create(from: u64, to: u64) -> Value {
    json!({"type": "cas", "key": 5, "from": from, "to": to, "create_if_not_exists": true})
}

fn found(history: &[Operation]) -> Vec<&'static str> {
    names(Workload::LinKv, history)
}

#[test]
fn a_read_is_not_stale() {
    assert_eq!(found(&[write(1, 0, 5, 1), write(1, 10, 20, 2), read(2, 12, 15, 1)]), [""; 0]);
    assert_eq!(found(&[write(1, 0, 5, 1), write(1, 10, 20, 2), read(2, 25, 30, 1)]), ["not linearizable"]);
}

#[test]
fn keys_are_independent_and_any_json() {
    let other = answered(1, 0, 5, json!({"type": "write", "key": [5], "value": {"a": 1}}), json!({}));
    let read = |value: Value| answered(2, 10, 15, json!({"type": "read", "key": [5]}), json!({ "value": value }));
    assert_eq!(found(&[other.clone(), write(1, 6, 7, 2), read(json!({"a": 1}))]), [""; 0]);
    assert_eq!(found(&[other, write(1, 6, 7, 2), read(json!(2))]), ["not linearizable"]);
}

#[test]
fn a_missing_key_was_missing() {
    let missing = |at| refused(2, at, at + 5, json!({"type": "read", "key": 5}), 20);
    assert_eq!(found(&[missing(0), write(1, 10, 20, 1)]), [""; 0]);
    assert_eq!(found(&[write(1, 10, 20, 1), missing(30)]), ["not linearizable"]);
    let swap = |at| refused(2, at, at + 5, cas(1, 2), 20);
    assert_eq!(found(&[swap(0), write(1, 10, 20, 1)]), [""; 0]);
    assert_eq!(found(&[write(1, 10, 20, 1), swap(30)]), ["not linearizable"]);
}

#[test]
fn an_error_that_says_nothing_of_the_key_is_nothing() {
    assert_eq!(found(&[write(1, 0, 5, 1), refused(1, 10, 15, cas(1, 2), 11), read(2, 20, 25, 1)]), [""; 0]);
    assert_eq!(
        found(&[write(1, 0, 5, 1), refused(1, 10, 15, cas(1, 2), 22), read(2, 20, 25, 1)]),
        ["not linearizable"]
    );
    assert_eq!(found(&[write(1, 0, 5, 3), refused(1, 10, 15, cas(1, 2), 22), read(2, 20, 25, 3)]), [""; 0]);
    assert_eq!(found(&[refused(1, 0, 5, cas(1, 2), 11), read(2, 20, 25, 2)]), ["not linearizable"]);
}

#[test]
fn a_swap_needs_the_value_or_may_create_it() {
    assert_eq!(found(&[write(1, 0, 5, 1), answered(1, 10, 15, cas(1, 2), json!({})), read(2, 20, 25, 2)]), [""; 0]);
    assert_eq!(found(&[write(1, 0, 5, 3), answered(1, 10, 15, cas(1, 2), json!({}))]), ["not linearizable"]);
    assert_eq!(found(&[answered(1, 10, 15, cas(1, 2), json!({}))]), ["not linearizable"]);
    assert_eq!(found(&[answered(1, 10, 15, cas_or_create(1, 2), json!({})), read(2, 20, 25, 2)]), [""; 0]);
    assert_eq!(found(&[write(1, 0, 5, 1), answered(1, 10, 15, cas_or_create(1, 2), json!({}))]), [""; 0]);
    assert_eq!(found(&[write(1, 0, 5, 3), answered(1, 10, 15, cas_or_create(1, 2), json!({}))]), ["not linearizable"]);
    assert_eq!(found(&[refused(1, 10, 15, cas_or_create(1, 2), 22)]), ["not linearizable"]);
}

#[test]
fn an_unknown_write_may_happen_late_or_never() {
    let maybe = unknown(3, 7, json!({"type": "write", "key": 5, "value": 9}));
    let history = |last| [write(1, 0, 5, 1), maybe.clone(), read(2, 10, 15, 1), read(2, 9_000, 9_005, last)];
    assert_eq!(found(&history(1)), [""; 0]);
    assert_eq!(found(&history(9)), [""; 0]);
    assert_eq!(found(&history(8)), ["not linearizable"]);
}

#[test]
fn the_smallest_contradiction_is_told() {
    let mut history: Vec<_> = (0..50).map(|at| write(3, 1_000 + at * 10, 1_005 + at * 10, 100 + at)).collect();
    history.extend([write(1, 0, 5, 1), read(2, 6, 8, 1), write(1, 10, 20, 2), read(4, 26, 27, 2), read(2, 28, 30, 1)]);
    let verdict = check(Workload::LinKv, &history);
    let expected =
        "Key 5 did not behave like one register. All that was answered before 0.030000 s can be explained; but no \
order of these 3 of its 55 operations explains their answers, whichever of the others took effect:
  process 1 on n1, 0.000000..0.005000 s: write key 5 value 1 -> write_ok
  process 1 on n1, 0.010000..0.020000 s: write key 5 value 2 -> write_ok
  process 2 on n2, 0.028000..0.030000 s: read key 5 -> read_ok value 1";
    assert_eq!(verdict.anomalies[0].explanation, expected);
    assert_eq!(verdict.anomalies[0].operations, [50, 52, 54]);
    assert_eq!(fact(&verdict, "keys"), "1");
}
