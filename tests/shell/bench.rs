//! `raft-shell bench` as a process, against nodes that only pretend.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::fake_node::{Act, FakeNode, line};

/// A run, and where its plot is.
pub struct Bench {
    child: Child,
    folder: TempDir,
}

impl Bench {
    pub fn start(target: &str, arguments: &[&str]) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let child = Command::new(env!("CARGO_BIN_EXE_raft-shell"))
            .args(["bench", target, "--json", "--clients", "8", "--connections", "2", "--keys", "50"])
            .arg("--svg")
            .arg(folder.path().join("plot.svg"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("raft-shell starts");
        Bench { child, folder }
    }

    /// What it printed, its plot, and its exit code.
    pub fn end(self) -> (Value, String, Option<i32>) {
        let Output { status, stdout, stderr } = self.child.wait_with_output().expect("raft-shell ends");
        let json = serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {}", String::from_utf8_lossy(&stderr)));
        (json, fs::read_to_string(self.folder.path().join("plot.svg")).expect("a plot"), status.code())
    }
}

fn url(node: &FakeNode) -> String {
    let address = node.address();
    format!("redis://{}:{}", address.host, address.client_port)
}

/// What a node should answer.
fn served(request: &str) -> Act {
    match request.split(' ').next() {
        Some("SET") => line("+OK"),
        Some("GET" | "LPOP") => line("$-1"),
        Some("RPUSH") => line(":1"),
        _ => line("-ERR what?"),
    }
}

pub fn count(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {path} in {json}"))
}

/// The counts that every run has to keep to.
pub fn assert_adds_up(json: &Value) {
    let errors: u64 = json["errors"].as_object().expect("errors").values().filter_map(Value::as_u64).sum();
    assert_eq!(count(json, "/failed"), errors, "{json}");
    assert_eq!(count(json, "/all/answered"), count(json, "/put/answered") + count(json, "/get/answered"), "{json}");
    assert_eq!(count(json, "/requests"), count(json, "/all/answered") + errors, "{json}");
}

#[test]
fn what_is_counted_adds_up() {
    let node = FakeNode::start(1, served);
    let (json, svg, code) = Bench::start(&url(&node), &["--seconds", "0.5", "--mix", "put=1,get=3"]).end();
    assert_eq!(code, Some(0), "{json}");
    assert_adds_up(&json);
    assert_eq!((count(&json, "/failed"), count(&json, "/connections")), (0, 2));
    assert_eq!(json["target"], url(&node));
    let (answered, gets) = (count(&json, "/all/answered"), count(&json, "/get/answered"));
    assert!(answered > 100 && (0.7..0.8).contains(&(gets as f64 / answered as f64)), "{json}");
    assert_eq!(count(&json, "/get/nil"), gets);
    let times = ["p50", "p90", "p99", "p999", "max"].map(|name| json["all"]["latency_ms"][name].as_f64().expect(name));
    assert!(times[0] > 0.0 && times.is_sorted() && times[4] < 5_000.0, "{times:?}");
    let rate = json["all"]["per_second"].as_f64().expect("a rate");
    assert!((rate - answered as f64 / 0.5).abs() < 1.0, "{rate}");
    assert!(svg.starts_with("<svg xmlns=") && svg.contains("<polyline class=\"p99\""), "{svg}");

    assert_eq!(node.accepted(), 3, "one to see whether it is there, and two");
    let asked = node.asked();
    assert!(asked.len() as u64 > answered, "warming up is not counted");
}

#[test]
fn keys_that_will_be_asked_for_are_set_first() {
    let node = FakeNode::start(1, served);
    let (json, _, code) = Bench::start(&url(&node), &["--seconds", "0.2", "--mix", "get=1", "--value-size", "1"]).end();
    assert_eq!(code, Some(0), "{json}");
    assert_adds_up(&json);
    assert_eq!(count(&json, "/put/answered"), 0, "filling is not counted");
    let mut sets: Vec<_> = node.asked().into_iter().filter(|request| request.starts_with("SET")).collect();
    sets.sort_unstable();
    assert_eq!(sets, (0..50).map(|key| format!("SET bench-{key:08} x")).collect::<Vec<_>>());
}

#[test]
fn the_queue_is_a_list() {
    let node = FakeNode::start(1, served);
    let (json, _, code) = Bench::start(&url(&node), &["--seconds", "0.2", "--queue", "--value-size", "3"]).end();
    assert_eq!(code, Some(0), "{json}");
    assert_adds_up(&json);
    let kinds: BTreeSet<_> = node.asked().into_iter().collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["LPOP bench-queue", "RPUSH bench-queue xxx"]);
}

