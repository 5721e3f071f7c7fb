//! `broadcast` and `g-set`: elements are added, and all are read.

use serde_json::{Value, json};

use super::{Generator, read};
use crate::runtime::simulated::dice::Dice;

/// Above so many elements, reads become rarer, for each of them gets all.
const MANY: u64 = 100;

pub struct Set {
    add: &'static str,
    field: &'static str,
    elements: u64,
}

impl Set {
    /// A set to which a request of this type adds what is in this field.
    pub fn new(add: &'static str, field: &'static str) -> Self {
        Set { add, field, elements: 0 }
    }
}

impl Generator for Set {
    fn next(&mut self, _client: usize, dice: &mut Dice) -> Value {
        if dice.once_in(2 + self.elements / MANY) {
            return read();
        }
        self.elements += 1;
        json!({"type": self.add, self.field: self.elements})
    }

    fn probe(&self) -> Value {
        read()
    }

    fn at_rest(&self, _node: usize, _nodes: usize) -> Vec<Value> {
        vec![read()]
    }
}
