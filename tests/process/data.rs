//! `raft -t stdio --data DIR`: what a killed node has acknowledged is there when it goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::maelstrom::{Client, Router};
use serde_json::{Value, json};
use tempfile::TempDir;

const RAFT: &str = env!("CARGO_BIN_EXE_raft");
/// How long a client waits. Those of a node that is dead shall not wait for long.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a cluster may take to have a leader again.
const RECOVERY: Duration = Duration::from_secs(20);
/// How many requests are under way when nodes are killed.
const UNDER_WAY: u64 = 50;

/// Nodes whose folders are all in one.
struct Nodes {
    router: Router,
    folder: TempDir,
    /// The last acknowledged write of each key, and those after it of which nobody knows.
    written: BTreeMap<String, (Value, Vec<Value>)>,
    next: u64,
}

impl Nodes {
    fn start(count: usize) -> Nodes {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().to_str().expect("text");
        let router = Router::with_processes(count, RAFT, &["-t", "stdio", "--data", data]);
        Nodes { router, folder, written: BTreeMap::new(), next: 0 }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(RAFT);
        command.args(["-t", "stdio", "--data"]).arg(self.folder.path());
        command
    }

    fn start_again(&self, names: &[&str]) {
        for name in names {
            self.router.start(name, &mut self.command());
        }
        self.router.init();
    }

    /// Writes to a key of the node's, until it is acknowledged.
    fn write(&mut self, client: &mut Client, node: &str) {
        let deadline = Instant::now() + RECOVERY;
        while !self.try_write(client, node, TIMEOUT) {
            assert!(Instant::now() < deadline, "{node} acknowledges nothing");
        }
    }

    fn try_write(&mut self, client: &mut Client, node: &str, timeout: Duration) -> bool {
        self.next += 1;
        let value = json!(self.next);
        let answer = client.request(node, json!({"type": "write", "key": node, "value": value}), timeout);
        let acknowledged = answer.is_ok_and(|answer| answer["type"] == "write_ok");
        self.took(node, value, acknowledged);
        acknowledged
    }

    fn took(&mut self, key: &str, value: Value, acknowledged: bool) {
        let (last, unknown) = self.written.entry(key.to_owned()).or_default();
        if acknowledged {
            (*last, *unknown) = (value, Vec::new());
        } else {
            unknown.push(value);
        }
    }

    /// Sends writes, waits until half of them are acknowledged, and does this to the nodes. What was acknowledged before
    /// they were dead counts.
    fn under_load(&mut self, node: &str, fault: impl FnOnce(&Router)) {
        let mut client = self.router.client();
        let mut sent = BTreeMap::new();
        for _ in 0..UNDER_WAY {
            self.next += 1;
            let body = json!({"type": "write", "key": format!("load {}", self.next), "value": self.next});
            sent.insert(client.send(node, body), self.next);
        }
        let mut acknowledged = 0;
        let mut take = |nodes: &mut Nodes, answer: Value| {
            let id = answer["in_reply_to"].as_u64().expect("an answer");
            let number = sent.remove(&id).expect("an answer to each");
            nodes.took(&format!("load {number}"), json!(number), answer["type"] == "write_ok");
            acknowledged += u64::from(answer["type"] == "write_ok");
            acknowledged
        };
        while take(self, client.answer(RECOVERY).expect("it goes on")) < UNDER_WAY / 2 {}
        fault(&self.router);
        while let Ok(answer) = client.answer(Duration::from_millis(200)) {
            take(self, answer);
        }
        for number in sent.into_values() {
            self.took(&format!("load {number}"), json!(number), false);
        }
    }

    /// Every acknowledged write is there, or one after it whose outcome nobody knew.
    fn check(&self, node: &str) {
        let mut client = self.router.client();
        for (key, (last, unknown)) in &self.written {
            let answer = ask(&mut client, node, json!({"type": "read", "key": key}));
            let found = &answer["value"];
            assert!(found == last || unknown.contains(found), "{key}: {last} or {unknown:?} expected, {answer} found");
        }
    }
}

fn ask(client: &mut Client, node: &str, body: Value) -> Value {
    let deadline = Instant::now() + RECOVERY;
    loop {
        match client.request(node, body.clone(), TIMEOUT) {
            Ok(answer) if ![11, 13].map(Value::from).contains(&answer["code"]) => return answer,
            answer => assert!(Instant::now() < deadline, "{node} still answers {answer:?}"),
        }
    }
}

