//! What the shell prints, as text and as JSON, and its exit codes.

use std::time::Duration;

use raft::client::Client;
use raft::shell::{self, Console};

use crate::fake_node::{Act, FakeNode, array, bulk, leader, line};

/// Never reached where things work.
const LONG: Duration = Duration::from_secs(20);
/// Waited for where they do not.
const SHORT: Duration = Duration::from_secs(2);

/// What came of a script.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: u8,
    pub out: String,
    pub err: String,
}

pub fn run(nodes: &[&FakeNode], script: impl AsRef<[u8]>, json: bool, terminal: bool) -> Outcome {
    run_within(LONG, nodes, script, json, terminal)
}

fn run_within(timeout: Duration, nodes: &[&FakeNode], script: impl AsRef<[u8]>, json: bool, terminal: bool) -> Outcome {
    let mut client = Client::new(nodes.iter().map(|node| node.address()), timeout);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console { out: &mut out, err: &mut err, terminal, json };
    let code = shell::run_script(&mut client, script.as_ref(), &mut console).unwrap();
    let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string().replace("\\n", "\n").replace("\\\"", "\"");
    Outcome { code, out: text(out), err: text(err) }
}

/// The output of a script that succeeds.
pub fn out(nodes: &[&FakeNode], script: &str, json: bool) -> String {
    let outcome = run(nodes, script, json, false);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{outcome:?}");
    outcome.out
}

/// A leader with a few keys.
fn node() -> FakeNode {
    FakeNode::start(2, |request| {
        match request {
        "RAFT LEADER" => leader(2, 7),
        "SET a 1" | "RAFT CAS a 1 2" | "RAFT DEBUG" | "RAFT TRANSFER 2" | "RAFT ONLY SET a 1" => line("+OK"),
        "RAFT CAS a 5 6" => line("-DIFFERENT the value of a is another one"),
        "RAFT CAS none 5 6" => line("-MISSING there is no key none"),
        "SET lost 1" => line("-UNKNOWN outcome unknown: leadership was lost"),
        "SET bad 1" => line("-ERR too large"),
        "RAFT GET a" | "RAFT ONLY RAFT GET a" => array([bulk(b"hello world"), line(":12")]),
        "RAFT GET none" => line("$-1"),
        "RAFT GET binary" => array([bulk(b"\xff\x00\x1b"), line(":13")]),
        "RAFT GET lines" => array([bulk(b"1\n2"), line(":14")]),
        "DEL a" => line(":1"),
        "RAFT LIST " => array([array([bulk(b"a"), bulk(b"hello world"), line(":12")]), array([bulk(b"b"), bulk(b"\xff"), line(":13")])]),
        "RAFT LIST  b" => array([array([bulk(b"\xfe"), bulk(b""), line(":14")])]),
        "RAFT LIST  \u{fffd}" | "RAFT LIST x" => array([]),
        "RAFT LIST loop" | "RAFT LIST loop loop" => array([array([bulk(b"loop"), bulk(b""), line(":1")])]),
        "RAFT STATUS" => bulk(
            br#"{"id":2,"label":"B","role":"Leader","term":7,"leader":2,"last":130,"commit":128,"applied":120,"peers":[]}"#,
        ),
        "RAFT LOG" | "RAFT LOG 12" => bulk(
            br#"[{"index":12,"term":7,"time_ms":1500,"kind":"command","text":"set a","committed":true},
                 {"index":13,"term":7,"time_ms":1502,"kind":"noop","text":"","committed":false}]"#,
        ),
        "RAFT STATE" => bulk(br#"{"keys":2,"digest":"af"}"#),
        other => line(&format!("-ERR unexpected {other}")),
    }
    })
}

#[test]
fn text_is_what_scripts_rely_on() {
    let node = node();
    for (command, expected) in [
        ("set a 1", "OK\n"),
        ("get a", "hello world\n"),
        ("get none", "(nil)\n"),
        ("cas a 1 2", "OK\n"),
        ("del a", "1\n"),
        ("list", "a = \"hello world\"\nb = \"\\\\xff\"\n\"\\\\xfe\" = \"\"\n"),
        ("list x", ""),
        ("leader", "2\n"),
        ("transfer B", "OK\n"),
        ("state 2", "{\n  \"digest\": \"af\",\n  \"keys\": 2\n}\n"),
        ("debug B", "OK\n"),
        ("debug all", "OK\n"),
        ("send B get a", "hello world\n"),
        ("send 2 set a 1", "OK\n"),
        ("help quit", "quit: leave (also: exit, Ctrl-D)\n"),
    ] {
        assert_eq!(out(&[&node], command, false), expected, "{command}");
    }
}

