//! Hunts the mutant that `RAFT_MUTANT` names with the simulator alone, on all cores: one seed after another of each profile, until an
//! invariant is broken or the time is over. `cargo xtask mutants` runs it.
//!
//! `list` prints what can be hunted; `hunt SECONDS` ends with the line `found RUNS PROFILE NODES SECONDS SEED VIOLATION` or
//! `nothing RUNS`, a run being one seed of one profile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use raft::mutants::ALL;
use raft::runtime::simulated::{Profile, Scenario, Wish, simulate};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => ALL.iter().for_each(|(_, name, breaks)| println!("{name}\t{}", breaks.trim())),
        ["hunt", seconds] => hunt(Duration::from_secs(seconds.parse().expect("how many seconds to hunt"))),
        // As one test of many it has nothing to hunt.
        _ => {}
    }
}

/// In turn, the two that find most first.
const PROFILES: [Profile; 6] =
    [Profile::Swarm, Profile::Damage, Profile::Crashes, Profile::Disks, Profile::Network, Profile::Calm];
/// How many nodes the clusters have, in turn: some bugs need an even number.
const NODES: [u64; 4] = [3, 4, 2, 5];
/// How many seconds are simulated. Most runs are short: that finds most things soonest, though not what needs a long log.
const SECONDS: [u64; 4] = [2, 2, 2, 10];

fn hunt(patience: Duration) {
    let began = Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    let runs = AtomicU64::new(0);
    let hunter = || {
        while began.elapsed() < patience {
            let run = runs.fetch_add(1, Ordering::Relaxed) as usize;
            let profile = PROFILES[run % PROFILES.len()];
            let (name, seed) = (format!("{profile:?}").to_lowercase(), run / PROFILES.len());
            let (nodes, seconds) = (NODES[seed % NODES.len()], SECONDS[seed / NODES.len() % SECONDS.len()]);
            let wish = Wish { profile, nodes: Some(nodes), time_ms: Some(1_000 * seconds) };
            let scenario = Scenario::draw(seed as u64, &wish);
            if let Some(violation) = violation(&scenario) {
                println!("found {} {name} {nodes} {seconds} {seed} {violation}", run + 1);
                std::process::exit(0);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(hunter);
        }
    });
    println!("nothing {}", runs.into_inner());
}

/// What goes wrong in this simulation, in one line.
fn violation(scenario: &Scenario) -> Option<String> {
    let words = match catch_unwind(AssertUnwindSafe(|| simulate(scenario, 0, None))) {
        Ok(Ok(_)) => return None,
        Ok(Err(failed)) => failed.violation.to_string(),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            format!("an assertion of the product: {}", words.unwrap_or_default())
        }
    };
    Some(words.replace('\n', " "))
}
