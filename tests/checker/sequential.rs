//! Invents histories of Maelstrom's workloads that a correct cluster could have produced: one store answers one request after
//! the other, and its clients know only roughly when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft::gateway::maelstrom::Workload;
use raft::workbench::history::{Operation, Outcome};
use serde_json::{Value, json};

use crate::dice::Dice;

/// What a history should be like.
#[derive(Clone, Copy)]
pub struct Plan {
    pub operations: u64,
    pub keys: u64,
    /// Requests take effect up to so many milliseconds after they began, and end up to so long after that. One takes effect
    /// every 5.
    pub width: u64,
    /// One outcome in so many is unknown; 0: none.
    pub vague: u64,
}

/// A store that serves every workload, alone.
#[derive(Clone, Default)]
pub struct Store {
    registers: BTreeMap<String, Value>,
    lists: BTreeMap<String, Vec<Value>>,
    committed: BTreeMap<String, u64>,
    elements: BTreeSet<String>,
    sum: i64,
    ids: u64,
}

impl Store {
    /// Carries out a request. Fails with the code of a definite error.
    pub fn answer(&mut self, workload: Workload, request: &Value) -> Result<Value, u64> {
        let key = request["key"].to_string();
        let offsets = || request["offsets"].as_object().unwrap().iter();
        let mut body = match request["type"].as_str().unwrap() {
            "read" if request.get("key").is_some() => json!({"value": self.registers.get(&key).ok_or(20u64)?}),
            "read" if matches!(workload, Workload::GCounter | Workload::PnCounter) => json!({"value": self.sum}),
            "read" => {
                let all: Vec<Value> = self.elements.iter().map(|element| element.parse().unwrap()).collect();
                json!({"value": all, "messages": all})
            }
            "write" => {
                self.registers.insert(key, request["value"].clone());
                json!({})
            }
            "cas" => {
                let value = match self.registers.get(&key) {
                    None if request["create_if_not_exists"] == true => None,
                    None => return Err(20),
                    Some(value) => Some(value),
                };
                if value.is_some_and(|value| *value != request["from"]) {
                    return Err(22);
                }
                self.registers.insert(key, request["to"].clone());
                json!({})
            }
            "broadcast" => {
                self.elements.insert(request["message"].to_string());
                json!({})
            }
            "add" => {
                self.sum += request["delta"].as_i64().unwrap_or(0);
                self.elements.extend(request.get("element").map(Value::to_string));
                json!({})
            }
            "send" => {
                let list = self.lists.entry(key).or_default();
                list.push(request["msg"].clone());
                json!({"offset": list.len() - 1})
            }
            "poll" => {
                let log = |(key, from): (&String, &Value)| {
                    let list = self.lists.get(&Value::from(key.as_str()).to_string());
                    let all = (0..).zip(list.into_iter().flatten()).skip(from.as_u64().unwrap() as usize);
                    (key.clone(), all.map(|(offset, message): (u64, _)| json!([offset, message])).take(5).collect())
                };
                json!({"msgs": Value::Object(offsets().map(log).collect())})
            }
            "commit_offsets" => {
                for (key, offset) in offsets() {
                    let known = self.committed.entry(key.clone()).or_default();
                    *known = offset.as_u64().unwrap().max(*known);
                }
                json!({})
            }
            "list_committed_offsets" => json!({"offsets": self.committed}),
            "txn" => {
                json!({"txn": request["txn"].as_array().unwrap().iter().map(|step| self.step(workload, step)).collect::<Vec<_>>()})
            }
            "echo" => json!({"echo": request["echo"]}),
            "generate" => {
                self.ids += 1;
                json!({"id": self.ids})
            }
            other => panic!("{other}"),
        };
        body["type"] = format!("{}_ok", request["type"].as_str().unwrap()).into();
        Ok(body)
    }

    fn step(&mut self, workload: Workload, step: &Value) -> Value {
        let key = step[1].to_string();
        let value = match step[0].as_str().unwrap() {
            "append" => {
                self.lists.entry(key).or_default().push(step[2].clone());
                step[2].clone()
            }
            "w" => {
                self.registers.insert(key, step[2].clone());
                step[2].clone()
            }
            _ if workload == Workload::TxnListAppend => self.lists.get(&key).map_or(Value::Null, |list| json!(list)),
            _ => self.registers.get(&key).cloned().unwrap_or_default(),
        };
        json!([step[0], step[1], value])
    }
}

