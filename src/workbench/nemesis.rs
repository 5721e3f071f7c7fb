//! What goes wrong, and when: a plan, drawn from the seed before anything runs, and what became of it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::options::{Nemesis, Options};
use super::router::Router;
use crate::runtime::simulated::dice::Dice;

/// A fault that is to happen. Times are counted from when clients begin to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub begin: Duration,
    /// When it is over.
    pub end: Duration,
    /// What it is.
    pub fault: Fault,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Messages from the first node of each pair to the second are lost.
    Partition {
        /// What it looks like, for people.
        shape: String,
        /// The pairs.
        ways: Vec<(usize, usize)>,
    },
    /// These nodes are killed, and started again when it is over.
    Kill(Vec<usize>),
    /// These nodes stand still until it is over.
    Pause(Vec<usize>),
}

/// A fault that happened. Times are counted from the start of the run, like those of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What it was.
    pub fault: Fault,
    /// When it began.
    pub began: Duration,
    /// When it was over.
    pub ended: Duration,
    /// What it did, counted: messages that were lost by a partition, nodes that were killed or paused.
    pub effect: u64,
}

impl Fault {
    /// Its kind.
    pub fn nemesis(&self) -> Nemesis {
        match self {
            Fault::Partition { .. } => Nemesis::Partition,
            Fault::Kill(_) => Nemesis::Kill,
            Fault::Pause(_) => Nemesis::Pause,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Partition { shape, .. } => write!(f, "partition: {shape}"),
            Fault::Kill(nodes) => write!(f, "kill: {}", names(nodes)),
            Fault::Pause(nodes) => write!(f, "pause: {}", names(nodes)),
        }
    }
}

/// Nodes' names, for people.
fn names(nodes: &[usize]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| format!("n{node}")).collect();
    names.join(" ")
}

/// What goes wrong in a run: of each kind one fault at a time, in order of their beginnings. The same options have the same plan.
pub fn plan(options: &Options) -> Vec<Planned> {
    let mut all = Vec::new();
    for nemesis in &options.nemeses {
        // Between one node and itself, nothing can be cut.
        if *nemesis == Nemesis::Partition && options.nodes == 1 {
            continue;
        }
        let mut dice = Dice::new(options.seed, &nemesis.to_string());
        // Half of the interval without a fault, half of it with one, give or take a half of each.
        let half = options.nemesis_interval / 2;
        let mut part = || half.mul_f64(0.5 + dice.below(1_000) as f64 / 1_000.0);
        let mut times = Vec::new();
        let mut begin = part();
        while begin < options.time {
            let end = (begin + part()).min(options.time);
            times.push((begin, end));
            begin = end + part();
        }
        all.extend(times.into_iter().map(|(begin, end)| Planned {
            begin,
            end,
            fault: draw(*nemesis, options.nodes, &mut dice),
        }));
    }
    all.sort_by_key(|planned| planned.begin);
    all
}

fn draw(nemesis: Nemesis, nodes: usize, dice: &mut Dice) -> Fault {
    let mut order: Vec<usize> = (0..nodes).collect();
    dice.shuffle(&mut order);
    match nemesis {
        Nemesis::Partition => partition(&order, dice),
        Nemesis::Kill => Fault::Kill(victims(&order, nodes, dice)),
        Nemesis::Pause => Fault::Pause(victims(&order, nodes.div_ceil(2).max(1), dice)),
    }
}

/// One, a minority, a majority, or as many as may be.
fn victims(order: &[usize], most: usize, dice: &mut Dice) -> Vec<usize> {
    let nodes = order.len() as u64;
    let count = *dice.pick(&[1, (nodes - 1) / 2, nodes / 2 + 1, nodes]);
    let mut victims: Vec<_> = order.iter().take((count.max(1) as usize).min(most)).copied().collect();
    victims.sort_unstable();
    victims
}

