//! The command line, as clap reads it and `--help` shows it.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use raft::config::RuntimeKind;
use raft::gateway::maelstrom::Workload;
use raft::runtime::simulated::Profile;

use super::workbench::args::WorkbenchArgs;

const EXAMPLES: &str = "\
Examples:
  raft init --nodes 5 -o raft.ini    write a commented configuration of five nodes
  raft cluster -c raft.ini           run them all here, with a shell: try `set a 1`, `status`
  raft -c raft.ini -n 1              or run one node a terminal: -n 1 to -n 5, or -n A to -n E
  raft-shell -c raft.ini             and talk to the cluster from one more
  curl http://127.0.0.1:5111/status  or ask a node over HTTP, on HttpPort: docs/REST.md
  raft simulate --seeds 0..100       run a hundred clusters on virtual time, with all that can go wrong
  raft check datasets/raft/A         verify every byte that a stopped node keeps there
  raft help ElectionTimeout          explain a key of raft.ini
  raft cluster -c scenarios/figure-7.ini    begin in a given state: docs/SCENARIOS.md
  raft -t stdio                      be a node under Maelstrom: docs/MAELSTROM.md
  raft workbench -w lin-kv --nemesis all    five such nodes under load and faults, and a verdict

Exit codes: 0 stopped as asked, 1 something failed, 2 the command line makes no sense.";

const ABOUT: &str = "A replicated key-value store on its own Raft";

/// `raft`.
#[derive(Debug, Parser)]
#[command(
    name = "raft",
    version,
    about = ABOUT,
    long_about = "A replicated key-value store on its own Raft.\n\n\
        Every write is on the disks of a majority of nodes before it is acknowledged, and the cluster goes on by itself \
        when a minority of nodes fail. Without a command, `raft` runs one node of raft.ini until Ctrl-C or SIGTERM; a \
        second one ends it at once.",
    after_help = EXAMPLES,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do instead of running a node.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run a node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// How to run a node.
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// The node to run: its Id or its Label in raft.ini
    #[arg(short = 'n', long = "node", value_name = "ID|LABEL")]
    pub node: Option<String>,
    /// How nodes and clients talk to it
    #[arg(short = 't', long, value_enum, default_value = "tcp")]
    pub transport: TransportKind,
    /// What all ways to run nodes have in common.
    #[command(flatten)]
    pub common: CommonArgs,
    /// With `-t stdio`: without a leader for so many milliseconds, up to twice as many, run for election [default: 500, or
    /// more, up to 10000, as long as messages are measured to take their time]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub election_timeout: Option<u64>,
    /// With `-t stdio`: a leader is heard at least every so many milliseconds [default: 100]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub heartbeat_interval: Option<u64>,
    /// With `-t stdio`: keep state in this folder, so that a node that was killed goes on where it was. Each node has a
    /// folder of its own there, which bears its name, so that all nodes may be given the same [default: in memory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// With `-t stdio`: Maelstrom's workload, where requests do not tell it: what a `read` without a key means, and a
    /// transaction that only reads. Existing: lin-kv, txn-list-append, txn-rw-register, kafka, broadcast, g-set, g-counter,
    /// pn-counter, echo, unique-ids [default: lin-kv]
    #[arg(long, value_name = "NAME")]
    pub workload: Option<Workload>,
    /// Come back although the data folder was lost or is an older copy: the node receives the log, but neither votes nor counts
    /// towards a majority, for good. Give it once, with the folder that the node is to go on with, or none
    #[arg(long)]
    pub rejoin: bool,
    /// The process that started this one holds the other end of standard input: stop at its end, and leave the label out
    /// of the log, for the parent adds it.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

/// What `raft` and `raft cluster` have in common.
#[derive(Args, Debug)]
pub struct CommonArgs {
    /// The configuration; `raft init` writes one [default: raft.ini]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What carries a node's work, instead of Runtime in raft.ini: ThreadedRuntime or AsyncRuntime
    #[arg(short = 'r', long, value_name = "RUNTIME")]
    pub runtime: Option<RuntimeKind>,
    /// Allow addresses other than loopback ones, though nothing protects them yet
    #[arg(long)]
    pub insecure: bool,
    /// Log every step; RUST_LOG, when set, rules over it
    #[arg(short = 'v', long)]
    pub debug: bool,
}