/// A request of this workload. The number is another one each time.
fn request(dice: &mut Dice, workload: Workload, keys: u64, number: u64) -> Value {
    let key = dice.below(keys);
    let log = format!("k{key}");
    match (workload, dice.below(4)) {
        (Workload::LinKv, 0) => json!({"type": "write", "key": key, "value": dice.below(4)}),
        (Workload::LinKv, 1) => {
            let create = dice.once_in(3);
            json!({"type": "cas", "key": key, "from": dice.below(4), "to": dice.below(4), "create_if_not_exists": create})
        }
        (Workload::LinKv, _) => json!({"type": "read", "key": key}),
        (Workload::TxnListAppend, _) => transaction(dice, "append", keys, number),
        (Workload::TxnRwRegister, _) => transaction(dice, "w", keys, number),
        (Workload::Kafka, 0) => json!({"type": "send", "key": log, "msg": number}),
        (Workload::Kafka, 1) => json!({"type": "poll", "offsets": {log: dice.below(number / keys / 4 + 1)}}),
        (Workload::Kafka, 2) => json!({"type": "commit_offsets", "offsets": {log: dice.below(10)}}),
        (Workload::Kafka, _) => json!({"type": "list_committed_offsets", "keys": [log]}),
        (Workload::Broadcast, 0) => json!({"type": "broadcast", "message": number}),
        (Workload::GSet, 0) => json!({"type": "add", "element": number}),
        (Workload::GCounter, 0) => json!({"type": "add", "delta": dice.below(5)}),
        (Workload::PnCounter, 0) => json!({"type": "add", "delta": dice.below(9) as i64 - 4}),
        (Workload::Echo, _) => json!({"type": "echo", "echo": number}),
        (Workload::UniqueIds, _) => json!({"type": "generate"}),
        _ => json!({"type": "read"}),
    }
}

fn transaction(dice: &mut Dice, write: &str, keys: u64, number: u64) -> Value {
    let step = |place| match dice.below(2) {
        0 => json!(["r", dice.below(keys), null]),
        _ => json!([write, dice.below(keys), number * 10 + place]),
    };
    let steps: Vec<Value> = (0..1 + number % 4).map(step).collect();
    json!({"type": "txn", "txn": steps})
}

/// Each operation that takes effect does so at a moment of its own, in the order of the result; at the end come those at rest.
pub fn invent(dice: &mut Dice, workload: Workload, plan: Plan) -> Vec<Operation> {
    let mut store = Store::default();
    let mut history: Vec<Operation> = Vec::new();
    // By process: when its last operation ended.
    let mut processes: Vec<Duration> = Vec::new();
    let mut clock = plan.width * 20;
    for number in 1..=plan.operations {
        clock += 1 + dice.below(10);
        let request = request(dice, workload, plan.keys, number);
        let mut began = clock - dice.below(plan.width);
        let mut ended = clock + dice.below(plan.width);
        let fate = if plan.vague == 0 { 9 } else { dice.below(2 * plan.vague) };
        let happens = fate > 0;
        let mut outcome = if happens { answered(store.answer(workload, &request)) } else { refused(11) };
        if fate <= 1 && (happens || dice.once_in(2)) {
            outcome = Outcome::Unknown("no answer".into());
            // It may happen long after its client has given up.
            began -= dice.below(plan.width * 10);
            ended = began + dice.below(plan.width);
        }
        let (began, ended) = (Duration::from_millis(began), Duration::from_millis(ended));
        let process = processes.iter().position(|last| *last < began).unwrap_or(processes.len());
        let busy = if matches!(outcome, Outcome::Unknown(_)) { Duration::MAX } else { ended };
        if process == processes.len() {
            processes.push(busy)
        } else {
            processes[process] = busy
        }
        history.push(Operation { process: process as u64, node: 0, request, outcome, began, ended, at_rest: false });
    }
    rest(&mut store, workload, plan, &mut history, clock * 2);
    history
}

fn answered(answer: Result<Value, u64>) -> Outcome {
    answer.map_or_else(refused, Outcome::Answered)
}

fn refused(code: u64) -> Outcome {
    Outcome::Refused { code, text: "no".into() }
}

/// What is asked at the end.
fn rest(store: &mut Store, workload: Workload, plan: Plan, history: &mut Vec<Operation>, mut clock: u64) {
    let mut ask = |request: Value| {
        clock += 10;
        let outcome = answered(store.answer(workload, &request));
        let (began, ended) = (Duration::from_millis(clock), Duration::from_millis(clock + 1));
        history.push(Operation { process: 1_000_000, node: 0, request, outcome, began, ended, at_rest: true });
    };
    match workload {
        Workload::Broadcast | Workload::GSet | Workload::GCounter | Workload::PnCounter => ask(json!({"type": "read"})),
        Workload::Kafka => {
            for key in (0..plan.keys).map(|key| format!("k{key}")) {
                (0..plan.operations + 5)
                    .step_by(5)
                    .for_each(|from| ask(json!({"type": "poll", "offsets": {&key: from}})));
            }
        }
        _ => {}
    }
}
