//! One run, from the start of the nodes to the verdict.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::check::check;
use super::clients::{Clients, End, Watch};
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
/// How long it is counted what nodes say to each other when nobody asks anything.
const QUIET: Duration = Duration::from_secs(1);
/// For how long requests are asked one at a time, with nothing else going on.
const SINGLE: Duration = Duration::from_secs(1);

/// What came of a run.
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
    let launch = |node| Launch {
        program: options.program.clone(),
        arguments: options.arguments.clone(),
        data: folders.0.join(format!("n{node}")),
        log: log(node),
    };
    let (sender, events) = crossbeam_channel::unbounded();
    let network = Network::new(options.nodes, options.latency, options.loss, options.seed);
    let launches: Vec<_> = (0..options.nodes).map(launch).collect();
    // Its log is that of this run alone.
    launches.iter().for_each(|launch| drop(fs::remove_file(&launch.log)));
    let router = Router::new(launches, network, options.workload == Workload::Broadcast, sender)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let origin = Instant::now();
    let phase = std::cell::Cell::new("starting the nodes");
    let began_asking = std::cell::Cell::new(None::<Instant>);
    let mut watch = |asked, answered| {
        let asking = began_asking.get().map_or(Duration::ZERO, |began| began.elapsed().min(options.time));
        progress(Progress { phase: phase.get(), asking, asked, answered })
    };
    let watch: &mut Watch<'_> = &mut watch;
    let generator = generator(options.workload, options.clients + options.nodes, options.keys);
    let mut clients = Clients::new(options, generator, &router, &events, origin, watch);
    let mut run = Run {
        history: Vec::new(),
        verdict: Verdict::default(),
        checked_in: Duration::ZERO,
        faults: Vec::new(),
        traffic: Traffic::default(),
        load: (Duration::ZERO, Duration::ZERO),
        rest: None,
        trouble: None,
        was_stopped: false,
    };
    let went = (|| {
        start(options, &router)?;
        clients.ready(options.nodes, INIT_PATIENCE)?;
        phase.set("asking");
        began_asking.set(Some(Instant::now()));
        run.load.0 = origin.elapsed();
        let (faults, asked) = under_faults(options, &router, &mut clients, origin);
        run.load.1 = origin.elapsed();
        (run.faults, run.traffic) = (faults, router.network().traffic());
        asked?;
        phase.set("waiting for the nodes to recover");
        let patience = RECOVERY_PATIENCE + RECOVERY_LATENCIES * options.latency.mean;
        for node in 0..options.nodes {
            if !clients.recovers(node, patience)? {
                return Err(End::Trouble(format!("n{node} does not serve {patience:?} after all faults were over")));
            }
        }
        phase.set("counting messages at rest");
        run.rest = Some(rest(options, &router, &mut clients)?);
        phase.set("reading what is there at the end");
        match clients.at_rest(options.nodes, REST_PATIENCE)? {
            true => Ok(()),
            false => Err(End::Trouble(format!("not everything could be read at the end, within {REST_PATIENCE:?}"))),
        }
    })();
    match went {
        Ok(()) => {}
        Err(End::Trouble(why)) => run.trouble = Some(why),
        Err(End::Stopped) => run.was_stopped = true,
    }
    router.stop();
    run.history = clients.into_history();
    let checking = Instant::now();
    run.verdict = check(options.workload, &run.history);
    run.checked_in = checking.elapsed();
    Ok(run)
}

fn start(options: &Options, router: &Router) -> Result<(), End> {
    for node in 0..options.nodes {
        router.start(node).map_err(End::Trouble)?;
    }
    (0..options.nodes).for_each(|node| router.init(node));
    Ok(())
}

/// Lets clients ask while things go wrong, and waits for the last answers when nothing does any more.
fn under_faults(
    options: &Options,
    router: &Router,
    clients: &mut Clients<'_>,
    origin: Instant,
) -> (Vec<Happened>, Result<(), End>) {
    let plan = nemesis::plan(options);
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let began = (origin, Instant::now());
    thread::scope(|scope| {
        let nemesis = scope.spawn(|| nemesis::unleash(&plan, router, began, &stopped));
        let asked = clients.load(options);
        drop(stop);
        match nemesis.join() {
            Ok(Ok(faults)) => (faults, asked.and_then(|()| clients.settle())),
            Ok(Err(why)) => (Vec::new(), Err(End::Trouble(why))),
            Err(_) => (Vec::new(), Err(End::Trouble("what breaks things is broken itself".into()))),
        }
    })
}

/// Counts what nodes say to each other when nobody asks, and when somebody asks one thing at a time.
fn rest(options: &Options, router: &Router, clients: &mut Clients<'_>) -> Result<Rest, End> {
    // Until then, what a request has set off is over.
    let settling = Duration::from_millis(10) + 4 * options.latency.mean;
    let mut dice = Dice::new(options.seed, "single requests");
    let mut singles = vec![(0, 0.0); options.nodes];
    let between_nodes = || router.network().between_nodes();
    let (before, quiet) = (between_nodes(), Instant::now());
    clients.idle(QUIET)?;
    let idle_rate = (between_nodes() - before) as f64 / quiet.elapsed().as_secs_f64();
    let began = Instant::now();
    while began.elapsed() < SINGLE {
        for (node, (asked, messages)) in singles.iter_mut().enumerate() {
            let (before, single) = (between_nodes(), Instant::now());
            clients.single(node, &mut dice)?;
            clients.idle(settling)?;
            *asked += 1;
            *messages += (between_nodes() - before) as f64 - idle_rate * single.elapsed().as_secs_f64();
        }
    }
    Ok(Rest { idle_rate, singles })
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
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the folder that a file is in.
///
/// # Errors
/// When that cannot be made.
pub fn make_folder_of(file: &Path) -> std::io::Result<()> {
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::create_dir_all(folder),
        None => Ok(()),
    }
}
