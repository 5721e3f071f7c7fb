//! I20 queue: messages are in one place each, in order, and every answer is the one that a queue as simple as can be gives to
//! the same log. It has no code in common with the real one.

use bytes::Bytes;

use super::{Check, hold};
use crate::consensus::{Index, LogTime};
use crate::machine::command::Answer;
use crate::machine::queue::command::{Delivery, QueueAnswer, QueueChange, Settlement, TopicLimits};

/// All topics in the order of their creation.
#[derive(Default)]
pub struct Queues {
    topics: Vec<(Bytes, Topic)>,
}

struct Topic {
    limits: TopicLimits,
    next_id: u64,
    /// In the order in which they came, leased ones in between.
    messages: Vec<Message>,
}

struct Message {
    id: u64,
    bytes: Bytes,
    deliveries: u32,
    /// Its name, and when it ends.
    lease: Option<(u64, LogTime)>,
}

impl Queues {
    /// Log time has come this far.
    pub fn advance(&mut self, time: LogTime) {
        // In the order in which leases end: those that die together do so in this order.
        let mut over: Vec<(LogTime, usize, u64)> = Vec::new();
        for (place, (_, topic)) in self.topics.iter().enumerate() {
            let leases = topic.messages.iter().filter_map(|message| Some((message.lease?.1, place, message.id)));
            over.extend(leases.filter(|(until, ..)| *until <= time));
        }
        over.sort();
        for (_, place, id) in over {
            self.give_back(place, id);
        }
    }

    /// A change takes effect, and is answered so.
    pub fn apply(&mut self, name: &Bytes, change: &QueueChange, index: Index, time: LogTime, answer: &Answer) -> Check {
        let expected = self.answer(name, change, index, time);
        hold!(
            "I20 queue",
            *answer == expected,
            "entry {index}, {change:?} of {name:?}: {answer:?} instead of {expected:?}"
        );
        Ok(())
    }

    fn answer(&mut self, name: &Bytes, change: &QueueChange, index: Index, time: LogTime) -> Answer {
        let creates = matches!(change, QueueChange::Create { .. } | QueueChange::Put { create: true, .. });
        let found = self.topics.iter().position(|(known, _)| known == name);
        let place = match (found, creates) {
            (Some(place), _) => place,
            (None, true) => self.create(name, change),
            (None, false) if *change == QueueChange::Delete => return Answer::Count(0),
            (None, false) => return Answer::Queue(QueueAnswer::NoTopic),
        };
        let messages = &mut self.topics[place].1.messages;
        Answer::Queue(match change {
            QueueChange::Create { .. } => return Answer::Count(u64::from(found.is_none())),
            QueueChange::Delete => {
                self.topics.remove(place);
                return Answer::Count(1);
            }
            QueueChange::Purge => return Answer::Count(messages.drain(..).count() as u64),
            QueueChange::Put { message, .. } => return self.put_within_limits(place, message),
            QueueChange::Take { max } => {
                let taken = ready(messages, *max);
                let (gone, stay) = messages.drain(..).partition(|message| taken.contains(&message.id));
                *messages = stay;
                QueueAnswer::Messages(Vec::<Message>::into_iter(gone).map(|message| message.bytes).collect())
            }
            QueueChange::Receive { max, lease_ms } => {
                let leased = ready(messages, *max);
                let leased = messages.iter_mut().filter(|message| leased.contains(&message.id));
                QueueAnswer::Deliveries(leased.map(|message| message.deliver(index, time, *lease_ms)).collect())
            }
            QueueChange::Settle { id, lease, how } => {
                let is_it =
                    |message: &&mut Message| message.id == *id && message.lease.is_some_and(|it| it.0 == *lease);
                let Some(message) = messages.iter_mut().find(is_it) else {
                    return Answer::Queue(QueueAnswer::LeaseLost);
                };
                match how {
                    Settlement::Ack => messages.retain(|message| message.id != *id),
                    Settlement::Nack => self.give_back(place, *id),
                    Settlement::Extend { lease_ms } => message.lease = Some((*lease, LogTime(time.0 + lease_ms))),
                }
                QueueAnswer::Settled
            }
        })
    }

    fn create(&mut self, name: &Bytes, change: &QueueChange) -> usize {
        let limits = match change {
            QueueChange::Create { limits } => limits.clone(),
            _ => TopicLimits::default(),
        };
        self.topics.push((name.clone(), Topic { limits, next_id: 1, messages: Vec::new() }));
        self.topics.len() - 1
    }

    fn put_within_limits(&mut self, place: usize, message: &Bytes) -> Answer {
        let Topic { limits, messages, .. } = &self.topics[place].1;
        let bytes: usize = messages.iter().map(|message| message.bytes.len()).sum();
        if messages.len() as u64 >= limits.messages || (bytes + message.len()) as u64 > limits.bytes {
            return Answer::Queue(QueueAnswer::Full { limits: limits.clone() });
        }
        Answer::Queue(QueueAnswer::Put { id: self.put(place, message.clone()) })
    }

    fn put(&mut self, place: usize, bytes: Bytes) -> u64 {
        let topic = &mut self.topics[place].1;
        let id = topic.next_id;
        topic.next_id += 1;
        topic.messages.push(Message { id, bytes, deliveries: 0, lease: None });
        id
    }

    /// A lease ends without an acknowledgement.
    fn give_back(&mut self, place: usize, id: u64) {
        let (name, topic) = &mut self.topics[place];
        let Some(at) = topic.messages.iter().position(|message| message.id == id) else { return };
        topic.messages[at].lease = None;
        if topic.limits.deliveries == 0 || topic.messages[at].deliveries < topic.limits.deliveries {
            return;
        }
        let dead = Bytes::from([&name[..], b".dead"].concat());
        let message = topic.messages.remove(at);
        let place = self.topics.iter().position(|(known, _)| *known == dead).unwrap_or_else(|| {
            let limits = TopicLimits { messages: u64::MAX, bytes: u64::MAX, deliveries: 0 };
            self.create(&dead, &QueueChange::Create { limits })
        });
        self.put(place, message.bytes);
    }
}

impl Message {
    fn deliver(&mut self, index: Index, time: LogTime, lease_ms: u64) -> Delivery {
        self.deliveries += 1;
        self.lease = Some((index.0, LogTime(time.0 + lease_ms)));
        Delivery { id: self.id, message: self.bytes.clone(), deliveries: self.deliveries, lease: index.0 }
    }
}

/// The first messages that nobody has leased.
fn ready(messages: &[Message], max: u64) -> Vec<u64> {
    let free = messages.iter().filter(|message| message.lease.is_none());
    free.take(max as usize).map(|message| message.id).collect()
}
