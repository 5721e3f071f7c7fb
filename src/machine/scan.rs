//! The keys in an order that no insertion or deletion disturbs, for scans that go on anywhere at any time.
//!
//! The order is that of a fixed hash of the key, the same on every node and in every version. A cursor is the hash to go
//! on from, so it needs no memory on any node: a key that is there all the time has its place, and is passed once.

use std::collections::BTreeSet;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::command::{MAX_ANSWER_BYTES, key_bytes};

/// Keys in order of their hash.
#[derive(Clone, Debug, Default)]
pub struct ScanIndex {
    keys: BTreeSet<(u64, Bytes)>,
}

impl ScanIndex {
    /// Adds a key.
    pub fn insert(&mut self, key: Bytes) {
        self.insert_at(hash(&key), key);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &Bytes) {
        self.keys.remove(&(hash(key), key.clone()));
    }

    /// Number of keys.
    pub fn len(&self) -> u64 {
        self.keys.len() as u64
    }

    /// The keys of both indexes, from `cursor` on, that `keep` says yes to, until `count` were looked at, and the cursor to
    /// go on from; 0 at the end. Keys of one hash come together, so there may be more.
    pub fn page(&self, other: &Self, cursor: u64, count: u64, keep: impl Fn(&[u8]) -> bool) -> (u64, Vec<Bytes>) {
        let mut kept = Vec::new();
        let (mut looked_at, mut bytes, mut previous) = (0, 0, cursor);
        for (hash, key) in merged(self.from(cursor), other.from(cursor)) {
            let full = looked_at >= count || bytes >= MAX_ANSWER_BYTES;
            if full && *hash != previous {
                return (*hash, kept);
            }
            if keep(key) {
                bytes += key_bytes(key);
                kept.push(key.clone());
            }
            looked_at += 1;
            previous = *hash;
        }
        (0, kept)
    }

    fn from(&self, cursor: u64) -> impl Iterator<Item = &(u64, Bytes)> {
        self.keys.range((cursor, Bytes::new())..)
    }

    fn insert_at(&mut self, hash: u64, key: Bytes) {
        self.keys.insert((hash, key));
    }
}

impl FromIterator<Bytes> for ScanIndex {
    fn from_iter<I: IntoIterator<Item = Bytes>>(keys: I) -> Self {
        ScanIndex { keys: keys.into_iter().map(|key| (hash(&key), key)).collect() }
    }
}

/// What is in one of two ascending sequences, or both, ascending, and once.
pub fn merged<T: Ord>(one: impl Iterator<Item = T>, other: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if a > b => other.next(),
        (Some(a), Some(b)) if a == b => other.next().and(one.next()),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

fn hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks through the whole index, changing it in between.
    fn walk(index: &mut ScanIndex, count: u64, mut between: impl FnMut(&mut ScanIndex)) -> Vec<Bytes> {
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            let (next, keys) = index.page(&ScanIndex::default(), cursor, count, |_| true);
            seen.extend(keys);
            if next == 0 {
                return seen;
            }
            assert!(next > cursor, "cursors must grow, or a scan could go on forever");
            cursor = next;
            between(index);
        }
    }

    #[test]
    fn keys_of_one_hash_come_together_and_once() {
        let mut index = ScanIndex::default();
        for (hash, key) in [(0, "a"), (0, "b"), (7, "c"), (7, "d"), (7, "e"), (u64::MAX, "f"), (u64::MAX, "g")] {
            index.insert_at(hash, key.into());
        }
        let page = |cursor, count| index.page(&ScanIndex::default(), cursor, count, |_| true);
        assert_eq!(page(0, 1), (7, vec!["a".into(), "b".into()]));
        assert_eq!(page(7, 2), (u64::MAX, vec!["c".into(), "d".into(), "e".into()]));
        assert_eq!(page(u64::MAX, 1), (0, vec!["f".into(), "g".into()]));
        assert_eq!(walk(&mut index, 1, |_| ()), ["a", "b", "c", "d", "e", "f", "g"].map(Bytes::from));
    }

    #[test]
    fn two_indexes_are_gone_through_together_and_what_both_have_comes_once() {
        let (mut one, mut other) = (ScanIndex::default(), ScanIndex::default());
        [(3, "a"), (7, "c"), (7, "e")].into_iter().for_each(|(hash, key)| one.insert_at(hash, key.into()));
        [(0, "f"), (7, "c"), (7, "d"), (9, "g")].into_iter().for_each(|(hash, key)| other.insert_at(hash, key.into()));
        assert_eq!(one.page(&other, 0, 2, |_| true), (7, vec!["f".into(), "a".into()]));
        assert_eq!(one.page(&other, 7, 1, |_| true), (9, vec!["c".into(), "d".into(), "e".into()]));
        assert_eq!(one.page(&other, 9, 1, |_| true), (0, vec!["g".into()]));
    }

    #[test]
    fn the_hash_is_fixed_for_ever() {
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
    }

    proptest::proptest! {
        #[test]
        fn a_key_present_throughout_is_seen_once(
            stay in proptest::collection::btree_set(0u16..2000, 0..100),
            changes in proptest::collection::vec((0u16..2000, proptest::bool::ANY), 0..200),
            count in 1u64..20,
        ) {
            let key = |n: u16| Bytes::from(n.to_string());
            let mut index = ScanIndex::default();
            stay.iter().for_each(|n| index.insert(key(*n)));
            let mut changes = changes.into_iter().filter(|(n, _)| !stay.contains(n));
            let seen = walk(&mut index, count, |index| for (n, insert) in changes.by_ref().take(3) {
                if insert { index.insert(key(n)) } else { index.remove(&key(n)) }
            });
            for n in &stay {
                proptest::prop_assert_eq!(seen.iter().filter(|seen| **seen == key(*n)).count(), 1);
            }
        }
    }
}
