//! Looks for an order of a history's operations that one copy of the machine could have had.
//!
//! It is the search of Wing and Gong (1993) with the memory of Lowe (2017): take any operation that may come first, apply it
//! to the state, go on with the rest; never look twice at the same set of operations in the same state. Partitions are
//! independent (Herlihy and Wing, 1990), so each is searched by itself. What failed for certain is no operation at all.
//!
//! What makes it fast enough for histories with many unknown outcomes is that of all orders with the fewest of these, only
//! some need to be tried:
//!
//! * An unknown operation has all the time in the world. It is tried only just before an operation that would have gone
//!   otherwise without it, and neither if it could as well be left out.
//! * Of unknown operations that ask for the same, the one that began first may stand for any. [`Model::simplify`] makes more
//!   of them the same.
//! * A read that may come next and tells nothing new comes next: putting it off can help nobody.
//! * Of operations that ask for the same and were answered the same, the one that ended first comes first.
//! * What somebody still has to see, and nobody can make again ([`Model::makers`]), is not replaced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use bytes::Bytes;

use super::explain::{self, Explanation};
use super::history::{NEVER, Operation, Outcome};
use super::model::Model;

/// A history of this model's operations.
pub(super) type History<M> = [Operation<<M as Model>::Action, <M as Model>::Answer>];

/// Why a history did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure<A, R> {
    /// There is no order that explains it.
    #[error("{0}")]
    Broken(Box<Explanation<A, R>>),
    /// The search was ended before it knew. This is no pass: somebody has to look at it.
    #[error(
        "the search for an order of {operations} operations on '{}' was ended undecided at {points} points: \
         it needs more patience, or the history fewer unknown outcomes at the same time",
        .partition.escape_ascii()
    )]
    Undecided {
        /// The part of the state.
        partition: Bytes,
        /// How many operations it has.
        operations: usize,
        /// How many points the search had come to.
        points: usize,
    },
}

/// Checks that a history is linearizable. The order of its operations in the slice means nothing.
///
/// `patience` is asked before every step: `points` are those in the memory of this partition's search, about 200 bytes each,
/// and `false` ends it. A bound on them makes the verdict the same everywhere; a deadline can be checked there, too.
///
/// # Errors
/// It is not linearizable, or that could not be decided.
pub fn check<M: Model>(
    model: &M,
    history: &History<M>,
    patience: &mut dyn FnMut(usize) -> bool,
) -> Result<(), Failure<M::Action, M::Answer>> {
    let mut partitions: BTreeMap<&Bytes, Vec<_>> = BTreeMap::new();
    for operation in history {
        partitions.entry(&operation.partition).or_default().push(operation.clone());
    }
    let mut undecided = None;
    for operations in partitions.into_values() {
        match check_partition(model, operations, patience) {
            Ok(()) => {}
            Err(broken @ Failure::Broken(_)) => return Err(broken),
            Err(failure @ Failure::Undecided { .. }) => drop(undecided.get_or_insert(failure)),
        }
    }
    undecided.map_or(Ok(()), Err)
}

/// Likewise, for operations that are all of one partition.
///
/// # Errors
/// They are not linearizable, or that could not be decided.
pub fn check_partition<M: Model>(
    model: &M,
    operations: Vec<Operation<M::Action, M::Answer>>,
    patience: &mut dyn FnMut(usize) -> bool,
) -> Result<(), Failure<M::Action, M::Answer>> {
    match search(model, &operations, patience) {
        Verdict::Linearizable => Ok(()),
        Verdict::Broken => Err(Failure::Broken(Box::new(explain::explain(model, operations, patience)))),
        Verdict::Undecided { points } => {
            let partition = operations.first().map(|operation| operation.partition.clone()).unwrap_or_default();
            Err(Failure::Undecided { partition, operations: operations.len(), points })
        }
    }
}

/// What the search of one partition has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    Broken,
    Undecided { points: usize },
}

/// Searches one partition.
pub(super) fn search<M: Model>(model: &M, history: &History<M>, patience: &mut dyn FnMut(usize) -> bool) -> Verdict {
    Search::new(model, history).run(patience)
}

