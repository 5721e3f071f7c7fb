//! `RAFT TOPIC ...`, `RAFT PUT`, `RAFT TAKE` and the other commands of the message queue.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{Ran, Upper, number, read, syntax_error, unknown_subcommand, upper, write, wrong_arity};
use super::frame::Frame;
use crate::machine::command::{Change, MAX_ITEMS, Query};
use crate::machine::queue::command::{MAX_RECEIVED, QueueChange, QueueQuery, Settlement, TopicLimits, USUAL_LEASE_MS};

/// `RAFT name ...`, if the queue has a command of that name.
pub fn command(name: &str, arguments: &[Bytes]) -> Option<Ran> {
    Some(match (name, arguments) {
        ("TOPIC", [subcommand, arguments @ ..]) => topic(subcommand, arguments),
        ("PUT", [topic, message]) => {
            change(topic, QueueChange::Put { message: message.clone(), create: false }, Shape::Put)
        }
        ("TAKE", [topic]) => change(topic, QueueChange::Take { max: 1 }, Shape::Message),
        ("TAKE", [topic, max]) => take(topic, max),
        ("RECEIVE", [topic, options @ ..]) => receive(topic, options),
        ("ACK", [topic, id, lease]) => settle(topic, id, lease, Ok(Settlement::Ack)),
        ("NACK", [topic, id, lease]) => settle(topic, id, lease, Ok(Settlement::Nack)),
        ("EXTEND", [topic, id, lease, time]) => {
            settle(topic, id, lease, number(time).map(|lease_ms| Settlement::Extend { lease_ms }))
        }
        ("LENGTH", [topic]) => read(&info(topic), Shape::Length),
        ("PEEK", [topic, options @ ..]) => peek(topic, options),
        ("TOPIC" | "PUT" | "TAKE" | "RECEIVE" | "ACK" | "NACK" | "EXTEND" | "LENGTH" | "PEEK", _) => {
            Err(wrong_arity(&format!("raft|{}", name.to_ascii_lowercase())))
        }
        _ => return None,
    })
}

/// `RAFT TOPIC subcommand ...`
fn topic(subcommand: &Bytes, arguments: &[Bytes]) -> Ran {
    let name = upper(subcommand);
    match (name.as_str(), arguments) {
        ("CREATE", [topic, options @ ..]) => {
            change(topic, QueueChange::Create { limits: limits(options)? }, Shape::Created)
        }
        ("DELETE", [topic]) => change(topic, QueueChange::Delete, Shape::Deleted),
        ("PURGE", [topic]) => change(topic, QueueChange::Purge, Shape::Count),
        ("INFO", [topic]) => read(&info(topic), Shape::Topic),
        ("LIST", []) => list(0, MAX_ITEMS),
        ("LIST", [after]) => list(number(after)?, MAX_ITEMS),
        ("LIST", [after, limit]) => list(number(after)?, number(limit)?),
        ("CREATE" | "DELETE" | "PURGE" | "INFO" | "LIST", _) => {
            Err(wrong_arity(&format!("raft|topic|{}", name.as_str().to_ascii_lowercase())))
        }
        _ => Err(unknown_subcommand("raft|topic", subcommand)),
    }
}

fn change(topic: &Bytes, change: QueueChange, shape: Shape) -> Ran {
    write(Change::Queue { topic: topic.clone(), change }, shape)
}

fn info(topic: &Bytes) -> Query {
    Query::Queue(QueueQuery::Info { topic: topic.clone() })
}

fn list(after: u64, limit: u64) -> Ran {
    read(&Query::Queue(QueueQuery::Topics { after, limit }), Shape::Topics)
}

fn take(topic: &Bytes, max: &[u8]) -> Ran {
    let max = number(max)?.min(MAX_RECEIVED);
    change(topic, QueueChange::Take { max }, Shape::Messages(max))
}

fn receive(topic: &Bytes, options: &[Bytes]) -> Ran {
    let (mut max, mut lease_ms) = (1, USUAL_LEASE_MS);
    for (name, value) in pairs(options)? {
        match name.as_str() {
            "MAX" => max = value.min(MAX_RECEIVED),
            "LEASE" => lease_ms = value,
            _ => return Err(syntax_error()),
        }
    }
    change(topic, QueueChange::Receive { max, lease_ms }, Shape::Deliveries(max))
}

fn peek(topic: &Bytes, options: &[Bytes]) -> Ran {
    let (mut after, mut max) = (0, 1);
    for (name, value) in pairs(options)? {
        match name.as_str() {
            "AFTER" => after = value,
            "MAX" => max = value.min(MAX_RECEIVED),
            _ => return Err(syntax_error()),
        }
    }
    read(&Query::Queue(QueueQuery::Peek { topic: topic.clone(), after, max }), Shape::Peeked(max))
}

fn settle(topic: &Bytes, id: &[u8], lease: &[u8], how: Result<Settlement, Frame>) -> Ran {
    let settle = QueueChange::Settle { id: number(id)?, lease: number(lease)?, how: how? };
    change(topic, settle, Shape::Settled)
}

fn limits(options: &[Bytes]) -> Result<TopicLimits, Frame> {
    let mut limits = TopicLimits::default();
    for (name, value) in pairs(options)? {
        match name.as_str() {
            "MAXMESSAGES" => limits.messages = value,
            "MAXBYTES" => limits.bytes = value,
            "MAXDELIVERIES" => {
                limits.deliveries =
                    u32::try_from(value).map_err(|_| Frame::error("ERR MAXDELIVERIES is out of range"))?;
            }
            _ => return Err(syntax_error()),
        }
    }
    Ok(limits)
}

/// Options in capitals, each with a number.
fn pairs(options: &[Bytes]) -> Result<Vec<(Upper, u64)>, Frame> {
    let (pairs, rest) = options.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(syntax_error());
    }
    pairs.iter().map(|[name, value]| Ok((upper(name), number(value)?))).collect()
}
