//! When what is not there any more changed last, as far as transactions that watch it must know.
//!
//! A key that is there has its revision. Of one that was deleted there is nothing left to have one, and of topics any change
//! counts: for both there is the index of the last change of any of the names that share a slot, so the room that it takes
//! is bounded, whatever was deleted. No change is ever missed. One of another name in the same slot, which is one of
//! [`SLOTS`], is taken for one of this name.

use super::table::{Table, key};
use bytes::Bytes;
use twox_hash::XxHash3_64;

/// So many slots are there.
pub const SLOTS: u64 = 16_384;

/// The last changes.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    /// Log index, by slot.
    last: Table<u64>,
}

impl Changes {
    /// Nothing has changed, in a table of this number.
    pub fn new(number: u32) -> Self {
        Changes { last: Table::new(number) }
    }

    /// These changes.
    pub fn of(last: Table<u64>) -> Self {
        Changes { last }
    }

    /// The table as it is now, however it changes afterwards.
    pub fn table(&self) -> Table<u64> {
        self.last.clone()
    }

    /// A hash of all slots.
    pub fn digest(&self) -> u64 {
        self.last.digest()
    }

    /// Something of this name has changed at this log index.
    pub fn note(&mut self, name: &[u8], index: u64) {
        self.last.insert(slot(name), index);
    }

    /// No change of this name was later than this log index.
    pub fn last(&self, name: &[u8]) -> u64 {
        self.last.get(&slot(name)).copied().unwrap_or(0)
    }
}

/// Part of the state, so it must stay the same.
fn slot(name: &[u8]) -> Bytes {
    key([XxHash3_64::oneshot(name) % SLOTS])
}