#[test]
fn all_nodes_are_killed_at_once_and_go_on() {
    let mut nodes = Nodes::start(3);
    let mut client = nodes.router.client();
    for node in ["n2", "n3", "n1"] {
        nodes.write(&mut client, node);
        nodes.under_load(node, |router| router.kill_all(&["n1", "n2", "n3"]));
        nodes.start_again(&["n1", "n2", "n3"]);
        nodes.check(node);
    }
    assert_eq!(nodes.router.violations(), Vec::<String>::new());
}

#[test]
fn nodes_are_killed_in_turn_and_count_again() {
    let mut nodes = Nodes::start(3);
    let mut client = nodes.router.client();
    nodes.write(&mut client, "n1");
    for (killed, other) in [("n1", "n2"), ("n2", "n3"), ("n3", "n1")] {
        nodes.under_load(other, |router| router.kill(killed));
        nodes.write(&mut client, other);
        nodes.start_again(&[killed]);
        // It takes the one that was killed to acknowledge this.
        nodes.router.kill(other);
        nodes.write(&mut client, killed);
        nodes.check(killed);
        nodes.start_again(&[other]);
    }
    nodes.check("n2");
    assert_eq!(nodes.router.violations(), Vec::<String>::new());
}

#[test]
fn one_node_goes_on_by_itself() {
    let mut nodes = Nodes::start(1);
    let mut client = nodes.router.client();
    nodes.write(&mut client, "n1");
    nodes.under_load("n1", |router| router.kill("n1"));
    nodes.start_again(&["n1"]);
    nodes.check("n1");
}

#[test]
fn a_node_whose_folder_was_wiped_is_not_counted() {
    let mut nodes = Nodes::start(3);
    let mut client = nodes.router.client();
    // These two have to have met: nobody else will be left to remember the one that forgets.
    nodes.router.kill("n2");
    for node in ["n1", "n3"] {
        nodes.write(&mut client, node);
    }
    nodes.start_again(&["n2"]);
    nodes.write(&mut client, "n2");
    nodes.router.kill("n1");
    fs::remove_dir_all(nodes.folder.path().join("n1")).expect("wiped");
    nodes.start_again(&["n1"]);
    nodes.write(&mut client, "n2");
    nodes.router.kill("n2");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert!(!nodes.try_write(&mut client, "n3", Duration::from_millis(500)), "one of three acknowledges nothing");
        assert!(!nodes.try_write(&mut client, "n1", Duration::from_millis(500)), "nor the one that forgot");
    }
    nodes.start_again(&["n2"]);
    nodes.write(&mut client, "n3");
    nodes.check("n3");
}

/// Starts one more process on the nodes' folders with this `init`, and lets it end.
fn run_once(nodes: &Nodes, node: &str, names: &[&str]) -> Output {
    let mut command = nodes.command();
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("raft");
    let body = json!({"type": "init", "msg_id": 1, "node_id": node, "node_ids": names});
    let init = json!({"src": "c1", "dest": node, "body": body});
    writeln!(process.stdin.as_mut().expect("piped"), "{init}").expect("init");
    process.wait_with_output().expect("it ends")
}

/// It says why not, to whoever asked and on standard error, and exits with 1.
fn assert_refused(output: &Output, reason: &str) {
    let answer: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_eq!((&answer["body"]["code"], &answer["body"]["in_reply_to"]), (&json!(13), &json!(1)), "{answer}");
    let (answer, error) = (answer.to_string(), String::from_utf8_lossy(&output.stderr));
    assert!(answer.contains(reason) && error.contains(reason), "{reason} expected: {answer} {error}");
    assert_eq!(output.status.code(), Some(1));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for file in fs::read_dir(from).expect("a folder").map(|file| file.expect("a file").path()) {
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("copied");
    }
}

#[test]
fn a_folder_is_for_one_node_of_one_cluster() {
    let mut nodes = Nodes::start(1);
    let mut client = nodes.router.client();
    nodes.write(&mut client, "n1");
    assert_refused(&run_once(&nodes, "n1", &["n1"]), "in use by another process");
    nodes.router.kill("n1");

    let folder = nodes.folder.path().to_owned();
    copy(&folder.join("n1"), &folder.join("n2"));
    for (node, names, reason) in [
        ("n2", &["n1", "n2"][..], "belongs to node 1, but this node was told 2"),
        ("n1", &["n1", "n2"], "belongs to a cluster of the nodes 1, but this node was told 1, 2"),
        ("n2", &["n2"], "belongs to the cluster with id"),
        ("../n1", &["../n1"], "the node's name is that of its folder"),
        ("..", &[".."], "cannot be"),
    ] {
        assert_refused(&run_once(&nodes, node, names), reason);
    }
    nodes.start_again(&["n1"]);
    nodes.check("n1");

    fs::write(folder.join("n3"), "a file").expect("written");
    assert_refused(&run_once(&nodes, "n3", &["n3"]), "n3");
}
