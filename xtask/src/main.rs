//! Development tasks that are more than one cargo command: `cargo xtask nightly`, `cargo xtask model`,
//! `cargo xtask mutants`, `cargo xtask coverage`, `cargo xtask workbench`.

mod coverage;
mod mutants;
mod workbench;

use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask TASK

  nightly   the long test matrices: every test with the profile `nightly`, in release (about an hour), and those of real
            processes under the other runtime,
            then everything that small clusters can do, then three hours of simulations of seeds that nobody has tried,
            then `workbench`
  model     everything that a small cluster can do, within bounds: `cargo xtask model --help`;
            without options, the bounds of docs/TESTING.md one after another
  mutants   which tests find known bugs, put in one at a time: `cargo xtask mutants --help`
  coverage  which lines of the protocol, the storage and the machine simulations reach; takes llvm-profdata and llvm-cov of the
            LLVM that `rustc -vV` names, from $LLVM_PROFDATA and $LLVM_COV, or where programs are
  workbench every workload of Maelstrom under every kind of fault on 1, 3 and 5 nodes, in `raft workbench`, about
            three quarters of an hour: `cargo xtask workbench --help`
  help      this text";

/// What `model` explores: each is exhausted within five minutes on two cores (docs/TESTING.md).
const MODELS: [&[&str]; 7] = [
    &["--entries", "2", "--crashes", "1"],
    &["--entries", "1"],
    &["--entries", "0", "--heartbeats", "1"],
    &["--entries", "0", "--crashes", "0", "--heartbeats", "2"],
    &["--terms", "3", "--entries", "0", "--crashes", "0"],
    &["--terms", "3", "--entries", "0", "--crashes", "0", "--pre-vote"],
    &["--entries", "0", "--slow-disks"],
];

/// What `nightly` explores besides, for up to an hour each; the exit code tells if that was not enough.
const NIGHTLY_MODELS: [&[&str]; 3] = [
    &["--entries", "2", "--pre-vote", "--seconds", "3600", "--states", "100000000"],
    &["--entries", "1", "--heartbeats", "1", "--seconds", "3600", "--states", "100000000"],
    &["--entries", "1", "--slow-disks", "--seconds", "3600", "--states", "100000000"],
];

/// What `nightly` simulates: which faults, and for how many minutes.
const SIMULATIONS: [(&str, &str); 5] =
    [("swarm", "120"), ("network", "15"), ("crashes", "15"), ("disks", "15"), ("damage", "15")];

/// Where `nightly` keeps the scenarios that failed, cut down.
const FAILURES: &str = "target/simulate";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, options) = arguments.split_first().map_or(("", &[] as &[String]), |(task, rest)| (task.as_str(), rest));
    match (task, options) {
        ("nightly", []) => {
            let tests = [nightly_tests(), async_process_tests(), models(&MODELS), models(&NIGHTLY_MODELS)];
            let simulations = SIMULATIONS.map(simulation);
            tests.into_iter().chain(simulations).chain([workbench::workbench(&[])]).fold(ExitCode::SUCCESS, worse)
        }
        ("model", []) => models(&MODELS),
        ("model", options) => model(options),
        ("mutants", [option]) if option == "--help" => {
            println!("{}", mutants::HELP);
            ExitCode::SUCCESS
        }
        ("mutants", options) => mutants::mutants(options),
        ("coverage", []) => coverage::run(),
        ("workbench", options) => workbench::workbench(options),
        ("help" | "--help" | "-h", []) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("error: unknown task {:?}\n\n{HELP}", arguments.join(" "));
            ExitCode::from(2)
        }
    }
}

/// Tests read `RAFT_TEST_PROFILE` to decide how many rounds and seeds they run. Not with `--all-targets`: then cargo makes tests of
/// the examples, and not the program that `tests/faulty_nodes.rs` looks for.
fn nightly_tests() -> ExitCode {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--no-fail-fast"]).env("RAFT_TEST_PROFILE", "nightly");
    run("the nightly tests", &mut cargo)
}

/// Those of real processes once more: they read `RAFT_TEST_RUNTIME` to decide what the nodes run on.
fn async_process_tests() -> ExitCode {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--test", "process", "--no-fail-fast"]);
    cargo.env("RAFT_TEST_PROFILE", "nightly").env("RAFT_TEST_RUNTIME", "AsyncRuntime");
    run("the nightly process tests under AsyncRuntime", &mut cargo)
}

/// Explores one after another, whatever fails.
fn models(all: &[&[&str]]) -> ExitCode {
    all.iter().map(|options| model(options)).fold(ExitCode::SUCCESS, worse)
}

fn worse(so_far: ExitCode, now: ExitCode) -> ExitCode {
    if now == ExitCode::SUCCESS { so_far } else { now }
}

fn model(options: &[impl AsRef<std::ffi::OsStr>]) -> ExitCode {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--release", "--package", "raft-model", "--"]).args(options);
    run("the exploration", &mut cargo)
}

/// Simulates whole clusters with these faults for so many minutes.
fn simulation((profile, minutes): (&str, &str)) -> ExitCode {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--profile", "checked", "--", "simulate", "--profile", profile, "--for", minutes]);
    if profile == "swarm" {
        cargo.arg("--require-marks");
    }
    run("the simulation", cargo.args(["--shrink", FAILURES]))
}

fn run(what: &str, command: &mut Command) -> ExitCode {
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("error: {what} failed ({status})");
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("error: cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
