//! The log that a scenario starts with, told by the terms of its entries alone.

use super::command::{Change, Command};
use super::queue::command::QueueChange;
use crate::consensus::{Entry, EntryHeader, EntryKind, Index, LogTime, Payload, Term};

/// Where the commands of forced entries put their messages.
const TOPIC: &str = "scenario";

/// The entries of a forced log, from index 1.
pub fn entries(terms: &[Term]) -> Vec<Entry> {
    let entry = |(index, &term)| {
        let payload = payload(index, term);
        let (kind, time, size) = (EntryKind::Command, LogTime(0), payload.len() as u32);
        Entry { header: EntryHeader { index, term, kind, time, session: None, size }, payload }
    };
    (1..).map(Index).zip(terms).map(entry).collect()
}

/// The command of the entry at this index, of this term, the same everywhere: to put message `index.term` on the topic.
fn payload(index: Index, term: Term) -> Payload {
    let put = QueueChange::Put { message: format!("{index}.{term}").into(), create: true };
    Payload(Command::Change(Change::Queue { topic: TOPIC.into(), change: put }).encode())
}
