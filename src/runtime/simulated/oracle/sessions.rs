//! I19 session exactly-once: a command of a session changes the state at most once, and every entry that repeats it is answered
//! as the first one was (Raft thesis §6.3).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Check, Violation, hold};
use crate::consensus::{Index, LogTime, SessionSequence};
use crate::machine::command::Answer;

/// How long a session lasts without use.
const HOUR_MS: u64 = 60 * 60 * 1000;
/// How many answers, and how many bytes of them, a session keeps for sure.
const ANSWERS: usize = 256;
const ANSWER_BYTES: usize = 1 << 20;

/// What sessions have done.
#[derive(Default)]
pub struct Sessions {
    /// Those that are open, and when they were used last.
    open: BTreeMap<u64, LogTime>,
    /// Where each command took effect, and its answer.
    done: BTreeMap<SessionSequence, (Index, Bytes)>,
    /// Entries that repeated one.
    repeated: u64,
}

impl Sessions {
    /// How many entries repeated a command.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Log time has come this far: what was not used for an hour is over.
    pub fn advance(&mut self, time: LogTime) {
        self.open.retain(|_, used| used.0 + HOUR_MS > time.0);
    }

    /// An entry of this time opens a session, and is answered so.
    pub fn opened(&mut self, index: Index, time: LogTime, answer: &Answer) -> Check {
        hold!("I19 sessions", *answer == Answer::Session { id: index.0 }, "entry {index} opens a session: {answer:?}");
        self.open.insert(index.0, time);
        Ok(())
    }

    /// An entry of a session is answered so, and may have changed what clients have stored. Whether it is the first one.
    pub fn applied(
        &mut self,
        (index, time): (Index, LogTime),
        stamp: SessionSequence,
        answer: &Bytes,
        has_changed: bool,
    ) -> Result<bool, Violation> {
        let SessionSequence { session, sequence } = stamp;
        let is_open = self.open.contains_key(&session);
        let first = self.done.get(&stamp);
        let may_change = is_open && first.is_none();
        hold!(
            "I19 sessions",
            may_change || !has_changed,
            "entry {index}, command {sequence} of session {session}, changes something, after {first:?}; \
             the session is open: {is_open}"
        );
        let answered = Answer::decode(answer);
        let is_unknown = matches!(answered, Ok(Answer::SessionUnknown));
        hold!(
            "I19 sessions",
            is_unknown != is_open,
            "entry {index}, command {sequence} of session {session}, finds none: {is_unknown}; the session is open: {is_open}"
        );
        if !is_open {
            return Ok(false);
        }
        self.open.insert(session, time);
        if matches!(answered, Ok(Answer::SequenceTooOld)) {
            hold!(
                "I19 sessions",
                !has_changed && self.may_be_forgotten(stamp),
                "entry {index}, command {sequence} of session {session}, is refused, but its answer had to be kept"
            );
            return Ok(false);
        }
        if let Some((place, expected)) = first {
            self.repeated += 1;
            hold!(
                "I19 sessions",
                answer == expected,
                "entry {index} repeats entry {place}, command {sequence} of session {session}, and is answered otherwise"
            );
            return Ok(false);
        }
        self.done.insert(stamp, (index, answer.clone()));
        Ok(true)
    }

    /// Whether so much was answered to this command and later ones of its session that this answer need not be there any more.
    fn may_be_forgotten(&self, stamp: SessionSequence) -> bool {
        let last = SessionSequence { sequence: u64::MAX, ..stamp };
        let sizes = self.done.range(stamp..=last).map(|(_, (_, answer))| answer.len());
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        count > ANSWERS || bytes > ANSWER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_be_refused_only_after_many_or_long_answers() {
        let time = LogTime(0);
        let refused = Answer::SequenceTooOld.encode();
        let mut sessions = Sessions::default();
        sessions.opened(Index(6), time, &Answer::Session { id: 6 }).unwrap();
        let stamp = |sequence| SessionSequence { session: 6, sequence };
        let long = Bytes::from(vec![0; ANSWER_BYTES]);
        assert!(sessions.applied((Index(7), time), stamp(1), &long, true).unwrap());
        sessions.applied((Index(8), time), stamp(1), &refused, false).unwrap_err();
        assert!(sessions.applied((Index(9), time), stamp(2), &Bytes::from_static(b"\x01"), true).unwrap());
        assert!(!sessions.applied((Index(10), time), stamp(1), &refused, false).unwrap());
        sessions.applied((Index(11), time), stamp(1), &refused, true).unwrap_err();
        sessions.applied((Index(12), time), stamp(2), &refused, false).unwrap_err();
    }
}
