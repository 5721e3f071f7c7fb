//! The check against the order of the log.

use raft::checker::Outcome;
use raft::checker::key_value::{Answer, KeyValue};
use raft::checker::witness::{Place, Rule, Violation, check};

use crate::dice::Dice;
use crate::invent::{Invented, Plan, invent};
use crate::{history, rounds, verdict};

const PLAN: Plan = Plan { operations: 300, keys: 3, values: 0, width: 30, vague: 10 };

fn run(made: &Invented) -> Result<(), Violation> {
    check(&KeyValue, &made.history, &made.commits, &made.reads)
}

fn rule(made: &Invented) -> Option<Rule> {
    run(made).err().map(|violation| violation.rule)
}

#[test]
fn what_a_log_witnesses_is_linearizable() {
    for seed in 0..rounds(200, 5_000) {
        let dice = &mut Dice::new(seed);
        let made = invent(dice, PLAN);
        assert_eq!(run(&made), Ok(()), "seed {seed}");
        assert_eq!(verdict(&made.history), Ok(()), "seed {seed}");
    }
}

/// What the witness accepts, the search accepts: whatever is wrong, it must be found by both or by the witness alone.
#[test]
fn the_witness_demands_at_least_what_the_search_demands() {
    let (mut both, mut alone) = (0, 0);
    for seed in 0..rounds(2_000, 50_000) {
        let dice = &mut Dice::new(seed);
        let mut made = invent(dice, Plan { operations: 40, keys: 2, values: 4, ..PLAN });
        let victim = dice.below(made.history.len() as u64) as usize;
        let operation = &mut made.history[victim];
        let length = operation.ended.saturating_sub(operation.began).min(30);
        operation.began = operation.began.saturating_sub(100) + dice.below(200);
        operation.ended = operation.began + length;
        match (run(&made), verdict(&made.history)) {
            (Ok(()), found) => assert_eq!(found, Ok(()), "seed {seed}"),
            (Err(_), Err(_)) => both += 1,
            (Err(_), Ok(())) => alone += 1,
        }
    }
    println!("{both} broken histories were found by both, {alone} by the witness alone");
    assert!(both > 50 && alone > 50, "{both} and {alone}");
}

#[test]
fn an_acknowledged_write_that_the_log_has_lost_is_found() {
    for seed in 0..rounds(100, 2_000) {
        let mut made = invent(&mut Dice::new(seed), PLAN);
        let acknowledged = |commit: &Place| made.history[commit.operation].answer().is_some();
        // The last, so that nobody has seen it.
        let lost = made.commits.iter().rposition(acknowledged).expect("an acknowledged write");
        made.commits.remove(lost);
        assert!(matches!(rule(&made), Some(Rule::ExactlyOnce | Rule::SameAnswer)), "seed {seed}");
    }
}

#[test]
fn a_write_that_the_log_has_twice_is_found() {
    let mut made = invent(&mut Dice::new(1), PLAN);
    let index = made.commits.last().expect("a write").index + 1;
    made.commits.push(Place { index, ..made.commits[20] });
    assert_eq!(rule(&made), Some(Rule::ExactlyOnce));
    made.commits.pop();
    made.reads.push(made.reads[3]);
    assert_eq!(rule(&made), Some(Rule::ExactlyOnce));
}

#[test]
fn a_failed_write_in_the_log_is_found() {
    let mut made = invent(&mut Dice::new(2), PLAN);
    let victim = made.commits[10].operation;
    made.history[victim].outcome = Outcome::Failed;
    assert_eq!(rule(&made), Some(Rule::FailedNever));
}

#[test]
fn an_answer_that_a_replay_does_not_give_is_found() {
    let mut made = invent(&mut Dice::new(3), PLAN);
    let is_found = |read: &&Place| matches!(made.history[read.operation].answer(), Some(Answer::Found(..)));
    let victim = made.reads.iter().find(is_found).expect("a read of something").operation;
    made.history[victim].outcome = Outcome::Answered(Answer::Missing);
    assert_eq!(rule(&made), Some(Rule::SameAnswer));
}

