//! The message queue: topics, each first in, first out.
//!
//! A message is taken for good, or received with a lease. A lease that ends without an acknowledgement gives its message
//! back to its place, so that the order stays. Time is log time: leases end at the same entry on every node.

pub mod command;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::command::{
    Delivery, MAX_LEASE_MS, MAX_RECEIVED, MAX_TOPIC_BYTES, QueueAnswer, QueueChange, QueueQuery, Settlement, TopicInfo,
    TopicLimits,
};
use super::command::{Answer, MAX_ANSWER_BYTES, MAX_ITEMS};
use super::cow_map::CowMap;
use super::due::Due;
use super::scan::ScanIndex;
use super::table::{Table, key, number_of};
use crate::consensus::{Index, LogTime};
use crate::marks::{Mark, mark};

/// The end of the name of the topic for messages that were delivered too often.
pub(super) const DEAD: &[u8] = b".dead";

/// The row of [`Queue::numbers`].
const HIGHEST_TOPIC: &[u8] = b"topic";

/// Topics and their messages.
#[derive(Clone, Debug)]
pub struct Queue {
    /// By name.
    topics: Table<Topic>,
    /// By number of the topic and of the message.
    messages: Table<Message>,
    /// The topics' names, by number.
    names: CowMap<Bytes>,
    /// The highest number that a topic was given, though it be gone.
    highest: u64,
    /// The keys of the messages that are not leased.
    ready: CowMap<()>,
    /// When leases end, and the keys of their messages.
    leases: Due,
    /// The names of topics with messages that are not leased.
    pub(super) listed: ScanIndex,
    /// How many messages of which topic became ready since that was asked last.
    woken: BTreeMap<Bytes, u64>,
    /// The names of topics that have changed since that was asked last.
    touched: BTreeSet<Bytes>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Topic {
    /// Later topics have higher ones, and one that was deleted and created again has another. At least the log index of its
    /// creation, so that the highest one given need not be remembered for long.
    number: u64,
    limits: TopicLimits,
    /// The next message's.
    next_id: u64,
    messages: u64,
    leased: u64,
    bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Message {
    bytes: Bytes,
    /// In log time.
    put_ms: u64,
    deliveries: u32,
    lease: Option<Lease>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Lease {
    /// Log index of the command that gave it.
    token: u64,
    /// In log time.
    until_ms: u64,
}

/// The entry that a change is part of.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub index: u64,
    pub time: LogTime,
    /// Most bytes of messages in its answer.
    pub room: usize,
}

impl Topic {
    /// How many messages are not leased.
    fn ready(&self) -> u64 {
        self.messages - self.leased
    }

    /// Whether so many messages and bytes may be added.
    fn has_room(&self, messages: u64, bytes: u64) -> Result<(), Answer> {
        let TopicLimits { messages: most, bytes: most_bytes, .. } = self.limits;
        if self.messages.saturating_add(messages) <= most && self.bytes.saturating_add(bytes) <= most_bytes {
            return Ok(());
        }
        mark(Mark::TopicFull);
        Err(Answer::Queue(QueueAnswer::Full { limits: self.limits.clone() }))
    }
}

impl Queue {
    /// An empty queue, whose tables have these numbers.
    pub(super) fn new(topics: u32, messages: u32) -> Self {
        Queue {
            topics: Table::new(topics),
            messages: Table::new(messages),
            names: CowMap::default(),
            highest: 0,
            ready: CowMap::default(),
            leases: Due::default(),
            listed: ScanIndex::default(),
            woken: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// A queue of these topics and messages, and what [`numbers`](Self::numbers) told, if they agree with each other.
    pub(super) fn of(topics: Table<Topic>, messages: Table<Message>, numbers: &Table<u64>) -> Result<Self, String> {
        let mut queue = Queue { topics, messages, ..Queue::new(0, 0) };
        queue.highest = numbers.get(HIGHEST_TOPIC).copied().unwrap_or(0);
        for (name, topic) in queue.topics.from(b"") {
            if queue.names.insert(key([topic.number]), name.clone()).is_some() {
                return Err(format!("two topics have the number {}", topic.number));
            }
            let (mut messages, mut leased, mut bytes) = (0, 0, 0);
            for (place, message) in queue.messages.with_prefix(&key([topic.number])) {
                if number_of(place, 1).is_none_or(|id| id >= topic.next_id) || place.len() != 16 {
                    return Err(format!("topic {} has a message whose number it has not given yet", topic.number));
                }
                messages += 1;
                bytes += message.bytes.len() as u64;
                match &message.lease {
                    None => drop(queue.ready.insert(place.clone(), ())),
                    Some(lease) => {
                        leased += 1;
                        queue.leases.insert(lease.until_ms, place);
                    }
                }
            }
            if (messages, leased, bytes) != (topic.messages, topic.leased, topic.bytes) {
                return Err(format!("topic {} has not the messages that it counts", topic.number));
            }
            if topic.ready() > 0 {
                queue.listed.insert(name.clone());
            }
            queue.highest = queue.highest.max(topic.number);
        }
        if queue.ready.len() + queue.leases.len() != queue.messages.len() {
            return Err("there are messages without a topic".into());
        }
        Ok(queue)
    }

    /// Its tables as they are now, however it changes afterwards.
    pub(super) fn tables(&self) -> (Table<Topic>, Table<Message>) {
        (self.topics.clone(), self.messages.clone())
    }

    /// The highest number that a topic was given, in a table of this number, if that cannot be told from the topics that are
    /// there or from the last entry: several topics were created by one entry, and the last of them is gone already.
    pub(super) fn numbers(&self, table: u32, applied: u64) -> Table<u64> {
        let mut numbers = Table::new(table);
        let last = self.names.last().and_then(|(last, _)| number_of(last, 0)).unwrap_or(0);
        if self.highest > last.max(applied) {
            numbers.insert(Bytes::from_static(HIGHEST_TOPIC), self.highest);
        }
        numbers
    }

    /// A hash of all topics and messages.
    pub fn digest(&self) -> u64 {
        self.topics.digest().wrapping_add(self.messages.digest())
    }

    /// When the next lease ends.
    pub fn deadline(&self) -> Option<LogTime> {
        self.leases.first().map(|(until_ms, _)| LogTime(until_ms))
    }

    /// How many messages of which topic became ready since the last call.
    pub fn take_woken(&mut self) -> Vec<(Bytes, u64)> {
        std::mem::take(&mut self.woken).into_iter().collect()
    }

    /// The names of the topics that have changed since the last call, those that were created or deleted included.
    pub(super) fn take_touched(&mut self) -> BTreeSet<Bytes> {
        std::mem::take(&mut self.touched)
    }

    /// At this entry log time has come this far: leases end.
    pub fn expire(&mut self, index: Index, time: LogTime) {
        while let Some(place) = self.leases.by(time.0) {
            let name = number_of(&place, 0).and_then(|number| self.names.get(&key([number]))).cloned();
            match name {
                Some(name) => {
                    mark(Mark::LeaseExpired);
                    self.release(&name, &place, index.0, time);
                }
                None => break,
            }
        }
    }

    /// Carries out a change.
    pub(super) fn apply(&mut self, name: &Bytes, change: QueueChange, at: At) -> Answer {
        if let Err(why) = self.check_name(name) {
            return Answer::Malformed(why);
        }
        let no_topic = Answer::Queue(QueueAnswer::NoTopic);
        if let QueueChange::Create { limits } = change {
            return Answer::Count(u64::from(self.create(name, limits, at.index)));
        }
        if let QueueChange::Put { create: true, .. } = change {
            self.create(name, TopicLimits::default(), at.index);
        }
        let Some(topic) = self.topics.get(name) else {
            return if change == QueueChange::Delete { Answer::Count(0) } else { no_topic };
        };
        let number = topic.number;
        match change {
            QueueChange::Create { .. } => no_topic,
            QueueChange::Delete => {
                self.purge(name, number);
                self.names.remove(&key([number]));
                self.topics.remove(name);
                self.touch(name);
                Answer::Count(1)
            }
            QueueChange::Purge => Answer::Count(self.purge(name, number)),
            QueueChange::Put { message, .. } => match topic.has_room(1, message.len() as u64) {
                Err(full) => full,
                Ok(()) => Answer::Queue(QueueAnswer::Put { id: self.put(name, message, at.time) }),
            },
            QueueChange::Take { max } => {
                let Some(places) = self.first_ready(number, max, at.room) else { return Answer::TooLarge };
                let taken = places.iter().filter_map(|place| self.remove(name, place)).collect();
                Answer::Queue(QueueAnswer::Messages(taken))
            }
            QueueChange::Receive { max, lease_ms } => match check_lease(lease_ms) {
                Err(why) => Answer::Malformed(why),
                Ok(()) => match self.first_ready(number, max, at.room) {
                    Some(places) => Answer::Queue(QueueAnswer::Deliveries(self.lease(name, places, lease_ms, at))),
                    None => Answer::TooLarge,
                },
            },
            QueueChange::Settle { id, lease, how } => self.settle(name, &key([number, id]), lease, how, at),
        }
    }

    /// Adds messages, all or none, to a topic that is created if it is missing.
    pub(super) fn push(&mut self, name: &Bytes, messages: Vec<Bytes>, at: At) -> Answer {
        if let Err(why) = self.check_name(name) {
            return Answer::Malformed(why);
        }
        let (count, bytes) = (messages.len() as u64, messages.iter().map(|message| message.len() as u64).sum());
        let usual = TopicLimits::default();
        let new = Topic { number: 0, limits: usual.clone(), next_id: 1, messages: 0, leased: 0, bytes: 0 };
        if let Err(full) = self.topics.get(name).unwrap_or(&new).has_room(count, bytes) {
            return full;
        }
        self.create(name, usual, at.index);
        for message in messages {
            self.put(name, message, at.time);
        }
        Answer::Count(self.ready(name))
    }

    /// Removes the oldest message that is ready from a topic, if there is one. An error if there is no room for it.
    pub(super) fn pop(&mut self, name: &Bytes, room: usize) -> Result<Option<Bytes>, Answer> {
        let Some(number) = self.topics.get(name).map(|topic| topic.number) else { return Ok(None) };
        let place = self.first_ready(number, 1, room).ok_or(Answer::TooLarge)?.pop();
        Ok(place.and_then(|place| self.remove(name, &place)))
    }

    /// Whether there is such a topic.
    pub fn has(&self, name: &[u8]) -> bool {
        self.topics.get(name).is_some()
    }

    /// How many messages of a topic are not leased; 0 if there is no such topic.
    pub fn ready(&self, name: &[u8]) -> u64 {
        self.topics.get(name).map_or(0, Topic::ready)
    }

    /// The names of topics with messages that are not leased, in order.
    pub fn listed(&self) -> impl Iterator<Item = &Bytes> {
        self.topics.from(b"").filter(|(_, topic)| topic.ready() > 0).map(|(name, _)| name)
    }

    /// A topic's messages that are not leased, from one place up to another; `None` if they are more than so many bytes.
    /// What is before them, or behind if that is less, is gone through.
    pub(super) fn range(&self, name: &[u8], places: Range<usize>, room: usize) -> Option<Vec<Bytes>> {
        let Some(topic) = self.topics.get(name) else { return Some(Vec::new()) };
        let (first, end) = (key([topic.number]), key([topic.number.saturating_add(1)]));
        let behind = usize::try_from(topic.ready()).unwrap_or(usize::MAX).saturating_sub(places.end);
        if places.start <= behind {
            return self.some(self.ready.range(Bound::Included(&first)).skip(places.start), places.len(), room);
        }
        let mut messages = self.some(self.ready.range_back(&end).skip(behind), places.len(), room)?;
        messages.reverse();
        Some(messages)
    }

    fn some<'a>(
        &self,
        ready: impl Iterator<Item = (&'a Bytes, &'a ())>,
        count: usize,
        mut room: usize,
    ) -> Option<Vec<Bytes>> {
        let message = |(place, ()): (&Bytes, &())| {
            let message = self.messages.get(place).map(|message| message.bytes.clone()).unwrap_or_default();
            room = room.checked_sub(message.len() + 8)?;
            Some(message)
        };
        ready.take(count).map(message).collect()
    }

    /// The dead of a topic may have a longer name: it is there, and served.
    fn check_name(&self, name: &[u8]) -> Result<(), String> {
        let length = name.len();
        if length <= MAX_TOPIC_BYTES || self.has(name) {
            return Ok(());
        }
        Err(format!("a topic's name has at most {MAX_TOPIC_BYTES} bytes, this one {length}"))
    }

    /// Whoever waits for a message of this topic will learn that there is one more.
    fn wake(&mut self, name: &Bytes) {
        match self.woken.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.woken.insert(name.clone(), 1)),
        }
    }

    /// Whoever watches a topic will learn that it has changed.
    fn touch(&mut self, name: &Bytes) {
        if !self.touched.contains(name) {
            self.touched.insert(name.clone());
        }
    }

    /// Changes what a topic counts.
    fn count<R>(&mut self, name: &Bytes, change: impl FnOnce(&mut Topic) -> R) -> Option<R> {
        self.touch(name);
        let (mut before, mut after) = (0, 0);
        let result = self.topics.update(name, |topic| {
            before = topic.ready();
            let result = change(topic);
            after = topic.ready();
            result
        });
        match (before, after) {
            (0, 1..) => self.listed.insert(name.clone()),
            (1.., 0) => self.listed.remove(name),
            _ => {}
        }
        result
    }

    /// Creates a topic in the entry at this index; false if it exists.
    fn create(&mut self, name: &Bytes, limits: TopicLimits, index: u64) -> bool {
        if self.topics.get(name).is_some() {
            return false;
        }
        let number = self.highest.saturating_add(1).max(index);
        self.highest = number;
        self.names.insert(key([number]), name.clone());
        let topic = Topic { number, limits, next_id: 1, messages: 0, leased: 0, bytes: 0 };
        self.topics.insert(name.clone(), topic);
        self.touch(name);
        true
    }

    fn purge(&mut self, name: &Bytes, number: u64) -> u64 {
        if self.topics.get(name).is_none_or(|topic| topic.messages == 0) {
            return 0;
        }
        // Whole nodes of the trees, and one count: a topic may have millions of messages, and everything waits meanwhile.
        let (first, end) = (key([number]), key([number.saturating_add(1)]));
        let leases = &mut self.leases;
        self.messages.remove_range(&first, &end, |place, message| {
            if let Some(lease) = &message.lease {
                leases.remove(lease.until_ms, place);
            }
        });
        self.ready.remove_range(&first, &end);
        let empty = |topic: &mut Topic| {
            (topic.leased, topic.bytes) = (0, 0);
            std::mem::take(&mut topic.messages)
        };
        self.count(name, empty).unwrap_or(0)
    }

    /// Adds a message whatever the limits, and returns its number.
    fn put(&mut self, name: &Bytes, message: Bytes, time: LogTime) -> u64 {
        let placed = self.count(name, |topic| {
            let id = topic.next_id;
            topic.next_id += 1;
            topic.messages += 1;
            topic.bytes += message.len() as u64;
            (topic.number, id)
        });
        let Some((number, id)) = placed else { return 0 };
        let place = key([number, id]);
        self.ready.insert(place.clone(), ());
        self.messages.insert(place, Message { bytes: message, put_ms: time.0, deliveries: 0, lease: None });
        self.wake(name);
        id
    }

    /// The first messages that are ready, as many as there is room for; if there is all the room, at least one. `None` if there
    /// are some, and no room for the first.
    fn first_ready(&self, number: u64, max: u64, room: usize) -> Option<Vec<Bytes>> {
        let prefix = key([number]);
        let (mut places, mut bytes) = (Vec::new(), 0);
        let ready = self.ready.range(Bound::Included(&prefix)).take_while(|(place, ())| place.starts_with(&prefix));
        for (place, ()) in ready.take(max.min(MAX_RECEIVED) as usize) {
            bytes += 32 + self.messages.get(place).map_or(0, |message| message.bytes.len());
            if bytes > room && !places.is_empty() {
                break;
            }
            if bytes > room && room < MAX_ANSWER_BYTES {
                return None;
            }
            places.push(place.clone());
        }
        Some(places)
    }

    fn lease(&mut self, name: &Bytes, places: Vec<Bytes>, lease_ms: u64, at: At) -> Vec<Delivery> {
        let until_ms = at.time.0.saturating_add(lease_ms);
        let lease = Lease { token: at.index, until_ms };
        let mut deliveries = Vec::with_capacity(places.len());
        for place in places {
            let delivered = self.messages.update(&place, |message| {
                message.deliveries = message.deliveries.saturating_add(1);
                message.lease = Some(lease.clone());
                (message.bytes.clone(), message.deliveries)
            });
            let (Some((message, count)), Some(id)) = (delivered, number_of(&place, 1)) else { continue };
            self.ready.remove(&place);
            self.leases.insert(until_ms, &place);
            deliveries.push(Delivery { id, message, deliveries: count, lease: at.index });
        }
        if !deliveries.is_empty() {
            self.count(name, |topic| topic.leased += deliveries.len() as u64);
        }
        deliveries
    }

    fn settle(&mut self, name: &Bytes, place: &Bytes, token: u64, how: Settlement, at: At) -> Answer {
        let lease = self.messages.get(place).and_then(|message| message.lease.clone());
        let Some(lease) = lease.filter(|lease| lease.token == token) else {
            return Answer::Queue(QueueAnswer::LeaseLost);
        };
        match how {
            Settlement::Ack => drop(self.remove(name, place)),
            Settlement::Nack => self.release(name, place, at.index, at.time),
            Settlement::Extend { lease_ms } => {
                if let Err(why) = check_lease(lease_ms) {
                    return Answer::Malformed(why);
                }
                let until_ms = at.time.0.saturating_add(lease_ms);
                self.leases.remove(lease.until_ms, place);
                self.leases.insert(until_ms, place);
                self.messages.update(place, |message| message.lease = Some(Lease { token, until_ms }));
                self.touch(name);
            }
        }
        Answer::Queue(QueueAnswer::Settled)
    }

    /// A lease ends without an acknowledgement: the message is ready again, or dead.
    fn release(&mut self, name: &Bytes, place: &Bytes, index: u64, time: LogTime) {
        let ended = self.messages.update(place, |message| (message.lease.take(), message.deliveries));
        let Some((Some(lease), deliveries)) = ended else { return };
        self.leases.remove(lease.until_ms, place);
        self.ready.insert(place.clone(), ());
        let most = self.count(name, |topic| {
            topic.leased -= 1;
            topic.limits.deliveries
        });
        if most.is_none_or(|most| most == 0 || deliveries < most) {
            return self.wake(name);
        }
        if let Some(message) = self.remove(name, place) {
            mark(Mark::MessageDied);
            let dead = Bytes::from([name, DEAD].concat());
            self.create(&dead, TopicLimits { messages: u64::MAX, bytes: u64::MAX, deliveries: 0 }, index);
            self.put(&dead, message, time);
        }
    }

    /// Removes a message, leased or not.
    fn remove(&mut self, name: &Bytes, place: &Bytes) -> Option<Bytes> {
        let Message { bytes, lease, .. } = self.messages.remove(place)?;
        match &lease {
            Some(lease) => self.leases.remove(lease.until_ms, place),
            None => drop(self.ready.remove(place)),
        };
        self.count(name, |topic| {
            topic.messages -= 1;
            topic.leased -= u64::from(lease.is_some());
            topic.bytes -= bytes.len() as u64;
        });
        Some(bytes)
    }

    /// Answers a query at this log time. What it lists has at most so many bytes, unless the first alone has more.
    pub fn answer(&self, query: &QueueQuery, max_bytes: usize, time: LogTime) -> QueueAnswer {
        match query {
            QueueQuery::Topics { after, limit } => self.page(*after, *limit, max_bytes),
            QueueQuery::Info { topic } => match self.topics.get(topic) {
                None => QueueAnswer::NoTopic,
                Some(topic) => QueueAnswer::Info(self.info(topic, time)),
            },
            QueueQuery::Peek { topic, after, max } => match self.topics.get(topic) {
                None => QueueAnswer::NoTopic,
                Some(topic) => self.peek(topic.number, *after, *max, max_bytes),
            },
        }
    }

    /// The first messages after one.
    fn peek(&self, topic: u64, after: u64, max: u64, max_bytes: usize) -> QueueAnswer {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let (prefix, first) = (key([topic]), key([topic, after.saturating_add(1)]));
        let later = self.messages.from(&first).take_while(|(place, _)| place.starts_with(&prefix));
        for (place, message) in later.take(max.min(MAX_RECEIVED) as usize) {
            bytes += message.bytes.len() + 16;
            if bytes > max_bytes && !messages.is_empty() {
                break;
            }
            messages.push((number_of(place, 1).unwrap_or_default(), message.bytes.clone()));
        }
        QueueAnswer::Peeked { topic, messages }
    }

    fn page(&self, after: u64, limit: u64, max_bytes: usize) -> QueueAnswer {
        let limit = limit.min(MAX_ITEMS) as usize;
        let (mut topics, mut bytes) = (Vec::new(), 0);
        for (number, name) in self.names.range(Bound::Excluded(&key([after]))) {
            bytes += name.len() + 16;
            if topics.len() == limit || (bytes > max_bytes && !topics.is_empty()) {
                return QueueAnswer::Topics { topics, more: true };
            }
            topics.push((number_of(number, 0).unwrap_or_default(), name.clone()));
        }
        QueueAnswer::Topics { topics, more: false }
    }

    fn info(&self, topic: &Topic, time: LogTime) -> TopicInfo {
        let oldest = self.messages.with_prefix(&key([topic.number])).next().map(|(_, message)| message.put_ms);
        TopicInfo {
            messages: topic.messages,
            leased: topic.leased,
            bytes: topic.bytes,
            oldest_ms: oldest.map(|put_ms| time.0.saturating_sub(put_ms)),
            limits: topic.limits.clone(),
        }
    }

    /// All topics in the order of their creation, and their messages, the oldest first; `None` if they are more than so
    /// many bytes, which are subtracted.
    pub fn view(&self, room: &mut usize) -> Option<Vec<(Bytes, Vec<Bytes>)>> {
        let mut spend = |bytes: usize| room.checked_sub(bytes + 16).map(|left| *room = left);
        let mut topics = Vec::new();
        for (number, name) in self.names.range(Bound::Unbounded) {
            spend(name.len())?;
            let mut messages = Vec::new();
            for (_, message) in self.messages.with_prefix(number) {
                spend(message.bytes.len())?;
                messages.push(message.bytes.clone());
            }
            topics.push((name.clone(), messages));
        }
        Some(topics)
    }
}

fn check_lease(lease_ms: u64) -> Result<(), String> {
    match lease_ms {
        1..=MAX_LEASE_MS => Ok(()),
        _ => Err(format!("a lease lasts 1 to {MAX_LEASE_MS} ms, not {lease_ms}")),
    }
}
