//! One run, from the start of the nodes to the verdict.

use std::cell::Cell;
use std::fs;
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::check::check;
use super::clients::{Clients, End, WATCH};
use super::history::Operation;
use super::nemesis::{self, Happened};
use super::network::{Network, Traffic};
use super::options::Options;
use super::processes::Launch;
use super::router::Router;
use super::verdict::Verdict;
use super::workload::generator;
use crate::gateway::maelstrom::Workload;
use crate::runtime::simulated::dice::Dice;

/// How long nodes may take to answer `init`.
const INIT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a node may take to serve again when all faults are over, and how many times the latency beside.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(15);
const RECOVERY_LATENCIES: u32 = 200;
/// How long the requests at the end may take, together.
const REST_PATIENCE: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Default)]
pub struct Run {
    /// All that was asked.
    pub history: Vec<Operation>,
    /// Whether that may be.
    pub verdict: Verdict,
    /// How long it took to find out.
    pub checked_in: Duration,
    /// What went wrong.
    pub faults: Vec<Happened>,
    /// What was carried while clients asked as often as they were told to.
    pub traffic: Traffic,
    /// When they began to, and when they stopped, from the start of the run.
    pub load: (Duration, Duration),
    /// What nodes say to each other at rest. None if it was not measured.
    pub rest: Option<Rest>,
    /// Why the run did not come to its end; for people.
    pub trouble: Option<String>,
    /// Whoever watched wanted it to stop.
    pub was_stopped: bool,
}

/// Messages between nodes at rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    /// A second, when nobody asks anything.
    pub idle_rate: f64,
    /// For each node: requests to it that were asked one after another, and messages that they took, without those that
    /// would have been there anyway.
    pub singles: Vec<(u64, f64)>,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In words.
    pub phase: &'static str,
    /// How long clients have been asking, of [`Options::time`].
    pub asking: Duration,
    /// How many requests there were.
    pub asked: usize,
    /// How many of them had an answer.
    pub answered: usize,
}

/// Runs it. The nodes' logs go to files that `log` names by the node's number. `progress` is told several times a second what goes on;
/// when it says false, the run stops as soon as it can.
///
/// # Errors
/// When there is no place for the nodes' folders, or no thread: nothing was run. For people.
pub fn run(
    options: &Options,
    log: impl Fn(usize) -> PathBuf,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Run, String> {
    let folders = Folders::new().map_err(|error| format!("cannot make a folder for the nodes: {error}"))?;
    let (sender, events) = crossbeam_channel::unbounded();
    let network = Network::new(options.nodes, options.latency, options.loss, options.seed);
    let launches = (0..options.nodes).map(|node| folders.launch(options, node, log(node))).collect();
    let router = Router::new(launches, network, options.workload == Workload::Broadcast, sender)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let (origin, stage) = (Instant::now(), Cell::new(("starting the nodes", None::<Instant>)));
    let mut watch = |asked, answered| {
        let (phase, since) = stage.get();
        let asking = since.map_or(Duration::ZERO, |since| since.elapsed().min(options.time));
        progress(Progress { phase, asking, asked, answered })
    };
    let generator = generator(options.workload, options.clients + options.nodes, options.keys);
    let clients = Clients::new(options, generator, &router, &events, origin, &mut watch);
    let mut course = Course { options, router: &router, clients, origin, stage: &stage, run: Run::default() };
    let went = course.go();
    router.stop();
    let Course { clients, mut run, .. } = course;
    match went {
        Ok(()) => {}
        Err(End::Trouble(why)) => run.trouble = Some(why),
        Err(End::Stopped) => run.was_stopped = true,
    }
    stage.set(("checking what clients saw", stage.get().1));
    let (answered, history) = (clients.answered(), Arc::new(clients.into_history()));
    let (checking, workload, checked) = (Instant::now(), options.workload, history.clone());
    // Whoever has stopped the run already still hears what is wrong with what was seen.
    let mut go_on = || watch(history.len(), answered) || run.was_stopped;
    match while_watched(move || check(workload, &checked), &mut go_on)? {
        Some(verdict) => run.verdict = verdict,
        None => {
            run.was_stopped = true;
            run.verdict.undecided = Some("the check was stopped before its end".into());
        }
    }
    run.checked_in = checking.elapsed();
    run.history = Arc::unwrap_or_clone(history);
    Ok(run)
}

/// Does the work, as long as whoever watches lets it. None: not to its end; a thread goes on with it that nobody waits for.
fn while_watched<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<T>, String> {
    let (working, done) = crossbeam_channel::bounded::<()>(0);
    let worker = thread::Builder::new().name("check".into()).spawn(move || {
        let _working = working;
        work()
    });
    let worker = worker.map_err(|error| format!("cannot start a thread: {error}"))?;
    while go_on() {
        if done.recv_timeout(WATCH) == Err(RecvTimeoutError::Disconnected) {
            return worker.join().map(Some).or_else(|panicked| panic::resume_unwind(panicked));
        }
    }
    Ok(None)
}

/// A run under way.
struct Course<'a> {
    options: &'a Options,
    router: &'a Router,
    clients: Clients<'a>,
    origin: Instant,
    /// What is being done, and since when clients have been asking.
    stage: &'a Cell<(&'static str, Option<Instant>)>,
    run: Run,
}

