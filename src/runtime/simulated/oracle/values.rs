//! I17 keys and values: every change is answered as a store as simple as can be answers it, in the order of the log; and every
//! value that a key has had, for whoever reads it. It has no code in common with the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::{Check, hold};
use crate::consensus::Index;
use crate::machine::command::{Answer, Change, Condition, Value};

/// Every value that every key has had.
#[derive(Default)]
pub struct Values(BTreeMap<Bytes, Versions>);

/// Since which entry a key has had which value, or none.
type Versions = Vec<(Index, Option<Value>)>;

/// What somebody reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The value of a key.
    Key(Bytes),
    /// The first keys that begin with this one, and their values: of a list, its first elements.
    Under(Bytes),
}

/// How many of these.
pub const FIRST: usize = 8;

impl Values {
    /// A change takes effect, and is answered so.
    pub fn apply(&mut self, change: &Change, index: Index, answer: &Answer) -> Check {
        let expected = self.change(change, index);
        let fits = match (answer, &expected) {
            // The words are for people.
            (Answer::Malformed(_), Answer::Malformed(_)) => true,
            (answer, expected) => answer == expected,
        };
        hold!("I17 keys and values", fits, "entry {index}, {change:?}: {answer:?} instead of {expected:?}");
        Ok(())
    }

    fn change(&mut self, change: &Change, index: Index) -> Answer {
        match change {
            Change::Set { key, value, condition, want_old } => {
                let old = self.now(key).map(|old| old.bytes.clone());
                let holds = match condition {
                    Condition::Always => true,
                    Condition::Absent => old.is_none(),
                    Condition::Present => old.is_some(),
                    Condition::Equals(expected) => old.as_ref() == Some(expected),
                };
                if holds {
                    self.set(key, value.clone(), index);
                }
                Answer::Set { revision: holds.then_some(index.0), old: old.filter(|_| *want_old) }
            }
            Change::CompareAndSet { key, from, to, create } => match self.now(key).map(|found| found.bytes.clone()) {
                None if !create => Answer::Missing,
                Some(actual) if actual != from => Answer::Different { actual },
                _ => Answer::Set { revision: Some(self.set(key, to.clone(), index).revision), old: None },
            },
            Change::Delete { keys } => {
                let there = keys.iter().filter(|key| self.now(key).is_some()).collect::<BTreeSet<_>>();
                there.iter().for_each(|key| self.put(key, None, index));
                Answer::Count(there.len() as u64)
            }
            Change::Add { key, delta } => self.calculate(key, index, |number| number.unwrap_or(0) + i128::from(*delta)),
            Change::Raise { key, to } => {
                let to = i128::from(*to);
                self.calculate(key, index, |number| number.map_or(to, |number| number.max(to)))
            }
            Change::Append { key, value } => {
                let longer = self.calculate(key, index, |length| match length.unwrap_or(0) {
                    length @ 0.. => length + 1,
                    _ => i128::MAX,
                });
                let Answer::Value(Some(length)) = longer else { return longer };
                let offset = number(&length).map_or(0, |length| length as u64 - 1);
                self.set(&element(key, offset), value.clone(), index);
                Answer::Count(offset)
            }
            // No simulated client asks for any other.
            _ => Answer::Malformed(String::new()),
        }
    }

    /// Makes a number of a number, if both have 64 bits.
    fn calculate(&mut self, key: &Bytes, index: Index, new: impl FnOnce(Option<i128>) -> i128) -> Answer {
        let old = self.now(key).map(number);
        if let Some(None) = old {
            return Answer::Malformed("no number".into());
        }
        let new = new(old.flatten());
        if i64::try_from(new).is_err() {
            return Answer::Malformed("too large".into());
        }
        Answer::Value(Some(self.set(key, new.to_string().into(), index)))
    }

    fn set(&mut self, key: &Bytes, bytes: Bytes, index: Index) -> Value {
        let value = Value { bytes, revision: index.0 };
        self.put(key, Some(value.clone()), index);
        value
    }

    fn put(&mut self, key: &Bytes, value: Option<Value>, index: Index) {
        let versions = self.0.entry(key.clone()).or_default();
        // Of several that one entry makes, the last.
        versions.pop_if(|(since, _)| *since == index);
        versions.push((index, value));
    }

    fn now(&self, key: &Bytes) -> Option<&Value> {
        self.0.get(key)?.last()?.1.as_ref()
    }

    /// The value of a key after this entry.
    pub fn at(&self, key: &Bytes, index: Index) -> Option<&Value> {
        let versions = self.0.get(key)?;
        let place = versions.partition_point(|(since, _)| *since <= index).checked_sub(1)?;
        versions[place].1.as_ref()
    }

    /// What was to be seen after this entry.
    pub fn seen(&self, look: &Look, index: Index) -> Answer {
        match look {
            Look::Key(key) => Answer::Value(self.at(key, index).cloned()),
            Look::Under(prefix) => {
                let items = self.under(prefix).filter_map(|key| Some((key.clone(), self.at(key, index)?.clone())));
                let mut items: Vec<_> = items.take(FIRST + 1).collect();
                let more = items.len() > FIRST;
                items.truncate(FIRST);
                Answer::Items { items, more }
            }
        }
    }

    /// The entries after `first`, up to `last`, that made a difference to any of these, and `first`.
    pub fn moments(&self, looks: &[Look], (first, last): (Index, Index)) -> Vec<Index> {
        let keys = looks.iter().flat_map(|look| -> Box<dyn Iterator<Item = &Bytes>> {
            match look {
                Look::Key(key) => Box::new(std::iter::once(key)),
                Look::Under(prefix) => Box::new(self.under(prefix)),
            }
        });
        let later = keys.filter_map(|key| self.0.get(key)).flat_map(|versions| {
            let after = versions.partition_point(|(since, _)| *since <= first);
            versions[after..].iter().map(|(since, _)| *since).take_while(|since| *since <= last)
        });
        std::iter::once(first).chain(later).collect()
    }

    /// All longer keys that ever were and begin with this one, in order.
    fn under<'a>(&'a self, prefix: &'a Bytes) -> impl Iterator<Item = &'a Bytes> {
        let longer = self.0.range::<Bytes, _>((Bound::Excluded(prefix), Bound::Unbounded)).map(|(key, _)| key);
        longer.take_while(move |key| key.starts_with(prefix))
    }
}

/// The key of a list's element.
fn element(list: &Bytes, offset: u64) -> Bytes {
    Bytes::from([&list[..], &offset.to_be_bytes()].concat())
}

fn number(value: &Value) -> Option<i128> {
    let number: i64 = std::str::from_utf8(&value.bytes).ok()?.parse().ok()?;
    Some(number.into())
}
