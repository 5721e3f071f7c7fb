//! `kafka`: clients send to logs, and read some of them on and on.
//!
//! A client is given some logs from time to time. It goes on with them where their committed offsets say, polls what comes, and commits
//! how far it has come. At the end every node is asked for all of every log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Generator;
use crate::runtime::simulated::dice::Dice;

/// A client is given other logs once in so many requests.
const REASSIGNED_ONCE_IN: u64 = 40;

pub struct Kafka {
    keys: usize,
    messages: u64,
    readers: Vec<Reader>,
}

/// What a client reads.
#[derive(Clone, Default)]
struct Reader {
    /// The logs it reads, and what it asks next of each.
    next: BTreeMap<String, u64>,
    /// It has not yet asked where to go on.
    fresh: bool,
}

impl Kafka {
    pub fn new(clients: usize, keys: usize) -> Self {
        Kafka { keys, messages: 0, readers: vec![Reader::default(); clients] }
    }

    fn some_keys(&self, dice: &mut Dice) -> Vec<String> {
        let all: Vec<usize> = (0..self.keys).collect();
        let mut some = dice.some(&all);
        if some.is_empty() {
            some.push(dice.below(self.keys as u64) as usize);
        }
        some.iter().map(ToString::to_string).collect()
    }
}

impl Generator for Kafka {
    fn next(&mut self, client: usize, dice: &mut Dice) -> Value {
        let (what, some) = (dice.below(8), self.some_keys(dice));
        let reassigned = dice.once_in(REASSIGNED_ONCE_IN);
        let Some(reader) = self.readers.get_mut(client) else { return self.probe() };
        if reassigned || reader.next.is_empty() {
            *reader = Reader { next: some.iter().map(|key| (key.clone(), 0)).collect(), fresh: true };
        }
        match what {
            0..=3 => {
                self.messages += 1;
                json!({"type": "send", "key": some.first(), "msg": self.messages})
            }
            _ if reader.fresh => {
                reader.fresh = false;
                json!({"type": "list_committed_offsets", "keys": reader.next.keys().collect::<Vec<_>>()})
            }
            4..=6 => json!({"type": "poll", "offsets": reader.next}),
            _ => {
                let read = reader.next.iter().filter_map(|(key, next)| Some((key, next.checked_sub(1)?)));
                let offsets: BTreeMap<_, _> = read.collect();
                match offsets.is_empty() {
                    true => json!({"type": "poll", "offsets": reader.next}),
                    false => json!({"type": "commit_offsets", "offsets": offsets}),
                }
            }
        }
    }

    fn answered(&mut self, client: usize, request: &Value, answer: &Value) {
        let Some(reader) = self.readers.get_mut(client) else { return };
        let next = match request["type"].as_str() {
            Some("poll") => polled(answer),
            Some("list_committed_offsets") => {
                let offsets = answer["offsets"].as_object().into_iter().flatten();
                offsets.filter_map(|(key, upto)| Some((key.clone(), upto.as_u64()?.checked_add(1)?))).collect()
            }
            _ => BTreeMap::new(),
        };
        for (key, offset) in next {
            if let Some(place) = reader.next.get_mut(&key) {
                *place = offset;
            }
        }
    }

    fn replaced(&mut self, client: usize) {
        if let Some(reader) = self.readers.get_mut(client) {
            *reader = Reader::default();
        }
    }

    fn probe(&self) -> Value {
        json!({"type": "list_committed_offsets", "keys": ["0"]})
    }

    fn at_rest(&self, _node: usize, _nodes: usize) -> Vec<Value> {
        (0..self.keys).map(|key| json!({"type": "poll", "offsets": {key.to_string(): 0}})).collect()
    }

    fn further(&self, _request: &Value, answer: &Value) -> Option<Value> {
        let next = polled(answer);
        (!next.is_empty()).then(|| json!({"type": "poll", "offsets": next}))
    }
}

/// The offsets after those that were polled.
fn polled(answer: &Value) -> BTreeMap<String, u64> {
    let logs = answer["msgs"].as_object().into_iter().flatten();
    logs.filter_map(|(key, messages)| Some((key.clone(), messages.as_array()?.last()?[0].as_u64()?.checked_add(1)?)))
        .collect()
}
