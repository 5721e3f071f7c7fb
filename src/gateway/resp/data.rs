//! Commands on keys, as Redis has them.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Ran, number, read, syntax_error, upper};
use super::connection::Client;
use super::frame::Frame;
use crate::machine::command::{Change, Condition, Query};

/// How many keys `SCAN` looks at when the client does not say.
const SCAN_COUNT: u64 = 10;

/// `GET key`
pub fn get(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    read(&Query::Get { key: key.clone() }, Shape::Value)
}

/// `SET key value [NX | XX | IFEQ old] [GET]`
pub fn set(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, value, options @ ..] = request else { return Err(syntax_error()) };
    let (condition, want_old) = set_options(options)?;
    let shape = if want_old { Shape::OldValue } else { Shape::Set };
    command::write(Change::Set { key: key.clone(), value: value.clone(), condition, want_old }, shape)
}

fn set_options(mut options: &[Bytes]) -> Result<(Condition, bool), Frame> {
    let (mut condition, mut want_old) = (None, false);
    while let Some((option, rest)) = options.split_first() {
        options = rest;
        let wanted = match upper(option).as_str() {
            "GET" => {
                want_old = true;
                continue;
            }
            "NX" => Condition::Absent,
            "XX" => Condition::Present,
            "IFEQ" => {
                let (expected, rest) = options.split_first().ok_or_else(syntax_error)?;
                options = rest;
                Condition::Equals(expected.clone())
            }
            expiry @ ("EX" | "PX" | "EXAT" | "PXAT" | "KEEPTTL") => {
                return Err(Frame::error(format!("ERR not supported: {expiry}, since keys do not expire")));
            }
            _ => return Err(syntax_error()),
        };
        if condition.get_or_insert_with(|| wanted.clone()) != &wanted {
            return Err(syntax_error());
        }
    }
    Ok((condition.unwrap_or(Condition::Always), want_old))
}

/// `DEL key...`
pub fn del(_: &mut Client, request: &[Bytes]) -> Ran {
    command::write(Change::Delete { keys: arguments(request) }, Shape::Count)
}

/// `EXISTS key...`
pub fn exists(_: &mut Client, request: &[Bytes]) -> Ran {
    read(&Query::Exists { keys: arguments(request) }, Shape::Count)
}

/// `SCAN cursor [MATCH pattern] [COUNT count]`
pub fn scan(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, cursor, options @ ..] = request else { return Err(syntax_error()) };
    let cursor = number(cursor).map_err(|_| Frame::error("ERR invalid cursor"))?;
    let (mut count, mut pattern) = (SCAN_COUNT, None);
    let (pairs, rest) = options.as_chunks::<2>();
    for [name, value] in pairs {
        match upper(name).as_str() {
            "MATCH" => pattern = Some(value.clone()),
            "COUNT" => count = number(value)?,
            _ => return Err(syntax_error()),
        }
    }
    if !rest.is_empty() || count == 0 {
        return Err(syntax_error());
    }
    read(&Query::Scan { cursor, count, pattern }, Shape::Page)
}

/// `KEYS pattern`
pub fn keys(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, pattern] = request else { return Err(syntax_error()) };
    read(&Query::Keys { pattern: pattern.clone() }, Shape::Keys)
}

/// `DBSIZE`
pub fn dbsize(_: &mut Client, _: &[Bytes]) -> Ran {
    read(&Query::Size, Shape::Count)
}

fn arguments(request: &[Bytes]) -> Vec<Bytes> {
    request.iter().skip(1).cloned().collect()
}
