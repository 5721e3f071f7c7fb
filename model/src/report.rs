//! One exploration: how it goes on, where it ends, and what that shows.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use stateright::{Checker, CheckerBuilder, Expectation, HasDiscoveries, Model};

use crate::bounds::{Bounds, Cuts};
use crate::model::RaftModel;
use crate::words;

const PROGRESS_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A breadth-first search keeps all states of one depth: about half a kilobyte each.
const SHORTEST_STATES: usize = 4_000_000;

/// When to end, whatever is left.
pub struct Limits {
    pub depth: Option<usize>,
    pub threads: usize,
    pub time: Duration,
    pub states: usize,
}

/// How far an exploration has come.
#[derive(Clone, Copy)]
pub struct Progress {
    pub time: Duration,
    /// States that were made, again and again.
    pub steps: usize,
    /// States that differ.
    pub states: usize,
    /// Steps on the longest way that was taken to a state.
    pub depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every state within the bounds was seen.
    Exhausted,
    Broken,
    Depth,
    Time,
    States,
}

/// What an exploration has shown.
pub struct Report {
    pub end: End,
    pub progress: Progress,
    /// The broken property, and how it comes about.
    pub broken: Option<(&'static str, String)>,
    /// What should have been possible, but was not.
    pub missing: Vec<&'static str>,
    /// The bounds that kept something from happening.
    pub cuts: Vec<&'static str>,
}

/// Explores depth first, which takes the least memory. If something is broken, looks for a short way there.
pub fn explore(bounds: &Bounds, limits: &Limits, tell: impl Fn(Progress)) -> Report {
    let report = watch(builder(bounds, limits).spawn_dfs(), limits, &tell);
    match report.end {
        End::Broken => shortest(bounds, limits, &tell).unwrap_or(report),
        _ => report,
    }
}

/// Breadth first, with one thread, what is found has the fewest steps.
fn shortest(bounds: &Bounds, limits: &Limits, tell: impl Fn(Progress)) -> Option<Report> {
    let limits = Limits { threads: 1, states: limits.states.min(SHORTEST_STATES), ..*limits };
    let report = watch(builder(bounds, &limits).spawn_bfs(), &limits, tell);
    (report.end == End::Broken).then_some(report)
}

fn builder(bounds: &Bounds, limits: &Limits) -> CheckerBuilder<RaftModel> {
    let builder = RaftModel::new(bounds.clone()).checker().threads(limits.threads);
    let builder = builder.finish_when(HasDiscoveries::AnyFailures);
    match limits.depth {
        Some(depth) => builder.target_max_depth(depth),
        None => builder,
    }
}

/// Waits until a search is over, and ends it when it must.
fn watch(mut checker: impl Checker<RaftModel>, limits: &Limits, tell: impl Fn(Progress)) -> Report {
    let began = Instant::now();
    let handles = checker.handles();
    let progress = || Progress {
        time: began.elapsed(),
        steps: checker.state_count(),
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
    };
    let (mut end, mut told) = (End::Exhausted, began);
    while !handles.iter().all(|handle| handle.is_finished()) {
        sleep(LOOK_EVERY);
        let now = progress();
        if told.elapsed() > PROGRESS_EVERY {
            told = Instant::now();
            tell(now);
        }
        if end == End::Exhausted && (now.time > limits.time || now.states > limits.states) {
            end = if now.time > limits.time { End::Time } else { End::States };
            checker.model().stopped.store(true, Ordering::Relaxed);
        }
    }
    let progress = progress();
    handles.into_iter().for_each(|handle| handle.join().expect("the exploration does not panic"));
    checker.model().stopped.store(false, Ordering::Relaxed);
    if limits.depth.is_some_and(|depth| progress.depth >= depth) {
        end = End::Depth;
    }
    conclude(&checker, progress, end)
}

fn conclude(checker: &impl Checker<RaftModel>, progress: Progress, end: End) -> Report {
    let model = checker.model();
    let found = checker.discoveries();
    let (always, sometimes): (Vec<_>, Vec<_>) =
        model.properties().into_iter().partition(|property| property.expectation == Expectation::Always);
    let broken = always.iter().find_map(|property| {
        let path = found.get(property.name)?;
        Some((property.name, words::story(model, path.clone())))
    });
    let missing = sometimes.iter().map(|property| property.name).filter(|name| !found.contains_key(name));
    Report {
        end: if broken.is_some() { End::Broken } else { end },
        progress,
        broken,
        missing: missing.collect(),
        cuts: Cuts::met(&model.cuts),
    }
}

impl Report {
    pub fn exit_code(&self) -> ExitCode {
        match self.end {
            End::Exhausted if self.missing.is_empty() => ExitCode::SUCCESS,
            End::Exhausted | End::Broken => ExitCode::from(1),
            End::Depth | End::Time | End::States => ExitCode::from(3),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { time, steps, states, depth } = self;
        write!(f, "{states} states, {steps} steps, {depth} deep, {:.1} s", time.as_secs_f64())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, story)) = &self.broken {
            write!(f, "{story}\nBROKEN: {name}\nafter {}", self.progress)?;
            return Ok(());
        }
        match self.end {
            End::Exhausted | End::Broken => writeln!(f, "EXHAUSTED: every state within these bounds was checked")?,
            End::Depth => writeln!(f, "NOT EXHAUSTED: there is more beyond the given depth")?,
            End::Time => writeln!(f, "NOT EXHAUSTED: the time was over")?,
            End::States => writeln!(f, "NOT EXHAUSTED: the number of states was reached")?,
        }
        writeln!(f, "{}", self.progress)?;
        match self.cuts.as_slice() {
            [] => write!(f, "no bound kept anything from happening")?,
            cuts => write!(f, "more would happen with more {}", cuts.join(", "))?,
        }
        match self.missing.as_slice() {
            [] => write!(f, "\nno invariant is broken, and what should be possible is"),
            missing => write!(f, "\nno invariant is broken, but this never happened: {}", missing.join("; ")),
        }
    }
}
