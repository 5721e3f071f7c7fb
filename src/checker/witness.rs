//! Checks a history against the order in which the log has it: one replay, no search.
//!
//! It demands more than that some order exists. Each answer must be what a replay of the log up to that operation's index
//! gives, and indexes must respect real time: an operation that ended before another began comes before it in the log.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use bytes::Bytes;

use super::history::{Operation, Outcome};
use super::model::Model;
use super::search::History;

/// Where an operation is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A command's own log index; for a read, the index of the last entry that it may have seen.
    pub index: u64,
    /// Its position in the history.
    pub operation: usize,
}

/// What a history has done that its log does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {why}")]
pub struct Violation {
    /// The rule that is broken.
    pub rule: Rule,
    /// How, with the operations in question as lines of the history.
    pub why: String,
}

/// The rules of this check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Entries are in order, of operations in the history, and reads change nothing.
    WellFormed,
    /// What was acknowledged is in the log, once; nothing is there twice.
    ExactlyOnce,
    /// What failed for certain is not in the log.
    FailedNever,
    /// Every answer is the one that a replay gives.
    SameAnswer,
    /// What ended before something else began has the lower place in the log.
    RealTime,
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::WellFormed => "the witness makes no sense",
            Rule::ExactlyOnce => "acknowledged operations are in the log exactly once",
            Rule::FailedNever => "failed operations are not in the log",
            Rule::SameAnswer => "answers are those of a replay of the log",
            Rule::RealTime => "the log's order respects real time",
        })
    }
}

/// Checks a history against its log: `commits` is which of its operations are committed, by ascending index, those of unknown
/// outcome included; `reads` is where each answered read was made, in any order. Takes time in proportion to all three, but for
/// sorting the reads.
///
/// # Errors
/// The first violation, in order of the log.
pub fn check<M: Model>(model: &M, history: &History<M>, commits: &[Place], reads: &[Place]) -> Result<(), Violation> {
    let mut reads = reads.to_vec();
    reads.sort_by_key(|read| read.index);
    let mut replay = Replay {
        model,
        history,
        states: BTreeMap::new(),
        placed: vec![None; history.len()],
        index: 0,
        latest_begin: None,
    };
    let mut reads = reads.into_iter().peekable();
    for commit in commits {
        while let Some(read) = reads.next_if(|read| read.index < commit.index) {
            replay.read(read)?;
        }
        replay.commit(*commit)?;
    }
    reads.try_for_each(|read| replay.read(read))?;
    replay.finish()
}

struct Replay<'a, M: Model> {
    model: &'a M,
    history: &'a History<M>,
    states: BTreeMap<&'a Bytes, M::State>,
    /// At which index each operation was placed.
    placed: Vec<Option<u64>>,
    /// Of the last entry.
    index: u64,
    /// Of the operations placed so far, the one that began last.
    latest_begin: Option<usize>,
}

fn broken(rule: Rule, why: String) -> Result<(), Violation> {
    Err(Violation { rule, why })
}

impl<M: Model> Replay<'_, M> {
    fn commit(&mut self, place: Place) -> Result<(), Violation> {
        if place.index <= self.index {
            return broken(Rule::WellFormed, format!("entry {} follows entry {}", place.index, self.index));
        }
        self.index = place.index;
        self.place(place, Some(place.index))
    }

    fn read(&mut self, place: Place) -> Result<(), Violation> {
        if let Some(operation) = self.history.get(place.operation)
            && !self.model.is_read(&operation.action)
        {
            return broken(Rule::WellFormed, format!("'{operation}' is no read, but was placed as one"));
        }
        self.place(place, None)
    }

    fn place(&mut self, Place { index, operation: at }: Place, own_index: Option<u64>) -> Result<(), Violation> {
        let Some(operation) = self.history.get(at) else {
            let count = self.history.len();
            return broken(Rule::WellFormed, format!("operation {at} at index {index}, of a history of {count}"));
        };
        if let Some(first) = self.placed[at].replace(index) {
            return broken(Rule::ExactlyOnce, format!("'{operation}' is there twice, at {first} and at {index}"));
        }
        if operation.outcome == Outcome::Failed {
            return broken(Rule::FailedNever, format!("'{operation}' is there, at {index}"));
        }
        self.respects_real_time(at)?;
        let state = self.states.entry(&operation.partition).or_insert_with(|| self.model.initial());
        match self.model.step(state, &operation.action, operation.answer(), own_index) {
            Some(after) => *state = after,
            None => {
                let why = format!("'{operation}' at {index}, but a replay has there: {state:?}");
                return broken(Rule::SameAnswer, why);
            }
        }
        Ok(())
    }

    fn respects_real_time(&mut self, at: usize) -> Result<(), Violation> {
        let operation = &self.history[at];
        let Some(latest) = self.latest_begin else {
            self.latest_begin = Some(at);
            return Ok(());
        };
        let earlier = &self.history[latest];
        if operation.latest() < earlier.began {
            let indexes = (self.placed[latest].unwrap_or_default(), self.placed[at].unwrap_or_default());
            let why = format!(
                "'{operation}' had ended when '{earlier}' began, but comes after it: they are at {} and {}",
                indexes.1, indexes.0
            );
            return broken(Rule::RealTime, why);
        }
        if operation.began > earlier.began {
            self.latest_begin = Some(at);
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Violation> {
        let lost = |(operation, place): &(&Operation<M::Action, M::Answer>, &Option<u64>)| {
            operation.answer().is_some() && place.is_none()
        };
        match self.history.iter().zip(&self.placed).find(lost) {
            Some((operation, _)) => broken(Rule::ExactlyOnce, format!("'{operation}' is not there")),
            None => Ok(()),
        }
    }
}
