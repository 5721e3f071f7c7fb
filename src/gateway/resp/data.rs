//! Commands on keys, as Redis has them.

use std::mem::discriminant;

use bytes::Bytes;

use super::answer::Shape;
use super::command::{self, Ran, integer, number, read, syntax_error, upper};
use super::connection::Client;
use super::frame::Frame;
use super::values::{LONGEST_MS, invalid_expire_time};
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
    let SetOptions { condition, want_old, expiry } = set_options(options)?;
    let lifetime = expiry.map(lifetime).transpose()?;
    let shape = if want_old { Shape::OldValue } else { Shape::Set };
    let (key, value, condition) = (key.clone(), value.clone(), condition.unwrap_or(Condition::Always));
    let change = match lifetime {
        None => Change::Set { key, value, condition, want_old },
        Some(lifetime) => Change::SetExpiring { key, value, condition, want_old, lifetime },
    };
    command::write(change, shape)
}

#[derive(Default)]
struct SetOptions<'a> {
    condition: Option<Condition>,
    want_old: bool,
    expiry: Option<Expiry<'a>>,
}

/// When the key expires, in the client's words.
enum Expiry<'a> {
    Keep,
    Seconds(&'a [u8]),
    Milliseconds(&'a [u8]),
}

fn set_options(mut options: &[Bytes]) -> Result<SetOptions<'_>, Frame> {
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
            "NX" => choose(&mut wanted.condition, Condition::Absent)?,
            "XX" => choose(&mut wanted.condition, Condition::Present)?,
            "IFEQ" => choose(&mut wanted.condition, Condition::Equals(operand()?.clone()))?,
            "KEEPTTL" => choose(&mut wanted.expiry, Expiry::Keep)?,
            "EX" => choose(&mut wanted.expiry, Expiry::Seconds(operand()?))?,
            "PX" => choose(&mut wanted.expiry, Expiry::Milliseconds(operand()?))?,
            point @ ("EXAT" | "PXAT") => {
                let why = "a key expires by the cluster's own time: say how long it lasts, with EX or PX";
                return Err(Frame::error(format!("ERR not supported: {point}; {why}")));
            }
            _ => return Err(syntax_error()),
        }
    }
    Ok(wanted)
}

/// There may be only one of these options, or the same again: then the last one counts.
fn choose<T>(place: &mut Option<T>, wanted: T) -> Result<(), Frame> {
    match place {
        Some(before) if discriminant(before) != discriminant(&wanted) => Err(syntax_error()),
        _ => {
            *place = Some(wanted);
            Ok(())
        }
    }
}

fn lifetime(expiry: Expiry<'_>) -> Result<Lifetime, Frame> {
    let ms = match expiry {
        Expiry::Keep => return Ok(Lifetime::Kept),
        Expiry::Seconds(seconds) => integer(seconds)?.checked_mul(1000),
        Expiry::Milliseconds(ms) => Some(integer(ms)?),
    };
    let ms = ms.filter(|ms| (1..=LONGEST_MS).contains(ms)).and_then(|ms| u64::try_from(ms).ok());
    ms.map(Lifetime::Milliseconds).ok_or_else(|| invalid_expire_time("set"))
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
            "COUNT" => count = u64::try_from(integer(value)?).unwrap_or(0),
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
