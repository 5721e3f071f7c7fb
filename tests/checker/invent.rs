//! Invents histories that a correct cluster could have produced.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::checker::Outcome;
use raft::checker::history::NEVER;
use raft::checker::key_value::{Action, Answer, Operation};

use crate::dice::Dice;

/// What a history should be like.
#[derive(Clone, Copy)]
pub struct Plan {
    pub operations: usize,
    pub keys: u64,
    /// Values are below this; 0: no two are the same.
    pub values: u64,
    /// Operations take effect up to so long after they began, and end up to so long after that. One begins every 5.
    pub width: u64,
    /// One outcome in so many is unknown; 0: none.
    pub vague: u64,
}

pub fn value(number: u64) -> Bytes {
    number.to_string().into()
}

/// Each operation that takes effect does so at a moment of its own, in the order of the result.
pub fn invent(dice: &mut Dice, plan: Plan) -> Vec<Operation> {
    let mut history = Vec::new();
    let mut keys: BTreeMap<Bytes, Option<(Bytes, u64)>> = BTreeMap::new();
    let (mut clock, mut index) = (plan.width * 20, 0);
    for operation in 0..plan.operations {
        clock += 1 + dice.below(10);
        let partition = Bytes::from(format!("k{}", dice.below(plan.keys)));
        let state = keys.entry(partition.clone()).or_default();
        let new = value(if plan.values == 0 { 1 + operation as u64 } else { dice.below(plan.values) });
        let action = choose(dice, plan, state, new);
        let mut began = clock - dice.below(plan.width);
        let mut ended = clock + dice.below(plan.width);
        let fate = if plan.vague == 0 { 9 } else { dice.below(2 * plan.vague) };
        let mut outcome = Outcome::Unknown;
        match fate {
            // It never happens, and its client may know.
            0 if dice.once_in(2) => outcome = Outcome::Failed,
            0 => {}
            _ => {
                if action != Action::Get {
                    index += 1 + dice.below(3);
                }
                let answer = carry_out(dice, &action, state, index);
                if fate != 1 {
                    outcome = Outcome::Answered(answer);
                }
            }
        }
        // It may happen long after its client has given up, or the client may still be waiting.
        if outcome == Outcome::Unknown {
            began -= dice.below(plan.width * 10);
            ended = *dice.pick(&[began + 1, ended, NEVER]).get_or_insert(NEVER);
        }
        history.push(Operation { client: dice.below(8), partition, action, outcome, began, ended });
    }
    history
}

fn choose(dice: &mut Dice, plan: Plan, state: &Option<(Bytes, u64)>, new: Bytes) -> Action {
    match dice.below(6) {
        0..=2 => Action::Get,
        3 => Action::Set(new),
        4 if dice.once_in(2) => Action::Delete,
        _ => match state {
            Some((current, _)) if dice.once_in(2) => Action::CompareAndSet(current.clone(), new),
            _ if plan.values > 0 => Action::CompareAndSet(value(dice.below(plan.values)), new),
            _ => Action::Set(new),
        },
    }
}

fn carry_out(dice: &mut Dice, action: &Action, state: &mut Option<(Bytes, u64)>, index: u64) -> Answer {
    let told = dice.once_in(2);
    match (action, &*state) {
        (Action::Get, Some((value, revision))) => Answer::Found(value.clone(), told.then_some(*revision)),
        (Action::Get | Action::Delete | Action::CompareAndSet(..), None) => Answer::Missing,
        (Action::CompareAndSet(from, _), Some((value, _))) if from != value => {
            Answer::Different(told.then(|| value.clone()))
        }
        (Action::Delete, _) => {
            *state = None;
            Answer::Done(None)
        }
        (Action::Set(to) | Action::CompareAndSet(_, to), _) => {
            *state = Some((to.clone(), index));
            Answer::Done(told.then_some(index))
        }
        (Action::Append(_), _) => panic!("our store cannot append"),
    }
}
