//! Transactions as the history has them, keys and versions as numbers.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::Kind;
use crate::workbench::check::findings::Findings;
use crate::workbench::check::kind;
use crate::workbench::history::Outcome;

/// All that are in a history.
pub struct Transactions<'a> {
    pub kind: Kind,
    pub all: Vec<Transaction>,
    pub keys: Vec<&'a Value>,
    /// What was written or read: the elements of lists, the values of registers.
    pub versions: Vec<Version<'a>>,
}

pub struct Transaction {
    /// Its place in the history.
    pub at: usize,
    pub process: u64,
    pub began: Duration,
    /// `MAX` if its outcome is unknown.
    pub ended: Duration,
    pub fate: Fate,
    pub steps: Vec<Step>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    /// It never took effect.
    Refused,
    /// Nobody has seen anything of it.
    Unknown,
    /// Its outcome is unknown to its process, but somebody has read what it wrote.
    Seen,
}

pub enum Step {
    /// What was there: a list's elements, a register's value or nothing. Only if the transaction committed.
    Read { key: u32, seen: Vec<u32> },
    /// An append or write of this version.
    Write { key: u32, version: u32 },
}

/// A value of a key.
pub struct Version<'a> {
    pub key: u32,
    pub value: &'a Value,
    /// The transaction that wrote it.
    pub writer: Option<u32>,
    /// Its writer has not written the key again.
    pub is_last: bool,
}

impl Transaction {
    /// Whether it took effect, for all that can be known.
    pub fn counts(&self) -> bool {
        matches!(self.fate, Fate::Committed | Fate::Seen)
    }

    /// What it wrote to this key, in order.
    pub fn writes(&self, key: u32) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.steps.iter().filter_map(move |step| match step {
            Step::Write { key: written, version } if *written == key => Some(*version),
            _ => None,
        })
    }
}

impl<'a> Transactions<'a> {
    /// Reads the history. Answers that are none to their requests leave the outcome unknown.
    pub fn read(findings: &mut Findings<'a>, kind: Kind) -> Self {
        let mut reader = Reader {
            transactions: Transactions { kind, all: Vec::new(), keys: Vec::new(), versions: Vec::new() },
            keys: HashMap::new(),
            versions: HashMap::new(),
        };
        for (at, _) in findings.operations() {
            reader.operation(findings, at);
        }
        let mut transactions = reader.transactions;
        transactions.find_writers(findings);
        transactions.find_seen();
        transactions
    }

    /// The transaction that wrote this version, if it took effect for all that can be known.
    pub fn live_writer(&self, version: u32) -> Option<u32> {
        let writer = self.versions[version as usize].writer?;
        self.all[writer as usize].counts().then_some(writer)
    }

    fn find_writers(&mut self, findings: &mut Findings<'_>) {
        for (number, transaction) in (0..).zip(&self.all) {
            let mut last: HashMap<u32, u32> = HashMap::new();
            for step in &transaction.steps {
                let Step::Write { key, version } = step else { continue };
                if let Some(before) = last.insert(*key, *version) {
                    self.versions[before as usize].is_last = false;
                }
                let known = &mut self.versions[*version as usize];
                known.is_last = true;
                match known.writer {
                    // What was refused may be tried again.
                    Some(_) if transaction.fate == Fate::Refused => {}
                    Some(other) if self.all[other as usize].fate != Fate::Refused => {
                        let (value, key) = (known.value, self.keys[*key as usize]);
                        findings.undecided(format!(
                            "{value} was written to key {key} more than once, so nobody knows whose write was read"
                        ));
                    }
                    _ => known.writer = Some(number),
                }
            }
        }
    }

    fn find_seen(&mut self) {
        let reads = self.all.iter().flat_map(|transaction| &transaction.steps);
        let seen = reads.filter_map(|step| if let Step::Read { seen, .. } = step { Some(seen) } else { None });
        let writers: Vec<u32> = seen.flatten().filter_map(|version| self.versions[*version as usize].writer).collect();
        for writer in writers {
            let fate = &mut self.all[writer as usize].fate;
            if *fate == Fate::Unknown {
                *fate = Fate::Seen;
            }
        }
    }
}

struct Reader<'a> {
    transactions: Transactions<'a>,
    keys: HashMap<&'a Value, u32>,
    versions: HashMap<(u32, &'a Value), u32>,
}

impl<'a> Reader<'a> {
    fn operation(&mut self, findings: &mut Findings<'a>, at: usize) {
        let operation = findings.operation(at);
        let Some(asked) = operation.request["txn"].as_array().filter(|_| kind(operation) == "txn") else { return };
        let committed = match findings.answer(at).map(|answer| self.committed(asked, answer)) {
            Some(Ok(steps)) => Some(steps),
            Some(Err(why)) => {
                findings.malformed(at, why);
                None
            }
            None => None,
        };
        let fate = match (&committed, &operation.outcome) {
            (Some(_), _) => Fate::Committed,
            (None, Outcome::Refused { .. }) => Fate::Refused,
            (None, _) => Fate::Unknown,
        };
        let steps = committed.unwrap_or_else(|| asked.iter().filter_map(|step| self.write(step)).collect());
        let ended = if fate == Fate::Unknown { Duration::MAX } else { operation.ended };
        let (process, began) = (operation.process, operation.began);
        self.transactions.all.push(Transaction { at, process, began, ended, fate, steps });
    }

    /// What was done. Fails, saying why, if that is not what was asked for.
    fn committed(&mut self, asked: &'a [Value], answer: &'a Value) -> Result<Vec<Step>, String> {
        let told = answer["txn"].as_array().ok_or("it has no list `txn`")?;
        if told.len() != asked.len() {
            return Err(format!("its `txn` has {} steps, not {}", told.len(), asked.len()));
        }
        asked.iter().zip(told).map(|(asked, told)| self.step(asked, told)).collect()
    }

    fn step(&mut self, asked: &'a Value, told: &'a Value) -> Result<Step, String> {
        let same = (0..2).all(|field| told.get(field).is_some() && told.get(field) == asked.get(field));
        if !same || told.get(3).is_some() {
            return Err(format!("the step {asked} has become {told}"));
        }
        if let Some(write) = self.write(asked) {
            return if told == asked { Ok(write) } else { Err(format!("the step {asked} has become {told}")) };
        }
        let key = self.key(&asked[1]);
        let seen = match (told.get(2), self.transactions.kind) {
            (None, _) => return Err(format!("the step {told} has no value")),
            (Some(Value::Null), _) => Vec::new(),
            (Some(Value::Array(list)), Kind::Lists) => list.iter().map(|value| self.version(key, value)).collect(),
            (Some(_), Kind::Lists) => return Err(format!("the step {told} is to have a list")),
            (Some(value), Kind::Registers) => vec![self.version(key, value)],
        };
        Ok(Step::Read { key, seen })
    }

    fn write(&mut self, step: &'a Value) -> Option<Step> {
        if !matches!(step[0].as_str(), Some("append" | "w")) {
            return None;
        }
        let key = self.key(&step[1]);
        Some(Step::Write { key, version: self.version(key, &step[2]) })
    }

    fn key(&mut self, key: &'a Value) -> u32 {
        let keys = &mut self.transactions.keys;
        *self.keys.entry(key).or_insert_with(|| {
            keys.push(key);
            keys.len() as u32 - 1
        })
    }

    fn version(&mut self, key: u32, value: &'a Value) -> u32 {
        let versions = &mut self.transactions.versions;
        *self.versions.entry((key, value)).or_insert_with(|| {
            versions.push(Version { key, value, writer: None, is_last: false });
            versions.len() as u32 - 1
        })
    }
}
