//! `raft simulate`: whole clusters in one thread on virtual time, seed after seed, until something is not as it must be.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use raft::runtime::simulated::{Profile, Report, Scenario, Wish, simulate};

use super::Error;
use super::args::SimulateArgs;
use super::marks;

/// Runs what was asked for.
pub(super) fn run(args: &SimulateArgs) -> Result<ExitCode, Error> {
    let profile = Profile::ALL.iter().find(|(name, _)| *name == args.profile).map(|(_, profile)| *profile);
    let profile = profile.ok_or_else(|| Error::Usage(format!("no profile is called {}", args.profile)))?;
    let wish = Wish { profile, nodes: args.nodes, time_ms: args.time.map(|seconds| seconds * 1000) };
    if args.trace {
        let _ = env_logger::try_init();
    }
    let began = Instant::now();
    let mut sum = Report::default();
    let (first, last) = args.range()?;
    let mut failed = 0;
    for seed in first..last {
        let scenario = Scenario::draw(seed, &wish);
        let mut tell = |line: &str| println!("{line}");
        let outcome =
            if args.trace { simulate(&scenario, 1 << 16, Some(&mut tell)) } else { simulate(&scenario, 0, None) };
        match outcome {
            Ok(report) => sum.add(&report),
            Err(wrong) => {
                failed += 1;
                println!("seed {seed}: {} at {:?}", wrong.violation, wrong.at);
                sum.add(&wrong.report);
            }
        }
    }
    let wall = began.elapsed();
    println!("{sum:#?}");
    let per_second = |number: u64, time: Duration| number as f64 / time.as_secs_f64();
    println!(
        "{} seeds, {failed} failed, {:.1} s, {:.0} events/s, {:.1} simulated seconds a second",
        last - first,
        wall.as_secs_f64(),
        per_second(sum.events, wall),
        sum.simulated.as_secs_f64() / wall.as_secs_f64()
    );
    let every_mark_hit = !(args.marks || args.require_marks) || marks::report(&sum.marks);
    Ok(if failed == 0 && (every_mark_hit || !args.require_marks) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
