//! `g-counter` and `pn-counter`: something is added, and the sum is read.

use serde_json::{Value, json};

use super::{Generator, read};
use crate::runtime::simulated::dice::Dice;

const MOST: i64 = 5;

pub struct Counter {
    /// The least that is added, not above 5.
    pub least: i64,
}

impl Generator for Counter {
    fn next(&mut self, _client: usize, dice: &mut Dice) -> Value {
        match dice.once_in(2) {
            true => read(),
            false => {
                let delta = self.least + dice.below(self.least.abs_diff(MOST) + 1) as i64;
                json!({"type": "add", "delta": delta})
            }
        }
    }

    fn probe(&self) -> Value {
        read()
    }

    fn at_rest(&self, _node: usize, _nodes: usize) -> Vec<Value> {
        vec![read()]
    }
}
