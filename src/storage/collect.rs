//! Gathers the entries of one read until its limit of bytes is reached.

use crate::consensus::{Entry, Index};

/// The entries gathered so far.
pub(super) struct Collected {
    entries: Vec<Entry>,
    payload_bytes: u64,
    max_bytes: u64,
    full: bool,
}

impl Collected {
    pub(super) fn new(max_bytes: u64) -> Self {
        Collected { entries: Vec::new(), payload_bytes: 0, max_bytes, full: false }
    }

    /// Adds an entry with a payload of `size` bytes if there is room; there always is for the first.
    pub(super) fn add(&mut self, size: u32, entry: impl FnOnce() -> Entry) {
        self.payload_bytes += u64::from(size);
        self.full |= !self.entries.is_empty() && self.payload_bytes > self.max_bytes;
        if !self.full {
            self.entries.push(entry());
        }
    }

    /// Adds those of `entries` that have indexes up to `last`, as far as there is room.
    pub(super) fn extend(&mut self, entries: &[Entry], last: Index) {
        for entry in entries.iter().take_while(|entry| entry.header.index <= last) {
            self.add(entry.header.size, || entry.clone());
            if self.full {
                break;
            }
        }
    }

    /// Whether no more entries fit.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}
