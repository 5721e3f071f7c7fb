//! The command line of `raft workbench`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use raft::figures;
use raft::gateway::maelstrom::Workload;
use raft::workbench::options::{DATA_PLACEHOLDER, Latency, Nemesis, Options, Spread};

use super::super::Error;

/// For so long it is counted what nodes say to each other at rest.
const REST: Duration = Duration::from_secs(2);

/// `raft workbench`.
#[derive(Args, Debug)]
pub struct WorkbenchArgs {
    /// What clients ask: lin-kv, txn-list-append, txn-rw-register, kafka, broadcast, g-set, g-counter, pn-counter, echo or
    /// unique-ids
    #[arg(short = 'w', long, value_name = "NAME", default_value = "lin-kv")]
    pub workload: Workload,
    /// The program that is a node [default: this one]
    #[arg(long, value_name = "PROGRAM")]
    pub bin: Option<PathBuf>,
    /// How many nodes, 1 to 9
    #[arg(long, value_name = "COUNT", default_value = "5", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Requests a second, of all clients together
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = rate)]
    pub rate: f64,
    /// Seconds for which clients ask and things go wrong
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub time: u64,
    /// Clients, each of which asks one thing at a time: a number, or so many for each node, as in 2n
    #[arg(long, value_name = "COUNT", default_value = "4n", value_parser = concurrency)]
    pub concurrency: Concurrency,
    /// Milliseconds that a message takes from node to node, on average; those of clients take none
    #[arg(long, value_name = "MS", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub latency: u64,
    /// How these differ from message to message
    #[arg(long, value_enum, value_name = "NAME", default_value = "constant")]
    pub latency_dist: Spread,
    /// The share of messages between nodes that are lost, as in 5% or 0.05
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub loss: f64,
    /// What goes wrong: some of partition, kill and pause, with commas between them; or all; or none
    #[arg(long, value_name = "NAMES", default_value = "none", value_parser = nemeses)]
    pub nemesis: Nemeses,
    /// Seconds from one fault of a kind to the next, on average; about half of them with the fault
    /// [default: a fifth of --time, from 1 to 10]
    #[arg(long, value_name = "SECONDS", value_parser = figures::seconds)]
    pub nemesis_interval: Option<Duration>,
    /// Milliseconds after which a client without an answer gives up, not knowing what came of its request
    /// [default: 1000, and 20 times the latency]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout: Option<u64>,
    /// How many keys, lists or logs are in use at a time, in workloads that have any
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub keys: u16,
    /// Decides what is asked when, and what goes wrong when [default: drawn, and shown]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// The page to write; the history and the nodes' logs are written beside it [default: workbench/WORKLOAD.html]
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// Arguments of a node; `{data}` in them stands for a folder of that node alone. Without any, a program called `raft` gets
    /// `-t stdio --workload NAME`, and where nodes are killed `--data {data}`
    #[arg(last = true, value_name = "NODE ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// How many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// So many.
    Clients(usize),
    /// So many for each node.
    PerNode(usize),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nemeses(BTreeSet<Nemesis>);

impl WorkbenchArgs {
    /// What to run.
    pub fn options(&self) -> Result<Options, Error> {
        let program = match &self.bin {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|error| Error::failed("cannot find the raft binary", error))?,
        };
        let nodes = usize::from(self.nodes);
        let time = Duration::from_secs(self.time);
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(10));
        let seed = match self.seed {
            Some(seed) => seed,
            // Short enough to be typed.
            None => getrandom::u32().map_err(|error| Error::failed("the system has no random bits", error))?.into(),
        };
        Ok(Options {
            workload: self.workload,
            arguments: self.node_arguments(&program),
            program,
            nodes,
            rate: self.rate,
            time,
            clients: match self.concurrency {
                Concurrency::Clients(clients) => clients,
                Concurrency::PerNode(clients) => clients * nodes,
            },
            latency: Latency { mean: Duration::from_millis(self.latency), spread: self.latency_dist },
            loss: self.loss,
            nemeses: self.nemesis.0.clone(),
            nemesis_interval: self.nemesis_interval.unwrap_or((time / 5).clamp(least, most)),
            timeout: Duration::from_millis(self.timeout.unwrap_or(1_000 + 20 * self.latency)),
            rest: REST,
            keys: self.keys.into(),
            seed,
        })
    }

    fn node_arguments(&self, program: &Path) -> Vec<String> {
        let is_ours = self.bin.is_none() || program.file_name().is_some_and(|name| name == "raft");
        if !self.arguments.is_empty() || !is_ours {
            return self.arguments.clone();
        }
        let workload = self.workload.to_string();
        let mut arguments = vec!["-t", "stdio", "--workload", &workload];
        if self.nemesis.0.contains(&Nemesis::Kill) {
            arguments.extend(["--data", DATA_PLACEHOLDER]);
        }
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Where the page goes.
    pub fn page(&self) -> PathBuf {
        self.page.clone().unwrap_or_else(|| format!("workbench/{}.html", self.workload).into())
    }
}

fn concurrency(text: &str) -> Result<Concurrency, String> {
    let (number, concurrency): (_, fn(usize) -> Concurrency) = match text.strip_suffix('n') {
        Some(number) => (number, Concurrency::PerNode),
        None => (text, Concurrency::Clients),
    };
    let count = number.parse().ok().filter(|count| (1..=1_000).contains(count));
    count.map(concurrency).ok_or_else(|| "expected a number from 1 to 1000, or so many for each node, as in 2n".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=1e6).contains(rate));
    rate.ok_or_else(|| "expected requests a second, from 0.01 to 1000000".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().map(|percent: f64| percent / 100.0),
        None => text.parse().ok(),
    };
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a share, as in 5% or 0.05".into())
}

fn nemeses(text: &str) -> Result<Nemeses, String> {
    let one = |name: &str| Nemesis::NAMES.iter().find(|(known, _)| *known == name).map(|(_, nemesis)| *nemesis);
    match text {
        "none" => Ok(Nemeses(BTreeSet::new())),
        "all" => Ok(Nemeses(Nemesis::NAMES.iter().map(|(_, nemesis)| *nemesis).collect())),
        names => names
            .split(',')
            .map(|name| {
                one(name.trim()).ok_or_else(|| format!("{name:?} is none of partition, kill, pause, all, none"))
            })
            .collect::<Result<_, _>>()
            .map(Nemeses),
    }
}
