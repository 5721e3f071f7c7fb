//! The command line of `raft`: what it prints, and its exit codes.

#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use raft::config::{Config, key_help};

/// What a run of the binary came to.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the binary in `folder` with these arguments, separated by spaces, and nothing on standard input.
fn raft(folder: &Path, arguments: &str) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_raft"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "colours only on a terminal");
    Run { code: output.status.code(), stdout, stderr }
}

/// A run that fails with this code and these words on standard error, and prints nothing else.
#[track_caller]
fn assert_fails(folder: &Path, arguments: &str, code: i32, words: &[&str]) {
    let run = raft(folder, arguments);
    assert_eq!(run.code, Some(code), "raft {arguments}: {}", run.stderr);
    assert_eq!(run.stdout, "", "raft {arguments}");
    for word in words {
        assert!(run.stderr.contains(word), "raft {arguments}: expected {word:?} in: {}", run.stderr);
    }
}

#[test]
fn init_writes_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let run = raft(folder.path(), "init --nodes 3");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(run.stdout, "wrote raft.ini; next: raft cluster -c raft.ini\n");
    let path = folder.path().join("raft.ini");
    let expected = Config::local(3, folder.path().join("datasets/raft"));
    assert_eq!(Config::load(path).unwrap(), expected);
}

#[test]
fn rejoining_needs_a_folder_to_lose_and_others_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    raft(folder.path(), "init --nodes 1 -o one.ini");
    assert_fails(
        folder.path(),
        "-c one.ini -n 1 --rejoin",
        1,
        &["node 1 cannot rejoin a cluster of which it is the only"],
    );
    raft(folder.path(), "init --nodes 3 -o three.ini");
    let ini = folder.path().join("three.ini");
    let text = fs::read_to_string(&ini).unwrap().replace("FileStorage", "InMemoryStorage");
    fs::write(&ini, text).unwrap();
    assert_fails(folder.path(), "-c three.ini -n 1 --rejoin", 1, &["--rejoin is of no use with InMemoryStorage"]);
    assert!(!folder.path().join("datasets").exists(), "nothing was made");
}

#[test]
fn init_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.ini"), "precious").unwrap();
    assert_fails(folder.path(), "init --nodes 3 -o mine.ini", 1, &["mine.ini exists already", "-o names another file"]);
    assert_eq!(fs::read_to_string(folder.path().join("mine.ini")).unwrap(), "precious");
    assert_fails(folder.path(), "init --nodes 3 -o no/such/folder.ini", 1, &["cannot create no/such/folder.ini"]);
}

#[test]
fn usage_errors_exit_with_2_and_say_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("raft.ini"), Config::local(3, "data").to_ini()).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("", &["Usage:", "Examples:"]),
        ("--colour", &["--colour"]),
        ("clutser", &["clutser", "cluster"]),
        ("-c raft.ini", &["which node?", "-n 1"]),
        ("-n 4", &["no node `4`", "existing: 1 (A), 2 (B), 3 (C)"]),
        ("-c raft.ini -n a", &["no node `a`", "existing: 1 (A), 2 (B), 3 (C)"]),
        ("-n 1 -r GreenRuntime", &["GreenRuntime", "existing: ThreadedRuntime, AsyncRuntime"]),
        ("-n 1 -t zeromq", &["zeromq", "tcp", "stdio"]),
        ("-n 1 --election-timeout 100", &["-t stdio", "ElectionTimeout", "raft.ini"]),
        ("-t stdio -n 1", &["-n", "`init`"]),
        ("-t stdio --heartbeat-interval 100 --election-timeout 100", &["100 must be below --election-timeout 100"]),
        ("-n 1 --workload kafka", &["--workload goes with `-t stdio`"]),
        ("-t stdio --workload lin", &["there is no such workload", "lin-kv, txn-list-append", "unique-ids"]),
        ("-t stdio --rejoin", &["--rejoin does not go with `-t stdio`"]),
        ("-t stdio --heartbeat-interval 0", &["0 is not in 1..=600000"]),
        ("init", &["--nodes <N>"]),
        ("init --nodes 0", &["0 is not in 1..=99"]),
        ("init --nodes 100", &["100 is not in 1..=99"]),
        ("simulate --seeds 5..5", &["5..5", "the first below the second, as in 0..100"]),
        ("simulate --seed 1 --seeds 0..2", &["--seed", "cannot be used with"]),
        ("simulate --profile chaos", &["chaos", "swarm", "calm", "network", "crashes", "disks", "damage"]),
        ("simulate --nodes 10", &["10 is not in 1..=9"]),
        ("-c raft.ini cluster", &["cluster", "--config"]),
        ("help Colour", &["`Colour`", "cluster", "ElectionTimeout"]),
    ];
    for (arguments, words) in cases {
        assert_fails(folder.path(), arguments, 2, words);
    }
}

#[test]
fn a_configuration_that_cannot_be_used_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, config: &Config| fs::write(folder.path().join(name), config.to_ini()).unwrap();
    let mut exposed = Config::local(3, "data");
    exposed.nodes[2].host = "192.0.2.1".into();
    write("exposed.ini", &exposed);
    let mut wrong = Config::local(3, "data");
    wrong.heartbeat_interval = wrong.election_timeout;
    wrong.nodes[1].id = wrong.nodes[0].id;
    write("wrong.ini", &wrong);
    for start in ["-n 1", "cluster --no-shell", "cluster"] {
        let run = |config: &str, words: &[&str]| assert_fails(folder.path(), &format!("{start} {config}"), 1, words);
        run("", &["cannot read raft.ini", "raft init --nodes 5"]);
        run("-c other.ini", &["cannot read other.ini", "raft init --nodes 5"]);
        run("-c wrong.ini", &["wrong.ini:", "[Cluster] HeartbeatInterval = 150", "[Node.B] Id = 1"]);
        run("-c exposed.ini", &["node C", "192.0.2.1", "--insecure"]);
    }
}

#[test]
fn help_explains_commands_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let help = |arguments: &str| {
        let run = raft(folder.path(), arguments);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "raft {arguments}");
        run.stdout
    };
    for arguments in ["help", "--help"] {
        let text = help(arguments);
        for word in
            ["raft cluster -c raft.ini", "raft -c raft.ini -n 1", "raft-shell -c raft.ini", "-t stdio", "Exit codes"]
        {
            assert!(text.contains(word), "raft {arguments}: expected {word:?} in: {text}");
        }
        assert!(!text.contains("stop-with-stdin"));
    }
    for command in ["cluster", "init", "dump", "check", "simulate", "help"] {
        let text = help(&format!("help {command}"));
        assert!(text.contains(&format!("Usage: raft {command}")), "{text}");
        assert!(help(&format!("{command} --help")).contains(&format!("Usage: raft {command}")));
    }
    for key in key_help() {
        let text = help(&format!("help {}", key.name));
        assert!(text.starts_with(&format!("{}, in section [{}]", key.name, key.section)), "{text}");
        assert!(text.contains(&format!("allowed: {}", key.allowed)), "{text}");
    }
    assert_eq!(help("help electiontimeout"), help("help ElectionTimeout"));
    assert_eq!(help("--version"), concat!("raft ", env!("CARGO_PKG_VERSION"), "\n"));
}
