//! The names that keys and topics share, as Redis has it: a name is a key's, or a topic's, which is a list there.
//!
//! A list is made of the messages that nobody has leased. Without any it is missing to whoever asks for keys, as in Redis; the
//! topic is there all the same, and its name taken. A name can be both only if the topic is one for messages that were
//! delivered too often, which must go somewhere: then it is the key to all but the queue's own commands.

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;

use super::command::{Answer, Change, KeyType, Left, MAX_ANSWER_BYTES, PlainSet, Query, Step, key_bytes};
use super::composite::Composite;
use super::glob::Glob;
use super::queue::command::{QueueAnswer, QueueChange};
use super::queue::{At, DEAD};
use super::scan::merged;
use crate::consensus::LogTime;

/// What passing over a message counts as, in bytes.
const SKIPPED_BYTES: usize = 64;

impl Composite {
    /// Carries out a set, as [`change`](Self::change) would.
    pub(super) fn set(&mut self, PlainSet { key, value }: PlainSet<'_>) -> Answer {
        if self.is_topic_only(key) {
            return Answer::WrongType;
        }
        self.kv.overwrite(key, value, self.applied);
        Answer::Set { revision: Some(self.applied), old: None }
    }

    /// Carries out a change. Its answer may have so many bytes of messages.
    pub(super) fn change(&mut self, change: Change, room: usize, time: LogTime) -> Answer {
        if self.is_of_wrong_type(&change) {
            return Answer::WrongType;
        }
        let answer = self.change_names(change, At { index: self.applied, time, room });
        self.note_topics();
        answer
    }

    /// Whoever watches a topic that has changed learns that it has.
    pub(super) fn note_topics(&mut self) {
        for name in self.queue.take_touched() {
            self.kv.note_change(&name, self.applied);
        }
    }

    /// Whether what there is of this name has changed after this log index, or perhaps has.
    pub(super) fn has_changed_since(&self, name: &[u8], index: u64) -> bool {
        let revision = self.kv.get(name).map(|value| value.revision);
        // Whatever is a key only has its revision; it must not seem changed because others of its slot did.
        let may_be_topic = revision.is_none() || name.ends_with(DEAD);
        let noted = if may_be_topic { self.kv.last_change(name) } else { 0 };
        revision.unwrap_or(0).max(noted) > index
    }

    fn change_names(&mut self, change: Change, at: At) -> Answer {
        let room = at.room;
        match change {
            Change::Queue { topic, change } => self.queue.apply(&topic, change, at),
            Change::Push { topic, messages } => self.queue.push(&topic, messages, at),
            Change::Pop { topics } => self.pop(&topics, room),
            Change::Remove { keys } => Answer::Count(keys.iter().filter(|name| self.remove(name, at)).count() as u64),
            Change::Expire { key, .. } if self.type_of(&key) == KeyType::List => {
                Answer::Malformed("not supported: lists do not expire".into())
            }
            change => self.kv.apply(change, self.applied),
        }
    }

    fn pop(&mut self, topics: &[Bytes], room: usize) -> Answer {
        for topic in topics {
            if self.is_key_only(topic) {
                return Answer::WrongType;
            }
            match self.queue.pop(topic, room) {
                Ok(None) => {}
                Ok(Some(message)) => return Answer::Popped(Some((topic.clone(), message))),
                Err(answer) => return answer,
            }
        }
        Answer::Popped(None)
    }

    /// Deletes a key, or a topic; whether there was one that could be seen.
    fn remove(&mut self, name: &Bytes, at: At) -> bool {
        let was_seen = self.type_of(name) != KeyType::Missing;
        self.kv.delete(name, at.index);
        if self.queue.has(name) {
            self.queue.apply(name, QueueChange::Delete, at);
        }
        was_seen
    }

    /// Whether a change of keys meets a topic, or one of a topic a key.
    fn is_of_wrong_type(&self, change: &Change) -> bool {
        match change {
            Change::Set { key, .. }
            | Change::CompareAndSet { key, .. }
            | Change::Add { key, .. }
            | Change::Raise { key, .. }
            | Change::Append { key, .. }
            | Change::SetExpiring { key, .. }
            | Change::Concatenate { key, .. } => self.is_topic_only(key),
            Change::SetAll { items, .. } => items.iter().any(|(key, _)| self.is_topic_only(key)),
            Change::GetDelete { key } => self.type_of(key) == KeyType::List,
            Change::Queue { topic, .. } | Change::Push { topic, .. } => self.is_key_only(topic),
            Change::Delete { .. } | Change::Remove { .. } | Change::Pop { .. } => false,
            Change::Expire { .. } | Change::Persist { .. } => false,
        }
    }

