//! Outcomes into replies: how each request wants its answer, and the words for every failure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::json;

use super::RespOptions;
use super::frame::Frame;
use super::info;
use super::transaction::{self, Moment, Part};
use crate::codec::binary::DecodeError;
use crate::machine::command::{Answer, KeyType, Left, MAX_ANSWER_BYTES, Value};
use crate::machine::numbers;
use crate::machine::queue::command::{Delivery, QueueAnswer, TopicInfo, TopicLimits};
use crate::machine::words::Words;
use crate::runtime::{NodeStatus, Outcome, Response};
use crate::transport::Failure;

/// What came of a request, its answer decoded: that takes longest, and needs no connection.
pub enum Decoded {
    /// The state machine's answer, unless it cannot be read.
    Answer(Result<Answer, DecodeError>),
    /// What the node says itself.
    Other(Response),
    /// A failure.
    Failed(Failure),
}

impl From<Outcome> for Decoded {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(Response::Answer(bytes)) => Decoded::Answer(Answer::decode_shared(&bytes)),
            Ok(response) => Decoded::Other(response),
            Err(failure) => Decoded::Failed(failure),
        }
    }
}

/// How a request wants its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `GET`: the value or null.
    Value,
    /// `SET`: OK, or null where the condition did not hold.
    Set,
    /// `SET ... GET`: the old value or null.
    OldValue,
    /// `SETNX`: 1 or 0.
    Flag,
    /// A number.
    Count,
    /// `INCR` and its like: the new number.
    Number,
    /// `GETDEL`: what the value was, or null.
    Removed,
    /// `MGET`: so many values.
    Values(usize),
    /// `TYPE`.
    Type,
    /// `TTL`.
    SecondsLeft,
    /// `PTTL`.
    MillisecondsLeft,
    /// `LPOP list`: the message or null.
    Popped,
    /// `LPOP list count`: at most so many messages, or null.
    PoppedUpTo(u64),
    /// `BLPOP`: the list and the message, or null.
    PoppedFrom,
    /// `LRANGE`.
    Range,
    /// `WATCH`: OK, once this is known.
    Watching(Moment),
    /// `EXEC`: the answers of these, or null.
    Exec(Vec<Part>),
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
    /// `RAFT SESSION`: its id.
    Session,
    /// `RAFT DO`: what the command inside wants.
    InSession(Box<Shape>),
    /// `RAFT TOPIC CREATE`: OK, or an error if it exists.
    Created,
    /// `RAFT TOPIC DELETE`: OK, or an error if there is none.
    Deleted,
    /// `RAFT TOPIC LIST`: numbers and names.
    Topics,
    /// `RAFT TOPIC INFO`.
    Topic,
    /// `RAFT LENGTH`: a number.
    Length,
    /// `RAFT PEEK`: the topic's number, and at most so many messages with their ids.
    Peeked(u64),
    /// `RAFT PUT`: the message's id.
    Put,
    /// `RAFT TAKE topic`: the message or null.
    Message,
    /// `RAFT TAKE topic count`: at most so many messages.
    Messages(u64),
    /// `RAFT RECEIVE`: at most so many messages, each with its id, deliveries and lease.
    Deliveries(u64),
    /// `RAFT ACK`, `NACK`, `EXTEND`: OK, or an error if the lease is over.
    Settled,
}

impl Shape {
    /// How large an answer must be expected, if values are expected to have so many bytes.
    pub fn answer_bytes(&self, value_bytes: usize) -> usize {
        match self {
            Shape::Keys | Shape::Page | Shape::Items | Shape::State | Shape::Log | Shape::Topics => MAX_ANSWER_BYTES,
            Shape::Range => MAX_ANSWER_BYTES,
            Shape::Value | Shape::OldValue | Shape::Revision | Shape::Swap | Shape::Message => value_bytes,
            Shape::Removed | Shape::Popped | Shape::PoppedFrom => value_bytes,
            Shape::Exec(parts) => {
                let part =
                    |part: &Part| if let Part::Asked(shape) = part { shape.answer_bytes(value_bytes) } else { 0 };
                parts.iter().map(part).fold(0, usize::saturating_add).min(value_bytes.max(MAX_ANSWER_BYTES))
            }
            Shape::Messages(max) | Shape::Deliveries(max) | Shape::Peeked(max) | Shape::PoppedUpTo(max) => {
                several(usize::try_from(*max).unwrap_or(usize::MAX), value_bytes)
            }
            Shape::Values(count) => several(*count, value_bytes),
            Shape::InSession(shape) => shape.answer_bytes(value_bytes),
            Shape::Set | Shape::Count | Shape::Status | Shape::Leader | Shape::Info(_) | Shape::Done => 0,
            Shape::Session | Shape::Created | Shape::Deleted | Shape::Topic | Shape::Length => 0,
            Shape::Put | Shape::Settled | Shape::Flag | Shape::Number | Shape::Type => 0,
            Shape::SecondsLeft | Shape::MillisecondsLeft | Shape::Watching(_) => 0,
        }
    }