/// How a node talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportKind {
    /// Its ports in raft.ini
    Tcp,
    /// JSON lines on standard input and output, as Maelstrom speaks; needs no raft.ini
    Stdio,
}

/// What `raft` does besides running a node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all nodes of raft.ini in this terminal, with a shell
    #[command(
        long_about = "Runs every node of raft.ini as a process of its own, shows their logs with their labels in front, and \
            opens a shell.\n\nCtrl-D or `quit` stops them all. When standard input is not a terminal, its lines are \
            the shell's commands, and at its end everything stops; the exit code is the shell's. With --no-shell, or when \
            standard input is /dev/null, it runs until Ctrl-C or SIGTERM. Node logs go to standard \
            error, answers to standard output.",
        after_help = "Examples:\n  \
            raft cluster -c raft.ini\n  \
            echo 'set colour blue' | raft cluster -c raft.ini\n  \
            raft cluster -c raft.ini --no-shell      until Ctrl-C or SIGTERM"
    )]
    Cluster(ClusterArgs),
    /// Write a commented raft.ini for a cluster on this machine
    #[command(after_help = "Examples:\n  raft init --nodes 5\n  raft init --nodes 3 -o three.ini")]
    Init(InitArgs),
    /// Print what the data folder of a stopped node holds
    #[command(
        long_about = "Prints what the data folder of a stopped node holds, one line each: identity, segments and the records of \
            their whole batches, what these come to, snapshots, other files.\n\nChanges nothing. What is wrong goes to \
            standard error, and the exit code is then 1, as with `raft check`.",
        after_help = "Examples:\n  \
            raft dump datasets/raft/A\n  \
            raft dump --json datasets/raft/A | jq 'select(.type == \"entry\" and .index > 100)'"
    )]
    Dump(DumpArgs),
    /// Verify the data folder of a stopped node
    #[command(
        long_about = "Verifies everything in the data folder of a stopped node: identity, every segment and record of the log \
            and how each continues the one before, every block of the snapshots, and that nothing is missing between them \
            and the log.\n\nChanges nothing. Exit code 0: a node can start on it, and what a crash left behind, as the end of \
            an interrupted last write, is noted. Exit code 1: something is off, and each reason names the file, the offset, \
            what was expected and what was found.",
        after_help = "Examples:\n  raft check datasets/raft/A"
    )]
    Check(CheckArgs),
    /// Run whole clusters on virtual time, and look for what must never happen
    #[command(
        long_about = "Runs whole clusters with their clients on virtual time, seed after seed, and checks after every step what must \
            always be true.\n\nA seed decides everything: how many nodes, their settings, what goes wrong and when, what clients \
            ask. The nodes run the code of real ones; the clock, the network and the disks are simulated. So a seed always goes \
            the same way, and what fails fails again: for each failure there is the command that repeats it, its last \
            steps, and the name of the invariant that was broken. docs/TESTING.md lists what is checked.\n\nCtrl-C ends the run, \
            and shows what was done until then. Exit code 0: nothing failed; 1: something did. A debug build is several \
            times slower: cargo run --profile checked -- simulate is as fast as a release, with every assertion.",
        after_help = "Examples:\n  \
            raft simulate                                a hundred seeds of the profile `swarm`\n  \
            raft simulate --seeds 0..2000 --time 2       many short ones\n  \
            raft simulate --seed 7 --nodes 3 --trace     one, told line by line\n  \
            raft simulate --profile damage --for 60      for an hour, seeds that nobody has tried\n  \
            raft simulate --seed 7 --shrink bugs         cut a failure down to the few faults that it takes\n  \
            raft simulate --scenario bugs/I1-seed-7.json --trace"
    )]
    Simulate(SimulateArgs),
    /// Try nodes that speak Maelstrom's protocol under load and faults, and check what clients saw
    #[command(
        long_about = "Starts nodes, any program that speaks Maelstrom's protocol on standard input and output, lets clients ask what \
            one of Maelstrom's workloads asks, and carries all messages, with latency, loss and partitions; kills and \
            pauses nodes. Then it checks whether what the clients saw may be, and shows a verdict with the smallest explanation of \
            what is wrong, rates, latencies, availability and messages per request. A page with a timeline is written, \
            and beside it the history, an operation a line, and what each node wrote to standard error.\n\n\
            When the faults are over, each node has to serve again, and is then asked for what is there. A seed decides what is asked \
            when and what goes wrong when; what comes of it depends on the machine as well.\n\n\
            Ctrl-C ends the run, and shows what was seen until then. Exit code 0: valid; 1: invalid or undecided, or a node did what it \
            must not do: ended by itself, wrote anything but messages, or did not serve again; 2: the command line makes no \
            sense.",
        after_help = "Examples:\n  \
            raft workbench                                          lin-kv on five nodes of this program, for 20 seconds\n  \
            raft workbench -w kafka --nemesis partition,pause       another workload, with faults\n  \
            raft workbench -w lin-kv --nemesis all --time 60 --latency 10 --latency-dist exponential --loss 1%\n  \
            raft workbench -w lin-kv --rate 1000 --time 10          how fast it is\n  \
            raft workbench -w broadcast --bin ./my-node --nodes 5   a node of yours\n  \
            raft workbench -w g-set --bin ./my-node --nemesis kill -- --store {data}"
    )]
    Workbench(WorkbenchArgs),
    /// Explain a command, or a key of raft.ini
    #[command(after_help = "Examples:\n  raft help cluster\n  raft help ElectionTimeout")]
    Help {
        /// A command or a key of raft.ini
        topic: Option<String>,
    },
}