#[test]
fn errors_are_counted_by_their_first_word_and_the_run_goes_on() {
    let mut asked = 0;
    let node = FakeNode::start(1, move |request| {
        asked += 1;
        match asked % 100 {
            10 => line("-OVERLOADED too much is waiting"),
            20 => line("-UNKNOWN may have happened"),
            _ if asked % 1_000 == 30 => Act::HangUp,
            _ => served(request),
        }
    });
    let (json, svg, code) = Bench::start(&url(&node), &["--seconds", "1"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    for word in ["OVERLOADED", "UNKNOWN", "LOST"] {
        assert!(json["errors"][word].as_u64() > Some(0), "{word}: {json}");
    }
    assert!(count(&json, "/lost_connections") > 0 && count(&json, "/all/answered") > 0, "{json}");
    assert!(svg.contains("<rect class=\"failed\""), "{svg}");
}

#[test]
fn what_is_never_answered_counts_as_a_timeout() {
    let mut first = None;
    let node = FakeNode::start(1, move |request| {
        let first = *first.get_or_insert_with(Instant::now);
        if first.elapsed() > Duration::from_millis(1_300) { Act::Hang } else { served(request) }
    });
    let (json, _, code) = Bench::start(&url(&node), &["--seconds", "1", "--timeout", "0.2"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    // At least once each of the eight clients.
    assert!(count(&json, "/errors/TIMEOUT") >= 8 && count(&json, "/lost_connections") >= 2, "{json}");
}

#[test]
fn answers_that_make_no_sense_are_counted_too() {
    let node = FakeNode::start(1, |_| line("HTTP/1.1 400 Bad Request"));
    let (json, _, code) = Bench::start(&url(&node), &["--seconds", "0.5"]).end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    assert!(count(&json, "/errors/PROTOCOL") > 0, "{json}");
    assert_eq!(count(&json, "/all/answered"), 0);
}

#[test]
fn an_interrupt_ends_it_with_what_was_measured() {
    let (told, measuring) = crossbeam_channel::bounded(1);
    let mut first = None;
    let node = FakeNode::start(1, move |request| {
        if first.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(1_500) {
            // Only the first time matters.
            let _ = told.try_send(());
        }
        served(request)
    });
    let bench = Bench::start(&url(&node), &["--seconds", "600"]);
    measuring.recv_timeout(Duration::from_secs(60)).expect("it runs");
    kill_process(Pid::from_child(&bench.child), Signal::INT).expect("a signal");
    let (json, _, code) = bench.end();
    assert_eq!(code, Some(0), "{json}");
    assert_adds_up(&json);
    let seconds = json["seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.0 && seconds < 60.0 && count(&json, "/all/answered") > 0, "{json}");
}

#[test]
fn who_is_gone_before_the_first_request_does_not_hold_up_the_run() {
    // What asks whether somebody is there gets through, and then the port is closed.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("redis://{}", listener.local_addr().expect("an address"));
    let bench = Bench::start(&target, &["--seconds", "0.3"]);
    drop(listener.accept().expect("it asks"));
    drop(listener);
    let (json, _, code) = bench.end();
    assert_eq!(code, Some(1), "{json}");
    assert_adds_up(&json);
    assert_eq!(count(&json, "/all/answered"), 0);
    assert!(count(&json, "/lost_connections") > 0, "{json}");
}

#[test]
fn nobody_there_is_an_error_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("redis://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let bench = Bench::start(&target, &[]);
    let Output { status, stdout, stderr } = bench.child.wait_with_output().expect("raft-shell ends");
    let stderr = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{stderr}");
    assert!(stderr.starts_with(&format!("error: {target} cannot be reached: ")), "{stderr}");
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    for wrong in [
        &["bench", "127.0.0.1:6379"][..],
        &["bench", "http://127.0.0.1:2379"],
        &["bench", "etcd://127.0.0.1:2379", "--queue"],
        &["bench", "redis://user@127.0.0.1:6379"],
        &["bench", "redis://127.0.0.1:0"],
        &["bench", "--mix", "put=0,get=0"],
        &["bench", "--mix", "del=1"],
        &["bench", "--clients", "0"],
        &["bench", "--connections", "0"],
        &["bench", "--keys", "0"],
        &["bench", "--seconds", "0"],
        &["bench", "--value-size", "99999999"],
        &["-e", "get a", "bench"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_raft-shell")).args(wrong).output().expect("raft-shell starts");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