    /// Whether the answer may be withheld: the request has changed nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Shape::Value | Shape::Revision | Shape::Keys | Shape::Page | Shape::Items => true,
            Shape::State | Shape::Status | Shape::Leader | Shape::Info(_) | Shape::Log => true,
            Shape::Topics | Shape::Topic | Shape::Length | Shape::Peeked(_) => true,
            Shape::Values(_) | Shape::Type | Shape::SecondsLeft | Shape::MillisecondsLeft | Shape::Range => true,
            Shape::InSession(shape) => shape.is_read(),
            Shape::Set | Shape::OldValue | Shape::Count | Shape::Swap | Shape::Done => false,
            Shape::Session | Shape::Created | Shape::Deleted | Shape::Put | Shape::Settled => false,
            Shape::Message | Shape::Messages(_) | Shape::Deliveries(_) => false,
            Shape::Flag | Shape::Number | Shape::Removed | Shape::Popped | Shape::PoppedUpTo(_) => false,
            Shape::PoppedFrom | Shape::Watching(_) | Shape::Exec(_) => false,
        }
    }

    /// The reply to a request of this shape.
    pub fn frame(&self, outcome: Decoded, options: &RespOptions) -> Frame {
        if let Shape::Watching(moment) = self {
            moment.set(index(&outcome));
        }
        match (outcome, self) {
            (Decoded::Answer(answer), _) => match (answer.and_then(|answer| self.answered(answer)), self) {
                (Ok(Some(frame)), _) => frame,
                (Ok(None), Shape::InSession(_)) => {
                    Frame::error("ERR the session has used this number for another command; this one had no effect")
                }
                (Ok(None), _) => unreadable("it answers another question"),
                (Err(error), _) => unreadable(&error.to_string()),
            },
            (Decoded::Other(Response::Status(status)), Shape::Status) => to_json(&*status),
            (Decoded::Other(Response::Status(status)), Shape::Leader) => leader(&status, options),
            (Decoded::Other(Response::Status(status)), Shape::Info(sections)) => {
                Frame::Verbatim(info::text(&status, sections))
            }
            (Decoded::Other(Response::Log(lines)), Shape::Log) => to_json(&lines),
            (Decoded::Other(Response::Done), Shape::Done) => Frame::Simple("OK"),
            (Decoded::Other(_), _) => unreadable("it is of another kind"),
            (Decoded::Failed(failure), _) => failed(failure),
        }
    }

    /// The reply to a request that was answered so; none if this answers another request.
    fn answered(&self, answer: Answer) -> Result<Option<Frame>, DecodeError> {
        let Shape::InSession(shape) = self else { return Ok(self.answer(answer)) };
        match answer {
            // A query in a session is a transaction of this one step.
            Answer::Transaction(steps) => match steps.first() {
                Some(step) => shape.answered(Answer::decode_shared(step)?),
                None => Ok(None),
            },
            answer => Ok(shape.answer(answer)),
        }
    }

    fn answer(&self, answer: Answer) -> Option<Frame> {
        Some(match (self, answer) {
            (_, Answer::Malformed(why)) => Frame::error(format!("ERR {why}")),
            (_, Answer::TooLarge) => {
                let limit_mib = MAX_ANSWER_BYTES >> 20;
                let way = "ask for less at a time, for keys with SCAN or RAFT LIST";
                Frame::error(format!("ERR the answer would be larger than {limit_mib} MiB: {way}"))
            }
            (_, Answer::WrongType) => Frame::error("WRONGTYPE Operation against a key holding the wrong kind of value"),
            (Shape::Value | Shape::Removed, Answer::Value(value)) => bulk_or_null(value.map(|value| value.bytes)),
            (Shape::Number, Answer::Value(Some(value))) => Frame::Integer(numbers::parse(&value.bytes)?),
            (Shape::Flag, Answer::Set { revision, .. }) => Frame::Integer(revision.is_some().into()),
            (Shape::Done, Answer::Count(_)) => Frame::Simple("OK"),
            (Shape::Values(_), Answer::Values(values)) => Frame::Array(values.into_iter().map(bulk_or_null).collect()),
            (Shape::Type, Answer::Type(found)) => Frame::Simple(match found {
                KeyType::Missing => "none",
                KeyType::String => "string",
                KeyType::List => "list",
            }),
            (Shape::Watching(_), Answer::Count(_)) => Frame::Simple("OK"),
            (Shape::Exec(parts), Answer::Transaction(answers)) => {
                return transaction::answers(parts, &answers, |shape, answer| {
                    shape.answered(Answer::decode(answer).ok()?).ok().flatten()
                });
            }
            (Shape::Exec(_), Answer::GuardFailed { .. }) => Frame::NullArray,
            (Shape::PoppedFrom, Answer::Popped(None)) => Frame::NullArray,
            (Shape::PoppedFrom, Answer::Popped(Some((list, message)))) => bulks(vec![list, message]),
            (Shape::SecondsLeft, Answer::Left(left)) => time_left(left, |ms| ms.saturating_add(500) / 1000),
            (Shape::MillisecondsLeft, Answer::Left(left)) => time_left(left, |ms| ms),
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
            (Shape::Session, Answer::Session { id }) => Frame::number(id),
            (Shape::Created | Shape::Deleted, Answer::Count(1)) => Frame::Simple("OK"),
            (Shape::Created, Answer::Count(_)) => Frame::error("EXISTS there is such a topic; it stays as it is"),
            (Shape::Deleted, Answer::Count(_)) => no_topic(),
            (shape, Answer::Queue(answer)) => return shape.queue_answer(answer),
            (_, Answer::SessionUnknown) => Frame::error(
                "NOSESSION there is no such session (any more). The command had no effect now; whether an earlier \
                 attempt had is unknown: look, and open another session",
            ),
            (_, Answer::SequenceTooOld) => Frame::error(
                "OUTDATED the session's answers to such low numbers are gone. The command had no effect now; whether \
                 an earlier attempt had is unknown: look, and go on with a higher number",
            ),
            _ => return None,
        })
    }

    fn queue_answer(&self, answer: QueueAnswer) -> Option<Frame> {
        Some(match (self, answer) {
            (Shape::Popped, QueueAnswer::NoTopic) => Frame::Null,
            (Shape::PoppedUpTo(_), QueueAnswer::NoTopic) => Frame::NullArray,
            (Shape::PoppedUpTo(1..), QueueAnswer::Messages(messages)) if messages.is_empty() => Frame::NullArray,
            (_, QueueAnswer::NoTopic) => no_topic(),
            (_, QueueAnswer::Full { limits: TopicLimits { messages, bytes, .. } }) => Frame::error(format!(
                "FULL the topic takes at most {messages} messages of {bytes} bytes together: take some, or try later"
            )),
            (_, QueueAnswer::LeaseLost) => Frame::error(
                "STALE there is no such lease: it has expired or was settled, and others may have the message",
            ),
            (Shape::Settled, QueueAnswer::Settled) => Frame::Simple("OK"),
            (Shape::Put, QueueAnswer::Put { id }) => Frame::number(id),
            (Shape::Message | Shape::Popped, QueueAnswer::Messages(messages)) => {
                bulk_or_null(messages.into_iter().next())
            }
            (Shape::Messages(_) | Shape::PoppedUpTo(_) | Shape::Range, QueueAnswer::Messages(messages)) => {
                bulks(messages)
            }
            (Shape::Deliveries(_), QueueAnswer::Deliveries(deliveries)) => {
                Frame::Array(deliveries.into_iter().map(delivery).collect())
            }
            (Shape::Topics, QueueAnswer::Topics { topics, .. }) => numbered(topics),
            (Shape::Peeked(_), QueueAnswer::Peeked { topic, messages }) => {
                Frame::Array(vec![Frame::number(topic), numbered(messages)])
            }
            (Shape::Topic, QueueAnswer::Info(info)) => topic_info(&info),
            (Shape::Length, QueueAnswer::Info(info)) => Frame::number(info.messages),
            _ => return None,
        })
    }
}

