//! Requests that carry a key of their own instead of a session: each takes effect once, and is answered again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::due::Due;
use super::table::Table;
use crate::consensus::LogTime;

/// How long an answer is kept at least, unless there are too many bytes: 10 minutes of log time.
pub const KEPT_MS: u64 = 10 * 60 * 1000;
/// Most bytes of keys and answers. Beyond that the oldest go early.
pub const MAX_KEPT_BYTES: u64 = 64 << 20;

/// Keys of requests, and their answers.
#[derive(Clone, Debug)]
pub struct Once {
    answers: Table<Answered>,
    /// When they came, and their keys.
    by_age: Due,
    bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    /// In log time.
    at_ms: u64,
    /// The request's hash.
    request: u64,
    answer: Bytes,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its key is new: it is to be run, and its answer [kept](Once::keep).
    New,
    /// It was run, with this answer.
    Answered(Bytes),
    /// The key came with another request.
    Reused,
}

impl Once {
    /// No keys, in a table of this number.
    pub(super) fn new(number: u32) -> Self {
        Once { answers: Table::new(number), by_age: Due::default(), bytes: 0 }
    }

    /// These answers.
    pub(super) fn of(answers: Table<Answered>) -> Self {
        let mut once = Once { answers, ..Once::new(0) };
        for (key, answered) in once.answers.from(b"") {
            once.bytes += bytes(key, answered);
            once.by_age.insert(answered.at_ms, key);
        }
        once
    }

    /// Its table as it is now, however it changes afterwards.
    pub(super) fn table(&self) -> Table<Answered> {
        self.answers.clone()
    }

    /// A hash of all keys and answers.
    pub fn digest(&self) -> u64 {
        self.answers.digest()
    }

    /// Log time has come this far: what is old enough goes.
    pub fn expire(&mut self, time: LogTime) {
        self.forget_while(|at_ms, _| is_old(at_ms, time));
    }

    /// Whether something will then.
    pub fn has_due(&self, time: LogTime) -> bool {
        self.by_age.first().is_some_and(|(at_ms, _)| is_old(at_ms, time))
    }

    /// Whether there is an answer for this key.
    pub fn has(&self, key: &[u8]) -> bool {
        self.answers.get(key).is_some()
    }

    /// What is known of a request with this key and hash.
    pub fn look(&self, key: &[u8], request: u64) -> Known {
        match self.answers.get(key) {
            None => Known::New,
            Some(answered) if answered.request == request => Known::Answered(answered.answer.clone()),
            Some(_) => Known::Reused,
        }
    }

    /// Keeps the answer of a request that was [new](Known::New).
    pub fn keep(&mut self, key: Bytes, request: u64, answer: Bytes, time: LogTime) {
        let answered = Answered { at_ms: time.0, request, answer };
        self.bytes += bytes(&key, &answered);
        self.by_age.insert(time.0, &key);
        self.answers.insert(key, answered);
        self.forget_while(|_, bytes| bytes > MAX_KEPT_BYTES);
    }

    fn forget_while(&mut self, too_old: impl Fn(u64, u64) -> bool) {
        while let Some((at_ms, key)) = self.by_age.first()
            && too_old(at_ms, self.bytes)
        {
            self.bytes -= self.answers.remove(&key).map_or(0, |answered| bytes(&key, &answered));
            self.by_age.remove(at_ms, &key);
        }
    }
}

fn is_old(at_ms: u64, time: LogTime) -> bool {
    at_ms.saturating_add(KEPT_MS) < time.0
}

fn bytes(key: &[u8], answered: &Answered) -> u64 {
    (key.len() + answered.answer.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_request() {
        let mut once = Once::new(1);
        assert_eq!(once.look(b"k", 5), Known::New);
        once.keep("k".into(), 5, "done".into(), LogTime(100));
        assert_eq!(once.look(b"k", 5), Known::Answered("done".into()));
        assert_eq!(once.look(b"k", 6), Known::Reused);
    }

    #[test]
    fn answers_go_after_ten_minutes_or_when_there_are_too_many_bytes() {
        let mut once = Once::new(1);
        once.keep("old".into(), 1, "".into(), LogTime(100));
        once.keep("new".into(), 1, "".into(), LogTime(101));
        once.expire(LogTime(100 + KEPT_MS));
        assert_ne!(once.look(b"old", 1), Known::New);
        once.expire(LogTime(101 + KEPT_MS));
        assert_eq!(once.look(b"old", 1), Known::New);
        once.keep("big".into(), 1, vec![0; MAX_KEPT_BYTES as usize].into(), LogTime(200));
        assert_eq!((once.look(b"new", 1), once.look(b"big", 1)), (Known::New, Known::New));
        assert_eq!((once.bytes, once.digest(), once.by_age.len()), (0, 0, 0));
    }
}
