//! What people are told of a simulation that failed: what was broken, how to repeat it, what happened last, and the least that it takes.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use raft::runtime::simulated::{Failed, Report, Scenario, Script, shrink, simulate};

use super::{Cases, Outcome};
use crate::cli::again;
use crate::cli::args::SimulateArgs;

/// The last steps that are shown.
const STEPS: usize = 25;

/// So many failures are told at length, and the others in a line: they may all be the same.
const AT_LENGTH: u64 = 5;

/// Longest time to cut a scenario down.
const SHRINKING: Duration = Duration::from_secs(60);

/// Tells of the nth failure. `is_over`: whether there is no time for more than that.
pub(super) fn tell(
    cases: &Cases,
    number: u64,
    outcome: &Outcome,
    nth: u64,
    args: &SimulateArgs,
    is_over: &dyn Fn() -> bool,
) {
    let mut text = String::new();
    match (&outcome.second, &outcome.first) {
        (Some(second), first) => differs(&mut text, &cases.scenario(number), first, second),
        (None, Err(failed)) => {
            let _ = writeln!(
                text,
                "FAILED {}, at {:.6} s: {}",
                name(cases, number),
                failed.at.as_secs_f64(),
                failed.violation
            );
            if nth <= AT_LENGTH {
                last_steps(&mut text, &cases.scenario(number), failed);
            }
        }
        (None, Ok(_)) => return,
    }
    let _ = writeln!(text, "  again: {}", command(cases, number, args));
    say(&text);
    if let (Some(folder), Err(failed)) = (&args.shrink, &outcome.first)
        && nth <= AT_LENGTH
    {
        say(&cut_down(&cases.scenario(number), failed, folder, &name(cases, number), is_over));
    }
}

fn say(text: &str) {
    // Nobody may be left to read it: the exit code says what there is to say.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn name(cases: &Cases, number: u64) -> String {
    match cases {
        Cases::Seeds(..) => format!("seed {number}"),
        Cases::One(script) => format!("the scenario of seed {}", script.scenario.seed),
    }
}

/// The command that does it again.
fn command(cases: &Cases, number: u64, args: &SimulateArgs) -> String {
    let program = again::given().into_iter().next().unwrap_or_else(|| "raft".into());
    let mut command = format!("{program} simulate");
    if let Some(path) = &args.scenario {
        let _ = write!(command, " --scenario {}", again::quoted(&path.to_string_lossy()));
    }
    if let Cases::Seeds(..) = cases {
        let _ = write!(command, " --seed {number}");
        let profile = args.profile.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let _ = write!(command, " --profile {profile}");
        let _ = args.nodes.map(|nodes| write!(command, " --nodes {nodes}"));
        let _ = args.time.map(|seconds| write!(command, " --time {seconds}"));
    }
    if args.twice {
        command.push_str(" --twice");
    }
    command + " --trace"
}

/// What happened last: it is run once more, and has to go the same way.
fn last_steps(text: &mut String, scenario: &Scenario, failed: &Failed) {
    match simulate(scenario, STEPS, None) {
        Err(again) if again.is_same(failed) => {
            let _ = writeln!(text, "  the last {} steps:", again.trace.len());
            for line in again.trace {
                let _ = writeln!(text, "    {line}");
            }
        }
        again => differs(text, scenario, &Err(Box::new(failed.clone())), &again),
    }
}

/// A simulation that did not go the same way twice: a bug of the simulator, or of what it runs.
fn differs(
    text: &mut String,
    scenario: &Scenario,
    first: &Result<Report, Box<Failed>>,
    second: &Result<Report, Box<Failed>>,
) {
    let words = |outcome: &Result<Report, Box<Failed>>| match outcome {
        Ok(report) => format!("nothing failed, hash {:016x}", report.hash),
        Err(failed) => format!("{} at {:?}, hash {:016x}", failed.violation, failed.at, failed.report.hash),
    };
    let _ = writeln!(
        text,
        "FAILED determinism: seed {} went two ways:\n  {}\n  {}",
        scenario.seed,
        words(first),
        words(second)
    );
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    for lines in [&mut once, &mut twice] {
        let _ = simulate(scenario, super::TRACED_LINES, Some(&mut |line: &str| lines.push(line.to_owned())));
    }
    let _ = match once.iter().zip(&twice).find(|(one, other)| one != other) {
        Some((one, other)) => writeln!(text, "  where two more runs part:\n    {one}\n    {other}"),
        None => writeln!(text, "  two more runs have the same trace"),
    };
}

/// Cuts it down and keeps what is left. Returns what to say of it.
fn cut_down(scenario: &Scenario, failed: &Failed, folder: &Path, name: &str, is_over: &dyn Fn() -> bool) -> String {
    let invariant = failed.violation.invariant;
    let until = Instant::now() + SHRINKING;
    // What breaks the same invariant need not be the same bug, but whoever mends it will see.
    let mut fails = |candidate: &Scenario| {
        simulate(candidate, 0, None).is_err_and(|failed| failed.violation.invariant == invariant)
    };
    let shrunk = shrink(scenario, &mut fails, &mut || Instant::now() < until && !is_over());
    let small = shrunk.scenario;
    let details = match simulate(&small, 0, None) {
        Err(failed) => failed.violation.details,
        Ok(_) => {
            return format!(
                "  {name} was cut down to a scenario that does not fail: the simulator is not deterministic\n"
            );
        }
    };
    let mut text = format!(
        "  cut down in {} runs{}: faults {} to {}, nodes {} to {}, clients {} to {}, time {} to {} ms\n",
        shrunk.runs,
        if shrunk.is_minimal { "" } else { ", and there may be less" },
        scenario.faults.len(),
        small.faults.len(),
        scenario.nodes,
        small.nodes,
        scenario.clients,
        small.clients,
        scenario.time_ms,
        small.time_ms
    );
    let path = free_path(folder, invariant, scenario.seed);
    let saved = fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()));
    let saved =
        saved.and_then(|()| Script::new(small, invariant, details).save(&path).map_err(|error| error.to_string()));
    let _ = match saved {
        Ok(()) => writeln!(text, "  kept as {}", path.display()),
        Err(problem) => writeln!(text, "  not kept: {problem}"),
    };
    text
}

/// Where nothing is yet.
fn free_path(folder: &Path, invariant: &str, seed: u64) -> PathBuf {
    let number = invariant.split_whitespace().next().filter(|word| word.starts_with('I')).unwrap_or("other");
    let named = |times: u64| match times {
        0 => folder.join(format!("{number}-seed-{seed}.json")),
        _ => folder.join(format!("{number}-seed-{seed}-{times}.json")),
    };
    (0..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0))
}
