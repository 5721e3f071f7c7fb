//! What the workbench checks, checked: invented histories are accepted, broken ones are not, and of tiny ones brute force
//! knows the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::gateway::maelstrom::Workload;
use raft::workbench::check::check;
use raft::workbench::history::{Operation, Outcome};
use raft::workbench::verdict::Verdict;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::rounds;
use crate::sequential::{Plan, Store, invent};

const TRANSACTIONS: [Workload; 2] = [Workload::TxnListAppend, Workload::TxnRwRegister];

fn shown(history: &[Operation]) -> String {
    let line = |(at, operation): (usize, &Operation)| {
        let Operation { process, began, ended, request, outcome, .. } = operation;
        format!("\n{at}: {process} {began:?}..{ended:?} {request} -> {outcome:?}")
    };
    history.iter().enumerate().map(line).collect()
}

#[test]
fn histories_of_a_correct_store_are_accepted() {
    // Facts that are zero for a strict node.
    let strict = [
        "stale reads",
        "reads that no order explains",
        "gaps",
        "sends out of order",
        "committed offsets behind the greatest",
    ];
    let mut checked: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..rounds(15, 2_000) {
        for (name, workload) in Workload::NAMES {
            let dice = &mut Dice::new(seed);
            let (keys, width, vague) = (1 + dice.below(4), 5 + dice.below(60), 4 + dice.below(20));
            // The more outcomes are unknown at the same time, the longer is the search for an order of a register's.
            let operations = if workload == Workload::LinKv { 80 } else { 200 };
            let history = invent(dice, workload, Plan { operations, keys, width, vague });
            let verdict = check(workload, &history);
            assert!(verdict.is_valid(), "{name}, seed {seed}: {verdict:?}\nof{}", shown(&history));
            for (fact, value) in verdict.facts.iter().filter(|(fact, _)| strict.contains(&fact.as_str())) {
                assert_eq!(value, "0", "{name}, seed {seed}: {fact}");
                *checked.entry(strict.iter().find(|known| *known == fact).unwrap()).or_default() += 1;
            }
        }
    }
    assert_eq!(checked.len(), strict.len(), "all of these facts are told: {checked:?}");
}

/// Whether some order explains this history of transactions: every order of every choice of the unknown ones is tried.
fn is_strict_serializable(workload: Workload, history: &[Operation]) -> bool {
    let history: Vec<_> = history.iter().filter(|one| !matches!(one.outcome, Outcome::Refused { .. })).collect();
    try_all(workload, &history, &mut Vec::new(), &Store::default())
}

fn try_all(workload: Workload, history: &[&Operation], order: &mut Vec<usize>, store: &Store) -> bool {
    let open: Vec<usize> = (0..history.len()).filter(|at| !order.contains(at)).collect();
    let is_unknown = |at: usize| matches!(history[at].outcome, Outcome::Unknown(_));
    if open.iter().all(|&at| is_unknown(at)) {
        return true;
    }
    open.iter().any(|&at| {
        let may_come = open.iter().all(|&other| is_unknown(other) || history[other].ended >= history[at].began);
        let mut after = store.clone();
        let answer = after.answer(workload, &history[at].request).unwrap();
        if !may_come || !is_unknown(at) && history[at].outcome != Outcome::Answered(answer) {
            return false;
        }
        order.push(at);
        let found = try_all(workload, history, order, &after);
        order.pop();
        found
    })
}

/// Changes something that may or may not matter.
fn disturb(dice: &mut Dice, workload: Workload, history: &mut [Operation]) {
    let (victim, other) = (dice.below(history.len() as u64) as usize, dice.below(history.len() as u64) as usize);
    let values: Vec<Value> = reads(&history[other]).into_iter().map(|(_, value)| value).collect();
    let operation = &mut history[victim];
    match dice.below(6) {
        0 => {
            operation.began = Duration::from_millis(400 + dice.below(400));
            operation.ended = operation.began + Duration::from_millis(dice.below(40));
        }
        1 => operation.outcome = Outcome::Refused { code: 30, text: "no".into() },
        _ => {
            let Outcome::Answered(body) = &mut operation.outcome else { return };
            let steps = body["txn"].as_array_mut().unwrap();
            let Some(step) = steps.iter_mut().filter(|step| step[0] == "r").last() else { return };
            match (dice.below(4), workload) {
                (0, _) => step[2] = Value::Null,
                (1, _) => step[2] = values.first().cloned().unwrap_or_default(),
                (_, Workload::TxnListAppend) => {
                    let Value::Array(list) = &mut step[2] else { return };
                    let place = dice.below(list.len() as u64) as usize;
                    match dice.below(3) {
                        0 => drop(list.remove(place)),
                        1 => list.truncate(place),
                        _ => list.swap(0, place),
                    }
                    // A list without elements is null.
                    if list.is_empty() {
                        step[2] = Value::Null;
                    }
                }
                _ => step[2] = json!((1 + dice.below(6)) * 10 + dice.below(3)),
            }
        }
    }
}

