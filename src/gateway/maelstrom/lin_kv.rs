//! The workload `lin-kv`: registers, each a key of the store, which is the canonical JSON of the client's key.

use super::message::{Body, ErrorCode};
use super::request::{Next, Question, text};
use crate::codec::json::Object;
use crate::machine::command::{Answer, Change, Condition, Query};

/// Longest part of a value in an error's text, in characters.
const EXCERPT_CHARS: usize = 100;

/// `read {key}`.
pub fn read(body: &Object<'_>) -> Result<Question, String> {
    let query = Query::Get { key: body.canonical("key")?.text.into() };
    Ok(Question::read(&query, |answer| match answer {
        Answer::Value(Some(value)) => Ok(Next::Tell(Body::json("read", "value", text(&value.bytes)))),
        Answer::Value(None) => Ok(missing()),
        other => Err(other),
    }))
}

/// `write {key, value}`.
pub fn write(body: &Object<'_>) -> Result<Question, String> {
    let (key, value) = (body.canonical("key")?.text.into(), body.canonical("value")?.text.into());
    let set = Change::Set { key, value, condition: Condition::Always, want_old: false };
    Ok(Question::write(set, |answer| match answer {
        Answer::Set { revision: Some(_), .. } => Ok(Next::Tell(Body::ok("write"))),
        other => Err(other),
    }))
}

/// `cas {key, from, to, create_if_not_exists?}`.
pub fn compare_and_set(body: &Object<'_>) -> Result<Question, String> {
    let (key, from, to) = (body.canonical("key")?, body.canonical("from")?.text, body.canonical("to")?);
    let create = body.optional("create_if_not_exists")?.unwrap_or(false);
    let swap = Change::CompareAndSet { key: key.text.into(), from: from.clone().into(), to: to.text.into(), create };
    Ok(Question::write(swap, move |answer| match answer {
        Answer::Set { revision: Some(_), .. } => Ok(Next::Tell(Body::ok("cas"))),
        Answer::Missing => Ok(missing()),
        Answer::Different { actual } => {
            let why = format!("expected {}, found {}", excerpt(&from), excerpt(&text(&actual)));
            Ok(Next::Tell(Body::error(ErrorCode::PreconditionFailed, why)))
        }
        other => Err(other),
    }))
}

fn missing() -> Next {
    Next::Tell(Body::error(ErrorCode::KeyDoesNotExist, "there is no such key"))
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "...",
        None => text.to_owned(),
    }
}
