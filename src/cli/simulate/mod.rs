//! `raft simulate`: whole clusters on virtual time, seed after seed, and what failed of them.

mod failures;
mod pool;
mod table;

use std::io::{self, Write};
use std::ops::Range;
use std::panic;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raft::runtime::simulated::{self, Failed, Report, Scenario, Script, Wish, simulate};

use self::table::Sum;
use super::args::SimulateArgs;
use super::{Error, marks, progress, stop};

/// Runs what was asked for.
pub(super) fn run(args: &SimulateArgs) -> Result<ExitCode, Error> {
    let cases = Cases::of(args)?;
    simulated::listen();
    // What panics is a failure like any other, and told as one.
    panic::set_hook(Box::new(|panicked| log::error!("{panicked}")));
    let stops = stop::requests(false).map_err(|error| Error::failed("cannot catch signals", error))?;
    let began = Instant::now();
    let until = args.minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let seconds = args.minutes.map(|minutes| 60 * minutes);
    let numbers = cases.numbers();
    let bar = match seconds {
        Some(seconds) => progress::steps(seconds, "seconds"),
        None => progress::steps(numbers.end - numbers.start, "seeds"),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Of several at once, nobody could read the lines.
    let jobs = if args.trace { 1 } else { args.jobs.map_or(cores, usize::from) };
    let mut sum = Sum { report: Report::default(), runs: 0, failed: 0, jobs, twice: args.twice };
    let is_over = || !stops.is_empty() || until.is_some_and(|until| Instant::now() >= until);
    let each = |number: u64, outcome: Outcome| {
        sum.runs += 1;
        sum.report.add(outcome.report());
        if outcome.has_failed() {
            sum.failed += 1;
            bar.set_message(format!(", {} failed", sum.failed));
            bar.suspend(|| failures::tell(&cases, number, &outcome, sum.failed, args, &is_over));
        }
        bar.set_position(if seconds.is_some() { began.elapsed().as_secs() } else { sum.runs });
    };
    pool::run(jobs, numbers, |number| cases.run(number, args), each, is_over);
    bar.finish_and_clear();
    // Whoever reads it may stop before the end: the exit code says what there is to say.
    let _ = io::stdout().write_all(sum.table(began.elapsed()).as_bytes());
    let every_mark_hit = !(args.marks || args.require_marks) || marks::report(&sum.report.marks);
    let is_well = sum.failed == 0 && (every_mark_hit || !args.require_marks);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is run.
enum Cases {
    /// These seeds.
    Seeds(Range<u64>, Wish),
    /// This scenario.
    One(Box<Script>),
}

impl Cases {
    fn of(args: &SimulateArgs) -> Result<Self, Error> {
        if let Some(path) = &args.scenario {
            let script = Script::load(path).map_err(|error| Error::Failed(error.to_string()))?;
            return Ok(Cases::One(Box::new(script)));
        }
        let seeds = match (args.seed, args.minutes, &args.seeds) {
            (Some(first), Some(_), _) => first..u64::MAX,
            (Some(seed), None, _) => seed..seed + 1,
            (None, Some(_), _) => from_the_clock()..u64::MAX,
            (None, None, seeds) => seeds.clone().unwrap_or(0..100),
        };
        Ok(Cases::Seeds(
            seeds,
            Wish { profile: args.profile, nodes: args.nodes, time_ms: args.time.map(|seconds| seconds * 1000) },
        ))
    }

    fn numbers(&self) -> Range<u64> {
        match self {
            Cases::Seeds(seeds, _) => seeds.clone(),
            Cases::One(_) => 0..1,
        }
    }

    fn scenario(&self, number: u64) -> Scenario {
        match self {
            Cases::Seeds(_, wish) => Scenario::draw(number, wish),
            Cases::One(script) => script.scenario.clone(),
        }
    }

    fn run(&self, number: u64, args: &SimulateArgs) -> Outcome {
        let scenario = self.scenario(number);
        let mut tell = |line: &str| {
            let _ = writeln!(io::stdout(), "{line}");
        };
        let first = match args.trace {
            true => simulate(&scenario, TRACED_LINES, Some(&mut tell)),
            false => simulate(&scenario, 0, None),
        };
        if !args.twice {
            return Outcome { first, second: None };
        }
        let second = simulate(&scenario, 0, None);
        let is_same = match (&first, &second) {
            (Ok(first), Ok(second)) => first == second,
            (Err(first), Err(second)) => first.is_same(second),
            _ => false,
        };
        Outcome { first, second: Some(second).filter(|_| !is_same) }
    }
}

/// Lines that are kept until they are written: more than one step makes.
const TRACED_LINES: usize = 1 << 16;

/// What came of one simulation.
struct Outcome {
    first: Result<Report, Box<Failed>>,
    /// What came of it the second time, if that was something else.
    second: Option<Result<Report, Box<Failed>>>,
}

impl Outcome {
    fn report(&self) -> &Report {
        match &self.first {
            Ok(report) => report,
            Err(failed) => &failed.report,
        }
    }

    fn has_failed(&self) -> bool {
        self.first.is_err() || self.second.is_some()
    }
}

/// A seed that nobody has tried yet, most likely.
fn from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A thousand a second: more than are run until then.
    now.as_secs() * 1000
}
