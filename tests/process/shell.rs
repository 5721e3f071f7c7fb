//! `raft-shell` and `raft cluster` as scripts and people use them: forms, exit codes, clean ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;

use crate::support::cluster::{Cluster, PATIENCE, read_all, rounds, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

fn shell(cluster: &Cluster, arguments: &[&str], input: Option<&str>) -> (String, String, i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_raft-shell"))
        .arg("-c")
        .arg(cluster.ini())
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("raft-shell starts");
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).expect("the shell reads its input");
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("raft-shell ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(stdout), text(stderr), status.code().expect("an exit code"))
}

#[test]
fn the_forms_that_scripts_rely_on() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let run = |command: &str| shell(&cluster, &["-e", command], None);

    assert_eq!(run("get a"), ("(nil)\n".into(), String::new(), 0));
    assert_eq!(run("set a 1"), ("OK\n".into(), String::new(), 0));
    assert_eq!(run("get a"), ("1\n".into(), String::new(), 0));
    assert_eq!(run("cas a 1 2"), ("OK\n".into(), String::new(), 0));
    let (out, err, code) = run("cas a 1 3");
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(err.starts_with("error: "), "{err}");
    let (out, err, code) = run("cas missing 1 3");
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert_eq!(run("leader"), (format!("{leader}\n"), String::new(), 0));
    assert_eq!(run("del a").2, 0);
    assert_eq!(run("get a"), ("(nil)\n".into(), String::new(), 0));
    assert_eq!(run("set 'two words' \"and three more\"").2, 0);
    assert_eq!(run("get 'two words'").0, "and three more\n");
    assert_eq!(run("frobnicate").2, 2);
    assert_eq!(run("get").2, 2);
    assert_eq!(shell(&cluster, &["--no-such-flag"], None).2, 2);

    let (out, _, code) = shell(&cluster, &["-e", "set x 1", "-e", "get x"], None);
    assert_eq!((out.as_str(), code), ("OK\n1\n", 0));
    let (out, _, code) = shell(&cluster, &[], Some("set y 2\n\n# a comment\nget y\n"));
    assert_eq!((out.as_str(), code), ("OK\n2\n", 0));

    let (out, _, code) = run("status");
    assert_eq!(code, 0);
    assert!(out.contains("leader") && out.contains("follower"), "{out}");
    let follower = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
    assert_eq!(run(&format!("send {follower} get x")).2, 1, "a follower alone does not answer");
    assert_eq!(run(&format!("send {leader} get x")).0, "1\n");
    assert!(run(&format!("log {follower} 1")).0.contains("set x"));
    assert_eq!(run(&format!("state {follower}")).2, 0);
    assert_eq!(run("debug all").2, 0);
    wait_until("the node dumps its state", || cluster.log(follower).contains("commit").then_some(()));
    assert_eq!(run(&format!("transfer {follower}")).2, 0);
    assert_eq!(cluster.wait_for_leader(), follower);
}

#[test]
fn the_forms_of_topics_and_messages() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let run = |command: &str| shell(&cluster, &["-e", command], None);
    let json = |command: &str| -> serde_json::Value {
        serde_json::from_str(&shell(&cluster, &["--json", "-e", command], None).0).expect("JSON")
    };
    assert_eq!(run("topic create jobs deliveries 1"), ("OK\n".into(), String::new(), 0));
    assert_eq!(run("topic create jobs").2, 1);
    assert_eq!(run("put jobs one").0, "1\n");
    assert_eq!(run("put jobs 'two words'").0, "2\n");
    assert_eq!(run("put jobs three").0, "3\n");
    assert_eq!(run("take jobs").0, "one\n");
    let received = json("receive jobs 1 60000");
    let lease = received["messages"][0]["lease"].as_u64().expect("a lease");
    assert_eq!(received["messages"][0]["message"], "two words");
    assert_eq!(run("length jobs").0, "2\n");
    assert_eq!(run(&format!("extend jobs 2 {lease} 70000")).0, "OK\n");
    assert_eq!(run(&format!("nack jobs 2 {lease}")).0, "OK\n");
    assert_eq!(json(&format!("ack jobs 2 {lease}"))["error"], "stale");
    assert_eq!(run("topic list").0, "jobs\njobs.dead\n", "after its one delivery");
    assert_eq!(json("topic info jobs.dead")["messages"], 1);
    assert_eq!(run("topic purge jobs").0, "1\n");
    assert_eq!(run("topic delete jobs").0, "OK\n");
    assert_eq!(json("take jobs")["error"], "no_topic");
}