#[test]
fn a_revision_that_is_not_the_log_index_is_found() {
    let mut made = invent(&mut Dice::new(4), PLAN);
    let commit = |commit: &&Place| matches!(made.history[commit.operation].answer(), Some(Answer::Done(Some(_))));
    let victim = *made.commits.iter().find(commit).expect("a write with its revision");
    made.history[victim.operation].outcome = Outcome::Answered(Answer::Done(Some(victim.index + 1)));
    assert_eq!(rule(&made), Some(Rule::SameAnswer));
}

#[test]
fn a_stale_read_is_found_even_if_its_value_is_the_current_one_of_its_index() {
    let all = history("1 k 0..10 set 1 -> done\n1 k 20..30 set 2 -> done\n2 k 40..50 get -> found 1");
    let commits = [Place { index: 5, operation: 0 }, Place { index: 6, operation: 1 }];
    let violation = check(&KeyValue, &all, &commits, &[Place { index: 5, operation: 2 }]).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "the log's order respects real time: '1 k 20..30 set 2 -> done' had ended when '2 k 40..50 get -> found 1' began, \
         but comes after it: they are at 6 and 5"
    );
    let violation = check(&KeyValue, &all, &commits, &[Place { index: 6, operation: 2 }]).unwrap_err();
    assert_eq!(violation.rule, Rule::SameAnswer, "{violation}");
    assert!(violation.to_string().contains("'2 k 40..50 get -> found 1' at 6"), "{violation}");
}

#[test]
fn real_time_holds_across_keys() {
    let all = history("1 a 0..10 set 1 -> done\n1 b 20..30 set 2 -> done");
    let order = |first, second| {
        let commits = [Place { index: 1, operation: first }, Place { index: 2, operation: second }];
        check(&KeyValue, &all, &commits, &[]).err().map(|violation| violation.rule)
    };
    assert_eq!(order(0, 1), None);
    assert_eq!(order(1, 0), Some(Rule::RealTime));
    assert_eq!(verdict(&all), Ok(()));
}

#[test]
fn an_unknown_write_may_be_late_but_not_early() {
    let all = history("1 k 0..10 set 1 -> unknown\n2 k 20..30 set 2 -> done\n3 k 40..50 set 3 -> unknown");
    let order = |operations: &[usize]| {
        let place = |(index, &operation): (u64, &usize)| Place { index, operation };
        let commits: Vec<Place> = (1..).zip(operations).map(place).collect();
        check(&KeyValue, &all, &commits, &[]).err().map(|violation| violation.rule)
    };
    assert_eq!(order(&[1, 0]), None);
    assert_eq!(order(&[1]), None);
    assert_eq!(order(&[1, 2, 0]), None);
    assert_eq!(order(&[2, 1]), Some(Rule::RealTime), "3 began when 2 was done");
    assert_eq!(order(&[0]), Some(Rule::ExactlyOnce));
}

#[test]
fn a_witness_that_makes_no_sense_is_refused() {
    let all = history("1 k 0..10 set 1 -> done\n1 k 20..30 get -> found 1");
    let run = |commits: &[(u64, usize)], reads: &[(u64, usize)]| {
        let places = |list: &[(u64, usize)]| -> Vec<Place> {
            list.iter().map(|&(index, operation)| Place { index, operation }).collect()
        };
        check(&KeyValue, &all, &places(commits), &places(reads)).err().map(|violation| violation.rule)
    };
    assert_eq!(run(&[(1, 0)], &[(1, 1)]), None);
    assert_eq!(run(&[(1, 0), (2, 1)], &[]), None, "a read that went through the log");
    assert_eq!(run(&[(1, 0), (1, 1)], &[]), Some(Rule::WellFormed), "two at one index");
    assert_eq!(run(&[(1, 7)], &[]), Some(Rule::WellFormed), "no such operation");
    assert_eq!(run(&[], &[(1, 0)]), Some(Rule::WellFormed), "a write that was placed as a read");
    assert_eq!(run(&[(1, 0)], &[]), Some(Rule::ExactlyOnce), "a read that was answered from nowhere");
}
