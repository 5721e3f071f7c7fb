//! What clients ask of the built-in machine, and what it answers: one type for every door.
//!
//! # Format
//!
//! `encode` puts one byte in front, the format's version ([`FORMAT`]), and then the value as
//! [`codec::binary`](crate::codec::binary) writes it: a variant is its position as `u32`, a list or a byte string is
//! its length as `u64` and then its content, an option is one byte and then the value, integers are little-endian and of
//! fixed width. Commands are part of the log and answers travel between nodes, so this format is kept: variants are only
//! ever added at the end, and fields never. None of the types contains itself, so that decoding needs no recursion
//! and no bytes, however deep they nest, can exhaust the stack.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::queue::command::{QueueAnswer, QueueChange, QueueQuery};
use crate::codec::binary::{self, DecodeError};

/// The version of the encoding.
pub const FORMAT: u8 = 1;

/// Most keys that one [`Query::List`] or [`Query::State`] answers, and that one [`Query::Scan`] looks at: more are
/// got with the next query, from where the last one ended.
pub const MAX_ITEMS: u64 = 10_000;

/// Most bytes of keys and values in one answer. A list ends early but has at least one item; [`Query::Keys`], which
/// cannot be continued, and steps of a transaction answer [`Answer::TooLarge`].
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Most guards and steps of one transaction, together. [`Command::Exec`] has as many as fit into a request.
pub const MAX_TRANSACTION_STEPS: usize = 4096;

/// Most bytes that the steps of one transaction may go through beyond what they carry and answer: values that they append
/// to, and messages that they skip.
pub const MAX_TRANSACTION_WORK: usize = 64 << 20;

/// Longest value that [`Change::Concatenate`] makes.
pub const MAX_CONCATENATED_BYTES: usize = MAX_ANSWER_BYTES;

/// Longest key of [`Command::Once`].
pub const MAX_KEY_BYTES: usize = 256;

/// Most bytes of keys, values, names and messages that [`Query::View`] shows.
pub const MAX_VIEW_BYTES: usize = 64 << 20;

/// Longest glob: it bounds the time that matching one key takes, to a sixteenth of this for each of the key's bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// Changes the state. Travels through the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// One change.
    Change(Change),
    /// All guards hold and all steps take effect, or nothing does. Answer: [`Answer::Transaction`] or
    /// [`Answer::GuardFailed`].
    Transaction {
        /// What must hold beforehand.
        guards: Vec<Guard>,
        /// What to do, in order.
        steps: Vec<Step>,
    },
    /// Opens a client session (Raft thesis §6.3). Answer: [`Answer::Session`].
    OpenSession,
    /// A transaction that takes effect once, however often it comes with this key. Answer: the transaction's, the first
    /// one's, or [`Answer::KeyReused`].
    Once {
        /// The client's name for the request; at most [`MAX_KEY_BYTES`].
        key: Bytes,
        /// A hash of all that makes the request: another one must not use the key.
        request: u64,
        /// As in a transaction.
        guards: Vec<Guard>,
        /// As in a transaction.
        steps: Vec<Step>,
    },
    /// A transaction whose guards are keys that must not have changed, topics included. There is no limit to their number
    /// and that of the steps but the size of a request. A step that makes no sense has no effect, and the others have theirs.
    /// Answer: [`Answer::Transaction`] or [`Answer::GuardFailed`].
    Exec {
        /// What must not have changed.
        watched: Vec<Watched>,
        /// What to do, in order.
        steps: Vec<Step>,
    },
}

