//! The checkers, checked: that of linearizability against brute force, corrupted histories, hard cases, and other people's
//! formats; those of the workbench against brute force and broken histories.

#[path = "../core/dice.rs"]
mod dice;

mod brute;
mod corruptions;
mod formats;
mod hard;
mod invent;
mod queue;
#[cfg(feature = "cli")]
mod sequential;
mod small;
#[cfg(feature = "cli")]
mod strict;

use raft::checker::check;
use raft::checker::key_value::{Action, Answer};
use raft::checker::key_value::{KeyValue, Operation};

/// More than any history here needs, fewer than take long.
const PATIENCE: usize = 500_000;

/// Why a history of the key-value store did not pass.
type Failure = raft::checker::Failure<Action, Answer>;

/// Checks a history with a patience that is the same everywhere.
fn verdict(history: &[Operation]) -> Result<(), Failure> {
    check(&KeyValue, history, &mut |points| points < PATIENCE)
}

/// A history from its lines.
fn history(lines: &str) -> Vec<Operation> {
    raft::checker::history::read(lines).expect("a history")
}

/// How often something is done, in the short profile and at night.
fn rounds(short: u64, long: u64) -> u64 {
    let is_nightly = std::env::var("RAFT_TEST_PROFILE").is_ok_and(|profile| profile == "nightly");
    if is_nightly { long } else { short }
}
