//! Values that are numbers, in decimal: sums, maxima, and the lengths of lists whose elements are keys of their own.

use bytes::Bytes;

use super::command::{Answer, Value};
use super::kv::KeyValue;

/// The key of a list's element: the list's key and then the offset, 8 bytes, big-endian. So the elements of a list
/// follow its key, in order.
pub fn element_key(list: &[u8], offset: u64) -> Bytes {
    [list, &offset.to_be_bytes()].concat().into()
}

impl KeyValue {
    /// Adds to a number.
    pub(super) fn add(&mut self, key: Bytes, delta: i64, revision: u64) -> Answer {
        self.calculate(key, revision, |current| current.unwrap_or(0).checked_add(delta))
    }

    /// Makes a number at least so large.
    pub(super) fn raise(&mut self, key: Bytes, to: i64, revision: u64) -> Answer {
        self.calculate(key, revision, |current| Some(current.map_or(to, |current| current.max(to))))
    }

    /// Appends to a list.
    pub(super) fn append(&mut self, key: Bytes, value: Bytes, revision: u64) -> Answer {
        let length = match self.number(&key) {
            Ok(length) => length.unwrap_or(0),
            Err(why) => return Answer::Malformed(why),
        };
        let (Ok(offset), Some(longer)) = (u64::try_from(length), length.checked_add(1)) else {
            return Answer::Malformed(format!("the key holds {length}, which is not the length of a list"));
        };
        self.put(element_key(&key, offset), Value { bytes: value, revision });
        self.put(key, Value { bytes: longer.to_string().into(), revision });
        Answer::Count(offset)
    }

    fn calculate(&mut self, key: Bytes, revision: u64, new: impl FnOnce(Option<i64>) -> Option<i64>) -> Answer {
        let current = match self.number(&key) {
            Ok(current) => current,
            Err(why) => return Answer::Malformed(why),
        };
        let Some(number) = new(current) else {
            return Answer::Malformed("increment or decrement would overflow".into());
        };
        let value = Value { bytes: number.to_string().into(), revision };
        self.put(key, value.clone());
        Answer::Value(Some(value))
    }

    /// The number that a key holds. Errors are in Redis' words, which its clients look for.
    fn number(&self, key: &[u8]) -> Result<Option<i64>, String> {
        let number = self.get(key).map(|value| parse(&value.bytes).ok_or("value is not an integer or out of range"));
        Ok(number.transpose()?)
    }
}

/// A number of 64 bits with sign, written as it would be here: no plus, no zeros in front.
pub fn parse(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = matches!(text.as_bytes(), [b'0'] | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..]);
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::command::{Change, Condition, MAX_ITEMS};

    fn told(number: i64, revision: u64) -> Answer {
        Answer::Value(Some(Value { bytes: number.to_string().into(), revision }))
    }

    fn holding(key: &'static str, value: &'static str) -> KeyValue {
        let mut store = KeyValue::default();
        let set = Change::Set { key: key.into(), value: value.into(), condition: Condition::Always, want_old: false };
        store.apply(set, 1);
        store
    }

    #[test]
    fn sums_begin_at_zero_and_maxima_only_grow() {
        let mut store = KeyValue::default();
        let add = |delta| Change::Add { key: "sum".into(), delta };
        let raise = |to| Change::Raise { key: "max".into(), to };
        assert_eq!(store.apply(add(5), 1), told(5, 1));
        assert_eq!(store.apply(add(-7), 2), told(-2, 2));
        assert_eq!(store.apply(add(0), 3), told(-2, 3));
        assert_eq!(store.apply(raise(-3), 4), told(-3, 4));
        assert_eq!(store.apply(raise(9), 5), told(9, 5));
        assert_eq!(store.apply(raise(4), 6), told(9, 6));
        assert_eq!((store.get(b"sum"), store.get(b"max")).0.map(|value| &value.bytes[..]), Some(&b"-2"[..]));
    }

    #[test]
    fn a_list_is_dense_and_in_order() {
        let mut store = KeyValue::default();
        for number in 0..300u64 {
            let append = Change::Append { key: "log".into(), value: number.to_string().into() };
            assert_eq!(store.apply(append, number + 1), Answer::Count(number));
        }
        assert_eq!(store.get(b"log").map(|value| value.bytes.clone()), Some("300".into()));
        let all = store.list(b"log", Some(b"log"), MAX_ITEMS, usize::MAX).items;
        let values: Vec<_> = all.iter().map(|(_, value)| value.bytes.clone()).collect();
        assert_eq!(values, (0..300).map(|number: u64| Bytes::from(number.to_string())).collect::<Vec<_>>());
        let rest = store.list(b"log", Some(&element_key(b"log", 297)), MAX_ITEMS, usize::MAX).items;
        assert_eq!(
            rest.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
            [element_key(b"log", 298), element_key(b"log", 299)]
        );
    }

    #[test]
    fn what_is_no_number_is_left_alone() {
        for text in ["", "x", "1.0", "9223372036854775808", "+1", "01", "-0", "-", " 1"] {
            let mut store = holding("k", text);
            let before = store.digest();
            for change in [
                Change::Add { key: "k".into(), delta: 1 },
                Change::Raise { key: "k".into(), to: 1 },
                Change::Append { key: "k".into(), value: "v".into() },
            ] {
                assert!(matches!(store.apply(change, 2), Answer::Malformed(_)), "{text:?}");
            }
            assert_eq!(store.digest(), before);
        }
        let refused = |number: &'static str, change: Change| {
            let mut store = holding("k", number);
            let before = store.digest();
            assert!(matches!(store.apply(change, 2), Answer::Malformed(_)), "{number}");
            assert_eq!(store.digest(), before);
        };
        refused("9223372036854775807", Change::Add { key: "k".into(), delta: 1 });
        refused("-9223372036854775808", Change::Add { key: "k".into(), delta: -1 });
        refused("9223372036854775807", Change::Append { key: "k".into(), value: "v".into() });
        refused("-1", Change::Append { key: "k".into(), value: "v".into() });
    }
}
