//! Nodes over standard input and output: real processes behind a router, and the router itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::maelstrom::{Client, Router};
use serde_json::{Value, json};

/// As long as a Maelstrom client waits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a cluster may take to have a leader again.
const RECOVERY: Duration = Duration::from_secs(20);

fn cluster(count: usize) -> Router {
    Router::with_processes(count, env!("CARGO_BIN_EXE_raft"), &["-t", "stdio"])
}

fn write(key: &str, value: impl Into<Value>) -> Value {
    json!({"type": "write", "key": key, "value": value.into()})
}

fn read(key: &str) -> Value {
    json!({"type": "read", "key": key})
}

/// Asks until the answer is not that there is no leader, or none at all. Only for what may be done twice.
fn ask(client: &mut Client, node: &str, body: Value) -> Value {
    let deadline = Instant::now() + RECOVERY;
    loop {
        match client.request(node, body.clone(), TIMEOUT) {
            Ok(answer) if ![0, 11, 13].map(Value::from).contains(&answer["code"]) => return answer,
            answer => assert!(Instant::now() < deadline, "{node} still answers {answer:?}"),
        }
    }
}

/// Ends every node's input, and checks that all stop cleanly and have written nothing but messages.
fn stop(router: &Router) {
    for name in router.names() {
        router.close_input(&name);
    }
    for name in router.names() {
        assert!(router.wait_for_exit(&name).is_some_and(|status| status.success()), "{name} stops cleanly");
    }
    assert_eq!(router.violations(), Vec::<String>::new());
}

#[test]
pub fn every_node_serves_reads_writes_and_compare_and_set() {
    let router = cluster(3);
    let mut client = router.client();
    for (number, writer) in router.names().iter().enumerate() {
        assert_eq!(ask(&mut client, writer, write("k", number))["type"], "write_ok");
        for reader in router.names() {
            assert_eq!(ask(&mut client, &reader, read("k"))["value"], json!(number), "{writer}, {reader}");
        }
        let cas = json!({"type": "cas", "key": "k", "from": number, "to": "swapped"});
        assert_eq!(client.request(writer, cas.clone(), TIMEOUT).unwrap()["type"], "cas_ok");
        assert_eq!(client.request(writer, cas, TIMEOUT).unwrap()["code"], 22);
        assert_eq!(client.request(writer, read("missing"), TIMEOUT).unwrap()["code"], 20);
    }
    stop(&router);
}

#[test]
fn one_to_nine_nodes() {
    for count in [1, 2, 4, 7, 9] {
        let router = cluster(count);
        let mut client = router.client();
        let last = format!("n{count}");
        assert_eq!(ask(&mut client, "n1", write("k", 1))["type"], "write_ok");
        assert_eq!(ask(&mut client, &last, read("k"))["value"], json!(1));
        stop(&router);
    }
}

#[test]
fn requests_of_one_client_keep_their_order() {
    let router = cluster(3);
    let mut client = router.client();
    ask(&mut client, "n1", write("k", 0));
    for node in router.names() {
        for value in 1..=200 {
            client.send(&node, write("k", value));
        }
        let last = client.send(&node, read("k"));
        for _ in 0..=200 {
            let answer = client.answer(TIMEOUT).expect("an answer");
            assert_ne!(answer["type"], "error", "{node}: {answer}");
            assert!(answer["in_reply_to"] != json!(last) || answer["value"] == json!(200), "{node}: {answer}");
        }
    }
    stop(&router);
}

/// What nodes say to each other for the sake of requests: not what they would say anyway, which is heartbeats, one of which
/// tells nothing new, and the measuring of latency.
fn messages_between_nodes(router: &Router) -> Vec<Value> {
    let names = router.names();
    let between = |end: &Value| names.iter().any(|name| end == name);
    let mut told: BTreeMap<(String, String), Value> = BTreeMap::new();
    let mut idle: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut messages = Vec::new();
    for line in router.record() {
        let (src, dest, body) = (&line["src"], &line["dest"], &line["body"]);
        if !between(src) || !between(dest) || ["ask_term", "tell_term"].iter().any(|kind| body["type"] == *kind) {
            continue;
        }
        let (there, back) = ((src.to_string(), dest.to_string()), (dest.to_string(), src.to_string()));
        let news = json!([body["term"], body["round"]]);
        match body["type"].as_str().expect("a type") {
            "append_entries" if body["entries"] == json!([]) && told.get(&there) == Some(&news) => {
                *idle.entry(there).or_default() += 1;
                continue;
            }
            "append_entries" => drop(told.insert(there, news)),
            // Whichever it answers: there is one for each.
            "append_entries_res" => {
                if let Some(unanswered) = idle.get_mut(&back).filter(|unanswered| **unanswered > 0) {
                    *unanswered -= 1;
                    continue;
                }
            }
            _ => {}
        }
        messages.push(line);
    }
    messages
}

