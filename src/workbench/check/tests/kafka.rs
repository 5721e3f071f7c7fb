use super::*;

fn send(process: u64, at: u64, message: u64, offset: u64) -> Operation {
    answered(process, at, at + 5, request(message), json!({ "offset": offset }))
}

fn request(message: u64) -> Value {
    json!({"type": "send", "key": "k", "msg": message})
}

fn poll(at: u64, from: u64, messages: Value) -> Operation {
    answered(9, at, at + 5, json!({"type": "poll", "offsets": {"k": from}}), json!({ "msgs": {"k": messages} }))
}

/// Polls at rest until nothing comes any more.
fn last(at: u64, messages: Value) -> [Operation; 2] {
    let end = messages.as_array().unwrap().iter().map(|pair| pair[0].as_u64().unwrap() + 1).max().unwrap_or(0);
    [at_rest(poll(at, 0, messages)), at_rest(poll(at + 10, end, json!([])))]
}

fn found(history: &[Operation], last: [Operation; 2]) -> Vec<&'static str> {
    let history = [history, &last].concat();
    let found = names(Workload::Kafka, &history);
    assert_eq!(check(Workload::Kafka, &history).undecided, None);
    found
}

#[test]
fn what_was_acknowledged_is_there_in_the_end() {
    let sends = [send(1, 0, 10, 0), send(1, 10, 11, 1), send(1, 20, 12, 2)];
    assert_eq!(found(&sends, last(50, json!([[0, 10], [1, 11], [2, 12]]))), [""; 0]);
    assert_eq!(found(&sends, last(50, json!([[0, 10], [1, 11]]))), ["lost"]);
    assert_eq!(found(&sends, last(50, json!([[0, 10], [2, 12]]))), ["lost", "skipped"]);
    assert_eq!(found(&sends, last(50, json!([]))), ["lost"]);
}

#[test]
fn what_was_read_is_there_in_the_end() {
    let maybe = unknown(1, 0, request(10));
    assert_eq!(found(std::slice::from_ref(&maybe), last(50, json!([]))), [""; 0]);
    let seen = [maybe, poll(20, 0, json!([[0, 10]]))];
    assert_eq!(found(&seen, last(50, json!([[0, 10]]))), [""; 0]);
    assert_eq!(found(&seen, last(50, json!([]))), ["lost"]);
}

#[test]
fn what_everybody_went_past_is_lost_even_without_polls_at_rest() {
    let sends = [send(1, 0, 10, 0), send(1, 10, 11, 1)];
    let with = |messages: Value| names(Workload::Kafka, &[&sends[..], &[poll(20, 0, messages)]].concat());
    assert_eq!(with(json!([[0, 10], [1, 11]])), [""; 0]);
    assert_eq!(with(json!([[1, 11]])), ["lost", "skipped"]);
    assert!(check(Workload::Kafka, &sends).undecided.is_some(), "nobody has looked");
}

#[test]
fn a_message_has_one_offset_and_an_offset_one_message() {
    let two = [send(1, 0, 10, 0), send(1, 10, 11, 1)];
    assert_eq!(found(&two, last(50, json!([[0, 10], [1, 11]]))), [""; 0]);
    assert_eq!(found(&two, last(50, json!([[0, 10], [1, 11], [2, 10]]))), ["duplicated"]);
    let same = [send(1, 0, 10, 0), send(2, 2, 11, 0)];
    assert_eq!(found(&same, last(50, json!([[0, 10]]))), ["inconsistent offsets"]);
    let again = [send(1, 0, 10, 0), send(1, 10, 10, 1)];
    assert_eq!(found(&again, last(50, json!([[0, 10], [1, 10]]))), [""; 0]);
}

#[test]
fn nobody_reads_what_was_not_sent() {
    let refused = refused(1, 0, 5, request(10), 11);
    assert_eq!(found(std::slice::from_ref(&refused), last(50, json!([]))), [""; 0]);
    assert_eq!(found(&[refused], last(50, json!([[0, 10]]))), ["unexpected"]);
    assert_eq!(found(&[], last(50, json!([[0, 10]]))), ["unexpected"]);
    assert_eq!(found(&[poll(0, 0, json!([[0, 10]])), send(1, 20, 10, 0)], last(50, json!([[0, 10]]))), ["unexpected"]);
}

