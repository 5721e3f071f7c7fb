//! The key-value store: an ordered map from keys to values and the log index that wrote them.

use std::hint::black_box;
use std::ops::Bound;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::command::{Answer, Change, Condition, Guard, Lifetime, MAX_ITEMS, Value, item_bytes};
use super::cow_map::CowMap;
use super::expiry::Expiries;
use super::glob::Glob;
use super::image;
use super::scan::ScanIndex;
use super::table::Table;
use super::watch::Changes;
use crate::consensus::{Index, LogTime};

/// Of most processors.
const CACHE_LINE_BYTES: usize = 64;
/// So much of a value is fetched before it is replaced: a large one would take the place of others.
const FETCHED_BYTES: usize = 1 << 10;

/// Keys and values.
#[derive(Clone, Debug)]
pub struct KeyValue {
    entries: CowMap<Item>,
    scan_index: ScanIndex,
    digest: u64,
    pub(super) expiries: Expiries,
    /// Of keys that are not there any more, and of topics.
    changes: Changes,
    /// Log time of the last entry.
    pub(super) now: LogTime,
}

/// The value of a key, and what both add to the digest, which is a sum, so that it does not depend on how the state came to be.
/// Hashed once: when a value is replaced, it is no longer in the processor's cache.
#[derive(Clone, Debug)]
pub(super) struct Item {
    value: Value,
    digest: u64,
}

impl Item {
    pub fn new(key: &[u8], value: Value) -> Self {
        let digest = digest(key, &value.bytes, value.revision);
        Item { value, digest }
    }

    /// Another value for this key. It gets the memory of the one before if it fits there, and nobody else has that: to give
    /// one block back and take another costs more than all else about it.
    fn overwrite(&mut self, key: &[u8], value: &[u8], revision: u64) {
        // Of the bytes to be copied: what they are copied over is not in the processor's cache yet.
        self.digest = digest(key, value, revision);
        let bytes = match std::mem::take(&mut self.value.bytes).try_into_mut() {
            Ok(mut bytes) if bytes.len() == value.len() => {
                bytes.copy_from_slice(value);
                bytes.freeze()
            }
            _ => Bytes::copy_from_slice(value),
        };
        self.value = Value { bytes, revision };
    }

    pub fn value(&self) -> &Value {
        &self.value
    }
}

fn digest(key: &[u8], value: &[u8], revision: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot_with_seed(revision, key), value)
}

/// Part of the store, in order of key.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub items: Vec<(Bytes, Value)>,
    /// More follow after the last.
    pub more: bool,
}

impl Default for KeyValue {
    fn default() -> Self {
        KeyValue {
            entries: CowMap::default(),
            scan_index: ScanIndex::default(),
            digest: 0,
            expiries: Expiries::new(image::EXPIRIES),
            changes: Changes::new(image::CHANGES),
            now: LogTime(0),
        }
    }
}

impl KeyValue {
    /// A store of these keys and values, times at which keys expire, and last changes, if they agree with each other.
    pub(super) fn of(entries: CowMap<Item>, expiries: Table<u64>, changes: Table<u64>) -> Result<Self, String> {
        if expiries.from(b"").any(|(key, _)| entries.get(key).is_none()) {
            return Err("a key expires that is not there".into());
        }
        let all = || entries.range(Bound::Unbounded);
        let digest = all().fold(0u64, |digest, (_, item)| digest.wrapping_add(item.digest));
        let scan_index = all().map(|(key, _)| key.clone()).collect();
        let (expiries, changes) = (Expiries::of(expiries), Changes::of(changes));
        Ok(KeyValue { entries, scan_index, digest, expiries, changes, now: LogTime(0) })
    }

    /// At this entry log time has come this far: keys expire.
    pub fn expire_due(&mut self, index: Index, time: LogTime) {
        self.now = time;
        while let Some(key) = self.expiries.due(time) {
            self.delete(&key, index.0);
        }
    }

