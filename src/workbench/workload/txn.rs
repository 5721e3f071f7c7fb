//! `txn-list-append` and `txn-rw-register`: transactions of one to four reads and writes.
//!
//! No value is written twice to one key. Some keys are used more often than others, and each is written to only so often.

use serde_json::{Value, json};

use super::{Generator, Keys};
use crate::runtime::simulated::dice::Dice;

/// How often a key is written to.
const WRITES_MAX: u64 = 32;
const LENGTH_MAX: u64 = 4;

pub struct Txn {
    verb: &'static str,
    keys: Keys,
    values: u64,
}

impl Txn {
    /// Transactions that write with this verb.
    pub fn new(verb: &'static str, keys: usize) -> Self {
        Txn { verb, keys: Keys::new(keys, WRITES_MAX), values: 0 }
    }

    fn step(&mut self, dice: &mut Dice) -> Value {
        let place = self.keys.pick(true, dice);
        if dice.once_in(2) {
            return json!(["r", self.keys.get(place), null]);
        }
        self.values += 1;
        json!([self.verb, self.keys.take(place), self.values])
    }
}

impl Generator for Txn {
    fn next(&mut self, _client: usize, dice: &mut Dice) -> Value {
        let length = dice.between(1, LENGTH_MAX);
        let steps: Vec<_> = (0..length).map(|_| self.step(dice)).collect();
        json!({"type": "txn", "txn": steps})
    }

    fn probe(&self) -> Value {
        json!({"type": "txn", "txn": [["r", self.keys.get(0), null]]})
    }

    fn at_rest(&self, node: usize, nodes: usize) -> Vec<Value> {
        let reads: Vec<_> = self.keys.share(node, nodes).map(|key| json!(["r", key, null])).collect();
        reads.chunks(LENGTH_MAX as usize).map(|steps| json!({"type": "txn", "txn": steps})).collect()
    }
}
