//! I19 session exactly-once: a command of a session changes the state at most once, and every entry that repeats it is answered
//! as the first one was (Raft thesis §6.3).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Check, hold};
use crate::consensus::{Index, SessionSequence};
use crate::machine::command::Answer;

/// What sessions have done.
#[derive(Default)]
pub struct Sessions {
    opened: BTreeSet<u64>,
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

    /// An entry opens a session, and is answered so.
    pub fn opened(&mut self, index: Index, answer: &Answer) -> Check {
        hold!("I19 sessions", *answer == Answer::Session { id: index.0 }, "entry {index} opens a session: {answer:?}");
        self.opened.insert(index.0);
        Ok(())
    }

    /// An entry of a session is answered so, and may have changed what clients have stored. Whether it is the first one.
    pub fn applied(
        &mut self,
        index: Index,
        stamp: SessionSequence,
        answer: &Bytes,
        has_changed: bool,
    ) -> Result<bool, super::Violation> {
        let SessionSequence { session, sequence } = stamp;
        let first = self.done.get(&stamp);
        let is_again = first.is_some() || !self.opened.contains(&session);
        hold!(
            "I19 sessions",
            !(is_again && has_changed),
            "entry {index}, command {sequence} of session {session}, changes something, after {first:?}"
        );
        if let Some((place, expected)) = first {
            self.repeated += 1;
            hold!(
                "I19 sessions",
                answer == expected,
                "entry {index} repeats entry {place}, command {sequence} of session {session}, and is answered otherwise"
            );
            return Ok(false);
        }
        let refused = matches!(Answer::decode(answer), Ok(Answer::SessionUnknown | Answer::SequenceTooOld));
        hold!(
            "I19 sessions",
            refused == is_again,
            "entry {index}, command {sequence} of session {session}, is refused: {refused}; the session is open: {}",
            !is_again
        );
        if !is_again {
            self.done.insert(stamp, (index, answer.clone()));
        }
        Ok(!is_again)
    }
}
