//! The requests of the `lin-kv` workload: JSON to operations of the key-value store, and outcomes to JSON.

use serde_json::value::RawValue;

use super::message::{Body, ErrorCode, Request};
use crate::consensus::Payload;
use crate::machine::command::{Answer, Change, Command, Condition, Query};
use crate::runtime::{Operation, Outcome, Response};
use crate::transport::Failure;

/// Longest part of a value in an error's text, in characters.
const EXCERPT_CHARS: usize = 100;

/// What a client asked, as far as the answer depends on it.
#[derive(Debug)]
pub enum Question {
    /// `read`.
    Read,
    /// `write`.
    Write,
    /// `cas`.
    Cas {
        /// The value expected, as canonical JSON.
        from: String,
    },
}

impl Question {
    /// Takes a request apart. Fails with the answer for the client.
    pub fn parse(request: &Request<'_>) -> Result<(Question, Operation), Body> {
        let malformed = |why: String| Body::error(ErrorCode::MalformedRequest, why);
        let kind = request.kind.as_ref().map_err(|why| malformed(why.clone()))?;
        let text = |name| request.body.canonical(name).map(|value| value.text).map_err(malformed);
        match kind.as_str() {
            "read" => {
                let query = Query::Get { key: text("key")?.into() };
                Ok((Question::Read, Operation::Read(Payload(query.encode()))))
            }
            "write" => {
                let (key, value) = (text("key")?.into(), text("value")?.into());
                let change = Change::Set { key, value, condition: Condition::Always, want_old: false };
                Ok((Question::Write, write(change)))
            }
            "cas" => {
                let (key, from, to) = (text("key")?.into(), text("from")?, text("to")?.into());
                let create = request.body.optional("create_if_not_exists").map_err(malformed)?.unwrap_or(false);
                let change = Change::CompareAndSet { key, from: from.clone().into(), to, create };
                Ok((Question::Cas { from }, write(change)))
            }
            "init" | "raft_init" => Err(malformed("this node has been initialised already".into())),
            _ => Err(Body::error(ErrorCode::NotSupported, format!("there is no request of type {kind:?}"))),
        }
    }

    /// What to tell the client.
    pub fn answer(&self, outcome: Outcome) -> Body {
        let answer = match outcome {
            Ok(Response::Answer(bytes)) => Answer::decode(&bytes).map_err(|error| error.to_string()),
            Ok(other) => Err(format!("the node answered {other:?}")),
            Err(failure) => return failed(failure),
        };
        match (self, answer) {
            (Question::Read, Ok(Answer::Value(Some(value)))) => match parse(&value.bytes) {
                Some(value) => Body::value(value),
                None => Body::error(ErrorCode::Crash, "the value of the key is not JSON"),
            },
            (Question::Read, Ok(Answer::Value(None))) | (Question::Cas { .. }, Ok(Answer::Missing)) => {
                Body::error(ErrorCode::KeyDoesNotExist, "there is no such key")
            }
            (Question::Write, Ok(Answer::Set { revision: Some(_), .. })) => Body::ok("write"),
            (Question::Cas { .. }, Ok(Answer::Set { revision: Some(_), .. })) => Body::ok("cas"),
            (Question::Cas { from }, Ok(Answer::Different { actual })) => {
                let (expected, found) = (excerpt(from), excerpt(&String::from_utf8_lossy(&actual)));
                Body::error(ErrorCode::PreconditionFailed, format!("expected {expected}, found {found}"))
            }
            (_, Ok(Answer::Malformed(why))) => Body::error(ErrorCode::MalformedRequest, why),
            (question, answer) => {
                log::error!("{question:?} was answered with {answer:?}");
                Body::error(ErrorCode::Crash, "the answer makes no sense: see this node's log")
            }
        }
    }
}

fn write(change: Change) -> Operation {
    Operation::Write(Payload(Command::Change(change).encode()))
}

fn failed(failure: Failure) -> Body {
    let code = match failure {
        Failure::NotReady(_) | Failure::Overloaded(_) => ErrorCode::TemporarilyUnavailable,
        Failure::Refused(_) => ErrorCode::MalformedRequest,
        Failure::Unknown(_) => ErrorCode::Crash,
    };
    Body::error(code, failure.to_string())
}

/// The JSON value that these bytes are the text of.
fn parse(bytes: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(std::str::from_utf8(bytes).ok()?.to_owned()).ok()
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "...",
        None => text.to_owned(),
    }
}
