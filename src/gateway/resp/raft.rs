//! `RAFT ...`: the cluster, and what the store can do that Redis has no word for.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Action, Ran, number, read, unknown_subcommand, upper, wrong_arity};
use super::connection::Client;
use super::frame::Frame;
use super::{queue, session};
use crate::consensus::Payload;
use crate::machine::command::{Change, MAX_ITEMS, Query};
use crate::runtime::Operation;

/// How many entries `RAFT LOG` shows when the client does not say.
const LOG_COUNT: u64 = 20;
/// Most entries that `RAFT LOG` shows.
const MAX_LOG_COUNT: u64 = 1000;
/// How many keys `RAFT LIST` shows when the client does not say.
const LIST_LIMIT: u64 = 1000;

/// `RAFT subcommand ...`
pub fn raft(client: &mut Client, request: &[Bytes]) -> Ran {
    let [_, subcommand, arguments @ ..] = request else { return Err(wrong_arity("raft")) };
    let name = upper(subcommand);
    match (name.as_str(), arguments) {
        ("STATUS", []) => submit(Operation::Status, Shape::Status),
        ("LEADER", []) => submit(Operation::Status, Shape::Leader),
        ("DEBUG", []) => submit(Operation::Debug, Shape::Done),
        ("STATE", []) => {
            let query = Query::State { limit: MAX_ITEMS };
            submit(Operation::LocalRead(Payload(query.encode())), Shape::State)
        }
        ("LOG", []) => log(None, LOG_COUNT),
        ("LOG", [from]) => log(Some(number(from)?), LOG_COUNT),
        ("LOG", [from, count]) => log(Some(number(from)?), number(count)?),
        ("TRANSFER", []) => submit(Operation::Transfer { to: None }, Shape::Done),
        ("TRANSFER", [node]) => transfer(client, node),
        ("CAS", [key, from, to]) => {
            let (key, from, to) = (key.clone(), from.clone(), to.clone());
            command::write(Change::CompareAndSet { key, from, to, create: false }, Shape::Swap)
        }
        ("GET", [key]) => read(&Query::Get { key: key.clone() }, Shape::Revision),
        ("LIST", [prefix]) => list(prefix, None, LIST_LIMIT),
        ("LIST", [prefix, after]) => list(prefix, Some(after), LIST_LIMIT),
        ("LIST", [prefix, after, limit]) => list(prefix, Some(after), number(limit)?),
        ("SESSION", []) => session::open(),
        (
            "STATUS" | "LEADER" | "DEBUG" | "STATE" | "LOG" | "TRANSFER" | "CAS" | "GET" | "LIST" | "ONLY" | "SESSION"
            | "DO",
            _,
        ) => Err(wrong_arity(&format!("raft|{}", name.as_str().to_ascii_lowercase()))),
        _ => queue::command(name.as_str(), arguments).unwrap_or_else(|| Err(unknown_subcommand("raft", subcommand))),
    }
}

/// What follows `RAFT ONLY`: a command that this node must serve by itself.
pub fn only(request: &[Bytes]) -> Option<&[Bytes]> {
    match request {
        [raft, only, command @ ..]
            if !command.is_empty() && raft.eq_ignore_ascii_case(b"RAFT") && only.eq_ignore_ascii_case(b"ONLY") =>
        {
            Some(command)
        }
        _ => None,
    }
}

fn log(from: Option<u64>, count: u64) -> Ran {
    submit(Operation::Log { from, count: count.min(MAX_LOG_COUNT) }, Shape::Log)
}

fn list(prefix: &Bytes, after: Option<&Bytes>, limit: u64) -> Ran {
    read(&Query::List { prefix: prefix.clone(), after: after.cloned(), limit }, Shape::Items)
}

/// The node may be named by its id or its label.
fn transfer(client: &Client, name: &[u8]) -> Ran {
    let nodes = &client.options().nodes;
    let by_id = |text: &[u8]| number(text).ok().and_then(|number| nodes.iter().find(|(id, _)| id.0 == number));
    let found = by_id(name).or_else(|| nodes.iter().find(|(_, label)| label.as_bytes() == name));
    match found {
        Some((id, _)) => submit(Operation::Transfer { to: Some(*id) }, Shape::Done),
        None => {
            let known: Vec<_> = nodes.iter().map(|(id, label)| format!("{id} ({label})")).collect();
            Err(Frame::error(format!("ERR no such node; there are {}", known.join(", "))))
        }
    }
}

fn submit(operation: Operation, shape: Shape) -> Ran {
    Ok(Action::Submit(operation, shape))
}
