//! `lin-kv`: reads, writes and swaps of keys.
//!
//! No value is written twice, so that a read tells which write it saw. A swap expects one of the values that were written last. A key is
//! used for some dozens of requests and then no more, so that it can be checked however many outcomes are unknown.

use serde_json::{Value, json};

use super::{Generator, Keys};
use crate::runtime::simulated::dice::Dice;

/// How often a key is used.
const USES_MAX: u64 = 60;
/// A swap expects one of so many values that were written last.
const RECENT: u64 = 2;

pub struct LinKv {
    keys: Keys,
    values: u64,
    /// For each key in use, the values that were written last, if they took effect.
    recent: Vec<(u64, Vec<u64>)>,
}

impl LinKv {
    pub fn new(keys: usize) -> Self {
        let keys = Keys::new(keys, USES_MAX);
        let recent = keys.active.iter().map(|(key, _)| (*key, Vec::new())).collect();
        LinKv { keys, values: 0, recent }
    }

    /// A new value for the key in this place, and one that it may have.
    fn value(&mut self, place: usize, key: u64, dice: &mut Dice) -> (u64, u64) {
        self.values += 1;
        let Some((of, recent)) = self.recent.get_mut(place) else { return (self.values, 0) };
        if *of != key {
            (*of, *recent) = (key, Vec::new());
        }
        let back = dice.below(RECENT) as usize;
        let old = recent.iter().rev().nth(back).or(recent.last()).copied().unwrap_or(0);
        recent.push(self.values);
        (self.values, old)
    }
}

impl Generator for LinKv {
    fn next(&mut self, _client: usize, dice: &mut Dice) -> Value {
        let place = self.keys.pick(false, dice);
        let key = self.keys.take(place);
        match dice.below(3) {
            0 => json!({"type": "read", "key": key}),
            1 => json!({"type": "write", "key": key, "value": self.value(place, key, dice).0}),
            _ => {
                let (to, from) = self.value(place, key, dice);
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