/// A partition of nodes in this random order, of which there are at least two.
fn partition(order: &[usize], dice: &mut Dice) -> Fault {
    let nodes = order.len();
    let kinds = if nodes < 3 { 2 } else { 6 };
    let between = |some: &[usize], others: &[usize]| -> Vec<(usize, usize)> {
        let both = |a: &usize, b: &usize| [(*a, *b), (*b, *a)];
        some.iter().flat_map(|a| others.iter().flat_map(move |b| both(a, b))).collect()
    };
    let apart = |some: &[usize], others: &[usize]| Fault::Partition {
        shape: format!("{} | {}", sorted(some), sorted(others)),
        ways: between(some, others),
    };
    match dice.below(kinds) {
        // One node is isolated.
        0 => {
            let (some, others) = order.split_at(1);
            apart(some, others)
        }
        // Only one direction: a node hears nobody, or nobody hears it.
        1 => {
            let (some, others) = order.split_at(1);
            let hears = dice.once_in(2);
            let way = |(a, b): (usize, usize)| if hears { (a, b) } else { (b, a) };
            let ways = others.iter().map(|other| way((order.first().copied().unwrap_or(0), *other))).collect();
            let what = if hears { "is heard by nobody" } else { "hears nobody" };
            Fault::Partition { shape: format!("{} {what}", sorted(some)), ways }
        }
        // A majority and a minority.
        2 => {
            let (some, others) = order.split_at(nodes / 2 + 1);
            apart(some, others)
        }
        // Any two parts.
        3 => {
            let (some, others) = order.split_at(1 + dice.below(nodes as u64 - 1) as usize);
            apart(some, others)
        }
        // Two parts that only one node, the bridge, reaches both of.
        4 => {
            let (bridge, rest) = order.split_at(1);
            let (some, others) = rest.split_at(rest.len() / 2);
            let shape = format!("{} | {}, bridged by {}", sorted(some), sorted(others), sorted(bridge));
            Fault::Partition { shape, ways: between(some, others) }
        }
        // Each node sees a majority, and none the same one: its neighbours in a ring.
        _ => {
            let reach = (nodes / 2).div_ceil(2);
            let ring = |a: usize, b: usize| a.abs_diff(b).min(nodes - a.abs_diff(b));
            let ways: Vec<_> = (0..nodes)
                .flat_map(|a| (0..nodes).filter(move |b| ring(a, *b) > reach).map(move |b| (a, b)))
                .filter_map(|(a, b)| Some((*order.get(a)?, *order.get(b)?)))
                .collect();
            if ways.is_empty() {
                let (some, others) = order.split_at(1);
                return apart(some, others);
            }
            Fault::Partition { shape: format!("a ring of majorities, {}", names(order)), ways }
        }
    }
}

fn sorted(nodes: &[usize]) -> String {
    let nodes: BTreeSet<_> = nodes.iter().copied().collect();
    names(&nodes.into_iter().collect::<Vec<_>>())
}

/// Lets a plan happen, from `began` on, until it is over or `stop` is told or given up: what happened. At the end nothing is wrong
/// any more. `origin` is the start of the run.
///
/// # Errors
/// When a node that was killed cannot be started again; for people.
pub fn unleash(
    plan: &[Planned],
    router: &Router,
    (origin, began): (Instant, Instant),
    stop: &Receiver<()>,
) -> Result<Vec<Happened>, String> {
    let mut steps: Vec<(Duration, bool, &Planned)> =
        plan.iter().flat_map(|planned| [(planned.begin, true, planned), (planned.end, false, planned)]).collect();
    // What ends comes before what begins at the same time.
    steps.sort_by_key(|(at, begins, _)| (*at, *begins));
    let mut active: Vec<(&Planned, Happened)> = Vec::new();
    let mut happened = Vec::new();
    for (at, begins, planned) in steps {
        if stop.recv_deadline(began + at) != Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            break;
        }
        if begins {
            active.push((planned, begin(&planned.fault, router, origin)));
        } else if let Some(place) = active.iter().position(|(other, _)| *other == planned) {
            happened.push(over(active.remove(place).1, router, origin)?);
        }
    }
    for (_, fault) in active {
        happened.push(over(fault, router, origin)?);
    }
    happened.sort_by_key(|fault| fault.began);
    Ok(happened)
}

fn begin(fault: &Fault, router: &Router, origin: Instant) -> Happened {
    let began = origin.elapsed();
    let of = |nodes: &[usize]| nodes.iter().filter_map(|node| router.nodes().get(*node)).collect::<Vec<_>>();
    let effect = match fault {
        Fault::Partition { ways, .. } => {
            let before = router.network().cut_so_far();
            router.network().cut(ways);
            before
        }
        Fault::Kill(nodes) => of(nodes).into_iter().filter(|node| node.kill()).count() as u64,
        Fault::Pause(nodes) => of(nodes).into_iter().filter(|node| node.pause()).count() as u64,
    };
    Happened { fault: fault.clone(), began, ended: began, effect }
}

fn over(mut happened: Happened, router: &Router, origin: Instant) -> Result<Happened, String> {
    match &happened.fault {
        Fault::Partition { .. } => {
            router.network().cut(&[]);
            happened.effect = router.network().cut_so_far() - happened.effect;
        }
        Fault::Kill(nodes) => {
            for node in nodes {
                router.start(*node)?;
                router.init(*node);
            }
        }
        Fault::Pause(nodes) => nodes.iter().filter_map(|node| router.nodes().get(*node)).for_each(|node| {
            node.resume();
        }),
    }
    happened.ended = origin.elapsed();
    Ok(happened)
}

#[cfg(test)]
mod tests;