#[test]
fn ctrl_c_ends_a_watch_and_not_the_cluster() {
    let cluster = Cluster::prepare(3, "ElectionTimeout = 500\n");
    let mut child = start_cluster_command(&cluster, &[], Stdio::piped());
    let errors = errors_of(&mut child);
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"topic create jobs\nput jobs 'a b'\nwatch jobs\ntake jobs\n").expect("it reads its input");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("1  \"a b\"")), "the message is shown");
    kill_process(Pid::from_raw(child.id() as i32).expect("a process id"), Signal::INT).expect("a signal");
    assert!(lines.any(|line| line == "a b"), "and still there for the next command");
    drop(stdin);
    lines.for_each(drop);
    let status = child.wait().expect("raft cluster ends");
    assert!(status.success(), "{status}: {}", errors());
}

#[test]
fn what_is_pasted_or_typed_ahead_is_run_line_by_line() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("its other end");
    let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("UTF-8");
    let end = || File::options().read(true).write(true).open(&name).expect("a terminal");
    let mut child = Command::new(env!("CARGO_BIN_EXE_raft-shell"))
        .arg("-c")
        .arg(cluster.ini())
        .env("TERM", "xterm")
        .env("XDG_STATE_HOME", cluster.ini().parent().expect("a folder"))
        .stdin(end())
        .stdout(end())
        .stderr(Stdio::null())
        .spawn()
        .expect("raft-shell starts");
    let mut terminal = File::from(terminal);
    let mut screen = Vec::new();
    while !screen.ends_with(b"raft> ") && !screen.ends_with(b"raft> \x1b[6C") {
        let mut byte = [0];
        terminal.read_exact(&mut byte).expect("a prompt");
        screen.push(byte[0]);
    }
    terminal
        .write_all(b"set typed 1\rset ahead 2\r\x1b[200~set pasted 3\nset lines 4\x1b[201~\r")
        .expect("it is typed");
    let stored = ["typed", "ahead", "pasted", "lines"].map(|key| format!("get {key}"));
    let arguments: Vec<&str> = stored.iter().flat_map(|get| ["-e", get]).collect();
    wait_until("all four are set", || (shell(&cluster, &arguments, None).0 == "1\n2\n3\n4\n").then_some(()));
    terminal.write_all(b"quit\r").expect("it is typed");
    let status = wait_until("the shell ends", || child.try_wait().expect("the process can be waited for"));
    assert!(status.success(), "{status}");
}

#[test]
fn json_is_one_object_a_command() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let run = |cluster: &Cluster, command: &str| -> (serde_json::Value, i32) {
        let (out, err, code) = shell(cluster, &["--json", "-e", command], None);
        assert_eq!(out.lines().count(), 1, "{out}{err}");
        (serde_json::from_str(&out).expect("JSON"), code)
    };
    assert_eq!(run(&cluster, "set a 1").0["ok"], true);
    let (got, code) = run(&cluster, "get a");
    assert_eq!((got["key"].as_str(), got["value"].as_str(), code), (Some("a"), Some("1"), 0));
    assert!(got["revision"].as_u64() > Some(0), "{got}");
    let (got, code) = run(&cluster, "cas a x y");
    assert_eq!((got["ok"].as_bool(), got["definite"].as_bool(), code), (Some(false), Some(true), 1));
    assert!(got["error"].is_string() && got["message"].is_string(), "{got}");
    let (got, _) = run(&cluster, "leader");
    assert_eq!(
        (got["id"].as_u64(), got["label"].as_str()),
        (Some(leader), Some(&*crate::support::cluster::label(leader)))
    );
    assert!(got["term"].as_u64() > Some(0));

    let mut node = cluster.redis(leader);
    redis::cmd("SET").arg("binary").arg(&[0xffu8, 0x00, 0x01][..]).exec(&mut node).expect("any bytes are a value");
    assert_eq!(run(&cluster, "get binary").0["value_base64"], "/wAB");

    let victim = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
    cluster.kill(victim);
    let (got, code) = run(&cluster, "status");
    assert_eq!(code, 0);
    for node in got["nodes"].as_array().expect("a list of nodes") {
        let id = node["id"].as_u64().expect("an id");
        assert_eq!(node["reachable"], id != victim, "{node}");
        for field in ["label", "role", "term", "leader", "last", "commit", "applied", "lag"] {
            assert!(node.get(field).is_some(), "{field} of {node}");
        }
        assert_eq!(node["role"].is_null(), id == victim);
    }
}

#[test]
fn without_a_majority_commands_fail_with_exit_code_1() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    for id in cluster.ids().into_iter().filter(|&id| id != leader) {
        cluster.kill(id);
    }
    let (out, err, code) = shell(&cluster, &["--timeout", "2", "-e", "set a 1"], None);
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(err.starts_with("error: "), "{err}");
    cluster.kill(leader);
    let (_, err, code) = shell(&cluster, &["--timeout", "1", "-e", "leader"], None);
    assert_eq!(code, 1, "{err}");
}

fn start_cluster_command(cluster: &Cluster, arguments: &[&str], stdin: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_raft"))
        .arg("cluster")
        .arg("-c")
        .arg(cluster.ini())
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("raft cluster starts")
}

