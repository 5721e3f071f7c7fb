//! What a check finds out, on the way to a verdict: words for people.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;

use super::kind;
use crate::figures::excerpt;
use crate::workbench::history::{Operation, Outcome};
use crate::workbench::verdict::{Anomaly, Verdict};

/// So many anomalies of one name are explained. The others are only counted.
const EXAMPLES: usize = 5;
/// Longest part of a request or an answer in an explanation, in characters.
pub const EXCERPT_CHARS: usize = 300;

/// What was found so far in a history.
pub struct Findings<'a> {
    history: &'a [Operation],
    /// By name: how many, and the first of them.
    anomalies: BTreeMap<&'static str, (usize, Vec<Anomaly>)>,
    undecided: Option<String>,
    facts: Vec<(String, String)>,
}

impl<'a> Findings<'a> {
    /// Nothing so far.
    pub fn new(history: &'a [Operation]) -> Self {
        Findings { history, anomalies: BTreeMap::new(), undecided: None, facts: Vec::new() }
    }

    /// Every operation, with its place.
    pub fn operations(&self) -> impl Iterator<Item = (usize, &'a Operation)> + use<'a> {
        self.history.iter().enumerate()
    }

    /// The operation at this place.
    pub fn operation(&self, at: usize) -> &'a Operation {
        &self.history[at]
    }

    /// The body of the answer, if there is one, and it is one to the request.
    pub fn answer(&mut self, at: usize) -> Option<&'a Value> {
        let operation = &self.history[at];
        let Outcome::Answered(body) = &operation.outcome else { return None };
        let expected = format!("{}_ok", kind(operation));
        if body["type"] == expected.as_str() {
            return Some(body);
        }
        self.malformed(at, format_args!("its type is not {expected:?}"));
        None
    }

    /// An answer is not what the protocol says.
    pub fn malformed(&mut self, at: usize, why: impl Display) {
        self.anomaly("malformed answer", &[at], || format!("An answer makes no sense: {why}."));
    }

    /// Something cannot have been: why, before the operations that it is about, as lines.
    pub fn anomaly(&mut self, name: &'static str, operations: &[usize], why: impl FnOnce() -> String) {
        self.anomaly_in_words(name, operations, |findings| why() + &findings.lines(operations));
    }

    /// Something cannot have been: all that there is to say. Nobody is asked for it if that has been said often enough, for an
    /// operation in words may take as long as many are to be looked at.
    pub fn anomaly_in_words(
        &mut self,
        name: &'static str,
        operations: &[usize],
        explanation: impl FnOnce(&Self) -> String,
    ) {
        let (count, examples) = self.anomalies.entry(name).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            let anomaly = Anomaly { name, explanation: explanation(self), operations: operations.to_vec() };
            self.anomalies.entry(name).or_default().1.push(anomaly);
        }
    }

    /// The check comes to no end, or has nothing to go by.
    pub fn undecided(&mut self, why: String) {
        self.undecided.get_or_insert(why);
    }

    /// There is something to know.
    pub fn fact(&mut self, name: impl Into<String>, value: impl Display) {
        self.facts.push((name.into(), value.to_string()));
    }

    /// What is to be said in the end.
    pub fn verdict(mut self) -> Verdict {
        let mut anomalies = Vec::new();
        for (name, (count, examples)) in self.anomalies {
            if count > examples.len() {
                self.facts.push((name.into(), format!("{count} found, {} of them explained", examples.len())));
            }
            anomalies.extend(examples);
        }
        anomalies.sort_by_key(|anomaly| anomaly.operations.len());
        Verdict { anomalies, undecided: self.undecided, facts: self.facts }
    }

    /// An operation in one line.
    pub fn line(&self, at: usize) -> String {
        let operation = &self.history[at];
        let Operation { process, node, began, ended, .. } = operation;
        let (asked, told) = (asked(operation), told(operation));
        format!("process {process} on n{node}, {}..{} s: {asked} -> {told}", seconds(*began), seconds(*ended))
    }

    /// Operations as indented lines, each once, in the order of their beginnings.
    pub fn lines(&self, operations: &[usize]) -> String {
        let mut operations = operations.to_vec();
        operations.sort_by_key(|&at| (self.history[at].began, at));
        operations.dedup();
        operations.iter().map(|&at| format!("\n  {}", self.line(at))).collect()
    }
}

/// A time, to the microsecond.
pub fn seconds(time: Duration) -> String {
    format!("{:.6}", time.as_secs_f64())
}

fn asked(operation: &Operation) -> String {
    // The answer to a transaction repeats all of it.
    let is_answered = matches!(operation.outcome, Outcome::Answered(_));
    if is_answered && kind(operation) == "txn" { "txn".into() } else { shown(&operation.request) }
}

fn told(operation: &Operation) -> String {
    match &operation.outcome {
        Outcome::Answered(body) => shown(body),
        Outcome::Refused { code, text } => excerpt(&format!("error {code}, {text}"), EXCERPT_CHARS),
        Outcome::Unknown(why) => excerpt(&format!("unknown ({why})"), EXCERPT_CHARS),
    }
}

/// The body of a message, as short as possible: its type, and what else it says.
fn shown(body: &Value) -> String {
    let Some(members) = body.as_object() else { return excerpt(&body.to_string(), EXCERPT_CHARS) };
    let known = ["type", "msg_id", "in_reply_to"];
    let others = members.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    let others: String = others.map(|(name, value)| format!(" {name} {value}")).collect();
    excerpt(&format!("{}{others}", body["type"].as_str().unwrap_or("(no type)")), EXCERPT_CHARS)
}
