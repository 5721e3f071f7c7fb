//! What clients are told: acknowledged writes stay, and every answer is what one machine would have given at one moment between
//! request and answer. The order of the log is the witness, so that the check takes no search, and goes on beside the simulation.
//! What it accepts, the search of [`checker`](crate::checker) accepts, too: its tests see to that.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::values::{Look, Values};
use super::{Check, Oracle, hold};
use crate::consensus::{Index, Payload, SessionSequence};
use crate::machine::command::{Answer, Command};
use crate::runtime::{Outcome, Response};

/// Numbers the operations of all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Operations of one connection take effect in the order in which they began.
    pub connection: u64,
    /// A write, whose bytes are like those of no other, or something that is read.
    pub outline: Outline,
}

/// What kind of operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outline {
    /// A command.
    Write(Bytes),
    /// A command of a session, perhaps again.
    InSession(SessionSequence, Bytes),
    /// A session is opened.
    OpenSession,
    /// A key.
    Read(Bytes),
    /// Several things, of one moment.
    ReadTogether(Vec<Look>),
}

/// What may be asked more than once, so that nobody knows which entry is whose.
#[derive(Default)]
struct Attempts {
    command: Bytes,
    /// How often it was asked.
    asked: usize,
    /// Where it is in the log.
    entries: Vec<Index>,
}

impl Attempts {
    fn committed(&mut self, index: Index, command: &Bytes) -> Check {
        self.entries.push(index);
        let Attempts { asked, entries, .. } = self;
        hold!("I17 linearizability", self.command == *command, "entry {index} is a command that no client sent");
        hold!("I17 linearizability", entries.len() <= *asked, "what was asked {asked} times is in entries {entries:?}");
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// No answer yet, or one that says nothing.
    Open,
    /// It will never take effect.
    Refused,
    /// It took effect.
    Answered,
}

struct Record {
    operation: Operation,
    /// What was committed when it reached a node.
    began: Index,
    fate: Fate,
    /// Where it is in the log, if it is a write and committed.
    index: Option<Index>,
}

/// What all clients asked and were told.
#[derive(Default)]
pub struct History {
    records: Vec<Record>,
    /// Writes by their bytes. Only looked up: its order is nobody's business.
    writes: FxHashMap<Bytes, OperationId>,
    in_sessions: BTreeMap<SessionSequence, Attempts>,
    openings: Attempts,
    /// Sessions of which somebody was told.
    told: BTreeSet<Index>,
    /// The last write of each connection that was committed, and its place in the log. Likewise.
    connections: FxHashMap<u64, (OperationId, Index)>,
    /// Answers that were checked.
    checked: u64,
}

impl History {
    /// A command is committed.
    pub fn committed(&mut self, index: Index, session: Option<SessionSequence>, payload: &Payload) -> Check {
        if let Some(stamp) = session {
            return self.in_sessions.entry(stamp).or_default().committed(index, &payload.0);
        }
        if payload.0 == self.openings.command {
            return self.openings.committed(index, &payload.0);
        }
        let id = self.writes.get(&payload.0).copied();
        let Some((id, record)) = id.and_then(|id| Some((id, self.records.get_mut(id.0 as usize)?))) else {
            hold!("I17 linearizability", false, "entry {index} is a command that no client sent");
            return Ok(());
        };
        hold!(
            "I17 linearizability",
            record.index.is_none(),
            "operation {} takes effect twice, as entries {:?} and {index}",
            id.0,
            record.index
        );
        hold!(
            "I17 linearizability",
            record.fate != Fate::Refused,
            "operation {} takes effect as entry {index}, but its client was told that it never would",
            id.0
        );
        record.index = Some(index);
        let connection = record.operation.connection;
        let (last, place) = self.connections.get(&connection).copied().unwrap_or((id, Index(0)));
        hold!(
            "I17 order of a connection",
            last <= id,
            "operation {} is entry {index}, after operation {} of the same connection, entry {place}",
            id.0,
            last.0
        );
        self.connections.insert(connection, (id, index));
        Ok(())
    }
}

impl Oracle {
    /// An operation reaches a node.
    pub fn begins(&mut self, operation: Operation) -> OperationId {
        let id = OperationId(self.history.records.len() as u64);
        let again = match &operation.outline {
            Outline::Write(bytes) => {
                self.history.writes.insert(bytes.clone(), id);
                None
            }
            Outline::InSession(stamp, bytes) => {
                Some((self.history.in_sessions.entry(*stamp).or_default(), bytes.clone()))
            }
            Outline::OpenSession => Some((&mut self.history.openings, Command::OpenSession.encode())),
            Outline::Read(_) | Outline::ReadTogether(_) => None,
        };
        if let Some((attempts, command)) = again {
            attempts.command = command;
            attempts.asked += 1;
        }
        let began = self.chain.last();
        self.history.records.push(Record { operation, began, fate: Fate::Open, index: None });
        id
    }

    /// What was asked.
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        Some(&self.history.records.get(id.0 as usize)?.operation)
    }

    /// How many answers were checked.
    pub fn answers_checked(&self) -> u64 {
        self.history.checked
    }

