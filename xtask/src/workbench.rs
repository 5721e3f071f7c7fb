//! `cargo xtask workbench`: every workload, under every kind of fault, on clusters of every usual size, in the workbench.

/// The program's own table of their names. What is built here is the program, so it cannot be a dependency.
#[path = "../../src/gateway/maelstrom/workload.rs"]
mod workload;

use std::io::Write as _;
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use workload::Workload;

pub const HELP: &str = "\
cargo xtask workbench [--time SECONDS]

  Runs `raft workbench` for every workload of Maelstrom, without faults, with partitions, kills, pauses, and all of them, on 1, 3 and 5
  nodes of this program, in release, with another seed each time. Each run takes SECONDS [default: 10] under load, and as long as it takes
  until everything has been read at the end. Prints a table, and what failed with the command that does it again. The pages, histories and
  logs are in target/workbench.";

const FAULTS: [&str; 5] = ["none", "partition", "kill", "pause", "all"];
const SIZES: [&str; 3] = ["1", "3", "5"];
const FOLDER: &str = "target/workbench";

/// Does it as these options say.
pub fn workbench(options: &[String]) -> ExitCode {
    match options {
        [] => matrix(10),
        [option] if option == "--help" => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        [option, seconds] if option == "--time" && seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0) => {
            matrix(seconds.parse().unwrap_or(10))
        }
        _ => {
            eprintln!("error: options that make no sense: {:?}\n\n{HELP}", options.join(" "));
            ExitCode::from(2)
        }
    }
}

/// The whole matrix, each run under load for so many seconds.
fn matrix(seconds: u64) -> ExitCode {
    let mut build = Command::new(env!("CARGO"));
    if super::run("the build", build.args(["build", "--quiet", "--release", "--bin", "raft"])) != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    println!("{:<16} {:<10} {}", "workload", "faults", SIZES.map(|size| format!("{size:<22}")).concat());
    let (began, mut runs, mut failed) = (Instant::now(), 0, Vec::new());
    for (workload, _) in Workload::NAMES {
        for faults in FAULTS {
            print!("{workload:<16} {faults:<10} ");
            for size in SIZES {
                runs += 1;
                let cell = cell(workload, faults, size, seconds, runs);
                print!("{:<22}", cell.words);
                let _ = std::io::stdout().flush();
                failed.extend(cell.failure);
            }
            println!();
        }
    }
    println!("\n{runs} runs in {} minutes, {} of them not valid", began.elapsed().as_secs() / 60, failed.len());
    for report in &failed {
        println!("\n{report}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of one run.
struct Cell {
    words: String,
    /// All that it said, unless it was valid.
    failure: Option<String>,
}

fn cell(workload: &str, faults: &str, size: &str, seconds: u64, seed: u64) -> Cell {
    let mut command = Command::new("target/release/raft");
    command.args(["workbench", "-w", workload, "--nemesis", faults, "--nodes", size]);
    command.args(["--time", &seconds.to_string(), "--seed", &seed.to_string()]);
    command.args(["--page", &format!("{FOLDER}/{workload}-{faults}-{size}.html")]);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Cell { words: "not run".into(), failure: Some(format!("{command:?}: {error}")) },
    };
    let text = said(&output);
    let row = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let verdict = row("verdict").split([':', ';']).next().unwrap_or_default().to_owned();
    let served = row("availability").split(" %").next().unwrap_or_default().to_owned();
    let is_valid = output.status.success();
    let words = if is_valid { format!("{verdict}, {served} %") } else { format!("{verdict} ({})", output.status) };
    Cell { words, failure: (!is_valid).then_some(text) }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
