//! What a run is made of.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::gateway::maelstrom::Workload;

/// In the arguments of a node, stands for a folder of that node alone, which survives its being killed.
pub const DATA_PLACEHOLDER: &str = "{data}";

/// All that decides a run, as far as anything does.
#[derive(Clone, Debug)]
pub struct Options {
    /// What clients ask.
    pub workload: Workload,
    /// The program that is a node.
    pub program: PathBuf,
    /// Its arguments; [`DATA_PLACEHOLDER`] in them is replaced.
    pub arguments: Vec<String>,
    /// How many nodes, 1 to 9.
    pub nodes: usize,
    /// Requests a second, of all clients together. Above 0.
    pub rate: f64,
    /// How long clients ask and faults happen.
    pub time: Duration,
    /// How many clients ask at a time, spread evenly over the nodes. At least 1.
    pub clients: usize,
    /// How long a message takes from node to node.
    pub latency: Latency,
    /// The share of messages between nodes that are lost, from 0 to 1.
    pub loss: f64,
    /// What goes wrong.
    pub nemeses: BTreeSet<Nemesis>,
    /// How long it takes from one fault of a kind to the next, on average.
    pub nemesis_interval: Duration,
    /// A client without an answer for so long gives up.
    pub timeout: Duration,
    /// How long it is counted, when all is over, what nodes say to each other at rest. Nothing: it is not.
    pub rest: Duration,
    /// How many keys are in use at a time, in workloads that have any. At least 1.
    pub keys: usize,
    /// Decides what is asked when, and what goes wrong when.
    pub seed: u64,
}

/// How long messages between nodes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// On average.
    pub mean: Duration,
    /// How single messages differ from that.
    pub spread: Spread,
}

/// How the latencies of messages are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spread {
    /// Each message takes the mean
    Constant,
    /// From nothing to twice the mean
    Uniform,
    /// Most take less than the mean, and some up to ten times as long
    Exponential,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nemesis {
    /// Messages between some nodes are lost.
    Partition,
    /// Nodes are killed, and started again after a while.
    Kill,
    /// Nodes stand still for a while.
    Pause,
}

impl Nemesis {
    /// All of them, as the command line calls them.
    pub const NAMES: [(&str, Nemesis); 3] =
        [("partition", Nemesis::Partition), ("kill", Nemesis::Kill), ("pause", Nemesis::Pause)];
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Nemesis::NAMES.iter().find(|(_, nemesis)| nemesis == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}
