//! Histories that are hard to search: many unknown outcomes, many clients at once, great length.

use std::fmt::Write as _;
use std::time::Instant;

use raft::checker::key_value::{KeyValue, Operation};
use raft::checker::{Failure, check};

use crate::dice::Dice;
use crate::invent::{Plan, invent};
use crate::{history, rounds, verdict};

/// The verdict, and how many points it took.
fn points(history: &[Operation]) -> (Result<(), crate::Failure>, usize) {
    let mut most = 0;
    let verdict = check(&KeyValue, history, &mut |points| {
        most = most.max(points);
        points < 1_000_000
    });
    (verdict, most)
}

/// So many writes whose outcomes nobody knows, and then what `then` says, one operation after the other.
fn after_unknown_writes(count: u64, then: &[String]) -> Vec<Operation> {
    let mut lines = String::new();
    for n in 0..count {
        let _ = writeln!(lines, "{n} k {n}.. set {n} -> unknown");
    }
    for (at, what) in then.iter().enumerate() {
        let began = count + 10 * at as u64;
        let _ = writeln!(lines, "{} k {began}..{} {what}", 2 * count, began + 5);
    }
    history(&lines)
}

/// A history that is sound, and how many points it takes to see that.
#[track_caller]
fn assert_sound(history: &[Operation], what: &str) {
    let (verdict, took) = points(history);
    assert_eq!(verdict, Ok(()), "{what}");
    println!("{what}: {took} points");
}

/// A history that is broken, and how many points it takes to see that.
#[track_caller]
fn assert_broken(history: &[Operation], what: &str, why: &str) {
    let (verdict, took) = points(history);
    assert!(is_broken(&verdict), "{why}: {verdict:?}");
    println!("{what}: {took} points");
}

fn is_broken(verdict: &Result<(), crate::Failure>) -> bool {
    matches!(verdict, Err(Failure::Broken(_)))
}

#[test]
fn unknown_writes_take_effect_when_they_are_seen_or_never() {
    let seen: Vec<String> = (0..200).step_by(3).rev().map(|n| format!("get -> found {n}")).collect();
    assert_sound(&after_unknown_writes(200, &seen), &format!("200 unknown writes, {} of them seen", seen.len()));

    let twice: Vec<String> = seen.iter().cloned().chain(["get -> found 0".into(), "get -> found 3".into()]).collect();
    let broken = after_unknown_writes(200, &twice);
    assert_broken(&broken, "and one of them seen again", "3 was there, then 0, then 3 again");
}

#[test]
fn deletions_that_found_something_need_one_unknown_write_each() {
    let then = |deletions: usize| -> Vec<String> { (0..deletions).map(|_| "delete -> done".to_owned()).collect() };
    assert_eq!(verdict(&after_unknown_writes(40, &then(40))), Ok(()));
    let broken = after_unknown_writes(40, &then(41));
    assert_broken(&broken, "40 unknown writes for 41 deletions", "one deletion has found nothing");
}

#[test]
fn unknown_deletions_and_swaps_are_used_up() {
    let mut lines = String::new();
    for n in 0..30 {
        let _ = writeln!(lines, "{n} k {n}.. cas {n} {} -> unknown\n{n} k {n}.. delete -> unknown", n + 1);
    }
    lines.push_str("99 k 100..110 set 0 -> done\n99 k 120..130 get -> found 30\n99 k 140..150 get -> missing\n");
    assert_sound(&history(&lines), "a chain of 30 unknown swaps");
    lines.push_str("99 k 160..170 get -> found 30\n");
    assert_broken(&history(&lines), "and its result seen again", "nobody can have written 30 again");
}

#[test]
fn thirty_clients_at_once_are_searched() {
    let plan = Plan { operations: 1_000, keys: 1, values: 0, width: 80, vague: 0 };
    for seed in 0..rounds(3, 30) {
        let all = invent(&mut Dice::new(seed), plan);
        assert_sound(&all, &format!("seed {seed}: 1,000 operations, up to 30 at once"));
    }
}

/// Forty clients write at the same time, over and over; each value is read in the end, or never.
#[test]
fn writers_at_once_are_told_apart_by_who_saw_what() {
    let mut lines = String::new();
    for round in 0..20 {
        let began = 1_000 * round;
        for client in 0..40 {
            let (value, ended) = (40 * round + client, began + 500 + client);
            let _ = writeln!(lines, "{client} k {began}..{ended} set {value} -> done");
            if client % 4 == 0 {
                let _ = writeln!(lines, "1{client} k {began}..{ended} get -> found {value}");
            }
        }
        let _ = writeln!(lines, "99 k {}..{} get -> found {}", began + 600, began + 700, 40 * round + 17);
    }
    assert_sound(&history(&lines), "800 writes, 40 at once");
    lines.push_str("99 k 30000..30001 get -> found 18\n");
    assert_broken(&history(&lines), "and one of them seen too late", "the value was replaced long ago");
}

#[test]
fn ten_thousand_operations_on_five_keys_take_less_than_a_second() {
    for (vague, seed) in [(0, 1), (20, 2)] {
        let plan = Plan { operations: 10_000, keys: 5, values: 0, width: 40, vague };
        let all = invent(&mut Dice::new(seed), plan);
        let began = Instant::now();
        assert_eq!(verdict(&all), Ok(()), "seed {seed}");
        let took = began.elapsed();
        println!("seed {seed}, one unknown in {vague}: {took:?}");
        // Without optimisation it takes longer, and tells nothing.
        assert!(cfg!(debug_assertions) || took.as_secs() < 1, "seed {seed}: {took:?}");
    }
}

#[test]
fn a_search_that_is_ended_is_a_failure_and_says_so() {
    let all = invent(&mut Dice::new(1), Plan { operations: 50, keys: 1, values: 0, width: 30, vague: 0 });
    let failure = check(&KeyValue, &all, &mut |points| points < 10).unwrap_err();
    assert!(matches!(&failure, Failure::Undecided { operations: 50, .. }), "{failure:?}");
    assert!(failure.to_string().contains("on 'k0' was ended undecided at"), "{failure}");
}

#[test]
fn what_is_broken_is_told_even_if_something_else_is_undecided() {
    let mut all = invent(&mut Dice::new(1), Plan { operations: 50, keys: 1, values: 0, width: 30, vague: 0 });
    all.extend(history("1 z 0..1 get -> found 1"));
    assert!(is_broken(&check(&KeyValue, &all, &mut |points| points < 10)));
}