struct Search<'a, M: Model> {
    /// Operations that were answered, in the order they began.
    certain: Vec<Operation<M::Action, M::Answer>>,
    unknown: Vec<Kind<M::Action>>,
    /// By certain operation: how many can have made what it saw.
    makers: Vec<Option<usize>>,
    /// By state: the certain operations that see in it what is made only once.
    viewers: Vec<Option<Rc<[u32]>>>,
    states: States<'a, M>,
    points: HashSet<Point>,
}

/// Operations with unknown outcomes that ask for the same.
struct Kind<A> {
    action: A,
    /// When each began, in order.
    began: Vec<u64>,
}

/// Where the search stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    state: u32,
    /// All certain operations before this one are done.
    first: u32,
    /// Later ones that are done, in order. They are few, for most have to wait for the end of others.
    beyond: Vec<u32>,
    /// The kinds of the unknown operations that have happened, in order, one as often as it happened.
    happened: Vec<u32>,
    /// The unknown operation that happened just now.
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Last {
    kind: u32,
    /// The state before it.
    before: u32,
}

impl Point {
    fn after_certain(&self, at: u32, state: u32) -> Point {
        let mut next = Point { state, last: None, ..self.clone() };
        insert(&mut next.beyond, at);
        let joined = next.beyond.iter().zip(next.first..).take_while(|(at, first)| **at == *first).count();
        next.beyond.drain(..joined);
        next.first += joined as u32;
        next
    }

    /// Whether this certain operation is done.
    fn has(&self, at: u32) -> bool {
        at < self.first || self.beyond.binary_search(&at).is_ok()
    }

    fn after_unknown(&self, kind: u32, state: u32) -> Point {
        let mut next = Point { state, last: Some(Last { kind, before: self.state }), ..self.clone() };
        insert(&mut next.happened, kind);
        next
    }
}

