//! What is due when: keys in the order of a time in log time.

use std::ops::Bound;

use bytes::Bytes;

use super::cow_map::CowMap;
use super::table::number_of;

/// Keys, each with a time in milliseconds. One key may have several times.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// By time and key.
    times: CowMap<()>,
}

impl Due {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.times.len()
    }

    /// The earliest time, and the first of its keys.
    pub fn first(&self) -> Option<(u64, Bytes)> {
        let (first, ()) = self.times.first()?;
        Some((number_of(first, 0)?, first.slice(8..)))
    }

    /// The first key that is due by this time.
    pub fn by(&self, ms: u64) -> Option<Bytes> {
        let (first, ()) = self.times.first()?;
        number_of(first, 0).filter(|due| *due <= ms).map(|_| first.slice(8..))
    }

    /// Adds a key with its time.
    pub fn insert(&mut self, ms: u64, key: &[u8]) {
        self.times.insert(place(ms, key), ());
    }

    /// Removes a key with its time.
    pub fn remove(&mut self, ms: u64, key: &[u8]) {
        self.times.remove(&place(ms, key));
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.times.range(Bound::Unbounded).eq(other.times.range(Bound::Unbounded))
    }
}

fn place(ms: u64, key: &[u8]) -> Bytes {
    [&ms.to_be_bytes(), key].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_due_first_comes_first() {
        let mut due = Due::default();
        assert_eq!(due.first(), None);
        for (ms, key) in [(300, "late"), (7, "b"), (7, "a"), (300, "")] {
            due.insert(ms, key.as_bytes());
        }
        assert_eq!((due.first(), due.by(6)), (Some((7, "a".into())), None));
        let mut order = Vec::new();
        while let Some(key) = due.by(300) {
            let (ms, _) = due.first().unwrap();
            due.remove(ms, &key);
            order.push((ms, key));
        }
        assert_eq!(order, [(7, "a".into()), (7, "b".into()), (300, "".into()), (300, "late".into())]);
        assert_eq!(due.len(), 0);
    }
}
