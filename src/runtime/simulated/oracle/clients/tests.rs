//! The witness against the search: a log and the clients of it, invented, and now and then somebody who lies.

use bytes::Bytes;

use super::{Operation, OperationId, Outline};
use crate::checker::history::{self, NEVER};
use crate::checker::key_value::{Action, Answer as Told, KeyValue};
use crate::checker::{self, Failure as Found};
use crate::consensus::{EntryHeader, EntryKind, Index, LogTime, Payload, Term};
use crate::machine::command::{Answer, Change, Command, Condition};
use crate::runtime::simulated::dice::Dice;
use crate::runtime::simulated::oracle::{Check, Oracle};
use crate::runtime::{Outcome, Response};
use crate::transport::Failure;

const STEPS: u64 = 80;
const TERM: Term = Term(1);

/// A log with clients, and what these have seen.
struct World {
    oracle: Oracle,
    dice: Dice,
    /// One step in so many is a lie; 0: none.
    lies: u64,
    asked: Vec<Asked>,
    now: u64,
}

struct Asked {
    seen: checker::key_value::Operation,
    outline: Outline,
    /// Entries that were committed when it began.
    began: Index,
    /// Its place in the log.
    index: Option<Index>,
    is_answered: bool,
}

/// What comes of a history, and the history, up to the first thing that the witness does not accept.
fn play(seed: u64, lies: u64) -> (Check, Vec<checker::key_value::Operation>) {
    let (oracle, dice) = (Oracle::new(3), Dice::new(seed, "witness"));
    let mut world = World { oracle, dice, lies, asked: Vec::new(), now: 0 };
    let check = (0..STEPS).try_for_each(|_| world.step());
    (check, world.asked.into_iter().map(|asked| asked.seen).collect())
}

fn search(history: &[checker::key_value::Operation]) -> Result<(), Found<Action, Told>> {
    checker::check(&KeyValue, history, &mut |points| points < 100_000)
}

impl World {
    fn lies(&mut self) -> bool {
        self.lies > 0 && self.dice.once_in(self.lies)
    }