/// One change of the state. All changes of one log entry carry its index as their revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// Sets a key if the condition holds. Answer: [`Answer::Set`].
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
        /// Whether the answer carries the old value.
        want_old: bool,
    },
    /// Deletes keys. Answer: [`Answer::Count`], how many of them existed.
    Delete {
        /// The keys; one named twice counts once.
        keys: Vec<Bytes>,
    },
    /// Sets a key if its value is `from`. Answer: [`Answer::Set`] (swapped), [`Answer::Missing`] or
    /// [`Answer::Different`].
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The value it must have.
        from: Bytes,
        /// The value it gets.
        to: Bytes,
        /// Set a missing key too.
        create: bool,
    },
    /// Changes a topic of the queue. Answers: see [`QueueChange`].
    Queue {
        /// The topic's name; at most [`MAX_TOPIC_BYTES`](super::queue::command::MAX_TOPIC_BYTES).
        topic: Bytes,
        /// What to do.
        change: QueueChange,
    },
    /// Adds to a number: a value of 64 bits with sign, in decimal. Answer: [`Answer::Value`], the sum, or
    /// [`Answer::Malformed`]: the value is no number, or the sum does not fit.
    Add {
        /// The key; a missing one counts as 0.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// Makes a number at least so large. Answer: [`Answer::Value`], what it is then, or [`Answer::Malformed`]: the value
    /// is no number.
    Raise {
        /// The key; a missing one is set.
        key: Bytes,
        /// The least it shall be.
        to: i64,
    },
    /// Appends to a list. Its length is the value of its key, in decimal; each element is a key of its own,
    /// [`element_key`](super::numbers::element_key). Answer: [`Answer::Count`], the element's offset, from 0 and without a
    /// gap, or [`Answer::Malformed`]: the value is no length.
    Append {
        /// The list's key; a missing one is an empty list.
        key: Bytes,
        /// The element.
        value: Bytes,
    },
    /// Like [`Set`](Change::Set), and says when the key expires. Answer: [`Answer::Set`].
    SetExpiring {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
        /// Whether the answer carries the old value.
        want_old: bool,
        /// When it expires.
        lifetime: Lifetime,
    },
    /// Has a key expire. Answer: [`Answer::Count`], 1, or 0 if there is no such key or the condition does not hold.
    Expire {
        /// The key.
        key: Bytes,
        /// So many milliseconds of log time from now; the key is deleted at once if that is not above 0.
        after_ms: i64,
        /// When to do so.
        condition: ExpireCondition,
    },
    /// Has a key not expire. Answer: [`Answer::Count`], 1, or 0 if it would not have.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// Deletes a key. Answer: [`Answer::Value`], what it was.
    GetDelete {
        /// The key.
        key: Bytes,
    },
    /// Appends to a value, of at most [`MAX_CONCATENATED_BYTES`] then. Answer: [`Answer::Count`], how long it is then.
    Concatenate {
        /// The key; a missing one counts as empty.
        key: Bytes,
        /// What to append.
        value: Bytes,
    },
    /// Sets several keys. Answer: [`Answer::Count`], 1, or 0 if the condition does not hold, and none is set.
    SetAll {
        /// Keys and their values; of a key that is named twice the last one counts.
        items: Vec<(Bytes, Bytes)>,
        /// Only if none of the keys exists.
        if_absent: bool,
    },
    /// Deletes keys, and topics with all their messages. Answer: [`Answer::Count`], how many keys and topics with messages
    /// that are not leased there were; a name that comes twice counts once.
    Remove {
        /// Names of keys and topics.
        keys: Vec<Bytes>,
    },
    /// Adds messages at the end of a topic, which is created if there is none: all of them or none. Answer:
    /// [`Answer::Count`], how many of its messages are not leased then, or [`QueueAnswer::Full`].
    Push {
        /// The topic's name.
        topic: Bytes,
        /// The messages.
        messages: Vec<Bytes>,
    },
    /// Removes the oldest message that is not leased from the first of these topics that has one. Answer:
    /// [`Answer::Popped`].
    Pop {
        /// Names of topics.
        topics: Vec<Bytes>,
    },
}

/// When a key expires.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lifetime {
    /// When the one that is replaced would have, if at all.
    Kept,
    /// So many milliseconds of log time from now.
    Milliseconds(u64),
}

/// When a [`Change::Expire`] takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    Always,
    /// Only if the key does not expire (`NX`).
    Lasting,
    /// Only if the key expires (`XX`).
    Expiring,
    /// Only if it then expires later (`GT`). A key that does not expire expires last.
    Later,
    /// Only if it then expires earlier (`LT`).
    Earlier,
    /// Only if the key expires, and earlier then (`XX LT`).
    ExpiringEarlier,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Change something.
    Change(Change),
    /// Look at something; sees the steps before. Only what [is bounded](Query::is_bounded).
    Query(Query),
}

