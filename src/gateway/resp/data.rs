//! Commands on keys, as Redis has them.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Ran, integer, number, read, syntax_error, upper};
use super::connection::Client;
use super::frame::Frame;
use super::values::{invalid_expire_time, milliseconds};
use crate::machine::command::{Change, Condition, Lifetime, Query};

/// How many keys `SCAN` looks at when the client does not say.
const SCAN_COUNT: u64 = 10;

/// `GET key`
pub fn get(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    read(&Query::Get { key: key.clone() }, Shape::Value)
}

/// `SET key value [NX | XX | IFEQ old] [GET] [EX seconds | PX milliseconds | KEEPTTL]`
pub fn set(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, value, options @ ..] = request else { return Err(syntax_error()) };
    let SetOptions { condition, want_old, lifetime } = set_options(options)?;
    let shape = if want_old { Shape::OldValue } else { Shape::Set };
    let (key, value, condition) = (key.clone(), value.clone(), condition.unwrap_or(Condition::Always));
    let change = match lifetime {
        None => Change::Set { key, value, condition, want_old },
        Some(lifetime) => Change::SetExpiring { key, value, condition, want_old, lifetime },
    };
    command::write(change, shape)
}

#[derive(Default)]
struct SetOptions {
    condition: Option<Condition>,
    want_old: bool,
    lifetime: Option<Lifetime>,
}

fn set_options(mut options: &[Bytes]) -> Result<SetOptions, Frame> {
    let mut wanted = SetOptions::default();
    while let Some((option, rest)) = options.split_first() {
        options = rest;
        let mut operand = || {
            let (operand, rest) = options.split_first().ok_or_else(syntax_error)?;
            options = rest;
            Ok::<_, Frame>(operand)
        };
        match upper(option).as_str() {
            "GET" => wanted.want_old = true,
            "NX" => agree(&mut wanted.condition, Condition::Absent)?,
            "XX" => agree(&mut wanted.condition, Condition::Present)?,
            "IFEQ" => agree(&mut wanted.condition, Condition::Equals(operand()?.clone()))?,
            "KEEPTTL" => agree(&mut wanted.lifetime, Lifetime::Kept)?,
            "EX" => agree(&mut wanted.lifetime, lifetime(milliseconds("set", integer(operand()?)?)?)?)?,
            "PX" => agree(&mut wanted.lifetime, lifetime(integer(operand()?)?)?)?,
            point @ ("EXAT" | "PXAT") => {
                let why = "a key expires by the cluster's own time: say how long it lasts, with EX or PX";
                return Err(Frame::error(format!("ERR not supported: {point}; {why}")));
            }
            _ => return Err(syntax_error()),
        }
    }
    Ok(wanted)
}

/// There may be only one of these options, or the same again.
fn agree<T: PartialEq>(place: &mut Option<T>, wanted: T) -> Result<(), Frame> {
    match place {
        Some(before) if *before != wanted => Err(syntax_error()),
        _ => {
            *place = Some(wanted);
            Ok(())
        }
    }
}

fn lifetime(ms: i64) -> Result<Lifetime, Frame> {
    match u64::try_from(ms) {
        Ok(ms @ 1..) => Ok(Lifetime::Milliseconds(ms)),
        _ => Err(invalid_expire_time("set")),
    }
}

/// `DEL key...`
pub fn del(_: &mut Client, request: &[Bytes]) -> Ran {
    command::write(Change::Remove { keys: arguments(request) }, Shape::Count)
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

/// All that follows the name.
pub fn arguments(request: &[Bytes]) -> Vec<Bytes> {
    request.iter().skip(1).cloned().collect()
}
