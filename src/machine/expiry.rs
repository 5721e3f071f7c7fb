//! When keys expire, in log time.

use bytes::Bytes;

use super::due::Due;
use super::table::Table;
use crate::consensus::LogTime;

/// The keys that expire, and when.
#[derive(Clone, Debug)]
pub(super) struct Expiries {
    /// In log time, by key.
    by_key: Table<u64>,
    /// The same.
    due: Due,
}

impl Expiries {
    /// Nothing expires, in a table of this number.
    pub fn new(number: u32) -> Self {
        Expiries { by_key: Table::new(number), due: Due::default() }
    }

    /// These times.
    pub fn of(by_key: Table<u64>) -> Self {
        let mut due = Due::default();
        for (key, until_ms) in by_key.from(b"") {
            due.insert(*until_ms, key);
        }
        Expiries { by_key, due }
    }

    /// The table as it is now, however it changes afterwards.
    pub fn table(&self) -> Table<u64> {
        self.by_key.clone()
    }

    /// A hash of all keys and times.
    pub fn digest(&self) -> u64 {
        self.by_key.digest()
    }

    /// When a key expires.
    pub fn get(&self, key: &[u8]) -> Option<LogTime> {
        self.by_key.get(key).copied().map(LogTime)
    }

    /// When the next key expires.
    pub fn deadline(&self) -> Option<LogTime> {
        self.due.first().map(|(until_ms, _)| LogTime(until_ms))
    }

    /// A key that is due at this time, the first.
    pub fn due(&self, time: LogTime) -> Option<Bytes> {
        self.due.by(time.0)
    }

    /// The key expires then.
    pub fn set(&mut self, key: Bytes, until: LogTime) {
        self.remove(&key);
        self.due.insert(until.0, &key);
        self.by_key.insert(key, until.0);
    }

    /// The key does not expire any more; whether it would have.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(until_ms) = self.by_key.remove(key) else { return false };
        self.due.remove(until_ms, key);
        true
    }
}
