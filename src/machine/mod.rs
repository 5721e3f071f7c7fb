//! Deterministic state machines: what the replicated log is for.

#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod command;
pub mod composite;
mod cow_map;
mod due;
mod expiry;
pub mod glob;
mod image;
mod keyspace;
pub mod kv;
pub mod numbers;
pub mod once;
pub mod queue;
mod scan;
pub mod scenario;
pub mod session;
mod strings;
mod table;
mod watch;
pub mod words;

use std::io;

pub use composite::Composite;

use bytes::Bytes;

use crate::consensus::{Index, LogTime, SessionSequence};

/// A state machine that can be replicated.
///
/// Every replica applies the same commands in the same order, so `apply` must depend on nothing but the state and its
/// arguments: no clock, no randomness, no hash order. Time, if it matters, is [`Applied::time`].
pub trait Machine: Send {
    /// Applies a committed command and returns the answer for the client that sent it. A command that makes no sense
    /// gets an answer that says so; it must not panic, and must have no effect.
    fn apply(&mut self, command: Applied<'_>) -> Bytes;

    /// These commands come next, in this order. A machine whose state is all over the memory may look for what they need, for
    /// all of them together, so that it waits for memory once and not once for each. Nothing, the default, does as well.
    fn look_ahead(&self, commands: &mut dyn Iterator<Item = &Bytes>) {
        let _ = commands;
    }

    /// Answers a question about the state without changing it.
    fn query(&self, asked: Asked<'_>) -> Bytes;

    /// Whether to apply this takes no longer than to wake another thread (tens of microseconds), however large the state is,
    /// but for the copy of a value. Such commands may be applied in a turn of the event handler when few come. `false`, the
    /// default: none may.
    fn is_brief(&self, command: Applied<'_>) -> bool {
        let _ = command;
        false
    }

    /// The same for a question.
    fn is_brief_query(&self, query: &[u8]) -> bool {
        let _ = query;
        false
    }

    /// An entry that is no command has come: log time has come this far. For machines in which something falls due.
    fn advance(&mut self, index: Index, time: LogTime) {
        let _ = (index, time);
    }

    /// When something falls due next: the leader sees to it that log time comes that far, with an entry of its own if
    /// clients write nothing. `None`, the default: nothing waits for time.
    fn deadline(&self) -> Option<LogTime> {
        None
    }

    /// Names of what clients may have been waiting for, and how many times it has come since the last call.
    fn take_woken(&mut self) -> Vec<(Bytes, u64)> {
        Vec::new()
    }

    /// A hash of the whole state: equal on all replicas that have applied the same log.
    fn digest(&self) -> u64;

    /// A view of the state as it is now, which stays as it is while the machine goes on. It is taken between two commands,
    /// so it must take no longer than a command does, however large the state is. `None`, the default: this machine has no
    /// snapshots, its log grows forever, and a restart applies all of it again.
    fn snapshot(&self) -> Option<Box<dyn MachineSnapshot>> {
        None
    }

    /// Replaces the state by what a snapshot's [`write`](MachineSnapshot::write) has written, perhaps on another node,
    /// perhaps by an older version. It reads to the end. After an error the state is undefined, and the node stops.
    ///
    /// # Errors
    /// In words: the bytes cannot be read, or are no state of this machine.
    fn restore(&mut self, from: &mut dyn io::Read) -> Result<(), String> {
        let _ = from;
        Err("this machine has no snapshots".into())
    }

    /// A command in words, for people who look at the log.
    fn describe(&self, command: &[u8]) -> String {
        format!("{} bytes", command.len())
    }
}

/// A machine's state at one moment, to be written elsewhere while the machine goes on.
pub trait MachineSnapshot: Send {
    /// Writes the state, in bounded memory. What the machine has replaced meanwhile is given back on the way, which is why
    /// the view is used up.
    ///
    /// # Errors
    /// Whatever `to` fails with.
    fn write(self: Box<Self>, to: &mut dyn io::Write) -> io::Result<()>;
}

/// A committed command, about to take effect.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Its position in the log.
    pub index: Index,
    /// Its log time.
    pub time: LogTime,
    /// The client session's stamp, if it came in one.
    pub session: Option<SessionSequence>,
    /// The command itself. It shares the log's memory: keeping slices of it copies nothing.
    pub command: &'a Bytes,
    /// Whether somebody waits for the answer here. If not, any will do, an empty one for instance; but the state must not
    /// depend on it, for it is not the same on every node.
    pub is_awaited: bool,
}

/// A question about the state.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Log time as the node that answers knows it: the leader's, or of the last applied entry where a node answers for
    /// itself.
    pub time: LogTime,
    /// The question itself.
    pub query: &'a [u8],
}
