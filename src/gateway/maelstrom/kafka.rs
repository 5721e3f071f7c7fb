//! The workload `kafka`: logs that only grow, and how far their readers say they are.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;

use super::message::{Body, ErrorCode};
use super::request::{Next, Question, key, text};
use crate::codec::json::Object;
use crate::machine::command::{Answer, Change, Command, Query, Step, Value};
use crate::machine::numbers::element_key;

/// Most messages of one log in the answer to one `poll`. Whoever wants more asks again.
const POLL_MESSAGES_MAX: u64 = 1000;

/// `send {key, msg}`.
pub fn send(body: &Object<'_>) -> Result<Question, String> {
    let append = Change::Append { key: log(&body.field::<String>("key")?)?, value: body.canonical("msg")?.text.into() };
    Ok(Question::write(append, |answer| match answer {
        Answer::Count(offset) => Ok(Next::Tell(Body::json("send", "offset", offset.to_string()))),
        other => Err(other),
    }))
}

/// `poll {offsets: {key: from}}`.
pub fn poll(body: &Object<'_>) -> Result<Question, String> {
    let mut names = Vec::new();
    let mut queries = Vec::new();
    for (name, from) in body.field::<BTreeMap<String, u64>>("offsets")? {
        let prefix = log(&name)?;
        let after = Some(from.checked_sub(1).map_or_else(|| prefix.clone(), |before| element_key(&prefix, before)));
        queries.push(Query::List { prefix, after, limit: POLL_MESSAGES_MAX }.encode());
        names.push(name);
    }
    Ok(Question::read(&Query::Together { queries }, move |answer| {
        let Answer::Transaction(answers) = answer else { return Err(answer) };
        let mut logs = Vec::with_capacity(answers.len());
        for (name, answer) in names.iter().zip(&answers) {
            let messages = match Answer::decode(answer) {
                Ok(Answer::Items { items, .. }) => messages(&items),
                // There is no room left, but there was for another log: this one's turn comes.
                Ok(Answer::TooLarge) => "[]".into(),
                _ => return Err(Answer::Transaction(answers)),
            };
            logs.push(member(name, &messages));
        }
        Ok(Next::Tell(Body::json("poll", "msgs", format!("{{{}}}", logs.join(",")))))
    }))
}

/// `commit_offsets {offsets: {key: upto}}`. What is committed never goes back.
pub fn commit(body: &Object<'_>) -> Result<Question, String> {
    let mut steps = Vec::new();
    for (name, upto) in body.field::<BTreeMap<String, u64>>("offsets")? {
        let to = i64::try_from(upto).map_err(|_| format!("the field `offsets`: {upto} is too large"))?;
        steps.push(Step::Change(Change::Raise { key: committed(&name)?, to }));
    }
    Ok(Question::write(Command::Transaction { guards: Vec::new(), steps }, |answer| match answer {
        Answer::Transaction(_) => Ok(Next::Tell(Body::ok("commit_offsets"))),
        other => Err(other),
    }))
}

/// `list_committed_offsets {keys}`. Logs of which nothing is committed are left out.
pub fn list_committed(body: &Object<'_>) -> Result<Question, String> {
    let names: Vec<String> = body.field("keys")?;
    let query = |name: &String| Ok(Query::Get { key: committed(name)? }.encode());
    let queries = names.iter().map(query).collect::<Result<_, String>>()?;
    Ok(Question::read(&Query::Together { queries }, move |answer| {
        let Answer::Transaction(answers) = answer else { return Err(answer) };
        let mut offsets = BTreeMap::new();
        for (name, answer) in names.iter().zip(&answers) {
            match Answer::decode(answer) {
                Ok(Answer::Value(None)) => {}
                Ok(Answer::Value(Some(offset))) => {
                    offsets.insert(name, member(name, &text(&offset.bytes)));
                }
                _ => return Ok(Next::Tell(Body::error(ErrorCode::NotSupported, "the answer would be too large"))),
            }
        }
        let offsets: Vec<_> = offsets.into_values().collect();
        Ok(Next::Tell(Body::json("list_committed_offsets", "offsets", format!("{{{}}}", offsets.join(",")))))
    }))
}

/// The list that is the log of this name.
fn log(name: &str) -> Result<Bytes, String> {
    Ok(key(&["log", &quoted(name)?]))
}

/// The key of the offset that was committed for this log.
fn committed(name: &str) -> Result<Bytes, String> {
    Ok(key(&["committed", &quoted(name)?]))
}

/// Text without a zero byte.
fn quoted(name: &str) -> Result<String, String> {
    serde_json::to_string(name).map_err(|error| error.to_string())
}

/// Offsets and messages, as JSON.
fn messages(items: &[(Bytes, Value)]) -> String {
    let mut messages = String::from("[");
    for (key, message) in items {
        let offset = key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let comma = if messages.len() > 1 { "," } else { "" };
        let _ = write!(messages, "{comma}[{offset},{}]", text(&message.bytes));
    }
    messages + "]"
}

/// A member of an object, as JSON.
fn member(name: &str, value: &str) -> String {
    format!("{}:{value}", serde_json::Value::from(name))
}