    fn step(&mut self) -> Check {
        self.now += 1;
        let open: Vec<usize> = (0..self.asked.len()).filter(|at| !self.asked[*at].is_answered).collect();
        match self.dice.below(3) {
            0 | 1 if !open.is_empty() => {
                let at = *self.dice.pick(&open);
                let is_write = matches!(self.asked[at].outline, Outline::Write(_));
                let commits = is_write && self.asked[at].index.is_none() && !self.dice.once_in(8);
                if commits { self.commit(at) } else { self.answer(at) }
            }
            1 if !self.asked.is_empty() && self.lies() => {
                // Something is committed that was, or that never should have been.
                let at = self.dice.below(self.asked.len() as u64) as usize;
                if matches!(self.asked[at].outline, Outline::Write(_)) { self.commit(at) } else { Ok(()) }
            }
            _ if open.len() < 6 => {
                self.begin();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self) {
        let (number, key) = (self.asked.len(), Bytes::from(format!("k{}", self.dice.below(2))));
        let (value, partition) = (Bytes::from(number.to_string()), key.clone());
        let from = Bytes::from(self.dice.below(1 + number as u64).to_string());
        let (action, outline) = match self.dice.below(6) {
            0..3 => (Action::Get, Outline::Read(key)),
            3 => {
                // A key that never is there makes the command like no other.
                let keys = vec![key, format!("none {number}").into()];
                (Action::Delete, Outline::Write(Command::Change(Change::Delete { keys }).encode()))
            }
            4 => {
                let change = Change::CompareAndSet { key, from: from.clone(), to: value.clone(), create: false };
                (Action::CompareAndSet(from, value), Outline::Write(Command::Change(change).encode()))
            }
            _ => {
                let condition = Condition::Always;
                let change = Change::Set { key, value: value.clone(), condition, want_old: false };
                (Action::Set(value), Outline::Write(Command::Change(change).encode()))
            }
        };
        let began = self.oracle.committed();
        self.oracle.begins(Operation { connection: number as u64, outline: outline.clone() });
        let (outcome, client) = (checker::Outcome::Unknown, number as u64);
        let seen = history::Operation { client, partition, action, outcome, began: self.now, ended: NEVER };
        self.asked.push(Asked { seen, outline, began, index: None, is_answered: false });
    }

    fn commit(&mut self, at: usize) -> Check {
        let Outline::Write(command) = self.asked[at].outline.clone() else { return Ok(()) };
        let (index, kind) = (self.oracle.committed().next(), EntryKind::Command);
        let size = command.len() as u32;
        let header = EntryHeader { index, term: TERM, kind, time: LogTime(0), session: None, size };
        let payload = Payload(command);
        let has_changed = self.oracle.chain.extend(&header, &payload, TERM);
        self.asked[at].index = Some(index);
        self.oracle.effect(&header, &payload, has_changed)?;
        self.oracle.history.committed(index, None, &payload)
    }

    fn answer(&mut self, at: usize) -> Check {
        let lies = self.lies();
        let Asked { outline, began, index, .. } = &self.asked[at];
        let (began, now) = (began.0, self.oracle.committed().0);
        let outcome: Outcome = match (outline.clone(), *index) {
            (Outline::Read(key), _) => {
                let when = if lies { self.dice.between(0, now) } else { self.dice.between(began, now) };
                Ok(Response::Answer(Answer::Value(self.oracle.values.at(&key, Index(when)).cloned()).encode()))
            }
            (Outline::Write(_), Some(_)) if lies && self.dice.once_in(2) => refused(),
            (Outline::Write(_), Some(index)) => {
                let index = if lies { Index(self.dice.between(1, now)) } else { index };
                Ok(Response::Answer(self.oracle.chain.answer(index).cloned().unwrap_or_default()))
            }
            (Outline::Write(_), None) if lies => {
                Ok(Response::Answer(Answer::Set { revision: Some(now + 1), old: None }.encode()))
            }
            (Outline::Write(_), None) => refused(),
            (outline, _) => panic!("nobody here asks for {outline:?}"),
        };
        self.asked[at].is_answered = true;
        self.asked[at].seen.ended = self.now;
        self.asked[at].seen.outcome = match &outcome {
            Ok(Response::Answer(answer)) => match told(answer) {
                Some(answer) => checker::Outcome::Answered(answer),
                None => checker::Outcome::Unknown,
            },
            _ => checker::Outcome::Failed,
        };
        self.oracle.answered(OperationId(at as u64), &outcome)
    }
}

/// What certainly never takes effect.
fn refused() -> Outcome {
    Err(Failure::Overloaded("too much".into()))
}

/// What a client makes of the machine's answer.
fn told(answer: &Bytes) -> Option<Told> {
    Some(match Answer::decode(answer).ok()? {
        Answer::Set { revision, .. } => Told::Done(revision),
        Answer::Count(1) => Told::Done(None),
        Answer::Count(0) | Answer::Missing | Answer::Value(None) => Told::Missing,
        Answer::Different { actual } => Told::Different(Some(actual)),
        Answer::Value(Some(value)) => Told::Found(value.bytes, Some(value.revision)),
        _ => return None,
    })
}

#[test]
fn what_is_true_is_accepted_and_can_be_explained() {
    for seed in 0..500 {
        let (check, history) = play(seed, 0);
        assert_eq!(check, Ok(()), "seed {seed}");
        assert_eq!(search(&history), Ok(()), "seed {seed}");
    }
}

/// Whatever the witness accepts, the search accepts. The witness finds more: it knows where in the log everything was.
#[test]
fn a_lie_that_no_order_explains_is_found() {
    let (mut accepted, mut both, mut alone) = (0, 0, 0);
    for seed in 0..3_000 {
        let (check, history) = play(seed, 10);
        match (check, search(&history)) {
            (Ok(()), Ok(())) => accepted += 1,
            (Ok(()), Err(found)) => panic!("seed {seed}: the witness accepts this: {found}"),
            (Err(_), Err(Found::Broken(_))) => both += 1,
            (Err(_), Ok(())) => alone += 1,
            (Err(_), Err(undecided)) => panic!("seed {seed}: {undecided}"),
        }
    }
    println!("{accepted} accepted, {both} broken ones found by both, {alone} by the witness alone");
    assert!(accepted > 50 && both > 500 && alone > 500, "{accepted}, {both} and {alone}");
}

/// A write that began and was committed, and a read that began after that.
fn a_write_and_then_a_read() -> World {
    let mut world = World { oracle: Oracle::new(3), dice: Dice::new(1, "witness"), lies: 0, asked: Vec::new(), now: 0 };
    let write = |value: &'static str| {
        let (key, value) = (Bytes::from("k"), Bytes::from(value));
        Outline::Write(
            Command::Change(Change::Set { key, value, condition: Condition::Always, want_old: false }).encode(),
        )
    };
    for outline in [write("1"), write("2"), Outline::Read("k".into())] {
        let seen = "1 k 0..1 get -> unknown".parse().unwrap();
        world.oracle.begins(Operation { connection: 7, outline: outline.clone() });
        world.asked.push(Asked { seen, outline, began: Index(0), index: None, is_answered: false });
    }
    world
}

fn invariant(check: Check) -> &'static str {
    check.unwrap_err().invariant
}

