//! I19 session exactly-once: a command of a session changes the state at most once, and every entry that repeats it is answered
//! as the first one was (Raft thesis §6.3).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Check, Violation, hold};
use crate::consensus::{Index, LogTime, SessionSequence};
use crate::machine::command::Answer;

/// How long a session lasts without use.
const HOUR_MS: u64 = 60 * 60 * 1000;

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
        let is_refused = matches!(Answer::decode(answer), Ok(Answer::SessionUnknown | Answer::SequenceTooOld));
        hold!(
            "I19 sessions",
            is_refused != is_open,
            "entry {index}, command {sequence} of session {session}, is refused: {is_refused}; the session is open: {is_open}"
        );
        if !is_open {
            return Ok(false);
        }
        self.open.insert(session, time);
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
}