/// Keys and values that a transaction has read.
fn reads(operation: &Operation) -> Vec<(Value, Value)> {
    let Outcome::Answered(body) = &operation.outcome else { return Vec::new() };
    let steps = body["txn"].as_array().into_iter().flatten();
    steps.filter(|step| step[0] == "r").map(|step| (step[1].clone(), step[2].clone())).collect()
}

#[test]
fn verdicts_on_transactions_agree_with_brute_force_on_tiny_histories() {
    for workload in TRANSACTIONS {
        let (mut sound, mut broken, mut missed) = (0, 0, 0);
        let mut found: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in 0..rounds(1_500, 1_000_000) {
            let dice = &mut Dice::new(seed);
            let plan = Plan {
                operations: 2 + dice.below(5),
                keys: 1 + dice.below(3),
                width: 5 + dice.below(40),
                vague: 1 + dice.below(8),
            };
            let mut history = invent(dice, workload, plan);
            for _ in 0..seed % 3 {
                disturb(dice, workload, &mut history);
            }
            let truth = is_strict_serializable(workload, &history);
            let verdict = check(workload, &history);
            let context = || format!("{workload}, seed {seed}: {verdict:?}\nof{}", shown(&history));
            assert_eq!(verdict.undecided, None, "{}", context());
            assert!(!truth || verdict.anomalies.is_empty(), "{}", context());
            // Registers do not tell in which order they were written: a verdict may miss something, but finds no more.
            let may_miss = workload == Workload::TxnRwRegister;
            assert!(truth || may_miss || !verdict.anomalies.is_empty(), "{}", context());
            missed += u64::from(!truth && verdict.anomalies.is_empty());
            (broken, sound) = (broken + u64::from(!truth), sound + u64::from(truth));
            for anomaly in &verdict.anomalies {
                *found.entry(anomaly.name).or_default() += 1;
            }
        }
        println!("{workload}: {sound} sound, {broken} broken, {missed} of these not noticed; {found:?}");
        assert!(broken * 5 > sound && sound * 5 > broken, "both kinds were among them: {sound} and {broken}");
        assert!(missed * 20 < broken, "most is noticed of registers, too: not {missed} of {broken}");
    }
}

fn long(dice: &mut Dice, workload: Workload) -> Vec<Operation> {
    invent(dice, workload, Plan { operations: 300, keys: 3, width: 30, vague: 15 })
}

fn committed(history: &[Operation]) -> Vec<usize> {
    let is_committed = |at: &usize| matches!(history[*at].outcome, Outcome::Answered(_));
    (0..history.len()).filter(is_committed).collect()
}

/// What a transaction wrote to a key last.
fn written(operation: &Operation, key: &Value) -> Option<Value> {
    let steps = operation.request["txn"].as_array()?;
    steps.iter().rfind(|step| step[0] != "r" && step[1] == *key).map(|step| step[2].clone())
}

/// The step at which this transaction reads a key that it does not write, with what it read.
fn pure_read(operation: &mut Operation) -> Option<(Value, &mut Value)> {
    let asked = operation.request.clone();
    let Outcome::Answered(body) = &mut operation.outcome else { return None };
    let steps = asked["txn"].as_array()?;
    let uses = |key: &Value| steps.iter().filter(|step| step[1] == *key).count();
    let place = steps.iter().position(|step| step[0] == "r" && uses(&step[1]) == 1)?;
    let step = &mut body["txn"][place];
    Some((step[1].clone(), &mut step[2]))
}

