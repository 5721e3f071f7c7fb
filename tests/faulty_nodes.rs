//! The workbench is able to fail: nodes with known bugs are found, each by its name, and each within a minute.
//!
//! They are `examples/faulty_node`. That a node without a bug passes is in `tests/workbench`.

#![cfg(feature = "cli")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Timing is part of what they test.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// All the time there is to find a bug.
const TIME: Duration = Duration::from_secs(60);

/// Runs the workbench with one seed after the other until an anomaly of this name is found.
#[track_caller]
fn assert_found(arguments: &str, node: &[&str], anomaly: &str) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let mut said = String::new();
    for seed in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
        command.arg("workbench").args(arguments.split(' ')).args(["--seed", &seed.to_string()]).args(node);
        let output = command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
        said = String::from_utf8_lossy(&output.stdout).into_owned();
        // Its name alone: elsewhere it may be part of the bug's name.
        if output.status.code() == Some(1) && said.lines().any(|line| line == anomaly) {
            println!("{anomaly} with seed {seed} after {:?}:\n{said}", began.elapsed());
            break;
        }
        assert!(began.elapsed() < TIME, "no {anomaly} with the seeds 1 to {seed}; the last one said:\n{said}");
    }
    assert!(began.elapsed() < TIME, "{anomaly} was found only after {:?}:\n{said}", began.elapsed());
}

/// The example, which `cargo test` builds.
fn faulty_node() -> String {
    let here = std::env::current_exe().unwrap();
    let program: PathBuf = here.ancestors().nth(2).unwrap().join("examples").join("faulty_node");
    assert!(program.exists(), "{} is not there: cargo build --example faulty_node", program.display());
    program.to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_example_found(workload: &str, bug: &str, anomaly: &str) {
    let arguments = format!("-w {workload} --nodes 3 --rate 200 --time 3 --bin {}", faulty_node());
    assert_found(&arguments, &["--", bug], anomaly);
}

#[test]
fn nodes_that_do_not_replicate_are_found() {
    assert_example_found("lin-kv", "no-replication", "not linearizable");
}

#[test]
fn a_lost_update_of_lists_is_found() {
    assert_example_found("txn-list-append", "lost-update", "lost update");
}

#[test]
fn a_lost_update_of_registers_is_found() {
    assert_example_found("txn-rw-register", "lost-update", "lost update");
}

#[test]
fn a_skipped_offset_is_found() {
    assert_example_found("kafka", "skipped-offset", "skipped");
}

/// A leader that was cut off answers reads from what it has, while the others have another one.
#[test]
fn stale_reads_from_a_deposed_leader_are_found() {
    let faults = format!("-w lin-kv --nodes 3 --rate 200 --time 12 --nemesis partition --bin {}", faulty_node());
    assert_found(&format!("{faults} --nemesis-interval 4 --timeout 400"), &["--", "stale-reads"], "not linearizable");
}

/// A request that comes late makes a follower forget what it has acknowledged; when the leader is cut off then, it is lost.
#[test]
fn acknowledged_writes_that_a_late_request_truncates_are_found() {
    let faults = format!("-w lin-kv --nodes 3 --rate 200 --time 12 --nemesis partition --bin {}", faulty_node());
    let network = "--latency 20 --latency-dist exponential --nemesis-interval 2";
    assert_found(&format!("{faults} {network}"), &["--", "truncate-then-append"], "not linearizable");
}