/// When a [`Change::Set`] takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    Always,
    /// Only where the key is missing (`NX`).
    Absent,
    /// Only where the key exists (`XX`).
    Present,
    /// Only where the value is this one (`IFEQ`).
    Equals(Bytes),
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Guard {
    /// The key.
    pub key: Bytes,
    /// The revision it must have; `None`: it must be missing.
    pub revision: Option<u64>,
}

/// A condition of [`Command::Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watched {
    /// The name of a key, a topic, or of neither.
    pub key: Bytes,
    /// The log index after which it must not have changed, as [`Query::Index`] told it.
    pub since: u64,
}

/// Looks at the state without changing it. Does not travel through the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Query {
    /// The value of a key. Answer: [`Answer::Value`].
    Get {
        /// The key.
        key: Bytes,
    },
    /// How many of these keys exist, and topics with messages that are not leased; one named twice counts twice, as in
    /// Redis. Answer: [`Answer::Count`].
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Keys and values in order of key. Answer: [`Answer::Items`].
    List {
        /// Only keys that begin so.
        prefix: Bytes,
        /// Only keys above this one.
        after: Option<Bytes>,
        /// At most so many; never more than [`MAX_ITEMS`].
        limit: u64,
    },
    /// Keys, and topics with messages that are not leased, in the order of a hash that is the same on every node. Answer:
    /// [`Answer::Keys`].
    Scan {
        /// Where to go on: 0 at first, then the last answer's cursor. Every key present throughout is seen.
        cursor: u64,
        /// Look at about so many keys, 1 to [`MAX_ITEMS`].
        count: u64,
        /// Only keys that match this glob, as in Redis; at most [`MAX_PATTERN_BYTES`].
        pattern: Option<Bytes>,
    },
    /// Number of keys, and of topics with messages that are not leased. Answer: [`Answer::Count`].
    Size,
    /// All keys, and topics with messages that are not leased, that match a glob, in order. Answer: [`Answer::Keys`] with cursor 0, or [`Answer::TooLarge`].
    Keys {
        /// The glob, as in Redis; at most [`MAX_PATTERN_BYTES`].
        pattern: Bytes,
    },
    /// The machine's state, for people and for comparing replicas. Answer: [`Answer::State`].
    State {
        /// At most so many keys; never more than [`MAX_ITEMS`].
        limit: u64,
    },
    /// Looks at topics. Answers: see [`QueueQuery`].
    Queue(QueueQuery),
    /// All topics with all their messages, all keys and values. Answer: [`Answer::View`], or [`Answer::TooLarge`] beyond
    /// [`MAX_VIEW_BYTES`].
    View,
    /// Whether the answer of a [`Command::Once`] with this key is kept. Answer: [`Answer::Count`], 0 or 1.
    IsAnswered {
        /// The key.
        key: Bytes,
    },
    /// Several queries of one moment, each as [`Query::encode`] writes it; only such as a transaction may contain, and at
    /// most [`MAX_TRANSACTION_STEPS`]. Answer: [`Answer::Transaction`].
    Together {
        /// The queries.
        queries: Vec<Bytes>,
    },
    /// The values of several keys. Answer: [`Answer::Values`], none for a topic.
    GetAll {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// What there is of this name. Answer: [`Answer::Type`].
    Type {
        /// The name.
        key: Bytes,
    },
    /// How long a key will last. Answer: [`Answer::Left`].
    Left {
        /// The key.
        key: Bytes,
    },
    /// How many bytes a value has; 0 for a missing one. Answer: [`Answer::Count`].
    ValueLength {
        /// The key.
        key: Bytes,
    },
    /// How many messages of a topic are not leased; 0 for a missing one. Answer: [`Answer::Count`].
    ListLength {
        /// The topic's name.
        topic: Bytes,
    },
    /// Those of a topic's messages that are not leased, from one place to another, both included, and counted from 0 or,
    /// with negative numbers, from the end. Answer: [`QueueAnswer::Messages`], or [`Answer::TooLarge`].
    Range {
        /// The topic's name.
        topic: Bytes,
        /// The first.
        start: i64,
        /// The last.
        stop: i64,
    },
    /// The last entry that this state has. Answer: [`Answer::Count`], its log index.
    Index,
}

