//! The message queue: topics and their messages.

use std::time::Duration;

use bytes::Bytes;

use super::{Client, Error, Reply, count, done, unexpected};
use crate::machine::queue::command::{Delivery, Settlement, TopicInfo, TopicLimits};

/// Messages of a topic that were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The topic's number: another one when it was deleted and created again.
    pub topic: u64,
    /// Each with its id, the oldest first.
    pub messages: Vec<(u64, Bytes)>,
}

impl Client {
    /// Creates a topic; [`Error::Exists`] if there is one.
    pub fn create_topic(&mut self, topic: &[u8], limits: &TopicLimits) -> Result<(), Error> {
        let TopicLimits { messages, bytes, deliveries } = limits;
        let [messages, bytes, deliveries] =
            [*messages, *bytes, (*deliveries).into()].map(|limit: u64| limit.to_string());
        let limits = [
            &b"MAXMESSAGES"[..],
            messages.as_bytes(),
            b"MAXBYTES",
            bytes.as_bytes(),
            b"MAXDELIVERIES",
            deliveries.as_bytes(),
        ];
        self.write(&[&[&b"RAFT"[..], b"TOPIC", b"CREATE", topic][..], &limits].concat(), done)
    }

    /// Deletes a topic with all its messages.
    pub fn delete_topic(&mut self, topic: &[u8]) -> Result<(), Error> {
        self.write(&[b"RAFT", b"TOPIC", b"DELETE", topic], done)
    }

    /// Removes all messages of a topic, leased ones too: how many there were.
    pub fn purge_topic(&mut self, topic: &[u8]) -> Result<u64, Error> {
        self.write(&[b"RAFT", b"TOPIC", b"PURGE", topic], count)
    }

    /// How a topic is.
    pub fn topic(&mut self, topic: &[u8]) -> Result<TopicInfo, Error> {
        topic_info(self.read(&[b"RAFT", b"TOPIC", b"INFO", topic])?).map_err(|reply| unexpected(&reply))
    }

    /// The names of all topics in the order of their creation.
    pub fn topics(&mut self) -> Result<Vec<Bytes>, Error> {
        let (mut names, mut last) = (Vec::new(), 0);
        loop {
            let page = self.read(&[b"RAFT", b"TOPIC", b"LIST", last.to_string().as_bytes()])?;
            let page = numbered(page).map_err(|reply| unexpected(&reply))?;
            let Some((highest, _)) = page.last() else { return Ok(names) };
            if *highest <= last {
                return Err(Error::Protocol("the node lists topics out of order: is it another version?".into()));
            }
            last = *highest;
            names.extend(page.into_iter().map(|(_, name)| name));
        }
    }

    /// Adds a message at the end of a topic: its id. [`Error::Full`] if the topic is.
    pub fn put(&mut self, topic: &[u8], message: &[u8]) -> Result<u64, Error> {
        self.write(&[b"RAFT", b"PUT", topic, message], count)
    }

    /// Removes the oldest messages of a topic, at most so many; 1,000 at a time.
    pub fn take(&mut self, topic: &[u8], max: u64) -> Result<Vec<Bytes>, Error> {
        self.write(&[b"RAFT", b"TAKE", topic, max.to_string().as_bytes()], |reply| elements(reply, bulk))
    }

    /// Leases the oldest messages of a topic, at most so many; 1,000 at a time, and 12 hours.
    pub fn receive(&mut self, topic: &[u8], max: u64, lease: Duration) -> Result<Vec<Delivery>, Error> {
        let (max, lease_ms) = (max.to_string(), lease.as_millis().to_string());
        let args = [&b"RAFT"[..], b"RECEIVE", topic, b"MAX", max.as_bytes(), b"LEASE", lease_ms.as_bytes()];
        self.write(&args, |reply| elements(reply, delivery))
    }

    /// Ends or extends the lease of a message. [`Error::Stale`] if it is over: somebody else may have the message.
    pub fn settle(&mut self, topic: &[u8], id: u64, lease: u64, how: &Settlement) -> Result<(), Error> {
        let [id, lease] = [id, lease].map(|number| number.to_string());
        let (id, lease) = (id.as_bytes(), lease.as_bytes());
        match how {
            Settlement::Ack => self.write(&[b"RAFT", b"ACK", topic, id, lease], done),
            Settlement::Nack => self.write(&[b"RAFT", b"NACK", topic, id, lease], done),
            Settlement::Extend { lease_ms } => {
                self.write(&[b"RAFT", b"EXTEND", topic, id, lease, lease_ms.to_string().as_bytes()], done)
            }
        }
    }

    /// Looks at the oldest messages with higher ids than this, leased ones included, which stay where they are; at most so
    /// many, 1,000 at a time.
    pub fn peek(&mut self, topic: &[u8], after: u64, max: u64) -> Result<Peeked, Error> {
        let (after, max) = (after.to_string(), max.to_string());
        let args = [&b"RAFT"[..], b"PEEK", topic, b"AFTER", after.as_bytes(), b"MAX", max.as_bytes()];
        peeked(self.read(&args)?).map_err(|reply| unexpected(&reply))
    }
}

fn elements<T>(reply: Reply, element: fn(Reply) -> Result<T, Reply>) -> Result<Vec<T>, Reply> {
    match reply {
        Reply::Array(parts) => parts.into_iter().map(element).collect(),
        other => Err(other),
    }
}

/// The elements of an array that has so many.
fn parts<const N: usize>(reply: Reply) -> Result<[Reply; N], Reply> {
    match reply {
        Reply::Array(parts) => parts.try_into().map_err(Reply::Array),
        other => Err(other),
    }
}

fn bulk(reply: Reply) -> Result<Bytes, Reply> {
    match reply {
        Reply::Bulk(bytes) => Ok(bytes),
        other => Err(other),
    }
}

fn numbered(reply: Reply) -> Result<Vec<(u64, Bytes)>, Reply> {
    elements(reply, |pair| {
        let [number, bytes] = parts(pair)?;
        Ok((count(number)?, bulk(bytes)?))
    })
}

fn peeked(reply: Reply) -> Result<Peeked, Reply> {
    let [topic, messages] = parts(reply)?;
    Ok(Peeked { topic: count(topic)?, messages: numbered(messages)? })
}

fn delivery(reply: Reply) -> Result<Delivery, Reply> {
    let [id, message, deliveries, lease] = parts(reply)?;
    let deliveries = small(deliveries)?;
    Ok(Delivery { id: count(id)?, message: bulk(message)?, deliveries, lease: count(lease)? })
}

/// Names and values in turn, in this order.
fn topic_info(reply: Reply) -> Result<TopicInfo, Reply> {
    let [_, messages, _, leased, _, bytes, _, oldest_ms, _, most_messages, _, most_bytes, _, deliveries] =
        parts(reply)?;
    let oldest_ms = match oldest_ms {
        Reply::Nil => None,
        age => Some(count(age)?),
    };
    let limits =
        TopicLimits { messages: count(most_messages)?, bytes: count(most_bytes)?, deliveries: small(deliveries)? };
    Ok(TopicInfo { messages: count(messages)?, leased: count(leased)?, bytes: count(bytes)?, oldest_ms, limits })
}

fn small(reply: Reply) -> Result<u32, Reply> {
    match reply {
        Reply::Integer(number) => u32::try_from(number).map_err(|_| reply),
        other => Err(other),
    }
}