impl Course<'_> {
    fn go(&mut self) -> Result<(), End> {
        let nodes = self.options.nodes;
        for node in 0..nodes {
            self.router.start(node).map_err(End::Trouble)?;
        }
        (0..nodes).for_each(|node| self.router.init(node));
        self.clients.ready(nodes, INIT_PATIENCE)?;
        self.load()?;
        self.recover()?;
        if nodes > 1 && !self.options.rest.is_zero() {
            self.enter("counting messages at rest");
            self.run.rest = Some(self.rest()?);
        }
        self.enter("reading what is there at the end");
        match self.clients.at_rest(nodes, REST_PATIENCE)? {
            true => Ok(()),
            false => Err(End::Trouble(format!("not everything could be read at the end, within {REST_PATIENCE:?}"))),
        }
    }

    fn enter(&self, phase: &'static str) {
        self.stage.set((phase, self.stage.get().1));
    }

    /// Lets clients ask while things go wrong, and waits for the last answers when nothing does any more.
    fn load(&mut self) -> Result<(), End> {
        let plan = nemesis::plan(self.options);
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let (origin, began) = (self.origin, Instant::now());
        self.stage.set(("asking", Some(began)));
        self.run.load.0 = began - origin;
        let (router, clients, options) = (self.router, &mut self.clients, self.options);
        let (broken, asked);
        (broken, asked, self.run.load.1, self.run.traffic) = thread::scope(|scope| {
            let nemesis = scope.spawn(|| nemesis::unleash(&plan, router, (origin, began), &stopped));
            let asked = clients.load(options);
            let (ended, traffic) = (origin.elapsed(), router.network().traffic());
            drop(stop);
            (nemesis.join(), asked, ended, traffic)
        });
        let settled = asked.and_then(|()| clients.settle());
        let faults = broken.unwrap_or_else(|_| Err("what breaks things is broken itself".into()));
        self.run.faults = faults.map_err(End::Trouble)?;
        settled
    }

    /// Waits until every node serves.
    fn recover(&mut self) -> Result<(), End> {
        self.enter("waiting for the nodes to recover");
        let patience = RECOVERY_PATIENCE + RECOVERY_LATENCIES * self.options.latency.mean;
        for node in 0..self.options.nodes {
            if !self.clients.recovers(node, patience)? {
                return Err(End::Trouble(format!("n{node} does not serve {patience:?} after all faults were over")));
            }
        }
        Ok(())
    }

    /// Counts what nodes say to each other when nobody asks, and when somebody asks one thing at a time.
    fn rest(&mut self) -> Result<Rest, End> {
        // Until then, what a request has set off is over.
        let settling = Duration::from_millis(10) + 4 * self.options.latency.mean;
        let mut dice = Dice::new(self.options.seed, "single requests");
        let mut singles = vec![(0, 0.0); self.options.nodes];
        let network = self.router.network();
        let (before, quiet) = (network.between_nodes(), Instant::now());
        self.clients.idle(self.options.rest / 2)?;
        let idle_rate = (network.between_nodes() - before) as f64 / quiet.elapsed().as_secs_f64();
        let began = Instant::now();
        while began.elapsed() < self.options.rest / 2 {
            for (node, (asked, messages)) in singles.iter_mut().enumerate() {
                let (before, single) = (network.between_nodes(), Instant::now());
                self.clients.single(node, &mut dice)?;
                self.clients.idle(settling)?;
                *asked += 1;
                *messages += (network.between_nodes() - before) as f64 - idle_rate * single.elapsed().as_secs_f64();
            }
        }
        Ok(Rest { idle_rate, singles })
    }
}

/// A folder for each node, gone at the end.
struct Folders(PathBuf);

impl Folders {
    fn new() -> std::io::Result<Folders> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("raft-workbench-{}-{number}", std::process::id()));
        // Left by an earlier process of this number that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Folders(path))
    }

    fn launch(&self, options: &Options, node: usize, log: PathBuf) -> Launch {
        // It is the log of this run alone.
        let _ = fs::remove_file(&log);
        let Options { program, arguments, .. } = options;
        let data = self.0.join(format!("n{node}"));
        Launch { program: program.clone(), arguments: arguments.clone(), data, log }
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_as_long_as_whoever_watches_lets_it() {
        let (sender, never) = crossbeam_channel::bounded::<()>(0);
        let mut asked = 0;
        let mut go_on = || {
            asked += 1;
            asked < 3
        };
        assert_eq!(while_watched(move || never.recv().is_ok(), &mut go_on), Ok(None));
        assert_eq!(asked, 3);
        drop(sender);
        assert_eq!(while_watched(|| 7, &mut || true), Ok(Some(7)));
    }
}