    /// Carries out a change at this log index, and the time that [`expire_due`](Self::expire_due) told. One of another part
    /// of the machine makes no sense here.
    pub fn apply(&mut self, change: Change, revision: u64) -> Answer {
        match change {
            Change::Queue { .. } | Change::Push { .. } | Change::Pop { .. } | Change::Remove { .. } => {
                Answer::Malformed("a change of the queue, not of a key".into())
            }
            Change::Set { key, value, condition, want_old } => {
                self.set(key, value, &condition, want_old, None, revision)
            }
            Change::Delete { keys } => {
                Answer::Count(keys.iter().filter(|key| self.delete(key, revision)).count() as u64)
            }
            Change::CompareAndSet { key, from, to, create } => self.compare_and_set(key, &from, to, create, revision),
            Change::Add { key, delta } => self.add(key, delta, revision),
            Change::Raise { key, to } => self.raise(key, to, revision),
            Change::Append { key, value } => self.append(key, value, revision),
            Change::SetExpiring { key, value, condition, want_old, lifetime } => {
                self.set(key, value, &condition, want_old, Some(lifetime), revision)
            }
            Change::Expire { key, after_ms, condition } => self.expire(key, after_ms, condition, revision),
            Change::Persist { key } => self.persist(key, revision),
            Change::GetDelete { key } => self.get_delete(&key, revision),
            Change::Concatenate { key, value } => self.concatenate(key, &value, revision),
            Change::SetAll { items, if_absent } => self.set_all(items, if_absent, revision),
        }
    }

