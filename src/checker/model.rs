//! What a sequential specification is.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use super::history::Operation;

/// A sequential specification: what one copy of a machine may do, one operation at a time.
///
/// It is about one *partition* of the state: a key, a topic. Partitions must be independent, no operation touching two: then
/// a history is linearizable if the history of each partition is (Herlihy and Wing, 1990).
pub trait Model {
    /// What a client asks for. Two that are equal have the same effect.
    type Action: Clone + Eq + Hash + Display;
    /// What a client is told.
    type Answer: Clone + Eq + Hash + Display;
    /// What the copy knows of one partition. It is kept as often as the search looks at it, so it should be small or shared.
    type State: Clone + Eq + Hash + Debug;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// Whether this never changes the state, whatever the state is.
    fn is_read(&self, action: &Self::Action) -> bool;

    /// The state afterwards. `None`: in this state a copy would not have answered so. Without an answer, whatever it would
    /// have answered is right.
    ///
    /// `index` is the log index that the command has, if that is known. An answer may tell what the state leaves open, a
    /// revision for example; then the state afterwards is that much more precise, even after a read.
    fn step(
        &self,
        state: &Self::State,
        action: &Self::Action,
        answer: Option<&Self::Answer>,
        index: Option<u64>,
    ) -> Option<Self::State>;

    /// For each operation that was answered: how many of the operations can have made what it saw, if it saw something that only
    /// they can make. By default, nothing is known.
    fn makers(&self, operations: &[Operation<Self::Action, Self::Answer>]) -> Vec<Option<usize>> {
        vec![None; operations.len()]
    }

    /// Rewrites the history of one partition so that more of its actions are equal, if that makes no difference to anything
    /// that was answered: values that nobody saw can all be the same value. It changes actions only. By default, nothing.
    fn simplify(&self, operations: &mut [Operation<Self::Action, Self::Answer>]) {
        let _ = operations;
    }
}
