//! What clients ask of the built-in machine, and what it answers: one type for every door.
//!
//! The encoding (bincode, see `docs/FORMATS.md`) is part of the log's format: variants are only ever added at the end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Changes the state. Travels through the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
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
    /// All guards hold and all commands take effect, or nothing does. Answer: [`Answer::Transaction`] or
    /// [`Answer::GuardFailed`].
    Transaction {
        /// What must hold beforehand.
        guards: Vec<Guard>,
        /// What to do, in order. Not itself transactions.
        steps: Vec<Step>,
    },
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Change something.
    Command(Command),
    /// Look at something; sees the steps before.
    Query(Query),
}

/// When a [`Command::Set`] takes effect.
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

/// Looks at the state without changing it. Does not travel through the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Query {
    /// The value of a key. Answer: [`Answer::Value`].
    Get {
        /// The key.
        key: Bytes,
    },
    /// How many of these keys exist; one named twice counts twice, as in Redis. Answer: [`Answer::Count`].
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
        /// At most so many.
        limit: u64,
    },
    /// Keys in the order of a hash that is the same on every node. Answer: [`Answer::Keys`].
    Scan {
        /// Where to go on: 0 at first, then the last answer's cursor. Every key present throughout is seen.
        cursor: u64,
        /// Look at about so many keys.
        count: u64,
        /// Only keys that match this glob, as in Redis.
        pattern: Option<Bytes>,
    },
    /// Number of keys. Answer: [`Answer::Count`].
    Size,
    /// All keys that match a glob. Answer: [`Answer::Keys`] with cursor 0.
    Keys {
        /// The glob, as in Redis.
        pattern: Bytes,
    },
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
    /// Every step's answer, in order.
    Transaction(Vec<Answer>),
    /// This guard of the transaction did not hold; nothing took effect.
    GuardFailed {
        /// Position in the list of guards.
        guard: u64,
    },
    /// The command or query makes no sense, and had no effect.
    Malformed(String),
}

/// A value and when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Value {
    /// The bytes.
    pub bytes: Bytes,
    /// Log index of the command that wrote it.
    pub revision: u64,
}