    fn set(
        &mut self,
        key: Bytes,
        value: Bytes,
        condition: &Condition,
        want_old: bool,
        lifetime: Option<Lifetime>,
        revision: u64,
    ) -> Answer {
        let current = self.get(&key).map(|value| &value.bytes);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Equals(expected) => current == Some(expected),
        };
        let old = current.filter(|_| want_old).cloned();
        if holds {
            match lifetime {
                None => drop(self.expiries.remove(&key)),
                Some(Lifetime::Kept) => {}
                Some(Lifetime::Milliseconds(ms)) => {
                    self.expiries.set(key.clone(), LogTime(self.now.0.saturating_add(ms)));
                }
            }
            self.put(key, Value { bytes: value, revision });
        }
        Answer::Set { revision: holds.then_some(revision), old }
    }

    fn compare_and_set(&mut self, key: Bytes, from: &Bytes, to: Bytes, create: bool, revision: u64) -> Answer {
        match self.get(&key) {
            None if !create => return Answer::Missing,
            Some(found) if found.bytes != *from => return Answer::Different { actual: found.bytes.clone() },
            _ => self.put_lasting(key, Value { bytes: to, revision }),
        }
        Answer::Set { revision: Some(revision), old: None }
    }

    /// Sets a key, which does not expire then.
    pub(super) fn put_lasting(&mut self, key: Bytes, value: Value) {
        self.expiries.remove(&key);
        self.put(key, value);
    }

    /// Sets a key, which does not expire then.
    pub(super) fn overwrite(&mut self, key: &[u8], value: &[u8], revision: u64) {
        let Some(item) = self.entries.get_mut(key) else {
            let value = Value { bytes: Bytes::copy_from_slice(value), revision };
            return self.put_lasting(Bytes::copy_from_slice(key), value);
        };
        self.expiries.remove(key);
        self.digest = self.digest.wrapping_sub(item.digest);
        item.overwrite(key, value, revision);
        self.digest = self.digest.wrapping_add(item.digest);
    }

    /// Sets a key. If it expires, it goes on to.
    pub(super) fn put(&mut self, key: Bytes, value: Value) {
        let item = Item::new(&key, value);
        self.digest = self.digest.wrapping_add(item.digest);
        if let Some(current) = self.entries.get_mut(&key) {
            self.digest = self.digest.wrapping_sub(current.digest);
            *current = item;
        } else {
            self.scan_index.insert(key.clone());
            self.entries.insert(key, item);
        }
    }

    /// Deletes a key at this log index; whether it was there.
    pub(super) fn delete(&mut self, key: &Bytes, index: u64) -> bool {
        let Some(item) = self.entries.remove(key) else { return false };
        self.digest = self.digest.wrapping_sub(item.digest);
        self.scan_index.remove(key);
        self.expiries.remove(key);
        self.note_change(key, index);
        true
    }

    /// Something other than a key has changed that has this name.
    pub(super) fn note_change(&mut self, name: &[u8], index: u64) {
        self.changes.note(name, index);
    }

    /// The log index after which nothing that is not a key any more, or is a topic, has changed under this name.
    pub(super) fn last_change(&self, name: &[u8]) -> u64 {
        self.changes.last(name)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key).map(Item::value)
    }

    /// Brings these keys' values, and the way to them, into the processor's cache: as many at a time as it can.
    pub(super) fn fetch<'a>(&'a self, keys: impl Iterator<Item = &'a [u8]>) {
        let values: Vec<&[u8]> = self.entries.guess_all(keys).into_iter().map(|item| &item.value.bytes[..]).collect();
        for value in values {
            let lines = value.iter().take(FETCHED_BYTES).step_by(CACHE_LINE_BYTES);
            black_box(lines.fold(0, |all, byte| all ^ byte));
        }
    }

    /// Whether a transaction's condition holds.
    pub fn holds(&self, guard: &Guard) -> bool {
        self.get(&guard.key).map(|value| value.revision) == guard.revision
    }

    /// All keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Value)> {
        self.entries.range(Bound::Unbounded).map(|(key, item)| (key, item.value()))
    }

    /// All keys and values as they are now, however the store changes afterwards.
    pub(super) fn entries(&self) -> CowMap<Item> {
        self.entries.clone()
    }

    /// The times at which keys expire and the last changes, as they are now.
    pub(super) fn tables(&self) -> (Table<u64>, Table<u64>) {
        (self.expiries.table(), self.changes.table())
    }

    /// Number of keys.
    pub fn len(&self) -> u64 {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// A hash of all keys, values and revisions, and of when keys expire, kept up to date with every change.
    pub fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.expiries.digest())
    }

    /// A hash of what is remembered of changes.
    pub(super) fn changes_digest(&self) -> u64 {
        self.changes.digest()
    }

    /// The keys that begin with `prefix` and come after `after`, in order: at most `limit`, at most [`MAX_ITEMS`], and
    /// no more than fit into `max_bytes`, but always the first.
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: u64, max_bytes: usize) -> Page {
        let limit = limit.min(MAX_ITEMS) as usize;
        let mut page = Page { items: Vec::new(), more: false };
        let mut bytes = 0;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let following = self.entries.range(start).map(|(key, item)| (key, item.value()));
        for (key, value) in following.take_while(|(key, _)| key.starts_with(prefix)) {
            bytes += item_bytes(key, value);
            if page.items.len() == limit || (bytes > max_bytes && !page.items.is_empty()) {
                page.more = true;
                break;
            }
            page.items.push((key.clone(), value.clone()));
        }
        page
    }

    /// About `count` keys from `cursor` on, and as well of `others`, those that match the glob, and the cursor to go on from.
    pub(super) fn scan(
        &self,
        others: &ScanIndex,
        cursor: u64,
        count: u64,
        pattern: Option<&[u8]>,
    ) -> (u64, Vec<Bytes>) {
        let glob = pattern.map(Glob::new);
        let keep = |key: &[u8]| glob.as_ref().is_none_or(|glob| glob.matches(key));
        self.scan_index.page(others, cursor, count.clamp(1, MAX_ITEMS), keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &'static str, value: &'static str, condition: Condition) -> Change {
        Change::Set { key: key.into(), value: value.into(), condition, want_old: true }
    }

    fn put(store: &mut KeyValue, key: &'static str, value: &'static str, revision: u64) {
        store.apply(set(key, value, Condition::Always), revision);
    }

    fn store(items: &[(&'static str, &'static str)]) -> KeyValue {
        let mut store = KeyValue::default();
        for (position, (key, value)) in items.iter().enumerate() {
            put(&mut store, key, value, position as u64 + 1);
        }
        store
    }

    fn done(revision: u64, old: Option<&'static str>) -> Answer {
        Answer::Set { revision: Some(revision), old: old.map(Bytes::from) }
    }

    fn not_done(old: Option<&'static str>) -> Answer {
        Answer::Set { revision: None, old: old.map(Bytes::from) }
    }

    #[test]
    fn set_obeys_its_condition_and_tells_the_old_value() {
        let mut store = KeyValue::default();
        assert_eq!(store.apply(set("a", "1", Condition::Present), 1), not_done(None));
        assert_eq!(store.apply(set("a", "1", Condition::Equals("".into())), 2), not_done(None));
        assert_eq!(store.apply(set("a", "1", Condition::Absent), 3), done(3, None));
        assert_eq!(store.apply(set("a", "2", Condition::Absent), 4), not_done(Some("1")));
        assert_eq!(store.apply(set("a", "2", Condition::Present), 5), done(5, Some("1")));
        assert_eq!(store.apply(set("a", "3", Condition::Equals("1".into())), 6), not_done(Some("2")));
        assert_eq!(store.apply(set("a", "3", Condition::Equals("2".into())), 7), done(7, Some("2")));
        assert_eq!(store.get(b"a"), Some(&Value { bytes: "3".into(), revision: 7 }));
    }

    #[test]
    fn compare_and_set_tells_missing_from_different() {
        let mut store = KeyValue::default();
        let cas = |from: &'static str, to: &'static str, create| Change::CompareAndSet {
            key: "a".into(),
            from: from.into(),
            to: to.into(),
            create,
        };
        assert_eq!(store.apply(cas("1", "2", false), 1), Answer::Missing);
        assert_eq!(store.apply(cas("1", "2", true), 2), done(2, None));
        assert_eq!(store.apply(cas("1", "3", true), 3), Answer::Different { actual: "2".into() });
        assert_eq!(store.apply(cas("2", "3", false), 4), done(4, None));
        assert_eq!(store.get(b"a"), Some(&Value { bytes: "3".into(), revision: 4 }));
    }

    #[test]
    fn delete_counts_a_key_named_twice_once() {
        let mut store = store(&[("a", "1"), ("b", "2")]);
        let keys: Vec<Bytes> = vec!["a".into(), "a".into(), "x".into()];
        assert_eq!(store.apply(Change::Delete { keys }, 3), Answer::Count(1));
        assert_eq!((store.len(), store.is_empty()), (1, false));
    }

    #[test]
    fn list_is_bounded_by_prefix_start_number_and_bytes() {
        let store = store(&[("", "0"), ("a", "1"), ("a:1", "2"), ("a:2", "3"), ("a:3", "4"), ("b", "5")]);
        let keys = |prefix: &str, after: Option<&str>, limit, max_bytes| {
            let page = store.list(prefix.as_bytes(), after.map(str::as_bytes), limit, max_bytes);
            let keys: Vec<_> = page.items.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
            (keys.join(" "), page.more)
        };
        assert_eq!(keys("", None, 100, 1000), (" a a:1 a:2 a:3 b".into(), false));
        assert_eq!(keys("", Some(""), 1, 1000), ("a".into(), true));
        assert_eq!(keys("a:", None, 100, 1000), ("a:1 a:2 a:3".into(), false));
        assert_eq!(keys("a:", Some("a"), 2, 1000), ("a:1 a:2".into(), true));
        assert_eq!(keys("a:", Some("a:2"), 1, 1000), ("a:3".into(), false));
        assert_eq!(keys("a:", Some("b"), 1, 1000), ("".into(), false));
        assert_eq!(keys("a:", None, 100, 60), ("a:1 a:2".into(), true));
        assert_eq!(keys("a:", None, 100, 0), ("a:1".into(), true));
        assert_eq!(keys("a:", None, 0, 1000), ("".into(), true));
    }

    #[test]
    fn a_value_that_is_overwritten_gives_its_memory_to_the_next_unless_somebody_holds_it() {
        let mut store = KeyValue::default();
        let place = |store: &KeyValue| store.get(b"a").unwrap().bytes.as_ptr();
        store.overwrite(b"a", b"one", 1);
        let first = place(&store);
        store.overwrite(b"a", b"two", 2);
        assert_eq!(place(&store), first);
        let held = store.get(b"a").unwrap().clone();
        store.overwrite(b"a", b"3rd", 3);
        assert_ne!(place(&store), first);
        store.overwrite(b"a", b"longer", 4);
        let all: Vec<_> = store.iter().collect();
        assert_eq!(all, [(&"a".into(), &Value { bytes: "longer".into(), revision: 4 })]);
        assert_eq!(held, Value { bytes: "two".into(), revision: 2 });
    }

    #[test]
    fn digest_depends_on_the_content_alone() {
        let mut one = store(&[("a", "1"), ("b", "2")]);
        let mut other = KeyValue::default();
        put(&mut other, "c", "3", 9);
        put(&mut other, "b", "2", 2);
        put(&mut other, "a", "7", 8);
        put(&mut other, "a", "1", 1);
        assert_ne!(one.digest(), other.digest());
        other.apply(Change::Delete { keys: vec!["c".into()] }, 10);
        assert_eq!(one.digest(), other.digest());
        put(&mut one, "a", "1", 11);
        assert_ne!(one.digest(), other.digest(), "the revision is part of the state");
        one.apply(Change::Delete { keys: vec!["a".into(), "b".into()] }, 12);
        assert_eq!(one.digest(), KeyValue::default().digest());
    }
}
