//! The key-value store as a sequential specification: one key, a register with revisions.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use bytes::Bytes;

use super::history::{self, Word, number, unescape};
use super::model::Model;

/// What clients did with keys.
pub type Operation = history::Operation<Action, Answer>;

/// One key of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyValue;

/// What a client asks of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Its value.
    Get,
    /// To have this value.
    Set(Bytes),
    /// To have no value.
    Delete,
    /// To have the second value if it has the first.
    CompareAndSet(Bytes, Bytes),
    /// To have this at the end of its value. Our store does not do that, those of published histories do.
    Append(Bytes),
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To a get: the value, and the revision if the client asked for that.
    Found(Bytes, Option<u64>),
    /// To anything but a set or append: there is no value.
    Missing,
    /// To anything but a get: it was done, at this revision if that was told.
    Done(Option<u64>),
    /// To a compare-and-set: the value is another, perhaps this one.
    Different(Option<Bytes>),
}

/// A key's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register {
    value: Option<Bytes>,
    /// Log index of the last change if `exact`; otherwise it is larger than this.
    changed: u64,
    exact: bool,
}

impl Register {
    /// Changes it; `None` if the log cannot have a change there after the last one.
    fn change(&self, value: Option<Bytes>, index: Option<u64>) -> Option<Register> {
        match index {
            Some(index) => (index > self.changed).then_some(Register { value, changed: index, exact: true }),
            None => Some(Register { value, changed: self.changed, exact: false }),
        }
    }

    /// Its value was seen with this revision.
    fn seen_at(&self, revision: Option<u64>) -> Option<Register> {
        match revision {
            None => Some(self.clone()),
            Some(revision) if self.exact => (revision == self.changed).then(|| self.clone()),
            Some(_) => self.change(self.value.clone(), revision),
        }
    }
}

impl Model for KeyValue {
    type Action = Action;
    type Answer = Answer;
    type State = Register;

    fn initial(&self) -> Register {
        Register { exact: true, ..Register::default() }
    }

    fn is_read(&self, action: &Action) -> bool {
        *action == Action::Get
    }

    fn step(&self, state: &Register, action: &Action, told: Option<&Answer>, index: Option<u64>) -> Option<Register> {
        // What it would answer, but for the revision and what a compare-and-set found: those are compared below.
        let (answer, after) = match (action, &state.value) {
            (Action::Get, Some(value)) => (Answer::Found(value.clone(), None), None),
            (Action::Get | Action::Delete | Action::CompareAndSet(..), None) => (Answer::Missing, None),
            (Action::CompareAndSet(from, _), Some(value)) if from != value => {
                (Answer::Different(Some(value.clone())), None)
            }
            (Action::Delete, Some(_)) => (Answer::Done(None), Some(None)),
            (Action::Set(to) | Action::CompareAndSet(_, to), _) => (Answer::Done(None), Some(Some(to.clone()))),
            (Action::Append(more), value) => {
                let longer = [value.as_deref().unwrap_or_default(), more].concat();
                (Answer::Done(None), Some(Some(longer.into())))
            }
        };
        let revision = match (told, &answer) {
            (None, _) | (Some(Answer::Missing), Answer::Missing) => None,
            (Some(Answer::Found(told, revision)), Answer::Found(value, _)) if told == value => {
                return state.seen_at(*revision);
            }
            (Some(Answer::Done(revision)), Answer::Done(_)) => *revision,
            (Some(Answer::Different(told)), Answer::Different(found)) if told.is_none() || told == found => None,
            _ => return None,
        };
        match after {
            None => Some(state.clone()),
            Some(_) if index.is_some() && revision.is_some() && index != revision => None,
            Some(value) => state.change(value, index.or(revision)),
        }
    }

    fn makers(&self, operations: &[Operation]) -> Vec<Option<usize>> {
        // Values made of parts have no one maker.
        if operations.iter().any(|operation| matches!(operation.action, Action::Append(_))) {
            return vec![None; operations.len()];
        }
        let mut makers: HashMap<&Bytes, usize> = HashMap::new();
        for operation in operations {
            if let Action::Set(value) | Action::CompareAndSet(_, value) = &operation.action
                && !matches!(operation.answer(), Some(Answer::Missing | Answer::Different(_)))
            {
                *makers.entry(value).or_default() += 1;
            }
        }
        let seen = |operation: &Operation| match (&operation.action, operation.answer()?) {
            (_, Answer::Found(value, _) | Answer::Different(Some(value)))
            | (Action::CompareAndSet(value, _), Answer::Done(_)) => Some(makers.get(value).copied().unwrap_or(0)),
            _ => None,
        };
        operations.iter().map(seen).collect()
    }

    fn simplify(&self, operations: &mut [Operation]) {
        let mut seen: HashSet<Bytes> = HashSet::new();
        for operation in operations.iter() {
            match (&operation.action, operation.answer()) {
                // Values made of parts are seen in part.
                (Action::Append(_), _) => return,
                (Action::CompareAndSet(from, _), _) => seen.insert(from.clone()),
                _ => false,
            };
            if let Some(Answer::Found(value, _) | Answer::Different(Some(value))) = operation.answer() {
                seen.insert(value.clone());
            }
        }
        let longest = seen.iter().map(Bytes::len).max().unwrap_or_default();
        let unseen = Bytes::from(vec![0; longest + 1]);
        for operation in operations {
            if let Action::Set(value) | Action::CompareAndSet(_, value) = &mut operation.action
                && !seen.contains(value)
            {
                *value = unseen.clone();
            }
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Get => f.write_str("get"),
            Action::Set(value) => write!(f, "set {}", Word(value)),
            Action::Delete => f.write_str("delete"),
            Action::CompareAndSet(from, to) => write!(f, "cas {} {}", Word(from), Word(to)),
            Action::Append(value) => write!(f, "append {}", Word(value)),
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["get"] => Ok(Action::Get),
            ["set", value] => Ok(Action::Set(unescape(value)?)),
            ["delete"] => Ok(Action::Delete),
            ["cas", from, to] => Ok(Action::CompareAndSet(unescape(from)?, unescape(to)?)),
            ["append", value] => Ok(Action::Append(unescape(value)?)),
            _ => Err(format!("'{text}' is no action: expected get, set V, delete, cas V V or append V")),
        }
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let revision = match self {
            Answer::Found(value, revision) => {
                write!(f, "found {}", Word(value))?;
                revision
            }
            Answer::Done(revision) => {
                f.write_str("done")?;
                revision
            }
            Answer::Missing => return f.write_str("missing"),
            Answer::Different(None) => return f.write_str("different"),
            Answer::Different(Some(found)) => return write!(f, "different {}", Word(found)),
        };
        revision.map_or(Ok(()), |revision| write!(f, " at {revision}"))
    }
}

impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["found", value] => Ok(Answer::Found(unescape(value)?, None)),
            ["found", value, "at", revision] => Ok(Answer::Found(unescape(value)?, Some(number(revision)?))),
            ["missing"] => Ok(Answer::Missing),
            ["done"] => Ok(Answer::Done(None)),
            ["done", "at", revision] => Ok(Answer::Done(Some(number(revision)?))),
            ["different"] => Ok(Answer::Different(None)),
            ["different", found] => Ok(Answer::Different(Some(unescape(found)?))),
            _ => Err(format!(
                "'{text}' is no outcome: expected found V [at N], missing, done [at N], different [V], failed or unknown"
            )),
        }
    }
}
