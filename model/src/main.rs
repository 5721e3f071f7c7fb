//! Explores everything that a small cluster of raft's servers can do: `cargo xtask model`.

mod actions;
mod bounds;
mod model;
mod projection;
mod properties;
mod report;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use bounds::Bounds;
use report::{Limits, explore};

/// Explores everything that a small cluster of raft's servers can do, and checks the invariants in every state.
///
/// Messages may be lost, late, out of order, and arrive any number of times. Clocks fire whenever they like. What is
/// bounded is bounded by the options; what an option kept from happening is printed in the end. The exit code is 0 if
/// everything within the bounds was explored and nothing is broken, 1 if an invariant is broken, and 3 if the search ended
/// early.
#[derive(Parser)]
#[command(name = "raft-model")]
struct Arguments {
    /// How many nodes, all voters: up to 5.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=5))]
    nodes: u64,
    /// Nobody campaigns in a term above this.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=9))]
    terms: u64,
    /// How many commands clients propose. Every leader appends an entry of its own besides.
    #[arg(long, default_value_t = 2)]
    entries: u32,
    /// How many crashes, each with a restart.
    #[arg(long, default_value_t = 1)]
    crashes: u32,
    /// How many times a leader's heartbeat clock fires.
    #[arg(long, default_value_t = 0)]
    heartbeats: u32,
    /// Writes to the disk take time: anything may happen before they are done, and a crash loses them.
    #[arg(long)]
    slow_disks: bool,
    /// Ask before campaigning.
    #[arg(long)]
    pre_vote: bool,
    /// Leaders that hear no quorum go on, and nobody protects a leader.
    #[arg(long)]
    no_check_quorum: bool,
    /// Explore no further than so many steps from the beginning.
    #[arg(long)]
    depth: Option<usize>,
    /// Threads that explore.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// End after so many seconds, whatever is left.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// End after so many states, whatever is left: a million take about 30 MB.
    #[arg(long, default_value_t = 40_000_000)]
    states: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bounds = Bounds {
        nodes: arguments.nodes,
        terms: arguments.terms,
        entries: arguments.entries,
        crashes: arguments.crashes,
        heartbeats: arguments.heartbeats,
        slow_disks: arguments.slow_disks,
        pre_vote: arguments.pre_vote,
        check_quorum: !arguments.no_check_quorum,
    };
    let limits = Limits {
        depth: arguments.depth,
        threads: arguments.threads,
        time: Duration::from_secs(arguments.seconds),
        states: arguments.states,
    };
    println!("{bounds}");
    let report = explore(&bounds, &limits, |progress| eprintln!("{progress}"));
    println!("{report}");
    report.exit_code()
}