/// `raft cluster`.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// What all ways to run nodes have in common.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Run until Ctrl-C or SIGTERM, without a shell
    #[arg(long)]
    pub no_shell: bool,
}

/// `raft init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// How many nodes, 1 to 99; 3 and 5 are usual
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub nodes: u16,
    /// The file to write; one that exists is left alone
    #[arg(short = 'o', long, value_name = "FILE", default_value = "raft.ini")]
    pub output: PathBuf,
}

/// `raft dump`.
#[derive(Args, Debug)]
pub struct DumpArgs {
    /// The data folder: DataDirectory of raft.ini, and in it the node's label
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// One JSON object a line; payloads are whole, in base64
    #[arg(long)]
    pub json: bool,
}

/// `raft simulate`.
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// The one seed to run; with --for, the first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    pub seed: Option<u64>,
    /// The seeds to run, from the first to before the last [default: 0..100]
    #[arg(long, value_name = "N..M", value_parser = range, conflicts_with_all = ["seed", "minutes"])]
    pub seeds: Option<Range<u64>>,
    /// Run new seeds for so many minutes; without --seed, they begin where the clock says
    #[arg(long = "for", value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub minutes: Option<u64>,
    /// Run the scenario in this file, as --shrink has written it, or you
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds", "minutes", "nodes", "time", "profile"])]
    pub scenario: Option<PathBuf>,
    /// What goes wrong
    #[arg(long, value_enum, value_name = "NAME", default_value = "swarm")]
    pub profile: Profile,
    /// How many nodes, 1 to 9; otherwise each seed draws its own number
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: Option<u64>,
    /// Simulated seconds with faults, and then the cluster has to recover; otherwise each seed draws its own, 5 to 15
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub time: Option<u64>,
    /// Write what happens, line by line: time in seconds, then who does what; what nodes log is among it
    #[arg(long)]
    pub trace: bool,
    /// Show how often rare paths were taken
    #[arg(long)]
    pub marks: bool,
    /// Likewise, and fail if one never was: for runs of thousands of seeds
    #[arg(long)]
    pub require_marks: bool,
    /// Run every seed twice; that it goes another way the second time is a failure, too
    #[arg(long)]
    pub twice: bool,
    /// Cut what fails down to a small scenario, for a minute at most, and keep it in this folder
    #[arg(long, value_name = "DIR")]
    pub shrink: Option<PathBuf>,
    /// How many seeds to run at a time [default: one for each core]; results do not depend on it
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
}

/// Two numbers, as in 0..100.
fn range(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(first, last)| Some(first.parse().ok()?..last.parse().ok()?));
    ends.filter(|seeds| !seeds.is_empty())
        .ok_or_else(|| "expected two numbers, the first below the second, as in 0..100".into())
}

/// `raft check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The data folder: DataDirectory of raft.ini, and in it the node's label
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
