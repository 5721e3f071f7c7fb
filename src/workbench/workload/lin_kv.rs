//! `lin-kv`: reads, writes and swaps of keys.
//!
//! No value is written twice, so that a read tells which write it saw. Most swaps expect the value that was written last, some the one
//! before. A key is used for some dozens of requests and then no more, so that it can be checked however many outcomes are unknown.

use serde_json::{Value, json};

use super::{Generator, Keys};
use crate::runtime::simulated::dice::Dice;

/// How often a key is used.
const USES_MAX: u64 = 60;
/// One in so many swaps expects an older value.
const STALE_ONCE_IN: u64 = 4;

pub struct LinKv {
    keys: Keys,
    values: u64,
    /// For each key in use, the last value and the one before, if all that was asked took effect in order.
    recent: Vec<(u64, [u64; 2])>,
}

impl LinKv {
    pub fn new(keys: usize) -> Self {
        let keys = Keys::new(keys, USES_MAX);
        let recent = keys.active.iter().map(|(key, _)| (*key, [0, 0])).collect();
        LinKv { keys, values: 0, recent }
    }

    fn write(&mut self, place: usize, key: u64) -> u64 {
        self.values += 1;
        let before = self.recent(place, key)[0];
        if let Some((_, recent)) = self.recent.get_mut(place) {
            *recent = [self.values, before];
        }
        self.values
    }

    /// What a swap expects, and the new value.
    fn swap(&mut self, place: usize, key: u64, dice: &mut Dice) -> (u64, u64) {
        let [last, before] = self.recent(place, key);
        if dice.once_in(STALE_ONCE_IN) {
            self.values += 1;
            return (before, self.values);
        }
        (last, self.write(place, key))
    }

    /// The values of the key in this place, of which there are none if it is new there.
    fn recent(&mut self, place: usize, key: u64) -> [u64; 2] {
        let Some((of, recent)) = self.recent.get_mut(place) else { return [0, 0] };
        if *of != key {
            (*of, *recent) = (key, [0, 0]);
        }
        *recent
    }
}

impl Generator for LinKv {
    fn next(&mut self, _client: usize, dice: &mut Dice) -> Value {
        let place = self.keys.pick(false, dice);
        let key = self.keys.take(place);
        match dice.below(3) {
            0 => json!({"type": "read", "key": key}),
            1 => json!({"type": "write", "key": key, "value": self.write(place, key)}),
            _ => {
                let (from, to) = self.swap(place, key, dice);
                json!({"type": "cas", "key": key, "from": from, "to": to})
            }
        }
    }

    fn probe(&self) -> Value {
        json!({"type": "read", "key": self.keys.get(0)})
    }

    fn at_rest(&self, node: usize, nodes: usize) -> Vec<Value> {
        self.keys.share(node, nodes).map(|key| json!({"type": "read", "key": key})).collect()
    }
}
