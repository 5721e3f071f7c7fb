//! Outcomes into replies: how each request wants its answer, and the words for every failure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::json;

use super::RespOptions;
use super::frame::Frame;
use super::info;
use crate::machine::command::{Answer, MAX_ANSWER_BYTES, Value};
use crate::machine::words::Words;
use crate::runtime::{NodeStatus, Outcome, Response};
use crate::transport::Failure;

/// How a request wants its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `GET`: the value or null.
    Value,
    /// `SET`: OK, or null where the condition did not hold.
    Set,
    /// `SET ... GET`: the old value or null.
    OldValue,
    /// A number.
    Count,
    /// `KEYS`.
    Keys,
    /// `SCAN`: a cursor and keys.
    Page,
    /// `RAFT CAS`: OK, or an error that tells missing from different.
    Swap,
    /// `RAFT GET`: a value and its revision.
    Revision,
    /// `RAFT LIST`: keys, values and revisions.
    Items,
    /// `RAFT STATE`: JSON.
    State,
    /// `RAFT STATUS`: JSON.
    Status,
    /// `RAFT LEADER`: id, label and term.
    Leader,
    /// `INFO` of these sections.
    Info(Vec<Bytes>),
    /// `RAFT LOG`: JSON.
    Log,
    /// OK.
    Done,
}

impl Shape {
    /// How large an answer must be expected, if values are expected to have so many bytes.
    pub fn answer_bytes(&self, value_bytes: usize) -> usize {
        match self {
            Shape::Keys | Shape::Page | Shape::Items | Shape::State | Shape::Log => MAX_ANSWER_BYTES,
            Shape::Value | Shape::OldValue | Shape::Revision | Shape::Swap => value_bytes,
            Shape::Set | Shape::Count | Shape::Status | Shape::Leader | Shape::Info(_) | Shape::Done => 0,
        }
    }

    /// Whether the answer may be withheld: the request has changed nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Shape::Value | Shape::Revision | Shape::Keys | Shape::Page | Shape::Items => true,
            Shape::State | Shape::Status | Shape::Leader | Shape::Info(_) | Shape::Log => true,
            Shape::Set | Shape::OldValue | Shape::Count | Shape::Swap | Shape::Done => false,
        }
    }

    /// The reply to a request of this shape.
    pub fn frame(&self, outcome: Outcome, options: &RespOptions) -> Frame {
        match (outcome, self) {
            (Ok(Response::Answer(bytes)), _) => match Answer::decode(&bytes) {
                Ok(answer) => self.answer(answer),
                Err(error) => unreadable(&error.to_string()),
            },
            (Ok(Response::Status(status)), Shape::Status) => to_json(&*status),
            (Ok(Response::Status(status)), Shape::Leader) => leader(&status, options),
            (Ok(Response::Status(status)), Shape::Info(sections)) => Frame::Verbatim(info::text(&status, sections)),
            (Ok(Response::Log(lines)), Shape::Log) => to_json(&lines),
            (Ok(Response::Done), Shape::Done) => Frame::Simple("OK"),
            (Ok(_), _) => unreadable("it is of another kind"),
            (Err(failure), _) => failed(failure),
        }
    }

    fn answer(&self, answer: Answer) -> Frame {
        match (self, answer) {
            (_, Answer::Malformed(why)) => Frame::error(format!("ERR {why}")),
            (_, Answer::TooLarge) => {
                let limit_mib = MAX_ANSWER_BYTES >> 20;
                Frame::error(format!("ERR the answer would be larger than {limit_mib} MiB: use SCAN or RAFT LIST"))
            }
            (Shape::Value, Answer::Value(value)) => bulk_or_null(value.map(|value| value.bytes)),
            (Shape::Set, Answer::Set { revision: Some(_), .. }) => Frame::Simple("OK"),
            (Shape::Set, Answer::Set { revision: None, .. }) => Frame::Null,
            (Shape::OldValue, Answer::Set { old, .. }) => bulk_or_null(old),
            (Shape::Count, Answer::Count(count)) => Frame::number(count),
            (Shape::Keys, Answer::Keys { keys, .. }) => bulks(keys),
            (Shape::Page, Answer::Keys { cursor, keys }) => {
                Frame::Array(vec![Frame::text(cursor.to_string()), bulks(keys)])
            }
            (Shape::Swap, Answer::Set { .. }) => Frame::Simple("OK"),
            (Shape::Swap, Answer::Missing) => Frame::error("MISSING no such key"),
            (Shape::Swap, Answer::Different { actual }) => {
                Frame::error(format!("DIFFERENT the value is {}", Words(&actual)))
            }
            (Shape::Revision, Answer::Value(None)) => Frame::NullArray,
            (Shape::Revision, Answer::Value(Some(Value { bytes, revision }))) => {
                Frame::Array(vec![Frame::Bulk(bytes), Frame::number(revision)])
            }
            (Shape::Items, Answer::Items { items, .. }) => Frame::Array(items.into_iter().map(item).collect()),
            (Shape::State, Answer::State { applied, keys, digest, items, more }) => {
                let kv: serde_json::Map<_, _> = items.iter().map(|(key, value)| json_item(key, value)).collect();
                let digest = format!("{digest:016x}");
                to_json(&json!({ "applied": applied, "keys": keys, "digest": digest, "kv": kv, "more": more }))
            }
            _ => unreadable("it answers another question"),
        }
    }
}

/// A failure in the protocol's words. None of them is one that client libraries retry by themselves.
fn failed(failure: Failure) -> Frame {
    Frame::error(match failure {
        Failure::NotReady(why) => format!("NOTREADY {why}"),
        Failure::Overloaded(why) => format!("OVERLOADED {why}"),
        Failure::Refused(why) => format!("ERR {why}"),
        Failure::Unknown(why) => format!("UNKNOWN {why}"),
    })
}

/// There is an answer, so the request ran; but nobody can say with what outcome.
fn unreadable(why: &str) -> Frame {
    Frame::error(format!("UNKNOWN outcome unknown: the answer cannot be read: {why}"))
}

fn leader(status: &NodeStatus, options: &RespOptions) -> Frame {
    let Some(id) = status.leader else { return Frame::error("NOTREADY no leader known") };
    let label = options.nodes.iter().find(|(node, _)| *node == id).map_or("", |(_, label)| label);
    Frame::Array(vec![Frame::number(id.0), Frame::text(label.to_owned()), Frame::number(status.term)])
}

fn to_json(value: &impl serde::Serialize) -> Frame {
    match serde_json::to_vec(value) {
        Ok(text) => Frame::text(text),
        Err(error) => Frame::error(format!("ERR cannot write this as JSON: {error}")),
    }
}

/// Text as it is; otherwise keys with escapes, and values as `{"base64": "..."}`.
fn json_item(key: &[u8], value: &Value) -> (String, serde_json::Value) {
    let key = std::str::from_utf8(key).map_or_else(|_| key.escape_ascii().to_string(), str::to_owned);
    let value = match std::str::from_utf8(&value.bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": BASE64.encode(&value.bytes) }),
    };
    (key, value)
}

fn item((key, value): (Bytes, Value)) -> Frame {
    Frame::Array(vec![Frame::Bulk(key), Frame::Bulk(value.bytes), Frame::number(value.revision)])
}

fn bulk_or_null(bytes: Option<Bytes>) -> Frame {
    bytes.map_or(Frame::Null, Frame::Bulk)
}

fn bulks(keys: Vec<Bytes>) -> Frame {
    Frame::Array(keys.into_iter().map(Frame::Bulk).collect())
}