fn insert(sorted: &mut Vec<u32>, item: u32) {
    sorted.insert(sorted.partition_point(|other| *other <= item), item);
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &History<M>) -> Self {
        let may_matter = |operation: &&Operation<M::Action, M::Answer>| match operation.outcome {
            Outcome::Answered(_) => true,
            Outcome::Failed => false,
            Outcome::Unknown => !model.is_read(&operation.action),
        };
        let mut operations: Vec<_> = history.iter().filter(may_matter).cloned().collect();
        operations.sort_by_key(|operation| operation.began);
        model.simplify(&mut operations);
        let is_certain = |operation: &Operation<_, _>| operation.answer().is_some();
        let makers = operations.iter().zip(model.makers(&operations));
        let makers = makers.filter(|(operation, _)| is_certain(operation)).map(|(_, makers)| makers).collect();
        let (certain, others): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_certain);
        let mut unknown: Vec<Kind<M::Action>> = Vec::new();
        let mut kinds = HashMap::new();
        for operation in others {
            let kind = *kinds.entry(operation.action.clone()).or_insert(unknown.len());
            if kind == unknown.len() {
                unknown.push(Kind { action: operation.action, began: Vec::new() });
            }
            unknown[kind].began.push(operation.began);
        }
        let states = States { model, states: Vec::new(), numbers: HashMap::new() };
        Search { certain, unknown, makers, viewers: Vec::new(), states, points: HashSet::new() }
    }

    fn run(&mut self, patience: &mut dyn FnMut(usize) -> bool) -> Verdict {
        if self.makers.contains(&Some(0)) {
            return Verdict::Broken;
        }
        let state = self.states.initial();
        let mut stack = vec![Point { state, first: 0, beyond: Vec::new(), happened: Vec::new(), last: None }];
        while let Some(point) = stack.pop() {
            // What is unknown need not have happened.
            if point.first as usize == self.certain.len() {
                return Verdict::Linearizable;
            }
            if !patience(self.points.len()) {
                return Verdict::Undecided { points: self.points.len() };
            }
            for next in self.next(&point) {
                if !self.loses(&point, &next) && self.points.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
        Verdict::Broken
    }

    /// The points one operation further. The most promising is the last: one that is certain, and ended first.
    fn next(&mut self, point: &Point) -> Vec<Point> {
        let (mut candidates, earliest_end) = self.candidates(point);
        candidates.sort_by_key(|&at| self.certain[at as usize].ended);
        let mut asked = HashSet::new();
        candidates.retain(|&at| asked.insert((&self.certain[at as usize].action, self.certain[at as usize].answer())));
        candidates.reverse();
        let Search { certain, unknown, states, .. } = self;
        let last = point.last.map(|last| (last, &unknown[last.kind as usize].action));
        let mut next = Vec::new();
        for (number, Kind { action, began }) in (0..).zip(unknown.iter()) {
            let happened = point.happened.iter().filter(|kind| **kind == number).count();
            if began.get(happened).is_some_and(|began| *began <= earliest_end)
                && let Some(after) = states.step(point.state, action, None)
                && after != point.state
                && last.is_none_or(|last| states.needs(last, action, None, after, Some(number)))
            {
                next.push(point.after_unknown(number, after));
            }
        }
        for at in candidates {
            let Operation { action, outcome: Outcome::Answered(answer), .. } = &certain[at as usize] else { continue };
            let Some(after) = states.step(point.state, action, Some(answer)) else { continue };
            if after == point.state && states.model.is_read(action) {
                return vec![point.after_certain(at, after)];
            }
            if last.is_none_or(|last| states.needs(last, action, Some(answer), after, None)) {
                next.push(point.after_certain(at, after));
            }
        }
        next
    }

    /// Whether something is replaced by the last step that an operation still has to see.
    fn loses(&mut self, before: &Point, after: &Point) -> bool {
        if before.state == after.state {
            return false;
        }
        let viewers = self.viewers(before.state);
        viewers.iter().any(|&at| !after.has(at) && self.is_impossible(at, after.state))
    }

    fn is_impossible(&self, at: u32, state: u32) -> bool {
        let Operation { action, outcome: Outcome::Answered(answer), .. } = &self.certain[at as usize] else {
            return false;
        };
        let States { model, states, .. } = &self.states;
        model.step(&states[state as usize], action, Some(answer), None).is_none()
    }

    fn viewers(&mut self, state: u32) -> Rc<[u32]> {
        if let Some(Some(known)) = self.viewers.get(state as usize) {
            return known.clone();
        }
        let once = (0..self.certain.len() as u32).filter(|&at| self.makers[at as usize] == Some(1));
        let once: Vec<u32> = once.collect();
        let viewers: Rc<[u32]> = once.into_iter().filter(|&at| !self.is_impossible(at, state)).collect();
        self.viewers.resize(self.viewers.len().max(state as usize + 1), None);
        self.viewers[state as usize] = Some(viewers.clone());
        viewers
    }

    /// The certain operations that may come next, those that began before the end of each that is not done; and the first of
    /// these ends.
    fn candidates(&self, point: &Point) -> (Vec<u32>, u64) {
        let mut earliest_end = NEVER;
        let mut candidates = Vec::new();
        for at in point.first..self.certain.len() as u32 {
            let operation = &self.certain[at as usize];
            if operation.began > earliest_end {
                break;
            }
            if point.beyond.binary_search(&at).is_err() {
                earliest_end = earliest_end.min(operation.ended);
                candidates.push(at);
            }
        }
        (candidates, earliest_end)
    }
}

/// The states that the search has come to, each with a number that is quick to compare.
struct States<'a, M: Model> {
    model: &'a M,
    /// A state's number is its place here.
    states: Vec<M::State>,
    numbers: HashMap<M::State, u32>,
}

impl<M: Model> States<'_, M> {
    fn initial(&mut self) -> u32 {
        self.number(self.model.initial())
    }

    fn step(&mut self, state: u32, action: &M::Action, answer: Option<&M::Answer>) -> Option<u32> {
        let after = self.model.step(&self.states[state as usize], action, answer, None)?;
        Some(self.number(after))
    }

    fn number(&mut self, state: M::State) -> u32 {
        *self.numbers.entry(state).or_insert_with_key(|state| {
            self.states.push(state.clone());
            self.states.len() as u32 - 1
        })
    }

    /// Whether an operation that leads to the state `after` has a reason to follow the unknown one that happened last. It has
    /// none if that could be left out, or could as well happen after it. Of two unknown ones that could be in either order,
    /// the one of the lower kind comes first.
    fn needs(
        &mut self,
        (last, last_action): (Last, &M::Action),
        action: &M::Action,
        answer: Option<&M::Answer>,
        after: u32,
        kind: Option<u32>,
    ) -> bool {
        let Some(without) = self.step(last.before, action, answer) else { return true };
        if without == after {
            return false;
        }
        let fixed_order = kind.is_some_and(|kind| kind >= last.kind);
        fixed_order || self.step(without, last_action, None) != Some(after)
    }
}
