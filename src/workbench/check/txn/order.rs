//! The order in which the versions of each key were written, as far as it is known.

use std::collections::HashMap;

use super::reads::Read;
use super::transactions::Transactions;

/// What is known of the order.
pub struct Order {
    /// By version: those that are known to come after it, and not only after another of them. Behind all versions, at
    /// the places that [`Order::initial`] tells: after what was there before the first write to a key.
    pub next: Vec<Vec<Next>>,
    versions: u32,
}

/// A version that comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Next {
    pub version: u32,
    /// It is known only because somebody was done with the one before somebody began with the other.
    pub by_time: bool,
}

impl Order {
    /// Nothing is known.
    pub fn new(transactions: &Transactions<'_>) -> Self {
        let versions = transactions.versions.len();
        Order { next: vec![Vec::new(); versions + transactions.keys.len()], versions: versions as u32 }
    }

    /// What was there before the first write to a key.
    pub fn initial(&self, key: u32) -> u32 {
        self.versions + key
    }

    /// What a read saw: the last version.
    pub fn seen(&self, read: &Read<'_>) -> u32 {
        read.seen.last().copied().unwrap_or(self.initial(read.key))
    }

    /// One version comes after another.
    pub fn add(&mut self, version: u32, next: u32, by_time: bool) {
        self.next[version as usize].push(Next { version: next, by_time });
    }

    /// For each version that a transaction has read and then replaced: by what. That follows at once, with nothing between.
    pub fn replacements(&self, transactions: &Transactions<'_>, reads: &[Read<'_>]) -> HashMap<u32, u32> {
        let mut replacements = HashMap::new();
        for read in reads {
            if let Some(version) = read.wrote.filter(|version| transactions.live_writer(*version).is_some()) {
                replacements.entry(self.seen(read)).or_insert(version);
            }
        }
        replacements
    }
}
