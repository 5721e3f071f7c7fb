//! Runs of the workbench with this program's nodes.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use raft::gateway::maelstrom::Workload;
use raft::workbench::options::{DATA_PLACEHOLDER, Latency, Nemesis, Options, Spread};
use raft::workbench::report::{self, Figures};
use raft::workbench::run::{Run, run};

/// This program.
pub const RAFT: &str = env!("CARGO_BIN_EXE_raft");

/// Held by each test that starts processes.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A short run of a workload on so many of our nodes, with these faults.
pub fn options(workload: Workload, nodes: usize, nemeses: &[Nemesis]) -> Options {
    let name = workload.to_string();
    let arguments = ["-t", "stdio", "--workload", &name, "--data", DATA_PLACEHOLDER];
    Options {
        workload,
        program: RAFT.into(),
        arguments: arguments.map(str::to_owned).to_vec(),
        nodes,
        rate: 100.0,
        time: Duration::from_millis(2_500),
        clients: 4 * nodes,
        latency: Latency { mean: Duration::ZERO, spread: Spread::Constant },
        loss: 0.0,
        nemeses: nemeses.iter().copied().collect(),
        nemesis_interval: Duration::from_millis(1_250),
        timeout: Duration::from_secs(1),
        rest: Duration::ZERO,
        keys: 8,
        seed: 7,
    }
}

/// Runs it, and fails unless what the clients saw may be, they saw something, and what should go wrong did.
#[track_caller]
pub fn assert_valid(options: &Options) -> Run {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let log = |node| -> PathBuf { folder.path().join(format!("n{node}.log")) };
    let run = run(options, log, &mut |_| true).unwrap();
    let table = report::table(options, &run);
    assert!(run.trouble.is_none() && run.verdict.is_valid(), "{table}");
    assert!(report::every_fault_happened(options, &run.faults), "{table}");
    let figures = Figures::of(&run);
    assert!(figures.served() >= 20, "{table}");
    run
}
