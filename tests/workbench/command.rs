//! `raft workbench`, the command: what it prints and writes, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};
use serde_json::Value;

use super::support::{ONE_AT_A_TIME, RAFT};

/// `raft workbench` with these arguments, separated by spaces, in this folder.
fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(RAFT);
    command.arg("workbench").args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(arguments: &str) -> (Output, String, tempfile::TempDir) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text, folder)
}

#[test]
fn a_valid_run_tells_what_it_was_and_leaves_its_files() {
    let (output, text, folder) = run("-w g-set --nodes 2 --time 1 --seed 5 --rate 50 --latency 1 --concurrency 3");
    assert_eq!(output.status.code(), Some(0), "{text}");
    for expected in ["g-set: 2 nodes, 3 clients, 50 requests a second, 1 ms", "valid", "p99", "messages", "at rest"] {
        assert!(text.contains(expected), "{expected:?} is missing: {text}");
    }
    let again = "workbench -w g-set --nodes 2 --time 1 --seed 5 --rate 50 --latency 1 --concurrency 3";
    assert!(text.trim_end().ends_with(again), "{text}");
    let file = |name: &str| fs::read_to_string(folder.path().join("workbench").join(name)).unwrap();
    assert!(file("g-set.html").contains("</html>"));
    assert!(file("g-set.n0.log").contains("n0") && file("g-set.n1.log").contains("n1"));
    let history: Vec<Value> = file("g-set.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(history.iter().any(|operation| operation["request"]["type"] == "add" && operation["answered"].is_object()));
    assert!(history.iter().any(|operation| operation["at_rest"] == true));
}

#[test]
fn a_seed_that_was_drawn_is_shown() {
    let (_, text, _folder) = run("-w echo --nodes 1 --time 1 --rate 20 --page here/page.html -- -t stdio");
    let again = text.lines().last().unwrap();
    assert!(again.contains("--page here/page.html --seed ") && again.ends_with(" -- -t stdio"), "{again}");
}

#[test]
fn a_program_that_is_no_node_fails_with_its_name_and_what_it_said() {
    let (output, text, _folder) = run("-w echo --nodes 2 --time 1 --bin /bin/echo -- hello");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("wrote a line that is no message") && text.contains("\"hello\""), "{text}");
    let (output, text, _folder) = run("-w echo --nodes 1 --time 1 --bin /bin/sh -- -c no-such-command");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("n0 has ended by itself") && text.contains("not found"), "{text}");
    let (output, text, _folder) = run("-w echo --nodes 1 --time 1 --bin ./no-such-node");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("cannot start ./no-such-node"), "{text}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for (arguments, words) in [
        ("-w lin-vk", "there is no such workload"),
        ("--nodes 10", "--nodes"),
        ("--nemesis fire", "is none of partition, kill, pause"),
        ("--loss 2", "expected a share"),
        ("--concurrency 0n", "expected a number from 1"),
        ("--rate 0", "expected requests a second"),
        ("--page some/x.jsonl", "--page must be another file"),
    ] {
        let (output, _, folder) = run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(words), "{arguments}: {stderr}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
    }
}

#[test]
fn ctrl_c_ends_the_run_and_all_nodes() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    // Nodes that go on whatever happens to their input, and tell their process number.
    let script = r#"echo $$ >&2; read -r x; echo "{\"src\":\"n0\",\"dest\":\"c0\",\"body\":{\"type\":\"init_ok\",\"in_reply_to\":1}}"; exec sleep 1000"#;
    let mut command = command(folder.path(), "-w echo --nodes 1 --time 60 --nemesis pause --bin /bin/sh -- -c");
    let workbench = command.arg(script).stdout(Stdio::piped()).spawn().unwrap();
    let log = folder.path().join("workbench/echo.n0.log");
    let began = Instant::now();
    let node: i32 = loop {
        if let Some(number) = fs::read_to_string(&log).ok().and_then(|text| text.trim().parse().ok()) {
            break number;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the node starts");
        std::thread::sleep(Duration::from_millis(5));
    };
    let node = Pid::from_raw(node).unwrap();
    assert!(test_kill_process_group(node).is_ok(), "the node runs");
    kill_process(Pid::from_child(&workbench), Signal::INT).unwrap();
    let output = workbench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("stopped before its end"), "{text}");
    assert!(test_kill_process_group(node).is_err(), "no node is left");
}
