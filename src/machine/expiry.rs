//! When keys expire, in log time.

use bytes::Bytes;

use super::cow_map::CowMap;
use super::table::{Table, number_of};
use crate::consensus::LogTime;

/// The keys that expire, and when.
#[derive(Clone, Debug)]
pub(super) struct Expiries {
    /// In log time, by key.
    by_key: Table<u64>,
    /// The same, by time and key.
    by_time: CowMap<()>,
}

impl Expiries {
    /// Nothing expires, in a table of this number.
    pub fn new(number: u32) -> Self {
        Expiries { by_key: Table::new(number), by_time: CowMap::default() }
    }

    /// These times.
    pub fn of(by_key: Table<u64>) -> Self {
        let mut by_time = CowMap::default();
        for (key, until_ms) in by_key.from(b"") {
            by_time.insert(time_key(*until_ms, key), ());
        }
        Expiries { by_key, by_time }
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
        let (first, ()) = self.by_time.first()?;
        number_of(first, 0).map(LogTime)
    }

    /// A key that is due at this time, the first.
    pub fn due(&self, time: LogTime) -> Option<Bytes> {
        let (first, ()) = self.by_time.first()?;
        number_of(first, 0).filter(|until_ms| *until_ms <= time.0).map(|_| first.slice(8..))
    }

    /// The key expires then.
    pub fn set(&mut self, key: Bytes, until: LogTime) {
        self.remove(&key);
        self.by_time.insert(time_key(until.0, &key), ());
        self.by_key.insert(key, until.0);
    }

    /// The key does not expire any more; whether it would have.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(until_ms) = self.by_key.remove(key) else { return false };
        self.by_time.remove(&time_key(until_ms, key));
        true
    }
}

fn time_key(until_ms: u64, key: &[u8]) -> Bytes {
    [&until_ms.to_be_bytes(), key].concat().into()
}