#[test]
fn json_is_one_line_for_each_command() {
    let node = node();
    for (command, expected) in [
        ("set a 1", r#"{"ok":true}"#),
        ("get a", r#"{"ok":true,"key":"a","value":"hello world","revision":12}"#),
        ("get none", r#"{"ok":true,"key":"none","value":null,"revision":null}"#),
        ("get binary", r#"{"ok":true,"key":"binary","value_base64":"/wAb","revision":13}"#),
        ("cas a 1 2", r#"{"ok":true}"#),
        ("del a", r#"{"ok":true,"deleted":1}"#),
        (
            "list",
            concat!(
                r#"{"ok":true,"items":[{"key":"a","value":"hello world","revision":12},"#,
                r#"{"key":"b","value_base64":"/w==","revision":13},{"key_base64":"/g==","value":"","revision":14}]}"#
            ),
        ),
        ("list x", r#"{"ok":true,"items":[]}"#),
        ("leader", r#"{"ok":true,"id":2,"label":"B","term":7}"#),
        ("transfer 2", r#"{"ok":true}"#),
        (
            "log 2 12",
            concat!(
                r#"{"ok":true,"id":2,"label":"B","entries":["#,
                r#"{"index":12,"term":7,"time_ms":1500,"kind":"command","text":"set a","committed":true},"#,
                r#"{"index":13,"term":7,"time_ms":1502,"kind":"noop","text":"","committed":false}]}"#
            ),
        ),
        ("state B", r#"{"ok":true,"id":2,"label":"B","state":{"digest":"af","keys":2}}"#),
        ("debug all", r#"{"ok":true}"#),
        ("send B get a", r#"{"ok":true,"key":"a","value":"hello world","revision":12}"#),
        ("help quit", r#"{"ok":true,"help":"quit: leave (also: exit, Ctrl-D)"}"#),
    ] {
        assert_eq!(out(&[&node], command, true), format!("{expected}\n"), "{command}");
    }
}

#[test]
fn errors_go_to_standard_error_or_into_json() {
    let node = node();
    for (command, code, message, json) in [
        (
            "cas a 5 6",
            1,
            "the value of a is another one",
            r#"{"ok":false,"error":"different","definite":true,"message":"the value of a is another one"}"#,
        ),
        (
            "cas none 5 6",
            1,
            "there is no key none",
            r#"{"ok":false,"error":"missing","definite":true,"message":"there is no key none"}"#,
        ),
        (
            "set lost 1",
            1,
            "outcome unknown: leadership was lost",
            r#"{"ok":false,"error":"unknown_outcome","definite":false,"message":"outcome unknown: leadership was lost"}"#,
        ),
        ("set bad 1", 1, "too large", r#"{"ok":false,"error":"refused","definite":true,"message":"too large"}"#),
        (
            "get",
            2,
            "wrong arguments: the form is `get KEY`",
            r#"{"ok":false,"error":"usage","definite":true,"message":"wrong arguments: the form is `get KEY`"}"#,
        ),
        (
            "log C",
            2,
            "no node C: raft.ini has 2 (B)",
            r#"{"ok":false,"error":"usage","definite":true,"message":"no node C: raft.ini has 2 (B)"}"#,
        ),
    ] {
        // What stays unknown is tried again until the time is up.
        let timeout = if command == "set lost 1" { SHORT } else { LONG };
        let text = Outcome { code, out: String::new(), err: format!("error: line 1: {message}\n") };
        assert_eq!(run_within(timeout, &[&node], command, false, false), text, "{command}");
        let json = Outcome { code, out: format!("{json}\n"), err: String::new() };
        assert_eq!(run_within(timeout, &[&node], command, true, false), json, "{command}");
    }
    let keys_out_of_order = run(&[&node], "list loop", true, false);
    assert!(keys_out_of_order.out.contains(r#""error":"protocol""#), "{keys_out_of_order:?}");
}

#[test]
fn a_script_runs_to_its_end_and_the_worst_exit_code_wins() {
    let node = node();
    let script = "# a comment\n\nset a 1\ncas a 5 6\nget a b\n  # another\nget a\r\nquit\nset bad 1\n";
    assert_eq!(
        run(&[&node], script, false, false),
        Outcome {
            code: 2,
            out: "OK\nhello world\n".into(),
            err:
                "error: line 4: the value of a is another one\nerror: line 5: wrong arguments: the form is `get KEY`\n"
                    .into(),
        }
    );
    assert_eq!(run(&[&node], "cas a 5 6\nset a 1", false, false).code, 1);
    assert_eq!(run(&[&node], "", true, false), Outcome { code: 0, out: String::new(), err: String::new() });
}

#[test]
fn bytes_go_through_a_pipe_and_never_to_a_terminal() {
    let node = node();
    assert_eq!(run(&[&node], "get binary", false, false).out, "\\xff\\x00\\x1b\n");
    assert_eq!(run(&[&node], "get binary", false, true).out, "\"\\\\xff\\\\x00\\\\x1b\"\n");
    assert_eq!(run(&[&node], "get lines", false, true).out, "1\n2\n");
    run(&[&node], b"set a '\xff\xfe'", false, false);
    assert_eq!(node.asked().last().map(String::as_str), Some("SET a \u{fffd}\u{fffd}"));
}

#[test]
fn the_status_shows_every_node() {
    let b = node();
    let c = FakeNode::start(3, |_| {
        bulk(
            br#"{"id":3,"label":"C","role":"PreCandidate","term":6,"leader":null,"last":90,"commit":90,"applied":90,"peers":[]}"#,
        )
    });
    let mut d = FakeNode::start(4, |_| Act::Hang);
    d.stop();
    assert_eq!(
        out(&[&b, &c, &d], "status", false),
        "ID  LABEL  ROLE           TERM  LEADER  LAST  COMMIT  APPLIED  LAG\n\
         2   B      leader         7     2       130   128     120      8\n\
         3   C      pre-candidate  6     -       90    90      90       38\n\
         4   D      unreachable    -     -       -     -       -        -\n"
    );
    assert_eq!(
        out(&[&b, &c, &d], "status", true),
        concat!(
            r#"{"ok":true,"nodes":["#,
            r#"{"id":2,"label":"B","reachable":true,"role":"leader","term":7,"leader":2,"last":130,"commit":128,"applied":120,"lag":8},"#,
            r#"{"id":3,"label":"C","reachable":true,"role":"pre-candidate","term":6,"leader":null,"last":90,"commit":90,"applied":90,"lag":38},"#,
            r#"{"id":4,"label":"D","reachable":false,"role":null,"term":null,"leader":null,"last":null,"commit":null,"applied":null,"lag":null}"#,
            "]}\n"
        )
    );
}

#[test]
fn a_log_is_a_table() {
    assert_eq!(
        out(&[&node()], "log B", false),
        "INDEX  TERM  TIME_MS  KIND     COMMITTED  TEXT\n\
         12     7     1500     command  yes        set a\n\
         13     7     1502     noop     no\n"
    );
}

#[test]
fn without_a_leader_there_is_an_error() {
    let node = FakeNode::start(1, |_| line("-NOTREADY no leader"));
    let outcome = run_within(SHORT, &[&node], "leader\nset a 1", true, false);
    let expected = format!(
        r#"{{"ok":false,"error":"not_ready","definite":true,"message":"no leader: {} is not ready: no leader"}}"#,
        node.address()
    );
    assert_eq!(outcome, Outcome { code: 1, out: format!("{expected}\n{expected}\n"), err: String::new() });
}

#[test]
fn a_debug_of_all_names_the_nodes_that_did_not() {
    let b = node();
    let mut c = FakeNode::start(3, |_| Act::Hang);
    c.stop();
    let outcome = run(&[&b, &c], "debug all", false, false);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.starts_with(&format!("error: line 1: 1 of 2 nodes: {} cannot be reached", c.address())));
}

#[test]
fn help_knows_every_command() {
    let node = node();
    let overview = out(&[&node], "help", false);
    for usage in shell::COMMANDS {
        assert!(overview.contains(&usage.form()), "{}", usage.name);
        assert!(out(&[&node], &format!("help {}", usage.name), false).starts_with(&usage.form()));
    }
    assert_eq!(node.asked(), [""; 0]);
}
