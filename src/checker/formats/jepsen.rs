//! Jepsen's format, as its `history.edn` has it and Knossos reads it: operations on registers.
//!
//! ```text
//! {:process 0, :type :invoke, :f :read, :value ["k" nil], :index 0, :time 120}
//! {:process 0, :type :ok, :f :read, :value ["k" 5], :index 1, :time 450}
//! ```
//!
//! A value comes with its key, as `jepsen.independent` has it; for the reader it may also stand alone, in a history of one
//! register. Whole numbers are numbers, other values strings, a missing one is nil. `:f` is `:read`, `:write` or `:cas`; a
//! deletion is a write of nil. What Knossos' register does not know stands beside it, and is read again:
//!
//! | what | is said by |
//! | --- | --- |
//! | a compare-and-set that was answered, and changed nothing | `:type :fail` with `:error :missing`, `:different` or `[:different V]` |
//! | whether a deletion found something | `:existed true` or `false` |
//! | a revision | `:revision N` |

use std::fmt::Write as _;

use bytes::Bytes;

use super::edn::Edn;
use super::{Event, Told, WriteError, events, text};
use crate::checker::history::{Outcome, ReadError};
use crate::checker::key_value::{Action, Answer, Operation};

/// Writes a history.
///
/// # Errors
/// A key or value is not UTF-8, or something is appended.
pub fn write(history: &[Operation]) -> Result<String, WriteError> {
    let mut out = String::new();
    for (index, Event { operation, process, time, begins }) in events(history).into_iter().enumerate() {
        let operation = &history[operation];
        let datum = |bytes: &Bytes| Ok(datum(text(bytes, operation)?));
        let (function, asked) = match &operation.action {
            Action::Get => ("read", Edn::Nil),
            Action::Set(value) => ("write", datum(value)?),
            Action::Delete => ("write", Edn::Nil),
            Action::CompareAndSet(from, to) => ("cas", Edn::Sequence(vec![datum(from)?, datum(to)?])),
            Action::Append(_) => {
                let why = "a register has no append";
                return Err(WriteError { operation: operation.to_string(), why });
            }
        };
        let mut extra = String::new();
        let (kind, value) = match (&operation.outcome, &operation.action) {
            _ if begins => ("invoke", asked),
            (Outcome::Unknown, _) => ("info", asked),
            (Outcome::Failed, _) => ("fail", asked),
            (Outcome::Answered(Answer::Found(value, revision)), _) => {
                extra = said(*revision);
                ("ok", datum(value)?)
            }
            (Outcome::Answered(Answer::Missing), Action::CompareAndSet(..)) => {
                extra = ", :error :missing".into();
                ("fail", asked)
            }
            (Outcome::Answered(Answer::Different(found)), _) => {
                extra = match found {
                    None => ", :error :different".into(),
                    Some(found) => format!(", :error [:different {}]", datum(found)?),
                };
                ("fail", asked)
            }
            (Outcome::Answered(Answer::Missing), Action::Delete) => {
                extra = ", :existed false".into();
                ("ok", asked)
            }
            (Outcome::Answered(Answer::Missing), _) => ("ok", asked),
            (Outcome::Answered(Answer::Done(revision)), action) => {
                let existed = if *action == Action::Delete { ", :existed true" } else { "" };
                extra = format!("{existed}{}", said(*revision));
                ("ok", asked)
            }
        };
        let value = Edn::Sequence(vec![datum(&operation.partition)?, value]);
        let _ = writeln!(
            out,
            "{{:process {process}, :type :{kind}, :f :{function}, :value {value}{extra}, :index {index}, :time {time}}}"
        );
    }
    Ok(out)
}

fn said(revision: Option<u64>) -> String {
    revision.map_or(String::new(), |revision| format!(", :revision {revision}"))
}

/// A whole number as such, if it is written as we would.
fn datum(text: &str) -> Edn {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Edn::Number(number),
        _ => Edn::Text(text.to_owned()),
    }
}