#[test]
fn at_rest_a_request_costs_one_round_trip_to_each_and_under_load_less() {
    const NODES: usize = 5;
    let router = cluster(NODES);
    let mut client = router.client();
    for node in router.names() {
        ask(&mut client, &node, write(&node, 0));
    }
    let is_append = |line: &&Value| line["body"]["type"] == "append_entries";
    let leader = router.record().iter().rev().find(is_append).expect("somebody leads")["src"].clone();
    let follower = router.names().into_iter().find(|name| leader != *name).expect("another one");
    let leader = leader.as_str().expect("a name").to_owned();
    let round_trip = 2 * (NODES - 1);
    for (node, forwarded) in [(leader, 0), (follower, 2)] {
        for make in [|number| write("k", number), |_| read("k")] {
            // A heartbeat that is under way is not counted twice.
            let before = messages_between_nodes(&router).len();
            let count = 50;
            for number in 0..count {
                let answer = client.request(&node, make(number), TIMEOUT).expect("an answer");
                assert_ne!(answer["type"], "error", "{answer}");
            }
            let messages = messages_between_nodes(&router).split_off(before);
            let allowed = count * (round_trip + round_trip / 5 + forwarded);
            assert!(messages.len() <= allowed, "{} messages, {allowed} allowed: {messages:#?}", messages.len());
            assert!(messages.len() >= count * (NODES - 1 + forwarded) / 2, "they were counted: {}", messages.len());
        }
        // Requests that wait together go together.
        let before = messages_between_nodes(&router).len();
        let clients: Vec<_> = (0..200).map(|_| router.client()).collect();
        clients
            .into_iter()
            .map(|mut client| {
                client.send(&node, write("k", 1));
                client
            })
            .collect::<Vec<_>>()
            .iter()
            .for_each(|client| assert_eq!(client.answer(TIMEOUT).expect("an answer")["type"], "write_ok"));
        let messages = messages_between_nodes(&router).len() - before;
        assert!(messages < 200 * (round_trip + forwarded) / 2, "{messages} messages for 200 requests under load");
    }
    stop(&router);
}

#[test]
fn a_minority_acknowledges_nothing_and_a_majority_goes_on() {
    let router = cluster(5);
    let mut client = router.client();
    ask(&mut client, "n1", write("k", "before"));

    router.partition(&[&["n1", "n2"], &["n3", "n4", "n5"]]);
    assert_eq!(ask(&mut client, "n3", write("k", "majority"))["type"], "write_ok");
    for (node, body) in [("n1", write("k", "minority")), ("n2", write("k", "minority")), ("n1", read("k"))] {
        if let Ok(answer) = client.request(node, body, TIMEOUT) {
            assert_eq!(answer["type"], "error", "{node} is in the minority");
        }
    }
    assert_eq!(ask(&mut client, "n4", read("k"))["value"], "majority");
    assert_eq!(ask(&mut client, "n5", write("other", 1))["type"], "write_ok");

    router.heal();
    for node in router.names() {
        assert_eq!(ask(&mut client, &node, write(&node, 1))["type"], "write_ok");
        assert_eq!(ask(&mut client, &node, read("other"))["value"], json!(1));
    }
    stop(&router);
}

#[test]
fn a_killed_node_is_not_missed() {
    let router = cluster(3);
    let mut client = router.client();
    ask(&mut client, "n1", write("k", 1));
    router.kill("n1");
    assert_eq!(ask(&mut client, "n2", read("k"))["value"], json!(1));
    assert_eq!(ask(&mut client, "n3", write("k", 2))["type"], "write_ok");
    assert_eq!(router.violations(), Vec::<String>::new());
}

#[test]
fn nonsense_harms_nobody() {
    let router = cluster(1);
    let mut client = router.client();
    ask(&mut client, "n1", write("k", 1));
    for (body, code) in [
        (json!({"type": "shout"}), 10),
        (json!({"type": "read"}), 12),
        (json!({"type": 5}), 12),
        (json!({"type": "init", "node_id": "n1", "node_ids": ["n1"]}), 12),
    ] {
        assert_eq!(client.request("n1", body, TIMEOUT).unwrap()["code"], code);
    }
    assert_eq!(ask(&mut client, "n1", read("k"))["value"], json!(1));
    stop(&router);
}

