//! Why a history is broken: the few answers in it that contradict each other.

use std::fmt::{self, Display, Formatter};

use bytes::Bytes;

use super::history::{NEVER, Operation, Outcome};
use super::model::Model;
use super::search::{Verdict, search};

/// Most points that one search may come to that only makes an explanation shorter.
const POINTS: usize = 1_000;
/// Most steps of all these searches.
const STEPS: usize = 20_000;

/// The smallest part that was found of a history that no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<A, R> {
    /// The part of the state: the key, or the topic.
    pub partition: Bytes,
    /// How many operations it has.
    pub operations: usize,
    /// Everything that was answered before this time can be explained.
    pub until: u64,
    /// The operations whose answers contradict each other: there is no order of these, however many of the others took effect.
    pub contradiction: Vec<Operation<A, R>>,
}

impl<A: Display, R: Display> Display for Explanation<A, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Explanation { partition, operations, until, contradiction } = self;
        write!(
            f,
            "the history of '{}' is not linearizable. All that was answered before {until} can be explained; but no order \
             explains these {} of its {operations} operations (client, partition, begin..end, action -> answer), whichever \
             of the others took effect:",
            partition.escape_ascii(),
            contradiction.len(),
        )?;
        contradiction.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
    }
}

/// Explains a history of one partition that the search has found broken. Where `patience` ends, it is less short.
pub(super) fn explain<M: Model>(
    model: &M,
    mut operations: Vec<Operation<M::Action, M::Answer>>,
    patience: &mut dyn FnMut(usize) -> bool,
) -> Explanation<M::Action, M::Answer> {
    let count = operations.len();
    operations.retain(|operation| operation.outcome != Outcome::Failed);
    operations.sort_by_key(|operation| (operation.latest(), operation.began));
    let answers = operations.iter().filter(|operation| operation.answer().is_some()).count();
    // A part of a linearizable history, up to any time, is linearizable. So is what a broken one has before the answer that
    // breaks it.
    let (mut explained, mut broken) = (0, answers);
    while broken - explained > 1 {
        let middle = explained + (broken - explained) / 2;
        match search(model, &first(&operations, middle), patience) {
            Verdict::Broken => broken = middle,
            Verdict::Linearizable | Verdict::Undecided { .. } => explained = middle,
        }
    }
    let prefix = first(&operations, broken);
    let until = operations.get(broken.saturating_sub(1)).map_or(0, |last| last.ended);
    let core = shrink(model, prefix, patience);
    Explanation {
        partition: core.first().map(|operation| operation.partition.clone()).unwrap_or_default(),
        operations: count,
        until,
        contradiction: core.into_iter().filter(|operation| operation.answer().is_some()).collect(),
    }
}

/// What had been seen when so many answers were there. The operations are in the order of their ends.
fn first<A: Clone, R: Clone>(operations: &[Operation<A, R>], answers: usize) -> Vec<Operation<A, R>> {
    let now = answers.checked_sub(1).and_then(|last| operations.get(last)).map_or(0, |last| last.ended);
    let (before, after) = operations.split_at(answers);
    let pending = after.iter().filter(|operation| operation.began <= now).map(forget);
    before.iter().cloned().chain(pending).collect()
}

/// The operation, as if its client had not been told what came of it.
fn forget<A: Clone, R: Clone>(operation: &Operation<A, R>) -> Operation<A, R> {
    Operation { outcome: Outcome::Unknown, ended: NEVER, ..operation.clone() }
}

/// Forgets as many answers as the history can do without and still be broken: first those of reads, so that soon few values
/// matter to anybody; many at a time, in the end each alone.
fn shrink<M: Model>(
    model: &M,
    mut operations: Vec<Operation<M::Action, M::Answer>>,
    patience: &mut dyn FnMut(usize) -> bool,
) -> Vec<Operation<M::Action, M::Answer>> {
    let mut steps = 0;
    let mut patience = |points: usize| {
        steps += 1;
        steps < STEPS && points < POINTS && patience(points)
    };
    for reads in [true, false] {
        let mut length = operations.len();
        while length > 0 {
            for from in (0..operations.len()).step_by(length) {
                let mut fewer = operations.clone();
                let some = fewer.iter_mut().skip(from).take(length);
                let told = some.filter(|of| of.answer().is_some() && model.is_read(&of.action) == reads);
                let forgotten = told.map(|operation| *operation = forget(operation)).count();
                if forgotten > 0 && search(model, &fewer, &mut patience) == Verdict::Broken {
                    operations = fewer;
                }
            }
            length /= 2;
        }
    }
    operations.sort_by_key(|operation| operation.began);
    operations
}