/// Reads a history. A `:fail` without an `:error` of the table above did not take effect. Times are the order of the events;
/// `:time` and `:index` mean nothing.
///
/// # Errors
/// The first event that makes no sense.
pub fn read(history: &str) -> Result<Vec<Operation>, ReadError> {
    super::read(history, |event, invoked| {
        let Some(function @ ("read" | "write" | "cas")) = event.name("f") else {
            return Err(format!("{event}: expected :f to be :read, :write or :cas"));
        };
        let told = match (event.name("type"), invoked) {
            (Some("invoke"), _) => invocation(function, event),
            (Some("ok"), Some(operation)) => answer(event, &operation.action).map(Outcome::Answered).map(Told::Ended),
            (Some("fail"), _) => Ok(Told::Ended(refusal(event))),
            (Some("ok" | "info"), _) => Ok(Told::Ended(Outcome::Unknown)),
            _ => Err("expected :type to be :invoke, :ok, :fail or :info".into()),
        };
        told.map_err(|why| format!("{event}: {why}"))
    })
}

fn invocation(function: &str, event: &Edn) -> Result<Told, String> {
    let value = event.get("value").unwrap_or(&Edn::Nil);
    let (key, value) = keyed(value, function);
    let action = match (function, value) {
        ("read", _) => Action::Get,
        ("write", Edn::Nil) => Action::Delete,
        ("write", value) => Action::Set(bytes(value)?),
        (_, Edn::Sequence(both)) if both.len() == 2 => Action::CompareAndSet(bytes(&both[0])?, bytes(&both[1])?),
        _ => return Err("expected a :cas to have a :value [FROM TO]".into()),
    };
    Ok(Told::Invoked(key.map_or(Ok(Bytes::new()), bytes)?, action))
}

/// A value with its key, if it has one.
fn keyed<'a>(value: &'a Edn, function: &str) -> (Option<&'a Edn>, &'a Edn) {
    match value {
        Edn::Sequence(both) if both.len() == 2 && (function != "cas" || matches!(both[1], Edn::Sequence(_))) => {
            (Some(&both[0]), &both[1])
        }
        value => (None, value),
    }
}

fn answer(event: &Edn, action: &Action) -> Result<Answer, String> {
    let revision = match event.get("revision") {
        None => None,
        Some(Edn::Number(revision)) => u64::try_from(*revision).ok(),
        Some(other) => return Err(format!("{other} is no revision")),
    };
    match action {
        Action::Get => match keyed(event.get("value").unwrap_or(&Edn::Nil), "read") {
            (_, Edn::Nil) => Ok(Answer::Missing),
            (_, value) => Ok(Answer::Found(bytes(value)?, revision)),
        },
        Action::Delete => match event.get("existed") {
            Some(Edn::Bool(true)) => Ok(Answer::Done(revision)),
            Some(Edn::Bool(false)) => Ok(Answer::Missing),
            _ => Err("a write of nil is a deletion, and needs :existed true or false".into()),
        },
        Action::Set(_) | Action::CompareAndSet(..) | Action::Append(_) => Ok(Answer::Done(revision)),
    }
}

fn refusal(event: &Edn) -> Outcome<Answer> {
    let is_different = |error: &Edn| matches!(error, Edn::Keyword(name) if name == "different");
    match event.get("error") {
        Some(Edn::Keyword(name)) if name == "missing" => Outcome::Answered(Answer::Missing),
        Some(error) if is_different(error) => Outcome::Answered(Answer::Different(None)),
        Some(Edn::Sequence(both)) if both.len() == 2 && is_different(&both[0]) => {
            Outcome::Answered(Answer::Different(bytes(&both[1]).ok()))
        }
        _ => Outcome::Failed,
    }
}

fn bytes(value: &Edn) -> Result<Bytes, String> {
    match value {
        Edn::Number(number) => Ok(number.to_string().into()),
        Edn::Text(text) => Ok(text.clone().into()),
        Edn::Keyword(name) => Ok(format!(":{name}").into()),
        other => Err(format!("{other} is no value: expected a number, a string or a keyword")),
    }
}
