use super::*;

fn add(at: u64, delta: i64) -> Operation {
    answered(1, at, at + 5, json!({"type": "add", "delta": delta}), json!({}))
}

fn read(at: u64, value: i64) -> Operation {
    answered(2, at, at + 5, json!({"type": "read"}), json!({ "value": value }))
}

#[test]
fn at_rest_the_sum_is_one_that_was_added() {
    let lost = |delta| unknown(3, 10, json!({"type": "add", "delta": delta}));
    let sum = |sum| {
        let never = refused(4, 12, 13, json!({"type": "add", "delta": 1000}), 11);
        let history = [add(0, 1), lost(10), lost(-5), never, at_rest(read(6_000, sum))];
        names(Workload::PnCounter, &history)
    };
    for possible in [1, 11, -4, 6] {
        assert_eq!(sum(possible), [""; 0], "{possible}");
    }
    for wrong in [0, 2, 5, 10, 16, 1001] {
        assert_eq!(sum(wrong), ["wrong sum"], "{wrong}");
    }
}

#[test]
fn without_a_read_at_rest_nobody_knows() {
    assert!(check(Workload::GCounter, &[add(0, 1), read(10, 1)]).undecided.is_some());
    assert!(check(Workload::GCounter, &[add(0, 1), at_rest(read(10, 1))]).is_valid());
}

#[test]
fn reads_that_are_behind_are_counted() {
    let behind = |history: &[Operation]| {
        let mut history = history.to_vec();
        history.push(at_rest(read(10_000, 3)));
        let verdict = check(Workload::GCounter, &history);
        assert!(verdict.is_valid(), "{verdict:?}");
        fact(&verdict, "reads that no order explains").to_owned()
    };
    assert_eq!(behind(&[add(0, 1), add(10, 2), read(12, 1), read(20, 3)]), "0");
    assert_eq!(behind(&[add(0, 1), add(10, 2), read(20, 1)]), "1");
    assert_eq!(behind(&[add(0, 1), read(7, 3), add(20, 2)]), "1");
}

#[test]
fn many_unknown_additions_are_checked_in_time() {
    let mut history: Vec<_> =
        (0..300).map(|at| unknown(at, at, json!({"type": "add", "delta": 1 + at * at * 7919}))).collect();
    history.push(at_rest(read(100_000, 0)));
    assert_eq!(names(Workload::GCounter, &history), [""; 0]);
    history.push(at_rest(read(200_000, -1)));
    assert_eq!(names(Workload::GCounter, &history), ["wrong sum"]);
}
