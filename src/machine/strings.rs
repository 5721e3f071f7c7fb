//! What Redis does with keys and values besides setting and deleting them.

use bytes::{Bytes, BytesMut};

use super::command::{Answer, ExpireCondition, MAX_CONCATENATED_BYTES, Value};
use super::kv::KeyValue;
use crate::consensus::LogTime;

impl KeyValue {
    /// Has a key expire. That is a change of the key, like any other.
    pub(super) fn expire(&mut self, key: Bytes, after_ms: i64, condition: ExpireCondition, revision: u64) -> Answer {
        let Some(value) = self.get(&key) else { return Answer::Count(0) };
        let bytes = value.bytes.clone();
        let until = LogTime(self.now.0.saturating_add_signed(after_ms));
        let current = self.expiries.get(&key);
        let holds = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::Lasting => current.is_none(),
            ExpireCondition::Expiring => current.is_some(),
            ExpireCondition::Later => current.is_some_and(|current| until > current),
            ExpireCondition::Earlier => current.is_none_or(|current| until < current),
            ExpireCondition::ExpiringEarlier => current.is_some_and(|current| until < current),
        };
        if holds && after_ms > 0 {
            self.expiries.set(key.clone(), until);
            self.put(key, Value { bytes, revision });
        } else if holds {
            self.delete(&key, revision);
        }
        Answer::Count(u64::from(holds))
    }

    /// Has a key not expire, which is a change if it would have.
    pub(super) fn persist(&mut self, key: Bytes, revision: u64) -> Answer {
        if !self.expiries.remove(&key) {
            return Answer::Count(0);
        }
        if let Some(value) = self.get(&key) {
            let bytes = value.bytes.clone();
            self.put(key, Value { bytes, revision });
        }
        Answer::Count(1)
    }

    /// Deletes a key, and tells what it was.
    pub(super) fn get_delete(&mut self, key: &Bytes, revision: u64) -> Answer {
        let value = self.get(key).cloned();
        self.delete(key, revision);
        Answer::Value(value)
    }

    /// Appends to a value.
    pub(super) fn concatenate(&mut self, key: Bytes, more: &[u8], revision: u64) -> Answer {
        let value = self.get(&key).map(|value| &value.bytes[..]).unwrap_or_default();
        let length = value.len() + more.len();
        if length > MAX_CONCATENATED_BYTES {
            return Answer::Malformed("string exceeds maximum allowed size (4 MiB by APPEND)".into());
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(more);
        self.put(key, Value { bytes: bytes.freeze(), revision });
        Answer::Count(length as u64)
    }

    /// Sets several keys, which do not expire then.
    pub(super) fn set_all(&mut self, items: Vec<(Bytes, Bytes)>, if_absent: bool, revision: u64) -> Answer {
        if if_absent && items.iter().any(|(key, _)| self.get(key).is_some()) {
            return Answer::Count(0);
        }
        for (key, bytes) in items {
            self.put_lasting(key, Value { bytes, revision });
        }
        Answer::Count(1)
    }
}
