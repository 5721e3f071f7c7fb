use super::*;

fn add(at: u64, element: u64) -> Operation {
    answered(1, at, at + 5, json!({"type": "add", "element": element}), json!({}))
}

fn read(at: u64, elements: &[u64]) -> Operation {
    answered(2, at, at + 5, json!({"type": "read"}), json!({ "value": elements }))
}

fn found(history: &[Operation]) -> Vec<&'static str> {
    names(Workload::GSet, history)
}

#[test]
fn what_was_acknowledged_is_there_at_rest() {
    assert_eq!(found(&[add(0, 1), add(10, 2), at_rest(read(20, &[2, 1]))]), [""; 0]);
    assert_eq!(found(&[add(0, 1), add(10, 2), at_rest(read(20, &[2]))]), ["lost"]);
}

#[test]
fn what_was_seen_is_there_at_rest() {
    let maybe = unknown(1, 0, json!({"type": "add", "element": 1}));
    assert_eq!(found(&[maybe.clone(), read(10, &[]), at_rest(read(20, &[]))]), [""; 0]);
    assert_eq!(found(&[maybe, read(10, &[1]), at_rest(read(20, &[]))]), ["lost"]);
}

#[test]
fn nothing_else_appears() {
    let refused = refused(1, 0, 5, json!({"type": "add", "element": 7}), 11);
    assert_eq!(found(&[refused.clone(), at_rest(read(10, &[]))]), [""; 0]);
    assert_eq!(found(&[refused, at_rest(read(10, &[7]))]), ["unexpected"]);
    assert_eq!(found(&[add(0, 1), at_rest(read(10, &[1, 8]))]), ["unexpected"]);
    assert_eq!(found(&[add(2, 1), at_rest(read(0, &[1]))]), [""; 0]);
    assert_eq!(found(&[add(20, 1), at_rest(read(10, &[1]))]), ["unexpected"]);
}

#[test]
fn nothing_is_there_twice() {
    assert_eq!(found(&[add(0, 1), at_rest(read(10, &[1, 1]))]), ["duplicated"]);
    assert_eq!(found(&[add(0, 1), add(10, 1), at_rest(read(20, &[1]))]), [""; 0]);
}

#[test]
fn reads_that_are_behind_are_counted() {
    let verdict = check(Workload::GSet, &[add(0, 1), add(10, 2), read(50, &[2]), at_rest(read(60, &[1, 2]))]);
    assert!(verdict.is_valid(), "{verdict:?}");
    assert_eq!(fact(&verdict, "stale reads"), "1");
    assert_eq!(fact(&verdict, "oldest of what stale reads had missed"), "45 ms");
}

#[test]
fn without_a_read_at_rest_nobody_knows() {
    assert!(check(Workload::GSet, &[add(0, 1), read(10, &[1])]).undecided.is_some());
    assert!(check(Workload::GSet, &[]).is_valid());
}

#[test]
fn messages_are_elements() {
    let broadcast = answered(1, 0, 5, json!({"type": "broadcast", "message": "m"}), json!({}));
    let read = |messages: Value| at_rest(answered(2, 10, 15, json!({"type": "read"}), json!({ "messages": messages })));
    assert_eq!(names(Workload::Broadcast, &[broadcast.clone(), read(json!(["m"]))]), [""; 0]);
    let verdict = check(Workload::Broadcast, &[broadcast, read(json!([]))]);
    let expected = "\"m\" was there at 0.005000 s, and is missing in a read at rest, when all faults were over.
  process 1 on n1, 0.000000..0.005000 s: broadcast message \"m\" -> broadcast_ok
  process 2 on n2, 0.010000..0.015000 s: read -> read_ok messages []";
    assert_eq!(verdict.anomalies[0].explanation, expected);
}
