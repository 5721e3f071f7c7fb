//! Long histories that are valid, corrupted in ways that must be noticed.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use raft::checker::Failure;
use raft::checker::key_value::{Action, Answer, Operation};

use crate::dice::Dice;
use crate::invent::{Plan, invent};
use crate::{rounds, verdict};

const PLAN: Plan = Plan { operations: 120, keys: 2, values: 0, width: 30, vague: 15 };

/// What can happen to a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Corruption {
    SwapResults,
    DropWrite,
    MoveCompletion,
}

fn corrupt(dice: &mut Dice, history: &mut Vec<Operation>, how: Corruption) {
    let count = history.len() as u64;
    let some = |dice: &mut Dice| dice.below(count) as usize;
    match how {
        Corruption::SwapResults => {
            let (one, other) = (some(dice), some(dice));
            let is_get = |at: usize| history[at].action == Action::Get && history[at].answer().is_some();
            if is_get(one) && is_get(other) && history[one].partition == history[other].partition {
                let first = history[one].outcome.clone();
                history[one].outcome = std::mem::replace(&mut history[other].outcome, first);
            }
        }
        Corruption::DropWrite => {
            let victim = some(dice);
            if history[victim].action != Action::Get {
                history.remove(victim);
            }
        }
        Corruption::MoveCompletion => {
            let victim = some(dice);
            let ended = history[victim].began + dice.below(5);
            // The answer was there much earlier, and so was the request.
            let earlier = dice.below(150).min(history[victim].began);
            history[victim].began -= earlier;
            history[victim].ended = ended - earlier;
        }
    }
}

/// Whether a pair or three of answers cannot both be true. It knows only some contradictions, by means of its own: a get of a
/// value that nobody wrote, that was written later, or that had been replaced before. All values are written once.
fn is_surely_broken(history: &[Operation]) -> bool {
    let mut writers: HashMap<(&Bytes, &Bytes), &Operation> = HashMap::new();
    for operation in history {
        if let Action::Set(value) | Action::CompareAndSet(_, value) = &operation.action {
            writers.insert((&operation.partition, value), operation);
        }
    }
    history.iter().any(|get| {
        let Some(Answer::Found(value, _)) = get.answer() else { return false };
        let Some(writer) = writers.get(&(&get.partition, value)) else { return true };
        let replaces = |other: &Operation| {
            let changed = matches!(other.answer(), Some(Answer::Done(_)));
            changed && other.partition == get.partition && writer.latest() < other.began && other.ended < get.began
        };
        let refused = matches!(writer.answer(), Some(Answer::Missing | Answer::Different(_)));
        let failed = writer.outcome == raft::checker::Outcome::Failed;
        refused || failed || writer.began > get.ended || history.iter().any(replaces)
    })
}

#[test]
fn corrupted_histories_are_rejected() {
    let goal = rounds(1_000, 20_000);
    let mut rejected: BTreeMap<Corruption, u64> = BTreeMap::new();
    let (mut seed, mut answers) = (0, 0);
    while rejected.values().sum::<u64>() < goal {
        seed += 1;
        let dice = &mut Dice::new(seed);
        let original = invent(dice, PLAN);
        assert!(!is_surely_broken(&original), "seed {seed}");
        assert_eq!(verdict(&original), Ok(()), "seed {seed}: a valid history is accepted");
        let all = [Corruption::SwapResults, Corruption::DropWrite, Corruption::MoveCompletion];
        let how = all[(seed % 3) as usize];
        let mut history = original.clone();
        let harm = (0..1_000).any(|_| {
            history.clone_from(&original);
            corrupt(dice, &mut history, how);
            is_surely_broken(&history)
        });
        assert!(harm, "seed {seed}: {how:?} can do harm");
        let verdict = verdict(&history);
        let Err(Failure::Broken(explanation)) = &verdict else {
            panic!("seed {seed}: {how:?} was not noticed: {verdict:?}");
        };
        answers += explanation.contradiction.len() as u64;
        *rejected.entry(how).or_default() += 1;
    }
    println!("seeds 1..={seed}: {seed} histories accepted, and rejected once corrupted: {rejected:?}");
    let each = answers as f64 / goal as f64;
    println!("contradictions had {each:.1} answers on average, histories {} operations", PLAN.operations);
    assert!(each < 10.0, "explanations are short: {each}");
}