/// The log index that was told.
fn index(outcome: &Decoded) -> Option<u64> {
    match outcome {
        Decoded::Answer(Ok(Answer::Count(index))) => Some(*index),
        _ => None,
    }
}

/// How large an answer of several values must be expected.
fn several(count: usize, value_bytes: usize) -> usize {
    value_bytes.saturating_mul(count).min(value_bytes.max(MAX_ANSWER_BYTES))
}

/// As Redis puts it.
fn time_left(left: Left, in_units: impl Fn(u64) -> u64) -> Frame {
    match left {
        Left::Missing => Frame::Integer(-2),
        Left::Lasting => Frame::Integer(-1),
        Left::Milliseconds(ms) => Frame::number(in_units(ms)),
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

fn no_topic() -> Frame {
    Frame::error("NOTOPIC there is no such topic")
}

fn numbered(items: Vec<(u64, Bytes)>) -> Frame {
    let item = |(number, bytes)| Frame::Array(vec![Frame::number(number), Frame::Bulk(bytes)]);
    Frame::Array(items.into_iter().map(item).collect())
}

fn delivery(Delivery { id, message, deliveries, lease }: Delivery) -> Frame {
    Frame::Array(vec![Frame::number(id), Frame::Bulk(message), Frame::number(deliveries.into()), Frame::number(lease)])
}

fn topic_info(info: &TopicInfo) -> Frame {
    let TopicInfo { messages, leased, bytes, oldest_ms, limits } = info;
    let number = |name, number| (Frame::text(name), Frame::number(number));
    Frame::Map(vec![
        number("messages", *messages),
        number("leased", *leased),
        number("bytes", *bytes),
        (Frame::text("oldest_ms"), oldest_ms.map_or(Frame::Null, Frame::number)),
        number("maxmessages", limits.messages),
        number("maxbytes", limits.bytes),
        number("maxdeliveries", limits.deliveries.into()),
    ])
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
