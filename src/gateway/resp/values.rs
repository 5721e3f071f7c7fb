//! Commands on keys and their values, besides getting and setting one: several at once, numbers, and when keys expire.

use bytes::Bytes;

use super::answer::Shape;
use super::command::{Ran, integer, read, shown, syntax_error, upper, write, wrong_arity};
use super::connection::Client;
use super::data::arguments;
use super::frame::Frame;
use crate::machine::command::{Change, Condition, ExpireCondition, Query};

/// `SETNX key value`
pub fn setnx(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, value] = request else { return Err(syntax_error()) };
    let (key, value, condition) = (key.clone(), value.clone(), Condition::Absent);
    write(Change::Set { key, value, condition, want_old: false }, Shape::Flag)
}

/// `GETDEL key`
pub fn getdel(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    write(Change::GetDelete { key: key.clone() }, Shape::Removed)
}

/// `APPEND key value`
pub fn append(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, value] = request else { return Err(syntax_error()) };
    write(Change::Concatenate { key: key.clone(), value: value.clone() }, Shape::Count)
}

/// `STRLEN key`
pub fn strlen(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    read(&Query::ValueLength { key: key.clone() }, Shape::Count)
}

/// `INCR key`
pub fn incr(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    add(key, 1)
}

/// `DECR key`
pub fn decr(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    add(key, -1)
}

/// `INCRBY key number`
pub fn incrby(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, by] = request else { return Err(syntax_error()) };
    add(key, integer(by)?)
}

/// `DECRBY key number`
pub fn decrby(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, by] = request else { return Err(syntax_error()) };
    add(key, integer(by)?.checked_neg().ok_or_else(|| Frame::error("ERR decrement would overflow"))?)
}

fn add(key: &Bytes, delta: i64) -> Ran {
    write(Change::Add { key: key.clone(), delta }, Shape::Number)
}

/// `MGET key...`
pub fn mget(_: &mut Client, request: &[Bytes]) -> Ran {
    let keys = arguments(request);
    let shape = Shape::Values(keys.len());
    read(&Query::GetAll { keys }, shape)
}

/// `MSET key value...`
pub fn mset(_: &mut Client, request: &[Bytes]) -> Ran {
    write(Change::SetAll { items: pairs("mset", request)?, if_absent: false }, Shape::Done)
}

/// `MSETNX key value...`
pub fn msetnx(_: &mut Client, request: &[Bytes]) -> Ran {
    write(Change::SetAll { items: pairs("msetnx", request)?, if_absent: true }, Shape::Count)
}

fn pairs(name: &str, request: &[Bytes]) -> Result<Vec<(Bytes, Bytes)>, Frame> {
    let (pairs, rest) = request.get(1..).unwrap_or_default().as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
    } else {
        Err(wrong_arity(name))
    }
}

/// `TYPE key`
pub fn type_of(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    read(&Query::Type { key: key.clone() }, Shape::Type)
}

/// `TTL key`
pub fn ttl(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    read(&Query::Left { key: key.clone() }, Shape::SecondsLeft)
}

/// `PTTL key`
pub fn pttl(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    read(&Query::Left { key: key.clone() }, Shape::MillisecondsLeft)
}

/// `PERSIST key`
pub fn persist(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key] = request else { return Err(syntax_error()) };
    write(Change::Persist { key: key.clone() }, Shape::Count)
}

/// `EXPIRE key seconds [NX | [XX] [GT | LT]]`
pub fn expire(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, key, seconds, options @ ..] = request else { return Err(syntax_error()) };
    let condition = expire_condition(options)?;
    let after_ms = integer(seconds)?.checked_mul(1000).filter(|ms| *ms <= LONGEST_MS);
    let after_ms = after_ms.ok_or_else(|| invalid_expire_time("expire"))?;
    write(Change::Expire { key: key.clone(), after_ms, condition }, Shape::Count)
}

fn expire_condition(options: &[Bytes]) -> Result<ExpireCondition, Frame> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in options {
        match upper(option).as_str() {
            "NX" => nx = true,
            "XX" => xx = true,
            "GT" => gt = true,
            "LT" => lt = true,
            _ => return Err(Frame::error(format!("ERR Unsupported option {}", shown(option)))),
        }
    }
    match (nx, xx, gt, lt) {
        (false, false, false, false) => Ok(ExpireCondition::Always),
        (true, false, false, false) => Ok(ExpireCondition::Lasting),
        (false, true, false, false) => Ok(ExpireCondition::Expiring),
        // What expires later than the key did is set only where the key expires.
        (false, _, true, false) => Ok(ExpireCondition::Later),
        (false, false, false, true) => Ok(ExpireCondition::Earlier),
        (false, true, false, true) => Ok(ExpireCondition::ExpiringEarlier),
        (true, ..) => Err(Frame::error("ERR NX and XX, GT or LT options at the same time are not compatible")),
        (_, _, true, true) => Err(Frame::error("ERR GT and LT options at the same time are not compatible")),
    }
}

/// The longest time, in milliseconds, that may be waited or that a key may last. As in Redis it must end before 2^63 ms, counted
/// from 1970; now is taken to be before the year 2109.
pub const LONGEST_MS: i64 = i64::MAX - (1 << 42);

/// A key cannot last so long.
pub fn invalid_expire_time(command: &str) -> Frame {
    Frame::error(format!("ERR invalid expire time in '{command}' command"))
}
