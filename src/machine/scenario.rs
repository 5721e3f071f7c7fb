//! The log that a scenario starts with, told by the terms of its entries alone.

use bytes::Bytes;

use super::command::{Change, Command, Condition};
use crate::consensus::{Entry, EntryHeader, EntryKind, Index, LogTime, Payload, Term};

/// The entries of a forced log, from index 1.
pub fn entries(terms: &[Term]) -> Vec<Entry> {
    let entry = |(index, &term)| {
        let payload = payload(index, term);
        let (kind, time, size) = (EntryKind::Command, LogTime(0), payload.len() as u32);
        Entry { header: EntryHeader { index, term, kind, time, session: None, size }, payload }
    };
    (1..).map(Index).zip(terms).map(entry).collect()
}

/// The command of the entry at this index, of this term: the same everywhere.
fn payload(index: Index, term: Term) -> Payload {
    let key = Bytes::from(format!("scenario:{index}"));
    let value = Bytes::from(format!("{index}.{term}"));
    let set = Change::Set { key, value, condition: Condition::Always, want_old: false };
    Payload(Command::Change(set).encode())
}
