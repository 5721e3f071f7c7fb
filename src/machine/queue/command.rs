//! What clients ask of the queue, and what it answers. Part of the [command format](crate::machine::command).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest lease: 12 hours.
pub const MAX_LEASE_MS: u64 = 12 * 60 * 60 * 1000;

/// How long a lease lasts where the client does not say, in milliseconds: enough for most work, and not too long when a consumer
/// dies.
pub const USUAL_LEASE_MS: u64 = 30_000;

/// Most messages of one [`QueueChange::Take`] or [`QueueChange::Receive`].
pub const MAX_RECEIVED: u64 = 1000;

/// Longest name that a topic can be created with, in bytes. That of its dead is longer.
pub const MAX_TOPIC_BYTES: usize = 1024;

/// Changes one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueueChange {
    /// Creates the topic. Answer: [`Count`](super::super::command::Answer::Count), 0 if it exists, which stays as it is.
    Create {
        /// Its limits.
        limits: TopicLimits,
    },
    /// Deletes the topic with all its messages. Answer: `Count`, 0 if there is none.
    Delete,
    /// Removes all messages, leased ones too. Answer: `Count`, of messages, or [`QueueAnswer::NoTopic`].
    Purge,
    /// Adds a message at the end. Answer: [`QueueAnswer::Put`], [`QueueAnswer::Full`] or [`QueueAnswer::NoTopic`].
    Put {
        /// The message.
        message: Bytes,
        /// Creates the topic if there is none.
        create: bool,
    },
    /// Removes the oldest messages that are not leased. Answer: [`QueueAnswer::Messages`] or [`QueueAnswer::NoTopic`]; in a
    /// transaction without room for the first, [`TooLarge`](super::super::command::Answer::TooLarge).
    Take {
        /// At most so many, up to [`MAX_RECEIVED`].
        max: u64,
    },
    /// Leases the oldest messages that are not leased: until a lease ends, nobody else gets its message. Answer:
    /// [`QueueAnswer::Deliveries`] or [`QueueAnswer::NoTopic`]; without room for the first as [`Take`](QueueChange::Take).
    Receive {
        /// At most so many, up to [`MAX_RECEIVED`].
        max: u64,
        /// How long, in milliseconds of log time; at least 1, at most [`MAX_LEASE_MS`].
        lease_ms: u64,
    },
    /// Ends or extends a lease. Answer: [`QueueAnswer::Settled`], [`QueueAnswer::LeaseLost`] or [`QueueAnswer::NoTopic`].
    Settle {
        /// The message.
        id: u64,
        /// The lease, as [`Delivery::lease`] says.
        lease: u64,
        /// What becomes of it.
        how: Settlement,
    },
}

/// How a lease is settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Settlement {
    /// The message is done with, and removed.
    Ack,
    /// The message goes back to its place, as if the lease had expired.
    Nack,
    /// The lease ends so many milliseconds from now instead; limits as in [`QueueChange::Receive`].
    Extend {
        /// How long.
        lease_ms: u64,
    },
}

/// What a topic may hold. A limit refuses new messages; what was accepted stays, whatever the limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicLimits {
    /// Most messages, leased ones included.
    pub messages: u64,
    /// Most bytes of messages.
    pub bytes: u64,
    /// A message whose lease has ended without an acknowledgement so often goes to the topic `<name>.dead`; 0: never.
    pub deliveries: u32,
}

impl Default for TopicLimits {
    fn default() -> Self {
        TopicLimits { messages: 10_000_000, bytes: 1 << 30, deliveries: 5 }
    }
}

/// Looks at topics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueueQuery {
    /// All topics in the order of their creation. Answer: [`QueueAnswer::Topics`].
    Topics {
        /// Only those created after this one, by [`QueueAnswer::Topics`]' numbers; 0 is before the first.
        after: u64,
        /// At most so many; never more than [`MAX_ITEMS`](super::super::command::MAX_ITEMS).
        limit: u64,
    },
    /// One topic. Answer: [`QueueAnswer::Info`] or [`QueueAnswer::NoTopic`].
    Info {
        /// Its name.
        topic: Bytes,
    },
    /// The oldest messages, leased ones included, as they are. Answer: [`QueueAnswer::Peeked`] or
    /// [`QueueAnswer::NoTopic`].
    Peek {
        /// The topic's name.
        topic: Bytes,
        /// Only messages with higher numbers.
        after: u64,
        /// At most so many, up to [`MAX_RECEIVED`].
        max: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueueAnswer {
    /// There is no such topic, and nothing was done.
    NoTopic,
    /// The message is in the topic.
    Put {
        /// Its number there. Later messages have higher ones.
        id: u64,
    },
    /// The topic is full, and the message was not accepted.
    Full {
        /// The topic's limits.
        limits: TopicLimits,
    },
    /// Messages that are no longer in the topic, the oldest first.
    Messages(Vec<Bytes>),
    /// Messages that are leased now, the oldest first.
    Deliveries(Vec<Delivery>),
    /// The lease was settled.
    Settled,
    /// There is no such lease any more: it expired or was settled.
    LeaseLost,
    /// Topics, each with its number.
    Topics {
        /// In the order of their creation.
        topics: Vec<(u64, Bytes)>,
        /// More follow after the last.
        more: bool,
    },
    /// How a topic is.
    Info(TopicInfo),
    /// Messages, which stay in their topic.
    Peeked {
        /// The topic's number: another one when it was deleted and created again.
        topic: u64,
        /// Each with its number, the oldest first.
        messages: Vec<(u64, Bytes)>,
    },
}

/// A leased message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delivery {
    /// Its number in its topic.
    pub id: u64,
    /// The message.
    pub message: Bytes,
    /// How often it has been leased, this time included.
    pub deliveries: u32,
    /// Names the lease.
    pub lease: u64,
}

/// How a topic is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Number of messages, leased ones included.
    pub messages: u64,
    /// Number of leased messages.
    pub leased: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// How long the oldest message has been there, in milliseconds of log time; `None`: there is none.
    pub oldest_ms: Option<u64>,
    /// Its limits.
    pub limits: TopicLimits,
}

impl QueueAnswer {
    /// Bytes of messages and names in it: nearly the size of its encoding.
    pub fn content_bytes(&self) -> usize {
        match self {
            QueueAnswer::Messages(messages) => messages.iter().map(|message| message.len() + 8).sum(),
            QueueAnswer::Deliveries(deliveries) => deliveries.iter().map(|it| it.message.len() + 32).sum(),
            QueueAnswer::Topics { topics: numbered, .. } | QueueAnswer::Peeked { messages: numbered, .. } => {
                numbered.iter().map(|(_, bytes)| bytes.len() + 16).sum()
            }
            _ => 0,
        }
    }
}
