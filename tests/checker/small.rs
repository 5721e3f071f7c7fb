//! Thousands of tiny histories, against brute force.

use raft::checker::key_value::{Action, Answer, Operation};
use raft::checker::{Failure, Outcome};

use crate::dice::Dice;
use crate::invent::{Plan, invent, value};
use crate::{brute, history, rounds, verdict};

/// Changes something that may or may not matter.
fn disturb(dice: &mut Dice, history: &mut [Operation]) {
    let victim = dice.below(history.len() as u64) as usize;
    let operation = &mut history[victim];
    match dice.below(4) {
        0 => {
            operation.began = 600 + dice.below(100);
            operation.ended = operation.began + dice.below(40);
        }
        1 => operation.outcome = Outcome::Failed,
        _ => {
            operation.outcome = Outcome::Answered(some_answer(dice, &operation.action));
            operation.ended = operation.ended.min(operation.began + 60);
        }
    }
}

fn some_answer(dice: &mut Dice, action: &Action) -> Answer {
    let revision = dice.once_in(3).then(|| dice.below(15));
    let some_value = value(dice.below(3));
    match (action, dice.below(3)) {
        (Action::Get, 1..) => Answer::Found(some_value, revision),
        (Action::Get, _) | (Action::Delete | Action::CompareAndSet(..), 0) => Answer::Missing,
        (Action::CompareAndSet(..), 1) => Answer::Different(dice.once_in(2).then_some(some_value)),
        _ => Answer::Done(revision),
    }
}

/// What is left of a history of which an explanation names all that matters: those answers, and that the rest was asked for.
fn core(all: &[Operation], claims: &[Operation]) -> Vec<Operation> {
    let forget = |operation: &Operation| match &operation.outcome {
        Outcome::Answered(_) if !claims.contains(operation) => {
            Operation { outcome: Outcome::Unknown, ..operation.clone() }
        }
        _ => operation.clone(),
    };
    all.iter().map(forget).collect()
}

#[test]
fn the_search_agrees_with_brute_force_on_tiny_histories() {
    let (mut broken, mut sound) = (0, 0);
    for seed in 0..rounds(6_000, 200_000) {
        let dice = &mut Dice::new(seed);
        let plan = Plan {
            operations: 2 + dice.below(7) as usize,
            keys: 1,
            values: 3,
            width: 5 + dice.below(40),
            vague: 1 + dice.below(4),
        };
        let mut all = invent(dice, plan);
        for _ in 0..seed % 3 {
            disturb(dice, &mut all);
        }
        let truth = brute::is_linearizable(&all);
        let shown = || all.iter().map(|operation| format!("\n{operation}")).collect::<String>();
        match verdict(&all) {
            Ok(()) => assert!(truth, "seed {seed}: accepted{}", shown()),
            Err(Failure::Broken(explanation)) => {
                assert!(!truth, "seed {seed}: rejected{}", shown());
                let core = core(&all, &explanation.contradiction);
                assert!(!brute::is_linearizable(&core), "seed {seed}: {explanation}\nof{}", shown());
            }
            Err(undecided) => panic!("seed {seed}: {undecided}{}", shown()),
        }
        (broken, sound) = (broken + u64::from(!truth), sound + u64::from(truth));
    }
    println!("seeds 0..{}: {sound} linearizable, {broken} broken", broken + sound);
    assert!(broken * 5 > sound && sound * 5 > broken, "both kinds were among them: {sound} and {broken}");
}

#[test]
fn the_order_of_the_operations_in_a_history_means_nothing() {
    let lines =
        "1 k 0..10 set 1 -> done\n2 k 20..30 get -> found 1\n1 k 40..50 delete -> done\n2 k 60..70 get -> missing";
    let mut all = history(lines);
    assert_eq!(verdict(&all), Ok(()));
    all.reverse();
    assert_eq!(verdict(&all), Ok(()));
}

#[test]
fn moments_that_are_equal_overlap() {
    assert_eq!(verdict(&history("1 k 0..5 set 1 -> done\n2 k 5..5 get -> missing")), Ok(()));
    assert!(verdict(&history("1 k 0..5 set 1 -> done\n2 k 6..6 get -> missing")).is_err());
}

#[test]
fn a_failure_names_the_answers_that_contradict_each_other() {
    let all = history(
        "1 other 0..1 set 7 -> done
1 k 0..10 set 1 -> done
2 k 5..15 get -> found 1
1 k 20..30 set 2 -> done
3 k 25..90 set 3 -> unknown
2 k 40..50 get -> found 2
4 k 41..45 delete -> failed
2 k 60..70 get -> found 1
1 k 80..90 get -> found 2",
    );
    let failure = verdict(&all).unwrap_err();
    let expected = "the history of 'k' is not linearizable. All that was answered before 70 can be explained; but no order \
                    explains these 3 of its 8 operations (client, partition, begin..end, action -> answer), whichever of \
                    the others took effect:
  1 k 0..10 set 1 -> done
  1 k 20..30 set 2 -> done
  2 k 60..70 get -> found 1";
    assert_eq!(failure.to_string(), expected);
}

#[test]
fn a_revision_can_break_what_values_alone_would_allow() {
    let stale = "1 k 0..10 set 1 -> done at 5\n1 k 20..30 set 1 -> done at 7\n2 k 40..50 get -> found 1";
    assert_eq!(verdict(&history(stale)), Ok(()));
    assert!(verdict(&history(&format!("{stale} at 5"))).is_err());
    assert_eq!(verdict(&history(&format!("{stale} at 7"))), Ok(()));
    assert!(verdict(&history("1 k 0..10 set 1 -> done at 5\n1 k 20..30 set 2 -> done at 4")).is_err());
}
