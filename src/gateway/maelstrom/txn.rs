//! The workloads `txn-list-append` and `txn-rw-register`: transactions, each one entry of the log, or one read without any.

use serde_json::value::RawValue;

use super::message::{Body, ErrorCode};
use super::request::{Next, Question, key, text};
use super::workload::Workload;
use crate::codec::json::{Object, canonical};
use crate::machine::command::{Answer, Change, Command, Condition, MAX_ITEMS, Query, Step};

/// One operation of a transaction.
struct Operation {
    verb: Verb,
    /// Canonical JSON.
    key: String,
    /// Canonical JSON; `null` in a read.
    value: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    Append,
    Write,
}

/// What keys stand for in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lists,
    Registers,
}

/// `txn {txn: [[verb, key, value], ...]}`.
pub fn run(body: &Object<'_>, workload: Workload) -> Result<Question, String> {
    let operations: Vec<(String, &RawValue, &RawValue)> = body.field("txn")?;
    let operations = operations.into_iter().map(Operation::parse).collect::<Result<Vec<_>, _>>()?;
    let kind = kind(&operations, workload)?;
    let steps: Vec<Step> = operations.iter().map(|operation| operation.step(kind)).collect();
    if operations.iter().any(|operation| operation.verb != Verb::Read) {
        let transaction = Command::Transaction { guards: Vec::new(), steps };
        return Ok(Question::write(transaction, move |answer| conclude(&operations, answer, ErrorCode::Crash)));
    }
    let queries = steps.iter().filter_map(|step| match step {
        Step::Query(query) => Some(query.encode()),
        Step::Change(_) => None,
    });
    let together = Query::Together { queries: queries.collect() };
    Ok(Question::read(&together, move |answer| conclude(&operations, answer, ErrorCode::NotSupported)))
}

/// What the keys of a transaction stand for.
fn kind(operations: &[Operation], workload: Workload) -> Result<Kind, String> {
    let has = |verb| operations.iter().any(|operation| operation.verb == verb);
    match (has(Verb::Append), has(Verb::Write), workload) {
        (true, true, _) => Err("a transaction is about lists (append) or about registers (w), not both".into()),
        (true, false, _) | (false, false, Workload::TxnListAppend) => Ok(Kind::Lists),
        (false, true, _) | (false, false, Workload::TxnRwRegister) => Ok(Kind::Registers),
        _ => Err("nodes started with --workload txn-list-append or txn-rw-register know what a transaction that only \
                  reads means"
            .into()),
    }
}

impl Operation {
    fn parse((verb, key, value): (String, &RawValue, &RawValue)) -> Result<Operation, String> {
        let verb = match verb.as_str() {
            "r" => Verb::Read,
            "append" => Verb::Append,
            "w" => Verb::Write,
            other => return Err(format!("a transaction consists of r, append and w, not of {other:?}")),
        };
        let value = if verb == Verb::Read { "null".to_owned() } else { canonical(value)?.text };
        Ok(Operation { verb, key: canonical(key)?.text, value })
    }

    fn step(&self, kind: Kind) -> Step {
        let (list, register) = (key(&["list", &self.key]), self.key.clone().into());
        let value = self.value.clone().into();
        match (self.verb, kind) {
            (Verb::Read, Kind::Lists) => {
                Step::Query(Query::List { prefix: list.clone(), after: Some(list), limit: MAX_ITEMS })
            }
            (Verb::Read, Kind::Registers) => Step::Query(Query::Get { key: register }),
            (Verb::Append, _) => Step::Change(Change::Append { key: list, value }),
            (Verb::Write, _) => {
                let condition = Condition::Always;
                Step::Change(Change::Set { key: register, value, condition, want_old: false })
            }
        }
    }

    /// The operation as it was carried out, as JSON; `Ok(None)`: what it read is too large.
    fn done(&self, answer: Answer) -> Result<Option<String>, Answer> {
        let (verb, value) = match (self.verb, answer) {
            (Verb::Append, Answer::Count(_)) => ("append", self.value.clone()),
            (Verb::Write, Answer::Set { revision: Some(_), .. }) => ("w", self.value.clone()),
            (Verb::Read, Answer::Value(None)) => ("r", "null".to_owned()),
            (Verb::Read, Answer::Value(Some(value))) => ("r", text(&value.bytes)),
            (Verb::Read, Answer::Items { items, more: false }) if items.is_empty() => ("r", "null".to_owned()),
            (Verb::Read, Answer::Items { items, more: false }) => {
                let elements: Vec<_> = items.iter().map(|(_, element)| text(&element.bytes)).collect();
                ("r", format!("[{}]", elements.join(",")))
            }
            (Verb::Read, Answer::Items { more: true, .. } | Answer::TooLarge) => return Ok(None),
            (_, other) => return Err(other),
        };
        Ok(Some(format!("[\"{verb}\",{},{value}]", self.key)))
    }
}

/// The answer to a transaction. What was read may be too large: an error with this code, for what was written has been.
fn conclude(operations: &[Operation], answer: Answer, too_large: ErrorCode) -> Result<Next, Answer> {
    let Answer::Transaction(answers) = answer else { return Err(answer) };
    let mut done = Vec::with_capacity(answers.len());
    for (operation, answer) in operations.iter().zip(&answers) {
        match Answer::decode(answer).map(|answer| operation.done(answer)) {
            Ok(Ok(Some(operation))) => done.push(operation),
            Ok(Ok(None)) => return Ok(Next::Tell(Body::error(too_large, "what the transaction read is too large"))),
            _ => return Err(Answer::Transaction(answers)),
        }
    }
    Ok(Next::Tell(Body::json("txn", "txn", format!("[{}]", done.join(",")))))
}
