//! Development tasks that are more than one cargo command: `cargo xtask nightly`.

use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask TASK

  nightly   the long test matrices: every test with the profile `nightly`, in release (about an hour)
  help      this text";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("nightly") => nightly(),
        Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("error: unknown task {:?}\n\n{HELP}", other.unwrap_or_default());
            ExitCode::from(2)
        }
    }
}

/// Tests read `RAFT_TEST_PROFILE` to decide how many rounds and seeds they run.
fn nightly() -> ExitCode {
    let status = Command::new(env!("CARGO"))
        .args(["test", "--release", "--all-targets", "--no-fail-fast"])
        .env("RAFT_TEST_PROFILE", "nightly")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("error: the nightly tests failed ({status})");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