mod router {
    //! The router itself, with nodes that live in the test.

    use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
    use std::thread;

    use super::*;

    /// A node that does `act` for each line it reads.
    fn node(router: &Router, name: &str, mut act: impl FnMut(Value, &mut PipeWriter) + Send + 'static) {
        let (node_input, input): (PipeReader, _) = pipe().unwrap();
        let (output, mut node_output) = pipe().unwrap();
        router.attach(name, input, output);
        thread::spawn(move || {
            for line in BufReader::new(node_input).lines() {
                act(serde_json::from_str(&line.unwrap()).unwrap(), &mut node_output);
            }
        });
    }

    fn say(output: &mut PipeWriter, src: &str, dest: &Value, body: Value) {
        writeln!(output, "{}", json!({"src": src, "dest": dest, "body": body})).unwrap();
    }

    /// Answers `init`; passes on to the other node whatever it is asked; answers with what comes back.
    fn relay(router: &Router, name: &'static str, other: &'static str) {
        node(router, name, move |message, output| {
            let body = &message["body"];
            match body["type"].as_str().unwrap() {
                "init" => say(output, name, &message["src"], json!({"type": "init_ok", "in_reply_to": body["msg_id"]})),
                "ask" => say(output, name, &json!(other), json!({"type": "pass", "of": message})),
                "pass" => say(output, name, &json!(other), json!({"type": "back", "of": body["of"]})),
                "back" => {
                    let asked = &body["of"];
                    let answer = json!({"type": "ok", "in_reply_to": asked["body"]["msg_id"]});
                    say(output, name, &asked["src"], answer);
                }
                other => panic!("{other}"),
            }
        });
    }

    #[test]
    fn carries_and_cuts() {
        let router = Router::new();
        relay(&router, "n1", "n2");
        relay(&router, "n2", "n1");
        router.init();
        let mut client = router.client();
        assert_eq!(client.request("n1", json!({"type": "ask"}), TIMEOUT).unwrap()["type"], "ok");
        router.partition(&[&["n1"], &["n2"]]);
        assert!(client.request("n1", json!({"type": "ask"}), Duration::from_millis(50)).is_err());
        router.heal();
        assert_eq!(client.request("n2", json!({"type": "ask"}), TIMEOUT).unwrap()["type"], "ok");
        for name in router.names() {
            router.close_input(&name);
            assert!(router.wait_for_exit(&name).is_none(), "not a process");
        }
        assert_eq!(router.violations(), Vec::<String>::new());
        let types: Vec<_> = router.record().into_iter().map(|line| line["body"]["type"].clone()).collect();
        assert_eq!(types.iter().filter(|kind| *kind == "pass").count(), 3);
    }

    #[test]
    fn notices_what_nodes_must_not_write() {
        let router = Router::new();
        node(&router, "n1", |message, output| {
            let client = &message["src"];
            writeln!(output, "hello").unwrap();
            writeln!(output, "[]").unwrap();
            say(output, "n2", client, json!({"type": "ok"}));
            say(output, "n1", &json!("n7"), json!({"type": "ok"}));
            say(output, "n1", &json!(5), json!({"type": "ok"}));
            say(output, "n1", client, json!({}));
            say(output, "n1", client, json!({"type": "init_ok", "in_reply_to": message["body"]["msg_id"]}));
            write!(output, "{}", json!({"src": "n1", "dest": client, "body": {"type": "ok"}})).unwrap();
        });
        router.init();
        router.close_input("n1");
        router.wait_for_exit("n1");
        let violations = router.violations();
        let expected =
            ["not JSON", "no dest", "not in its name", "for nobody", "no dest", "no type", "has no end"].into_iter();
        assert_eq!(violations.len(), expected.len(), "{violations:?}");
        for (violation, expected) in violations.iter().zip(expected) {
            assert!(violation.contains(expected), "{violation} {expected}");
        }
    }

    #[test]
    fn notices_words_before_init() {
        let router = Router::new();
        node(&router, "n1", |message, output| say(output, "n1", &message["src"], json!({"type": "ok"})));
        let mut client = router.client();
        assert!(client.request("n1", json!({"type": "ask"}), Duration::from_millis(50)).is_err());
        router.close_input("n1");
        router.wait_for_exit("n1");
        assert!(router.violations().first().is_some_and(|violation| violation.contains("before init")));
    }
}
