//! `echo` and `unique-ids`: what a node answers by itself.

use serde_json::{Value, json};

use super::Generator;
use crate::runtime::simulated::dice::Dice;

pub struct Echo {
    /// How many requests there have been.
    pub asked: u64,
}

impl Generator for Echo {
    fn next(&mut self, _client: usize, dice: &mut Dice) -> Value {
        self.asked += 1;
        json!({"type": "echo", "echo": format!("Please echo {} ({})", dice.below(128), self.asked)})
    }

    fn probe(&self) -> Value {
        json!({"type": "echo", "echo": "Is anybody there?"})
    }
}

pub struct UniqueIds;

impl Generator for UniqueIds {
    fn next(&mut self, _client: usize, _dice: &mut Dice) -> Value {
        self.probe()
    }

    fn probe(&self) -> Value {
        json!({"type": "generate"})
    }
}