/// What came of a command or query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// The outcome of a set.
    Set {
        /// It took effect, at this revision; `None`: the condition did not hold.
        revision: Option<u64>,
        /// The old value, if it was asked for.
        old: Option<Bytes>,
    },
    /// How many.
    Count(u64),
    /// A compare-and-set found no such key.
    Missing,
    /// A compare-and-set found another value.
    Different {
        /// The value found.
        actual: Bytes,
    },
    /// A value, or none.
    Value(Option<Value>),
    /// Keys and their values.
    Items {
        /// In order of key.
        items: Vec<(Bytes, Value)>,
        /// More follow after the last.
        more: bool,
    },
    /// Keys.
    Keys {
        /// Where to go on; 0 at the end.
        cursor: u64,
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Every step's or query's answer, in order, each as [`Answer::decode`] takes it.
    Transaction(Vec<Bytes>),
    /// This guard of the transaction did not hold; nothing took effect.
    GuardFailed {
        /// Position in the list of guards.
        guard: u64,
    },
    /// The command or query makes no sense, and had no effect.
    Malformed(String),
    /// There is an answer, but it is larger than [`MAX_ANSWER_BYTES`], or than what is left of that to a transaction. A change
    /// took effect all the same, but for one that removes or leases messages: it had none.
    TooLarge,
    /// What the machine holds.
    State {
        /// Log index of the last entry that was applied.
        applied: u64,
        /// Number of keys.
        keys: u64,
        /// The machine's [`digest`](super::Machine::digest).
        digest: u64,
        /// The first keys and their values, in order of key.
        items: Vec<(Bytes, Value)>,
        /// More follow after the last.
        more: bool,
    },
    /// What came of something asked of the queue.
    Queue(QueueAnswer),
    /// A client session is open.
    Session {
        /// Names it.
        id: u64,
    },
    /// There is no such session: it was not used for too long, or never was. The command had no effect now; whether it had
    /// before, nobody knows any more.
    SessionUnknown,
    /// So many commands of the session came later that this one's answer is gone. It had no effect now; whether it had
    /// before, nobody knows any more.
    SequenceTooOld,
    /// The key of [`Command::Once`] came with another request before. This one had no effect.
    KeyReused,
    /// Everything that clients have stored.
    View {
        /// Log index of the last entry that was applied.
        applied: u64,
        /// Topics in the order of their creation, and their messages, the oldest first, leased ones included.
        topics: Vec<(Bytes, Vec<Bytes>)>,
        /// Keys and values in order of key.
        items: Vec<(Bytes, Value)>,
    },
    /// The name is a topic's, or a key's, and this is nothing for one. The command had no effect.
    WrongType,
    /// Values, in the order of the question.
    Values(Vec<Option<Bytes>>),
    /// What there is of a name.
    Type(KeyType),
    /// How long a key will last.
    Left(Left),
    /// The message that was removed from a topic, and the topic's name; none if there was no message.
    Popped(Option<(Bytes, Bytes)>),
}

/// What there is of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyType {
    /// Nothing, or a topic without messages that are not leased.
    Missing,
    /// A key.
    String,
    /// A topic.
    List,
}

/// How long a key will last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Left {
    /// There is none.
    Missing,
    /// It does not expire.
    Lasting,
    /// So many milliseconds of log time.
    Milliseconds(u64),
}

/// A value and when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Value {
    /// The bytes.
    pub bytes: Bytes,
    /// Log index of the command that wrote it.
    pub revision: u64,
}

macro_rules! encoded {
    ($($name:ident),*) => {$(
        impl $name {
            /// The encoding, version byte and all.
            pub fn encode(&self) -> Bytes {
                // Exactly as much room as is needed: then `Bytes` takes the vector over without an allocation of its own.
                let mut out = Vec::with_capacity(1 + binary::encoded_bytes(self));
                out.push(FORMAT);
                binary::encode_into(self, &mut out);
                out.into()
            }

            /// Decodes what `encode` wrote. Nothing in the result shares memory with `bytes`.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                decode(bytes, stringify!($name))
            }
        }
    )*};
}

