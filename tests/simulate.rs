//! `raft simulate`, and the simulations that are kept: seeds go the same way twice, and mended bugs stay mended.

#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use raft::marks::Mark;
use raft::runtime::simulated::{Profile, Report, Scenario, Script, Wish, simulate};

/// Seeds of each profile that are run twice.
fn seeds() -> u64 {
    let is_nightly = std::env::var("RAFT_TEST_PROFILE").is_ok_and(|profile| profile == "nightly");
    if is_nightly { 500 } else { 3 }
}

fn passes(scenario: &Scenario, name: &str) -> Report {
    simulate(scenario, 0, None)
        .unwrap_or_else(|failed| panic!("{name}, at {:?}: {}\n{scenario:#?}", failed.at, failed.violation))
}

#[test]
fn every_seed_goes_the_same_way_twice_and_no_two_are_alike() {
    let (mut scenarios, mut hashes) = (Vec::new(), Vec::new());
    for &profile in Profile::value_variants() {
        let wish = Wish { profile, nodes: None, time_ms: Some(2_000) };
        for seed in 1..=seeds() {
            let name = format!("seed {seed} of {profile:?}");
            let scenario = Scenario::draw(seed, &wish);
            assert_eq!(scenario, Scenario::draw(seed, &wish), "{name}");
            if scenarios.contains(&scenario) {
                // Where it draws no faults, all profiles draw the same.
                continue;
            }
            // Each in a thread of its own: nothing may depend on what a thread did before.
            let runs = [(); 2].map(|()| {
                let (scenario, name) = (scenario.clone(), name.clone());
                std::thread::spawn(move || passes(&scenario, &name)).join().unwrap()
            });
            assert_eq!(runs[0], runs[1], "{name}");
            hashes.push(runs[0].hash);
            scenarios.push(scenario);
        }
    }
    assert!(hashes.len() >= Profile::value_variants().len(), "too few of them: {}", hashes.len());
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), count, "two of them have the same hash");
}

#[test]
fn keeping_a_trace_changes_nothing() {
    let wish = Wish { profile: Profile::Swarm, nodes: Some(3), time_ms: Some(1_000) };
    let scenario = Scenario::draw(3, &wish);
    let mut lines = Vec::new();
    let traced = simulate(&scenario, 1 << 16, Some(&mut |line: &str| lines.push(line.to_owned()))).unwrap();
    assert_eq!(traced, passes(&scenario, "without a trace"));
    assert!(lines.iter().any(|line| line.contains("is Leader of term")), "{lines:#?}");
}

/// Where a bug was, a rare path is taken now. A scenario that no longer takes it is to be found anew.
const REACHES: [(&str, Mark); 2] =
    [("refusal-storm.json", Mark::RejectionStale), ("snapshot-replaced.json", Mark::RestoreSuperseded)];

/// Each was a bug: it must pass now, and what it takes must still happen in it.
#[test]
fn bugs_that_were_mended_stay_mended() {
    let mut paths: Vec<PathBuf> =
        fs::read_dir("tests/regressions").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{paths:?}");
    for path in paths {
        let script = Script::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let (name, scenario) = (path.display().to_string(), script.scenario);
        let report = passes(&scenario, &name);
        assert!(script.shows.len() > 20, "{name} says what it shows");
        for (_, mark) in REACHES.iter().filter(|(file, _)| path.ends_with(file)) {
            assert!(report.marks.of(*mark).hits > 0, "{name} does not reach its bug any more: {}", mark.name());
        }
        assert_eq!(
            (report.faults, report.skipped),
            (scenario.faults.len() as u64, 0),
            "{name}: every fault takes place"
        );
        let rates = [
            ("lost", scenario.network.lost, report.lost),
            ("twice", scenario.network.twice, report.doubled),
            ("asked", scenario.clients, report.operations),
        ];
        for (what, rate, times) in rates {
            assert!(rate == 0 || times > 0, "{name}: {what} {rate}, and it never happened");
        }
    }
}

/// Standard output and the exit code of `raft simulate` with these arguments, in this folder.
fn raft_simulate(folder: &Path, arguments: &str) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_raft"))
        .arg("simulate")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(stderr, "", "raft simulate {arguments}");
    (stdout, output.status.code())
}

#[test]
fn what_is_printed_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let results = ["1", "4"].map(|jobs| {
        let (table, code) = raft_simulate(folder.path(), &format!("--seeds 10..16 --time 1 --twice --jobs {jobs}"));
        assert_eq!(code, Some(0), "{table}");
        // All but the lines with times of day in them.
        let lines =
            table.lines().filter(|line| !["took", "simulated", "events"].contains(&line.split(' ').next().unwrap()));
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0][0], "simulations   6, each twice, 0 failed");
    assert!(results[0].iter().any(|line| line.starts_with("hash ")));
}

#[test]
fn a_trace_tells_messages_faults_and_what_nodes_log() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, code) = raft_simulate(folder.path(), "--seed 1 --profile crashes --nodes 3 --time 2 --trace");
    assert_eq!(code, Some(0));
    for words in
        ["node 1 starts", "is Leader of term ", "append, term ", "logs INFO", "fault 0: ", "the faults are over"]
    {
        assert!(trace.contains(words), "{words:?} in {trace}");
    }
}

/// A run with `--marks` and nobody who reads: the table is lost, the exit code is not.
#[test]
fn a_closed_pipe_is_no_reason_to_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
    command.args(["simulate", "--seed", "1", "--nodes", "1", "--time", "0", "--marks"]);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_seed_that_has_none_after_it_is_refused() {
    let run = |seed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
        command.args(["simulate", "--seed", seed, "--nodes", "1", "--time", "0"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let last = run("18446744073709551614");
    assert_eq!(last.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&last.stdout).contains("simulations   1, 0 failed"), "{last:?}");
    let refused = run("18446744073709551615");
    assert_eq!(refused.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("18446744073709551615 is not in 0..18446744073709551615"), "{stderr}");
}

#[test]
fn a_scenario_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("some.json"), "{\"version\": 9}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_raft"))
        .args(["simulate", "--scenario", "some.json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr, "error: some.json is a scenario of version 9; this program reads version 1\n");
}