    fn is_topic_only(&self, name: &[u8]) -> bool {
        self.queue.has(name) && self.kv.get(name).is_none()
    }

    fn is_key_only(&self, name: &[u8]) -> bool {
        self.kv.get(name).is_some() && !self.queue.has(name)
    }

    fn type_of(&self, name: &[u8]) -> KeyType {
        match self.kv.get(name) {
            Some(_) => KeyType::String,
            None if self.queue.ready(name) > 0 => KeyType::List,
            None => KeyType::Missing,
        }
    }

    /// Answers a query about names. The answer may have so many bytes.
    pub(super) fn look_up(&self, query: &Query, max_bytes: usize, time: LogTime) -> Answer {
        match query {
            Query::Get { key } => match self.kv.get(key) {
                None if self.queue.ready(key) > 0 => Answer::WrongType,
                value => Answer::Value(value.cloned()),
            },
            Query::ValueLength { key } if self.type_of(key) == KeyType::List => Answer::WrongType,
            Query::ValueLength { key } => Answer::Count(self.kv.get(key).map_or(0, |value| value.bytes.len() as u64)),
            Query::ListLength { topic } | Query::Range { topic, .. } if self.is_key_only(topic) => Answer::WrongType,
            Query::ListLength { topic } => Answer::Count(self.queue.ready(topic)),
            Query::Range { topic, start, stop } => self.range(topic, *start, *stop, max_bytes),
            Query::GetAll { keys } => {
                let value = |key: &Bytes| self.kv.get(key).map(|value| value.bytes.clone());
                let values = Answer::Values(keys.iter().map(value).collect());
                if values.content_bytes() > max_bytes { Answer::TooLarge } else { values }
            }
            Query::Type { key } => Answer::Type(self.type_of(key)),
            Query::Left { key } => Answer::Left(match (self.type_of(key), self.kv.expiries.get(key)) {
                (KeyType::Missing, _) => Left::Missing,
                (_, Some(until)) => Left::Milliseconds(until.0.saturating_sub(time.0)),
                (_, None) => Left::Lasting,
            }),
            Query::Exists { keys } => {
                Answer::Count(keys.iter().filter(|key| self.type_of(key) != KeyType::Missing).count() as u64)
            }
            Query::Size => Answer::Count(self.kv.len() + self.queue.listed.len()),
            _ => Answer::Malformed("a question about something else than names".into()),
        }
    }

    fn range(&self, topic: &[u8], start: i64, stop: i64, max_bytes: usize) -> Answer {
        match self.queue.range(topic, self.places(topic, start, stop), max_bytes) {
            Some(messages) => Answer::Queue(QueueAnswer::Messages(messages)),
            None => Answer::TooLarge,
        }
    }

    /// The places of a range that a list has.
    fn places(&self, topic: &[u8], start: i64, stop: i64) -> Range<usize> {
        let length = i64::try_from(self.queue.ready(topic)).unwrap_or(i64::MAX);
        let place = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
        let first = place(start).max(0);
        let end = place(stop).min(length - 1).saturating_add(1);
        let end = usize::try_from(end).unwrap_or(0);
        usize::try_from(first).unwrap_or(usize::MAX).min(end)..end
    }

    /// All keys and lists that match the glob, in order; `None` if they exceed [`MAX_ANSWER_BYTES`].
    pub(super) fn keys(&self, pattern: &[u8]) -> Option<Vec<Bytes>> {
        let glob = Glob::new(pattern);
        let names = merged(self.kv.iter().map(|(key, _)| key), self.queue.listed());
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for key in names.filter(|key| glob.matches(key)) {
            bytes += key_bytes(key);
            if bytes > MAX_ANSWER_BYTES {
                return None;
            }
            keys.push(key.clone());
        }
        Some(keys)
    }

    /// What a step of a transaction goes through beyond what it carries and answers, in bytes.
    pub(super) fn work_bytes(&self, step: &Step) -> usize {
        match step {
            Step::Change(Change::Concatenate { key, .. }) => self.kv.get(key).map_or(0, |value| value.bytes.len()),
            Step::Query(Query::Range { topic, start, stop }) => {
                let places = self.places(topic, *start, *stop);
                let length = usize::try_from(self.queue.ready(topic)).unwrap_or(usize::MAX);
                let skipped = if places.is_empty() { 0 } else { places.start.min(length.saturating_sub(places.end)) };
                skipped.saturating_mul(SKIPPED_BYTES)
            }
            _ => 0,
        }
    }
}