/// Breaks a history so that no order can explain it; false if this try did not come to that.
fn break_it(dice: &mut Dice, workload: Workload, history: &mut [Operation], how: u64) -> bool {
    let certain = committed(history);
    let victim = certain[dice.below(certain.len() as u64) as usize];
    let began = history[victim].began;
    let before: Vec<Operation> =
        certain.iter().map(|at| &history[*at]).filter(|other| other.ended < began).cloned().collect();
    let snapshot = history.to_vec();
    let Some((key, value)) = pure_read(&mut history[victim]) else { return false };
    match (how, workload) {
        // Something older than what was there when the transaction began.
        (0, Workload::TxnListAppend) => {
            let Some(list) = value.as_array_mut() else { return false };
            let last = list.pop();
            let is_old = before.iter().any(|other| written(other, &key) == last);
            if list.is_empty() {
                *value = Value::Null;
            }
            is_old
        }
        (0, _) => {
            let writers: Vec<_> = before.iter().filter(|other| written(other, &key).is_some()).collect();
            let Some(last) = writers.iter().max_by_key(|writer| writer.began) else { return false };
            let Some(old) = writers.iter().find(|writer| writer.ended < last.began) else { return false };
            *value = written(old, &key).unwrap_or_default();
            true
        }
        // An append that nobody has ever seen.
        (1, Workload::TxnListAppend) => {
            let Some(list) = value.as_array() else { return false };
            let lost = list[dice.below(list.len() as u64) as usize].clone();
            for operation in history.iter_mut() {
                let Outcome::Answered(body) = &mut operation.outcome else { continue };
                for step in
                    body["txn"].as_array_mut().unwrap().iter_mut().filter(|step| step[0] == "r" && step[1] == key)
                {
                    if let Some(list) = step[2].as_array_mut() {
                        list.retain(|element| *element != lost);
                    }
                    if step[2] == json!([]) {
                        step[2] = Value::Null;
                    }
                }
            }
            before.iter().any(|other| written(other, &key) == Some(lost.clone()))
        }
        // What was there in another order than others have seen.
        (2, Workload::TxnListAppend) => {
            let Some(list) = value.as_array_mut().filter(|list| list.len() > 1) else { return false };
            let place = dice.below(list.len() as u64 - 1) as usize;
            list.swap(place, place + 1);
            let seen = |other: &Operation| {
                reads(other)
                    .iter()
                    .any(|(of, seen)| *of == key && seen.as_array().is_some_and(|seen| seen.len() > place + 1))
            };
            (0..snapshot.len()).any(|at| at != victim && seen(&snapshot[at]))
        }
        // The answer to another transaction that reads the same key, of long ago.
        _ => {
            let Some(other) = before.iter().find(|other| reads(other).iter().any(|(of, _)| *of == key)) else {
                return false;
            };
            let (_, old) = reads(other).into_iter().find(|(of, _)| *of == key).unwrap();
            let replaced = before.iter().any(|writer| writer.began > other.ended && written(writer, &key).is_some());
            let is_same = *value == old;
            *value = old;
            replaced && !is_same
        }
    }
}

#[test]
fn broken_histories_of_transactions_are_rejected() {
    let mut rejected: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut steps = 0;
    for seed in 0..rounds(20, 5_000) {
        for (workload, how) in TRANSACTIONS.into_iter().flat_map(|workload| (0..4).map(move |how| (workload, how))) {
            let dice = &mut Dice::new(seed);
            let original = long(dice, workload);
            let mut history = original.clone();
            let harm = (0..1_000).any(|_| {
                history.clone_from(&original);
                break_it(dice, workload, &mut history, how)
            });
            assert!(harm, "{workload}, seed {seed}: {how} can do harm");
            let verdict: Verdict = check(workload, &history);
            assert!(!verdict.anomalies.is_empty(), "{workload}, seed {seed}: {how} was not noticed{}", shown(&history));
            steps += verdict.anomalies[0].operations.len();
            *rejected.entry((workload.to_string(), how)).or_default() += 1;
        }
    }
    let each = steps as f64 / rejected.values().sum::<u64>() as f64;
    println!("rejected: {rejected:?}; explanations had {each:.1} transactions on average");
    assert!(each < 4.0, "explanations are short: {each}");
}

#[test]
fn long_histories_are_checked_in_time() {
    let operations = rounds(2_000, 50_000);
    for workload in TRANSACTIONS {
        let dice = &mut Dice::new(1);
        // With as many keys, lists are about as long as those of Maelstrom's workload.
        let mut history = invent(dice, workload, Plan { operations, keys: operations / 10, width: 100, vague: 50 });
        let began = std::time::Instant::now();
        let verdict = check(workload, &history);
        println!("{workload}: {operations} transactions, checked in {:?}: {:?}", began.elapsed(), verdict.facts);
        assert!(verdict.is_valid(), "{verdict:?}");
        (0..1_000).find(|_| break_it(dice, workload, &mut history, 0)).expect("it can be broken");
        let began = std::time::Instant::now();
        let verdict = check(workload, &history);
        println!("{workload}: broken, checked in {:?}", began.elapsed());
        assert!(!verdict.anomalies.is_empty());
    }
}