encoded!(Command, Query, Answer);

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => binary::decode(body).map_err(|error| DecodeError { what, ..error }),
        Some((version, _)) => Err(DecodeError { what, why: format!("format version {version}, expected {FORMAT}") }),
        None => Err(DecodeError { what, why: "it is empty".into() }),
    }
}

impl From<Change> for Command {
    fn from(change: Change) -> Self {
        Command::Change(change)
    }
}

impl Command {
    /// Whether what it costs hardly grows with the state: it finds and changes one key, or one message.
    pub fn is_brief(&self) -> bool {
        use Change::{Add, CompareAndSet, Expire, GetDelete, Persist, Pop, Push, Queue, Raise, Set, SetExpiring};
        use QueueChange::{Put, Settle, Take};
        let Command::Change(change) = self else { return false };
        match change {
            Queue { change, .. } => matches!(change, Put { .. } | Take { max: 1 } | Settle { .. }),
            Set { .. } | SetExpiring { .. } | CompareAndSet { .. } | Add { .. } | Raise { .. } => true,
            GetDelete { .. } | Expire { .. } | Persist { .. } | Push { .. } | Pop { .. } => true,
            _ => false,
        }
    }
}

/// A [`Change::Set`] as nearly all are, without a condition and a question for the old value, where a command's encoding has it:
/// nothing is copied to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainSet<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value.
    pub value: &'a [u8],
}

/// How a [`Change::Set`] begins: the version, and the positions of [`Command::Change`] and of [`Change::Set`].
const SET: [u8; 9] = [FORMAT, 0, 0, 0, 0, 0, 0, 0, 0];
/// The position of [`Condition::Always`].
const ALWAYS: u32 = 0;

impl<'a> PlainSet<'a> {
    /// `None`: the command is another one, or these bytes are none.
    pub fn of(command: &'a [u8]) -> Option<Self> {
        match binary::decode(command.strip_prefix(&SET)?) {
            Ok((key, value, ALWAYS, false)) => Some(PlainSet { key, value }),
            _ => None,
        }
    }
}

impl Query {
    /// Whether what it costs is bounded by its size and its answer's: such may be part of a transaction.
    pub fn is_bounded(&self) -> bool {
        use Query::{Keys, Scan, State, Together, View};
        !matches!(self, Scan { .. } | Keys { .. } | State { .. } | View | Together { .. })
    }
}

/// Positions of [`Answer`]'s variants that [`Answer::decode_shared`] knows.
const VALUE: u32 = 4;
const QUEUE: u32 = 12;
const POPPED: u32 = 22;
/// That of [`QueueAnswer::Messages`].
const MESSAGES: u32 = 3;

impl Answer {
    /// Like [`decode`](Self::decode), but a value, and messages that were taken, are slices of `bytes`.
    pub fn decode_shared(bytes: &Bytes) -> Result<Self, DecodeError> {
        let share = |part: &[u8]| bytes.slice_ref(part);
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|number| u32::from_le_bytes(*number));
        match (number(1), number(5)) {
            (Some(VALUE), _) => {
                let (_, value): (u32, Option<(&[u8], u64)>) = decode(bytes, "Answer")?;
                Ok(Answer::Value(value.map(|(part, revision)| Value { bytes: share(part), revision })))
            }
            (Some(QUEUE), Some(MESSAGES)) => {
                let (_, _, messages): (u32, u32, Vec<&[u8]>) = decode(bytes, "Answer")?;
                Ok(Answer::Queue(QueueAnswer::Messages(messages.into_iter().map(share).collect())))
            }
            (Some(POPPED), _) => {
                let (_, popped): (u32, Option<[&[u8]; 2]>) = decode(bytes, "Answer")?;
                Ok(Answer::Popped(popped.map(|[topic, message]| (share(topic), share(message)))))
            }
            _ => Answer::decode(bytes),
        }
    }

    /// Bytes of keys and values in it: nearly the size of its encoding.
    pub fn content_bytes(&self) -> usize {
        match self {
            Answer::Set { old: Some(bytes), .. } | Answer::Different { actual: bytes } => bytes.len(),
            Answer::Value(Some(value)) => value.bytes.len(),
            Answer::Items { items, .. } | Answer::State { items, .. } => {
                items.iter().map(|(key, value)| item_bytes(key, value)).sum()
            }
            Answer::Keys { keys, .. } => keys.iter().map(|key| key_bytes(key)).sum(),
            Answer::Queue(answer) => answer.content_bytes(),
            Answer::Values(values) => values.iter().map(|value| 9 + value.as_ref().map_or(0, Bytes::len)).sum(),
            Answer::Popped(Some((topic, message))) => key_bytes(topic) + key_bytes(message),
            Answer::Transaction(answers) => answers.iter().map(|answer| key_bytes(answer)).sum(),
            _ => 0,
        }
    }
}