/// Reads what a process says on standard error, so that it never waits; all of it, once it has ended.
fn errors_of(child: &mut Child) -> impl FnOnce() -> String + use<> {
    let errors = child.stderr.take().expect("a pipe");
    let reading = std::thread::spawn(move || read_all(errors));
    move || reading.join().expect("stderr is read")
}

/// The lines that a process prints, wherever it does. There are no more once it has ended.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let errors = child.stderr.take().expect("a pipe");
    let out = child.stdout.take().expect("a pipe");
    let (lines, received) = std::sync::mpsc::channel();
    for pipe in [Box::new(errors) as Box<dyn Read + Send>, Box::new(out)] {
        let lines = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
    }
    received
}

/// The processes whose parent is `pid`.
fn children_of(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[test]
fn the_cluster_command_runs_commands_from_a_pipe_and_stops_at_its_end() {
    let cluster = Cluster::prepare(5, "ElectionTimeout = 500\n");
    let mut child = start_cluster_command(&cluster, &[], Stdio::piped());
    let errors = errors_of(&mut child);
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"set a 1\nget a\nstatus\n").expect("the cluster reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("raft cluster ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), errors());
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("OK\n1\n"), "{out}\n{err}");
    let everything = format!("{out}{err}");
    assert!(everything.contains("leader"), "{everything}");
}

#[test]
pub fn the_cluster_command_stops_its_children_on_sigterm_and_even_when_killed() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let cluster = Cluster::prepare(3, "ElectionTimeout = 500\n");
        // Where nobody can type there is no shell anyway.
        let arguments: &[&str] = if signal == Signal::INT { &[] } else { &["--no-shell"] };
        let mut child = start_cluster_command(&cluster, arguments, Stdio::null());
        let received = lines_of(&mut child);
        let announced = received.iter().find(|line| line.contains("leader"));
        assert!(announced.is_some(), "a line when a leader is elected");
        let nodes = children_of(child.id());
        assert_eq!(nodes.len(), 3, "a process for each node");
        kill_process(Pid::from_raw(child.id() as i32).expect("a process id"), signal).expect("the signal is delivered");
        let status = wait_until("raft cluster ends", || child.try_wait().expect("it can be waited for"));
        if signal != Signal::KILL {
            assert!(status.success() || status.code() == Some(130), "{status}");
        }
        wait_until("no child is left", || (!nodes.iter().any(|&pid| is_alive(pid))).then_some(()));
    }
}

#[test]
pub fn five_nodes_that_are_interrupted_at_once_do_not_wait_for_each_other() {
    let cluster = Cluster::prepare(5, "ElectionTimeout = 500\nHeartbeatInterval = 50\n");
    let mut handed_over = 0;
    for _ in 0..rounds(3, 20) {
        let mut child = start_cluster_command(&cluster, &["--no-shell"], Stdio::null());
        let lines = lines_of(&mut child);
        let knows_leader = |line: &String| line.contains(" is leader of term ") || line.contains(" follows node ");
        let mut said: Vec<String> = Vec::new();
        while said.iter().filter(|line| knows_leader(line)).count() < 5 {
            let line = lines.recv_timeout(PATIENCE);
            said.push(line.unwrap_or_else(|error| panic!("not all know a leader, {error}: {said:#?}")));
        }
        kill_process(Pid::from_raw(child.id() as i32).expect("a process id"), Signal::INT)
            .expect("the signal is delivered");
        let status = wait_until("raft cluster ends", || child.try_wait().expect("it can be waited for"));
        said.extend(lines);
        assert_eq!(status.code(), Some(0), "{said:#?}");
        let says = |what: &str| said.iter().any(|line| line.contains(what));
        handed_over += usize::from(says("hands leadership over before it stops"));
        for too_long in ["stops without waiting any longer", "did not stop within", "has stopped with an error"] {
            assert!(!says(too_long), "{said:#?}");
        }
    }
    assert!(handed_over > 0, "a leader was among them");
}

#[test]
fn a_benchmark_of_the_cluster_goes_to_its_leader() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let svg = cluster.ini().with_file_name("plot.svg");
    let svg = svg.to_str().expect("UTF-8");
    for options in [&["--keys", "100"][..], &["--queue"]] {
        let arguments = [&["bench", "--json", "--seconds", "1", "--clients", "16", "--svg", svg], options].concat();
        let (out, err, code) = shell(&cluster, &arguments, None);
        assert_eq!(code, 0, "{out}{err}");
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let number = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64).expect("a number");
        assert!(number("/put/answered") > 0 && number("/get/answered") > 0, "{json}");
        assert_eq!(number("/requests"), number("/put/answered") + number("/get/answered"), "{json}");
        if options == ["--queue"] {
            assert!(number("/get/nil") < number("/get/answered"), "messages come out again: {json}");
        } else {
            assert_eq!(number("/get/nil"), 0, "all keys are there: {json}");
        }
    }
    assert_eq!(cluster.stored().len(), 100);
}
