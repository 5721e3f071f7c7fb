//! Porcupine's format for histories of a key-value store: that of its published examples (`test_data/kv`).
//!
//! ```text
//! {:process 0, :type :invoke, :f :put, :key "k", :value "1"}
//! {:process 0, :type :ok, :f :put, :key "k", :value "1"}
//! ```
//!
//! It has get, put and append only, and no difference between a missing key and an empty value. What it has no words for is
//! written as what it implies: a successful compare-and-set has seen one value and put another, a deletion has put an empty
//! value. So **whoever finds the written history broken has found ours broken; the converse does not hold.** Jepsen's format
//! says all of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;

use super::edn::Edn;
use super::{Event, Told, WriteError, events, text};
use crate::checker::history::{Outcome, ReadError};
use crate::checker::key_value::{Action, Answer, Operation};

/// Writes a history.
///
/// # Errors
/// A key or value is not UTF-8.
pub fn write(history: &[Operation]) -> Result<String, WriteError> {
    let history: Vec<Operation> = history.iter().flat_map(implied).collect();
    let mut out = String::new();
    for Event { operation, process, begins, .. } in events(&history) {
        let operation = &history[operation];
        let (kind, asked, found) = match (&operation.action, operation.answer()) {
            _ if !begins && operation.outcome == Outcome::Unknown => continue,
            (Action::Get, Some(Answer::Found(value, _))) => ("get", None, Some(value)),
            (Action::Set(value), _) => ("put", Some(value), Some(value)),
            (Action::Append(value), _) => ("append", Some(value), Some(value)),
            _ => ("get", None, None),
        };
        let value = match (begins, asked, found) {
            (true, Some(value), _) | (false, _, Some(value)) => Edn::Text(text(value, operation)?.to_owned()),
            (true, None, _) => Edn::Nil,
            (false, _, None) => Edn::Text(String::new()),
        };
        let kind_of_event = if begins { "invoke" } else { "ok" };
        let key = Edn::Text(text(&operation.partition, operation)?.to_owned());
        let _ = writeln!(out, "{{:process {process}, :type :{kind_of_event}, :f :{kind}, :key {key}, :value {value}}}");
    }
    Ok(out)
}

/// What an operation implies, in gets, sets and appends at the same time.
fn implied(operation: &Operation) -> Vec<Operation> {
    let with = |action, answer: Option<Answer>| Operation {
        action,
        outcome: answer.map_or(Outcome::Unknown, Outcome::Answered),
        ..operation.clone()
    };
    let saw = |value: &Bytes| with(Action::Get, Some(Answer::Found(value.clone(), None)));
    let done = operation.answer().map(|_| Answer::Done(None));
    match (&operation.action, &operation.outcome) {
        (_, Outcome::Failed) | (Action::Get, Outcome::Unknown) => vec![],
        (Action::CompareAndSet(from, to), Outcome::Answered(Answer::Done(_))) => {
            vec![saw(from), with(Action::Set(to.clone()), done)]
        }
        (Action::CompareAndSet(_, to), Outcome::Unknown) => vec![with(Action::Set(to.clone()), None)],
        (_, Outcome::Answered(Answer::Different(Some(value)))) => vec![saw(value)],
        (_, Outcome::Answered(Answer::Different(None))) => vec![],
        (_, Outcome::Answered(Answer::Missing)) => vec![with(Action::Get, Some(Answer::Missing))],
        (Action::Delete, _) => vec![with(Action::Set(Bytes::new()), done)],
        (Action::Get | Action::Set(_) | Action::Append(_), _) => vec![operation.clone()],
        (Action::CompareAndSet(..), Outcome::Answered(Answer::Found(..))) => vec![],
    }
}

/// Reads a history. What has no end is unknown. As a missing key is an empty value here, each key is set to that beforehand, by
/// a client of its own.
///
/// # Errors
/// The first event that makes no sense.
pub fn read(history: &str) -> Result<Vec<Operation>, ReadError> {
    let mut history = super::read(history, |event, invoked| {
        let value = match event.get("value") {
            Some(Edn::Text(text)) => Some(Bytes::from(text.clone())),
            Some(Edn::Nil) => None,
            _ => return Err(format!("{event}: expected a :value, a string or nil")),
        };
        match (event.name("type"), event.name("f"), value) {
            (Some("invoke"), Some(kind), value) => {
                let Some(Edn::Text(key)) = event.get("key") else {
                    return Err(format!("{event}: expected a :key, a string"));
                };
                let action = match (kind, value) {
                    ("get", None) => Action::Get,
                    ("put", Some(value)) => Action::Set(value),
                    ("append", Some(value)) => Action::Append(value),
                    _ => return Err(format!("{event}: expected a :get of nil, or a :put or :append of a string")),
                };
                Ok(Told::Invoked(Bytes::from(key.clone()), action))
            }
            (Some("ok"), Some(_), Some(value)) => {
                let is_get = invoked.is_some_and(|operation| operation.action == Action::Get);
                let answer = if is_get { Answer::Found(value, None) } else { Answer::Done(None) };
                Ok(Told::Ended(Outcome::Answered(answer)))
            }
            _ => Err(format!("{event}: expected an :invoke, or an :ok with a string")),
        }
    })?;
    let client = history.iter().map(|operation| operation.client).max().map_or(0, |last| last + 1);
    let keys: BTreeSet<Bytes> = history.iter().map(|operation| operation.partition.clone()).collect();
    history.extend(keys.into_iter().map(|partition| {
        let (action, outcome) = (Action::Set(Bytes::new()), Outcome::Answered(Answer::Done(None)));
        Operation { client, partition, action, outcome, began: 0, ended: 0 }
    }));
    Ok(history)
}
