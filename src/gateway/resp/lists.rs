//! Topics as lists: Redis' commands for what is put at the end and taken from the beginning.

use std::time::Duration;

use bytes::Bytes;

use super::answer::Shape;
use super::command::{Action, Ran, integer, read, syntax_error, write, wrong_arity};
use super::connection::Client;
use super::frame::Frame;
use super::values::LONGEST_MS;
use crate::machine::command::{Change, Query};
use crate::machine::queue::command::{MAX_RECEIVED, QueueChange};

/// `RPUSH list message...`
pub fn rpush(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, list, messages @ ..] = request else { return Err(wrong_arity("rpush")) };
    write(Change::Push { topic: list.clone(), messages: messages.to_vec() }, Shape::Count)
}

/// `LPOP list [count]`
pub fn lpop(_: &mut Client, request: &[Bytes]) -> Ran {
    let (list, max, shape) = match request {
        [_, list] => (list, 1, Shape::Popped),
        [_, list, count] => {
            let count = integer(count).ok().and_then(|count| u64::try_from(count).ok());
            let not_a_count = || Frame::error("ERR value is out of range, must be positive");
            let max = count.ok_or_else(not_a_count)?.min(MAX_RECEIVED);
            (list, max, Shape::PoppedUpTo(max))
        }
        _ => return Err(wrong_arity("lpop")),
    };
    write(Change::Queue { topic: list.clone(), change: QueueChange::Take { max } }, shape)
}

/// `BLPOP list... seconds`
pub fn blpop(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, lists @ .., seconds] = request else { return Err(wrong_arity("blpop")) };
    Ok(Action::Wait(lists.to_vec(), patience(seconds)?))
}

/// How long to wait; without end for 0.
fn patience(seconds: &[u8]) -> Result<Option<Duration>, Frame> {
    let not_a_time = || Frame::error("ERR timeout is not a float or out of range");
    let seconds: f64 = std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok()).ok_or_else(not_a_time)?;
    if seconds < 0.0 {
        return Err(Frame::error("ERR timeout is negative"));
    }
    if !seconds.is_finite() {
        return Err(not_a_time());
    }
    let too_long = || Frame::error("ERR timeout is out of range");
    let fits = |time: &Duration| i64::try_from(time.as_millis()).is_ok_and(|ms| ms <= LONGEST_MS);
    let patience = Duration::try_from_secs_f64(seconds).ok().filter(fits).ok_or_else(too_long)?;
    Ok((seconds > 0.0).then(|| patience.max(Duration::from_millis(1))))
}

/// `LLEN list`
pub fn llen(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, list] = request else { return Err(syntax_error()) };
    read(&Query::ListLength { topic: list.clone() }, Shape::Count)
}

/// `LRANGE list start stop`
pub fn lrange(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, list, start, stop] = request else { return Err(syntax_error()) };
    let query = Query::Range { topic: list.clone(), start: integer(start)?, stop: integer(stop)? };
    read(&query, Shape::Range)
}
