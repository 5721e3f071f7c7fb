//! The truth about tiny histories: every order of every choice of the unknown operations, tried on the shipped machine.

use bytes::Bytes;
use raft::checker::Outcome;
use raft::checker::key_value::{Action, Answer, Operation};
use raft::machine::command::{self, Change, Condition};
use raft::machine::kv::KeyValue;

/// Whether some order explains this history of one key.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let history: Vec<_> = history.iter().filter(|operation| operation.outcome != Outcome::Failed).collect();
    try_all(&history, &mut Vec::new(), &KeyValue::default())
}

fn try_all(history: &[&Operation], order: &mut Vec<usize>, store: &KeyValue) -> bool {
    let open: Vec<usize> = (0..history.len()).filter(|at| !order.contains(at)).collect();
    if open.iter().all(|&at| history[at].outcome == Outcome::Unknown) && revisions_ascend(history, order) {
        return true;
    }
    open.iter().any(|&at| {
        let may_come = open.iter().all(|&other| history[other].latest() >= history[at].began);
        let mut after = store.clone();
        if !may_come || !answers_so(&mut after, history[at]) {
            return false;
        }
        order.push(at);
        let found = try_all(history, order, &after);
        order.pop();
        found
    })
}

/// Applies it to the machine; false if its client was told something else.
fn answers_so(store: &mut KeyValue, operation: &Operation) -> bool {
    let key = operation.partition.clone();
    let answer = match operation.action.clone() {
        Action::Get => match store.get(&key) {
            Some(value) => Answer::Found(value.bytes.clone(), None),
            None => Answer::Missing,
        },
        Action::Set(value) => {
            told(store.apply(Change::Set { key, value, condition: Condition::Always, want_old: false }, 1))
        }
        Action::Delete => told(store.apply(Change::Delete { keys: vec![key] }, 1)),
        Action::CompareAndSet(from, to) => told(store.apply(Change::CompareAndSet { key, from, to, create: false }, 1)),
        Action::Append(_) => panic!("our store cannot append"),
    };
    match operation.answer() {
        None => true,
        Some(Answer::Found(value, _)) => answer == Answer::Found(value.clone(), None),
        Some(Answer::Done(_)) => answer == Answer::Done(None),
        Some(Answer::Different(None)) => matches!(answer, Answer::Different(_)),
        Some(other) => answer == *other,
    }
}

fn told(answer: command::Answer) -> Answer {
    match answer {
        command::Answer::Set { revision: Some(_), .. } | command::Answer::Count(1) => Answer::Done(None),
        command::Answer::Missing | command::Answer::Count(0) => Answer::Missing,
        command::Answer::Different { actual } => Answer::Different(Some(actual)),
        other => panic!("no answer to one of these: {other:?}"),
    }
}

/// Whether every change has one revision, as far as it was told, and later changes have higher ones.
fn revisions_ascend(history: &[&Operation], order: &[usize]) -> bool {
    let mut changes: Vec<Option<u64>> = Vec::new();
    let mut value: Option<Bytes> = None;
    for &at in order {
        let operation = history[at];
        let changed = match &operation.action {
            Action::Get => None,
            Action::Set(to) => Some(Some(to.clone())),
            Action::Delete => value.as_ref().map(|_| None),
            Action::CompareAndSet(from, to) => (value.as_ref() == Some(from)).then(|| Some(to.clone())),
            Action::Append(_) => panic!("our store cannot append"),
        };
        let revision = match operation.answer() {
            Some(Answer::Done(revision) | Answer::Found(_, revision)) => *revision,
            _ => None,
        };
        if let Some(changed) = changed {
            value = changed;
            changes.push(revision);
        } else if let (Some(revision), Some(last)) = (revision, changes.last_mut())
            && *last.get_or_insert(revision) != revision
        {
            return false;
        }
    }
    let known: Vec<u64> = changes.into_iter().flatten().collect();
    known.is_sorted_by(|one, next| one < next) && known.first() != Some(&0)
}
