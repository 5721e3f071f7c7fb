//! The shell's commands on topics and messages.

use std::time::Duration;

use super::command::Usage;
use super::output::Output;
use crate::client::{Client, Error};
use crate::machine::queue::command::{Settlement, TopicLimits, USUAL_LEASE_MS};

/// A command on topics or messages, checked as far as its words go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    /// `topic create NAME [LIMIT N]...`
    Create {
        /// The topic.
        topic: Vec<u8>,
        /// Its limits.
        limits: TopicLimits,
    },
    /// `topic list`
    Topics,
    /// `topic delete NAME`
    Delete {
        /// The topic.
        topic: Vec<u8>,
    },
    /// `topic info NAME`
    Info {
        /// The topic.
        topic: Vec<u8>,
    },
    /// `topic purge NAME`
    Purge {
        /// The topic.
        topic: Vec<u8>,
    },
    /// `put TOPIC MESSAGE`
    Put {
        /// The topic.
        topic: Vec<u8>,
        /// The message.
        message: Vec<u8>,
    },
    /// `take TOPIC [COUNT]`
    Take {
        /// The topic.
        topic: Vec<u8>,
        /// At most so many; `None`: one, printed as it is.
        count: Option<u64>,
    },
    /// `receive TOPIC [COUNT [LEASE_MS]]`
    Receive {
        /// The topic.
        topic: Vec<u8>,
        /// At most so many.
        count: u64,
        /// For how long.
        lease_ms: u64,
    },
    /// `ack`, `nack` and `extend TOPIC ID LEASE ...`
    Settle {
        /// The topic.
        topic: Vec<u8>,
        /// The message.
        id: u64,
        /// Its lease.
        lease: u64,
        /// What becomes of it.
        how: Settlement,
    },
    /// `length TOPIC`
    Length {
        /// The topic.
        topic: Vec<u8>,
    },
}

impl QueueCommand {
    /// The command of this usage with these arguments; `None` if it takes others.
    pub(super) fn parse(usage: &Usage, arguments: &[&[u8]]) -> Result<Option<QueueCommand>, Error> {
        let owned = |word: &[u8]| word.to_vec();
        Ok(Some(match (usage.name, arguments) {
            ("topic", &[b"create", topic, ref limits @ ..]) => {
                let Some(limits) = parse_limits(limits)? else { return Ok(None) };
                QueueCommand::Create { topic: owned(topic), limits }
            }
            ("topic", &[b"list"]) => QueueCommand::Topics,
            ("topic", &[b"delete", topic]) => QueueCommand::Delete { topic: owned(topic) },
            ("topic", &[b"info", topic]) => QueueCommand::Info { topic: owned(topic) },
            ("topic", &[b"purge", topic]) => QueueCommand::Purge { topic: owned(topic) },
            ("put", &[topic, message]) => QueueCommand::Put { topic: owned(topic), message: owned(message) },
            ("take", &[topic]) => QueueCommand::Take { topic: owned(topic), count: None },
            ("take", &[topic, count]) => {
                QueueCommand::Take { topic: owned(topic), count: Some(number("COUNT", count)?) }
            }
            ("receive", &[topic, ref rest @ ..]) if rest.len() <= 2 => QueueCommand::Receive {
                topic: owned(topic),
                count: rest.first().map_or(Ok(1), |count| number("COUNT", count))?,
                lease_ms: rest.get(1).map_or(Ok(USUAL_LEASE_MS), |time| number("LEASE_MS", time))?,
            },
            ("ack", &[topic, id, lease]) => settle(topic, id, lease, Settlement::Ack)?,
            ("nack", &[topic, id, lease]) => settle(topic, id, lease, Settlement::Nack)?,
            ("extend", &[topic, id, lease, time]) => {
                settle(topic, id, lease, Settlement::Extend { lease_ms: number("LEASE_MS", time)? })?
            }
            ("length", &[topic]) => QueueCommand::Length { topic: owned(topic) },
            _ => return Ok(None),
        }))
    }

    /// Runs the command.
    pub(super) fn execute(&self, client: &mut Client) -> Result<Output, Error> {
        Ok(match self {
            QueueCommand::Create { topic, limits } => client.create_topic(topic, limits).map(|()| Output::Done)?,
            QueueCommand::Topics => Output::Topics(client.topics()?),
            QueueCommand::Delete { topic } => client.delete_topic(topic).map(|()| Output::Done)?,
            QueueCommand::Info { topic } => Output::Topic { name: topic.clone(), info: client.topic(topic)? },
            QueueCommand::Purge { topic } => Output::Purged(client.purge_topic(topic)?),
            QueueCommand::Put { topic, message } => Output::Put(client.put(topic, message)?),
            QueueCommand::Take { topic, count: None } => Output::Message(client.take(topic, 1)?.pop()),
            QueueCommand::Take { topic, count: Some(count) } => Output::Messages(client.take(topic, *count)?),
            QueueCommand::Receive { topic, count, lease_ms } => {
                Output::Deliveries(client.receive(topic, *count, Duration::from_millis(*lease_ms))?)
            }
            QueueCommand::Settle { topic, id, lease, how } => {
                client.settle(topic, *id, *lease, how).map(|()| Output::Done)?
            }
            QueueCommand::Length { topic } => Output::Length(client.topic(topic)?.messages),
        })
    }
}

fn settle(topic: &[u8], id: &[u8], lease: &[u8], how: Settlement) -> Result<QueueCommand, Error> {
    Ok(QueueCommand::Settle { topic: topic.to_vec(), id: number("ID", id)?, lease: number("LEASE", lease)?, how })
}

/// Limits by name, each with its number; `None` if there are other words.
fn parse_limits(words: &[&[u8]]) -> Result<Option<TopicLimits>, Error> {
    let mut limits = TopicLimits::default();
    let (pairs, rest) = words.as_chunks::<2>();
    for &[name, value] in pairs {
        match name {
            b"messages" => limits.messages = number("messages", value)?,
            b"bytes" => limits.bytes = number("bytes", value)?,
            b"deliveries" => {
                let deliveries = number("deliveries", value)?;
                limits.deliveries = u32::try_from(deliveries).map_err(|_| no_number("deliveries", value))?;
            }
            _ => return Ok(None),
        }
    }
    Ok(rest.is_empty().then_some(limits))
}

fn number(what: &str, word: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(word).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| no_number(what, word))
}

fn no_number(what: &str, word: &[u8]) -> Error {
    Error::Usage(format!("{what} is a number, such as 10, not {}", String::from_utf8_lossy(word)))
}
