//! The `raft-shell` binary as scripts use it: flags, streams, exit codes.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::fake_node::{FakeNode, array, bulk, leader, line};

/// A folder with the raft.ini of these nodes.
fn folder(nodes: &[&FakeNode]) -> TempDir {
    let mut ini = format!("[Cluster]\nNodeCount = {}\n[Nodes]\n", nodes.len());
    for node in nodes {
        let _ = writeln!(ini, "Node{} = {}", node.id, node.address().label);
    }
    for (node, unused_port) in nodes.iter().zip(1..) {
        let address = node.address();
        let _ = writeln!(
            ini,
            "[Node.{0}]\nLabel = {0}\nId = {1}\nHost = {2}\nPort = {unused_port}\nClientPort = {3}",
            address.label, address.id, address.host, address.client_port
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("raft.ini"), ini).unwrap();
    folder
}

fn shell(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut shell = Command::new(env!("CARGO_BIN_EXE_raft-shell"));
    shell.current_dir(folder).args(arguments).stdin(Stdio::null());
    shell
}

fn run(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = shell(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn node() -> FakeNode {
    FakeNode::start(2, |request| match request {
        "RAFT LEADER" => leader(2, 7),
        "SET a 1" | "SET hello world it's" => line("+OK"),
        "RAFT GET a" => array([bulk(b"1"), line(":12")]),
        "RAFT CAS a 5 6" => line("-DIFFERENT a has another value"),
        _ => line("-UNKNOWN outcome unknown: leadership was lost"),
    })
}

#[test]
fn commands_come_from_flags() {
    let node = node();
    let folder = folder(&[&node]);
    assert_eq!(
        run(&folder, &["-e", "set a 1", "-e", "get a", "-e", "leader"]),
        (Some(0), "OK\n1\n2\n".into(), "".into())
    );
    assert_eq!(
        run(&folder, &["-c", "raft.ini", "--json", "-e", "get a"]),
        (Some(0), "{\"ok\":true,\"key\":\"a\",\"value\":\"1\",\"revision\":12}\n".into(), "".into())
    );
}

#[test]
fn errors_decide_the_exit_code() {
    let node = node();
    let folder = folder(&[&node]);
    let (cas, lost) = ("error: a has another value\n", "error: outcome unknown: leadership was lost\n");
    assert_eq!(run(&folder, &["-e", "cas a 5 6", "-e", "get a"]), (Some(1), "1\n".into(), cas.into()));
    let brief = ["--timeout", "0.3", "-e", "del a"];
    assert_eq!(run(&folder, &brief), (Some(1), "".into(), lost.into()));
    let (code, out, err) = run(&folder, &["-e", "del", "-e", "cas a 5 6"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(err, format!("error: wrong arguments: the form is `del KEY`\n{cas}"));
    let json =
        r#"{"ok":false,"error":"unknown_outcome","definite":false,"message":"outcome unknown: leadership was lost"}"#;
    assert_eq!(run(&folder, &["--json", "--timeout", "0.3", "-e", "del a"]), (Some(1), format!("{json}\n"), "".into()));
}

#[test]
fn commands_come_through_a_pipe_and_are_answered_one_by_one() {
    let node = node();
    let folder = folder(&[&node]);
    let mut child = shell(&folder, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut commands = child.stdin.take().unwrap();
    for (command, answer) in [("# nothing\nset a 1", "OK"), ("set hello \"world it's\"", "OK"), ("get a", "1")] {
        writeln!(commands, "{command}").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), answer);
    }
    drop(commands);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_leaves_is_no_reason_for_words() {
    let node = node();
    let folder = folder(&[&node]);
    let mut child =
        shell(&folder, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    // The shell may be gone before all of it is written.
    let _ = child.stdin.take().unwrap().write_all("get a\n".repeat(1000).as_bytes());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]));
}

#[test]
fn without_a_cluster_it_says_so_in_time() {
    let mut node = node();
    node.stop();
    let (code, out, err) = run(&folder(&[&node]), &["--timeout", "0.2", "-e", "leader"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.starts_with(&format!(
            "error: no node answers, is the cluster running? {} cannot be reached: ",
            node.address()
        )),
        "{err}"
    );
}

#[test]
fn ctrl_c_ends_a_watch_cleanly() {
    let node = FakeNode::start(2, |request| match request {
        "RAFT LEADER" => leader(2, 7),
        "RAFT PEEK jobs AFTER 0 MAX 100" => {
            array([line(":1"), array([array([line(":4"), bulk(b"a b")]), array([line(":5"), bulk(b"c")])])])
        }
        _ => array([line(":1"), array([])]),
    });
    let folder = folder(&[&node]);
    let mut child = shell(&folder, &["-e", "watch jobs", "-e", "leader"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), ["4  \"a b\"", "5  c"]);
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(lines.collect::<Vec<_>>(), ["2"], "the next command runs");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Without a watch it ends the shell, as ever.
    let mut child = shell(&folder, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Held open: at its end the shell would leave by itself.
    let mut commands = child.stdin.take().unwrap();
    commands.write_all(b"leader\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "2");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(2));
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let folder = folder(&[&node()]);
    for arguments in [&["--timeout", "0"][..], &["--timeout", "soon"], &["--nonsense"], &["get a"], &["-e"]] {
        let (code, out, err) = run(&folder, arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.starts_with("error: "), "{err}");
    }
    let (code, _, err) = run(&folder, &["-c", "none.ini", "-e", "leader"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("none.ini"), "{err}");
}

#[test]
fn help_teaches() {
    let folder = folder(&[&node()]);
    let (code, help, _) = run(&folder, &["--help"]);
    assert_eq!(code, Some(0));
    for needed in ["cas KEY FROM TO", "Exit code:", "--timeout", "unknown_outcome", "printf"] {
        assert!(help.contains(needed), "{needed}");
    }
    let version = format!("raft-shell {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&folder, &["--version"]), (Some(0), version, "".into()));
}