/// What a key takes in an answer, its length included.
pub(super) fn key_bytes(key: &[u8]) -> usize {
    key.len() + 8
}

/// What a key and its value take in an answer, lengths and revision included.
pub(super) fn item_bytes(key: &[u8], value: &Value) -> usize {
    key.len() + value.bytes.len() + 24
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether one is a part of the other's memory.
    fn is_slice_of(part: &Bytes, whole: &Bytes) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    #[test]
    fn values_and_messages_are_slices_of_the_answer() {
        let value = Answer::Value(Some(Value { bytes: "value".into(), revision: 7 })).encode();
        let messages = Answer::Queue(QueueAnswer::Messages(vec!["one".into(), "two".into()])).encode();
        let popped = Answer::Popped(Some(("topic".into(), "message".into()))).encode();
        let shared = |answer: &Bytes| match Answer::decode_shared(answer).unwrap() {
            Answer::Value(Some(value)) => vec![value.bytes],
            Answer::Queue(QueueAnswer::Messages(messages)) => messages,
            Answer::Popped(Some((topic, message))) => vec![topic, message],
            other => panic!("{other:?}"),
        };
        for (answer, parts) in [(value, 1), (messages, 2), (popped, 2)] {
            let shared = shared(&answer);
            assert!(shared.len() == parts && shared.iter().all(|part| is_slice_of(part, &answer)), "{shared:?}");
        }
    }

    #[test]
    fn a_set_that_is_cut_or_has_bytes_left_over_is_no_plain_one() {
        let (key, value) = (Bytes::from("key"), Bytes::from("value"));
        let set = Change::Set { key, value, condition: Condition::Always, want_old: false };
        let whole = Command::from(set).encode();
        assert_eq!(PlainSet::of(&whole), Some(PlainSet { key: b"key", value: b"value" }));
        assert!((0..whole.len()).all(|length| PlainSet::of(&whole[..length]).is_none()));
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(PlainSet::of(&longer), None);
    }

    #[test]
    fn whatever_is_shared_an_answer_is_decoded_alike() {
        let answers = [
            Answer::Value(Some(Value { bytes: "value".into(), revision: u64::MAX })),
            Answer::Value(Some(Value { bytes: Bytes::new(), revision: 0 })),
            Answer::Value(None),
            Answer::Queue(QueueAnswer::Messages(vec!["one".into(), Bytes::new()])),
            Answer::Queue(QueueAnswer::Messages(Vec::new())),
            Answer::Queue(QueueAnswer::NoTopic),
            Answer::Popped(Some(("topic".into(), "message".into()))),
            Answer::Popped(None),
            Answer::Set { revision: Some(3), old: Some("old".into()) },
        ];
        for answer in answers {
            let whole = answer.encode();
            assert_eq!(Answer::decode_shared(&whole), Ok(answer));
            let longer = Bytes::from([&whole[..], b"x"].concat());
            assert_eq!(Answer::decode_shared(&longer), Answer::decode(&longer), "{longer:?}");
            for length in 0..whole.len() {
                let cut = whole.slice(..length);
                assert_eq!(Answer::decode_shared(&cut), Answer::decode(&cut), "{cut:?}");
                assert!(Answer::decode(&cut).is_err());
            }
        }
    }
}