    /// A node answers an operation.
    pub fn answered(&mut self, id: OperationId, outcome: &Outcome) -> Check {
        let (chain, now) = (&self.chain, self.chain.last());
        let Some(record) = self.history.records.get_mut(id.0 as usize) else { return Ok(()) };
        let number = id.0;
        let answer = match outcome {
            Err(failure) if failure.is_definite() => {
                hold!(
                    "I17 linearizability",
                    record.index.is_none(),
                    "operation {number} took effect as entry {:?}, but its client is told that it never will",
                    record.index
                );
                record.fate = Fate::Refused;
                return Ok(());
            }
            Err(_) => return Ok(()),
            Ok(Response::Answer(answer)) => answer,
            Ok(_) => return Ok(()),
        };
        record.fate = Fate::Answered;
        self.history.checked += 1;
        match &record.operation.outline {
            Outline::Write(_) => {
                let Some(index) = record.index else {
                    hold!(
                        "I16 acknowledged durability",
                        false,
                        "operation {number} is acknowledged, and not committed"
                    );
                    return Ok(());
                };
                hold!(
                    "I17 linearizability",
                    index > record.began,
                    "operation {number} is entry {index}, which was committed before it began"
                );
                let expected = chain.answer(index);
                hold!(
                    "I17 linearizability",
                    expected == Some(answer),
                    "operation {number}, entry {index}, is answered otherwise than the order of the log says"
                );
                Ok(())
            }
            Outline::InSession(stamp, _) => {
                let attempts = self.history.in_sessions.get(stamp);
                let mut entries = attempts.into_iter().flat_map(|attempts| &attempts.entries);
                let entry = entries.find(|index| **index > record.began && chain.answer(**index) == Some(answer));
                hold!(
                    "I16 acknowledged durability",
                    entry.is_some(),
                    "operation {number}, {stamp:?}, is acknowledged, and not committed since it began"
                );
                record.index = entry.copied();
                Ok(())
            }
            Outline::OpenSession => {
                let Ok(Answer::Session { id }) = Answer::decode(answer) else {
                    hold!("I19 sessions", false, "operation {number} opens a session, and is answered otherwise");
                    return Ok(());
                };
                let index = Index(id);
                let is_own = index > record.began && self.history.openings.entries.contains(&index);
                hold!("I19 sessions", is_own, "operation {number} is told of session {id}, which nobody has opened");
                hold!("I19 sessions", self.history.told.insert(index), "two clients are told of session {id}");
                record.index = Some(index);
                Ok(())
            }
            outline @ (Outline::Read(_) | Outline::ReadTogether(_)) => {
                let outline = outline.clone();
                let (began, connection) = (record.began, record.operation.connection);
                let (earlier, later) = self.history.neighbours(id, connection);
                let window = (began.max(earlier), later.map_or(now, |later| later.prev().min(now)));
                check_read(&self.values, number, &outline, answer, window)
            }
        }
    }
}

impl History {
    /// The place of the last acknowledged write of a connection before this operation, and of the first committed one after it.
    fn neighbours(&self, id: OperationId, connection: u64) -> (Index, Option<Index>) {
        let (mut earlier, mut later) = (Index(0), None);
        let same = |record: &&Record| record.operation.connection == connection;
        for record in self.records[..id.0 as usize].iter().rev().take(64).filter(same) {
            if let (Fate::Answered, Some(index)) = (&record.fate, record.index) {
                earlier = earlier.max(index);
            }
        }
        // Of a command that is sent again nobody knows which entry is this connection's: an earlier one may answer it as well.
        let is_own = |record: &&Record| matches!(record.operation.outline, Outline::Write(_));
        for record in self.records[id.0 as usize + 1..].iter().take(64).filter(same).filter(is_own) {
            if let Some(index) = record.index {
                later = Some(later.map_or(index, |known: Index| known.min(index)));
            }
        }
        (earlier, later)
    }
}

/// A read sees the state after some entry of this window: none that is older than what was committed when it began (Raft
/// thesis §6.4), none that was not committed when it was answered.
fn check_read(values: &Values, number: u64, outline: &Outline, answer: &Bytes, window: (Index, Index)) -> Check {
    let (looks, told) = match (outline, Answer::decode(answer)) {
        (Outline::Read(key), Ok(answer)) => (vec![Look::Key(key.clone())], vec![answer]),
        (Outline::ReadTogether(looks), Ok(Answer::Transaction(answers))) => {
            let told = answers.iter().filter_map(|answer| Answer::decode(answer).ok());
            (looks.clone(), told.collect())
        }
        (_, answer) => {
            hold!("I17 linearizability", false, "operation {number}, {outline:?}, is answered otherwise: {answer:?}");
            return Ok(());
        }
    };
    let fits = |at: &Index| looks.iter().map(|look| values.seen(look, *at)).eq(told.iter().cloned());
    hold!(
        "I18 read freshness",
        values.moments(&looks, window).iter().any(fits),
        "operation {number} reads {looks:?} and is told {told:?}, which was not so after any of the entries {} to {}",
        window.0,
        window.1
    );
    Ok(())
}
