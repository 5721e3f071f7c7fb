//! What clients ask, workload by workload, as Maelstrom's do.

mod alone;
mod counter;
mod kafka;
mod lin_kv;
mod set;
mod txn;

use serde_json::{Value, json};

use crate::gateway::maelstrom::Workload;
use crate::runtime::simulated::dice::Dice;

/// Draws requests.
pub trait Generator: Send {
    /// The next request of the client in this place.
    fn next(&mut self, client: usize, dice: &mut Dice) -> Value;

    /// What came of one, if it is any news to the client.
    fn answered(&mut self, _client: usize, _request: &Value, _answer: &Value) {}

    /// Another client takes this place, and knows nothing of what was before.
    fn replaced(&mut self, _client: usize) {}

    /// A request that changes nothing, to see whether a node serves.
    fn probe(&self) -> Value;

    /// What to ask a node, one of so many, when all is over.
    fn at_rest(&self, _node: usize, _nodes: usize) -> Vec<Value> {
        Vec::new()
    }

    /// What to ask further after this answer to a request at rest.
    fn further(&self, _request: &Value, _answer: &Value) -> Option<Value> {
        None
    }
}

/// The requests of a workload, of so many clients, with so many keys in use at a time.
pub fn generator(workload: Workload, clients: usize, keys: usize) -> Box<dyn Generator> {
    match workload {
        Workload::LinKv => Box::new(lin_kv::LinKv::new(keys)),
        Workload::TxnListAppend => Box::new(txn::Txn::new("append", keys)),
        Workload::TxnRwRegister => Box::new(txn::Txn::new("w", keys)),
        Workload::Kafka => Box::new(kafka::Kafka::new(clients, keys)),
        Workload::Broadcast => Box::new(set::Set::new("broadcast", "message")),
        Workload::GSet => Box::new(set::Set::new("add", "element")),
        Workload::GCounter => Box::new(counter::Counter { least: 0 }),
        Workload::PnCounter => Box::new(counter::Counter { least: -5 }),
        Workload::Echo => Box::new(alone::Echo { asked: 0 }),
        Workload::UniqueIds => Box::new(alone::UniqueIds),
    }
}

/// The keys that are in use: one that has been written to so often is replaced by a new one.
struct Keys {
    /// Each with how often it has been used.
    active: Vec<(u64, u64)>,
    next: u64,
    uses_max: u64,
}

impl Keys {
    fn new(count: usize, uses_max: u64) -> Self {
        let next = count.max(1) as u64;
        Keys { active: (0..next).map(|key| (key, 0)).collect(), next, uses_max }
    }

    /// One of them. Each comes twice as often as the one before it, if `uneven`.
    fn pick(&self, uneven: bool, dice: &mut Dice) -> usize {
        let last = self.active.len() - 1;
        match uneven {
            true => last - (0..last).find(|_| dice.once_in(2)).unwrap_or(last),
            false => dice.below(last as u64 + 1) as usize,
        }
    }

    /// The key in this place is used.
    fn take(&mut self, place: usize) -> u64 {
        let Some((key, uses)) = self.active.get_mut(place) else { return 0 };
        let taken = *key;
        *uses += 1;
        if *uses >= self.uses_max {
            (*key, *uses) = (self.next, 0);
            self.next += 1;
        }
        taken
    }

    /// The key in this place.
    fn get(&self, place: usize) -> u64 {
        self.active.get(place).map_or(0, |(key, _)| *key)
    }

    /// All that there have been, shared out among nodes.
    fn share(&self, node: usize, nodes: usize) -> impl Iterator<Item = u64> {
        (0..self.next).filter(move |key| *key as usize % nodes.max(1) == node)
    }
}

/// A read without a key.
fn read() -> Value {
    json!({"type": "read"})
}

#[cfg(test)]
mod tests;