#[test]
fn a_poll_skips_nothing_and_is_in_order() {
    let sends = [send(1, 0, 10, 0), send(1, 10, 11, 1), send(1, 20, 12, 2)];
    let all = || last(50, json!([[0, 10], [1, 11], [2, 12]]));
    let with = |from, messages: Value| found(&[&sends[..], &[poll(30, from, messages)]].concat(), all());
    assert_eq!(with(1, json!([[1, 11], [2, 12]])), [""; 0]);
    assert_eq!(with(0, json!([[0, 10]])), [""; 0]);
    assert_eq!(with(0, json!([])), [""; 0]);
    assert_eq!(with(0, json!([[0, 10], [2, 12]])), ["skipped"]);
    assert_eq!(with(0, json!([[1, 11]])), ["skipped"]);
    assert_eq!(with(1, json!([[0, 10], [1, 11]])), ["nonmonotonic poll"]);
    assert_eq!(with(0, json!([[1, 11], [0, 10]])), ["skipped"]);
    assert_eq!(with(0, json!([[0, 10], [0, 10]])), ["nonmonotonic poll"]);
}

#[test]
fn a_process_sends_in_order() {
    let all = || last(50, json!([[0, 11], [1, 10]]));
    assert_eq!(found(&[send(1, 0, 10, 1), send(1, 10, 11, 0)], all()), ["nonmonotonic send"]);
    let disorder = |second| {
        let history = [&[send(1, 0, 10, 1), send(2, second, 11, 0)], &all()[..]].concat();
        let verdict = check(Workload::Kafka, &history);
        assert!(verdict.is_valid(), "{verdict:?}");
        fact(&verdict, "sends out of order").to_owned()
    };
    assert_eq!(disorder(3), "0");
    assert_eq!(disorder(10), "1");
}

#[test]
fn gaps_are_counted() {
    let gaps = |history: &[Operation]| {
        let verdict = check(Workload::Kafka, history);
        assert!(verdict.is_valid(), "{verdict:?}");
        fact(&verdict, "gaps").to_owned()
    };
    assert_eq!(
        gaps(&[&[send(1, 0, 10, 0), send(1, 10, 11, 1)], &last(50, json!([[0, 10], [1, 11]]))[..]].concat()),
        "0"
    );
    assert_eq!(
        gaps(&[&[send(1, 0, 10, 1), send(1, 10, 11, 4)], &last(50, json!([[1, 10], [4, 11]]))[..]].concat()),
        "3"
    );
}

fn commit(at: u64, offset: u64) -> Operation {
    answered(1, at, at + 5, json!({"type": "commit_offsets", "offsets": {"k": offset}}), json!({}))
}

fn list(at: u64, offsets: Value) -> Operation {
    answered(2, at, at + 5, json!({"type": "list_committed_offsets", "keys": ["k"]}), json!({ "offsets": offsets }))
}

#[test]
fn commits_are_not_forgotten() {
    let found = |history: &[Operation]| names(Workload::Kafka, history);
    assert_eq!(found(&[list(0, json!({})), commit(10, 3), list(20, json!({"k": 3}))]), [""; 0]);
    assert_eq!(found(&[commit(10, 3), list(20, json!({}))]), ["lost commit"]);
    assert_eq!(found(&[commit(10, 3), list(20, json!({"k": 4}))]), ["unexpected commit"]);
    assert_eq!(found(&[list(0, json!({"k": 3})), commit(10, 3)]), ["unexpected commit"]);
    assert_eq!(found(&[commit(10, 3), commit(20, 5), list(30, json!({"k": 3}))]), ["lost commit"]);
    assert_eq!(found(&[commit(10, 3), commit(20, 5), list(22, json!({"k": 3}))]), [""; 0]);
    let maybe = unknown(3, 12, json!({"type": "commit_offsets", "offsets": {"k": 7}}));
    for possible in [5, 7] {
        assert_eq!(found(&[commit(10, 5), maybe.clone(), list(9_000, json!({"k": possible}))]), [""; 0]);
    }
}

#[test]
fn what_a_smaller_commit_does_is_left_open() {
    let behind = |offset| {
        let verdict = check(Workload::Kafka, &[commit(10, 5), commit(20, 3), list(30, json!({ "k": offset }))]);
        assert!(verdict.is_valid(), "{verdict:?}");
        fact(&verdict, "committed offsets behind the greatest").to_owned()
    };
    assert_eq!(behind(5), "0");
    assert_eq!(behind(3), "1");
    let stale = [commit(10, 5), commit(20, 3), commit(30, 4), list(40, json!({"k": 3}))];
    assert_eq!(names(Workload::Kafka, &stale), ["lost commit"]);
}