#[test]
fn each_rule_is_a_rule() {
    let done = |revision| Ok(Response::Answer(Answer::Set { revision: Some(revision), old: None }.encode()));
    let (first, second, read) = (OperationId(0), OperationId(1), OperationId(2));
    let committed = |count: usize| {
        let mut world = a_write_and_then_a_read();
        (0..count).for_each(|at| world.commit(at).unwrap());
        world
    };
    assert_eq!(committed(1).oracle.answered(first, &done(1)), Ok(()));
    assert_eq!(invariant(committed(1).oracle.answered(second, &done(2))), "I16 acknowledged durability");
    assert_eq!(invariant(committed(1).oracle.answered(first, &done(2))), "I17 linearizability");
    assert_eq!(invariant(committed(1).oracle.answered(first, &refused())), "I17 linearizability");
    assert_eq!(invariant(committed(2).commit(0)), "I17 linearizability", "it takes effect twice");
    let mut world = committed(0);
    world.oracle.answered(first, &refused()).unwrap();
    assert_eq!(invariant(world.commit(0)), "I17 linearizability", "it was refused");
    let mut world = committed(0);
    world.commit(1).unwrap();
    assert_eq!(invariant(world.commit(0)), "I17 order of a connection");
    let value = |bytes: &'static str, revision| {
        Ok(Response::Answer(
            Answer::Value(Some(crate::machine::command::Value { bytes: bytes.into(), revision })).encode(),
        ))
    };
    assert_eq!(committed(2).oracle.answered(read, &value("1", 1)), Ok(()), "both were not committed when it began");
    assert_eq!(invariant(committed(1).oracle.answered(read, &value("2", 2))), "I18 read freshness", "too new");
    assert_eq!(invariant(committed(2).oracle.answered(read, &value("1", 2))), "I18 read freshness", "the revision");
    let mut world = committed(2);
    world.oracle.answered(second, &done(2)).unwrap();
    assert_eq!(invariant(world.oracle.answered(read, &value("1", 1))), "I18 read freshness", "of one connection");
    let mut world = committed(2);
    let late = world.oracle.begins(Operation { connection: 8, outline: Outline::Read("k".into()) });
    assert_eq!(invariant(world.oracle.answered(late, &value("1", 1))), "I18 read freshness", "stale");
}
