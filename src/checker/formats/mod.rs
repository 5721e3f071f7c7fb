//! The formats of other people's checkers, to and from histories of the key-value store.
//!
//! Both are lists of events, one map in EDN each: a process invokes something, and later learns what came of it. The order of
//! the events is all the time there is, so a history that was read counts time in events, from 1. A process does one thing after the
//! other, and none after one whose outcome it does not know: a client of ours that goes on does so as another process.

mod edn;
pub mod jepsen;
pub mod porcupine;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{NEVER, Outcome, ReadError};
use super::key_value::{Action, Answer, Operation};
use edn::Edn;

/// A history that the format has no words for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{operation}' cannot be written in this format: {why}")]
pub struct WriteError {
    /// The operation, as a line.
    pub operation: String,
    /// What there are no words for.
    pub why: &'static str,
}

/// A beginning or an end.
struct Event {
    /// Position of the operation.
    operation: usize,
    process: u64,
    time: u64,
    begins: bool,
}

/// The events of a history in order. Unknown ends come when the client gave up, those it never saw not at all.
fn events(history: &[Operation]) -> Vec<Event> {
    let begin = |(operation, of): (usize, &Operation)| Event { operation, process: 0, time: of.began, begins: true };
    let end = |(operation, of): (usize, &Operation)| Event { operation, process: 0, time: of.ended, begins: false };
    let ends = history.iter().enumerate().filter(|(_, operation)| operation.ended != NEVER).map(end);
    let mut events: Vec<Event> = history.iter().enumerate().map(begin).chain(ends).collect();
    // What begins when something else ends overlaps with it.
    events.sort_by_key(|event| (event.time, !event.begins));
    let clients = history.iter().map(|operation| operation.client).max().map_or(1, |last| last + 1);
    let mut processes: BTreeMap<u64, Processes> = BTreeMap::new();
    let mut running = vec![0; history.len()];
    for event in &mut events {
        let operation = &history[event.operation];
        let own = processes.entry(operation.client).or_default();
        if event.begins {
            running[event.operation] = own.idle.pop().unwrap_or_else(|| {
                own.count += 1;
                operation.client + (own.count - 1) * clients
            });
        } else if operation.outcome != Outcome::Unknown {
            own.idle.push(running[event.operation]);
        }
        event.process = running[event.operation];
    }
    events
}

/// Those that one client is.
#[derive(Default)]
struct Processes {
    idle: Vec<u64>,
    count: u64,
}

/// What an event that was read says.
enum Told {
    Invoked(Bytes, Action),
    Ended(Outcome<Answer>),
}

/// Reads events as operations. `tell` gets an event's map, and at an end what its process had invoked.
fn read(
    text: &str,
    mut tell: impl FnMut(&Edn, Option<&Operation>) -> Result<Told, String>,
) -> Result<Vec<Operation>, ReadError> {
    let mut history: Vec<Operation> = Vec::new();
    let mut running: BTreeMap<u64, usize> = BTreeMap::new();
    for (time, (line, event)) in (1..).zip(edn::read_all(text)?) {
        let mut read_one = || -> Result<(), String> {
            let process = match event.get("process") {
                Some(Edn::Number(process)) => {
                    u64::try_from(*process).map_err(|_| format!("process {process} is negative"))?
                }
                // Jepsen's nemesis, for example, which touches no data.
                Some(Edn::Keyword(_)) => return Ok(()),
                _ => return Err("an event needs a :process".into()),
            };
            let at = running.get(&process).copied();
            match tell(&event, at.map(|at| &history[at]))? {
                Told::Invoked(..) if at.is_some() => Err(format!("process {process} does two things at once")),
                Told::Invoked(partition, action) => {
                    running.insert(process, history.len());
                    let (outcome, began, ended) = (Outcome::Unknown, time, NEVER);
                    history.push(Operation { client: process, partition, action, outcome, began, ended });
                    Ok(())
                }
                Told::Ended(outcome) => {
                    let at =
                        running.remove(&process).ok_or(format!("process {process} ends what it did not invoke"))?;
                    (history[at].outcome, history[at].ended) = (outcome, time);
                    Ok(())
                }
            }
        };
        read_one().map_err(|why| ReadError { line, why })?;
    }
    Ok(history)
}

/// The bytes as text.
fn text<'a>(bytes: &'a Bytes, operation: &Operation) -> Result<&'a str, WriteError> {
    let why = "its key or value is not UTF-8";
    std::str::from_utf8(bytes).map_err(|_| WriteError { operation: operation.to_string(), why })
}
