//! Topics and messages: the client's methods, and what the shell makes of them.

use std::thread;
use std::time::Duration;

use raft::client::{Client, Error, Peeked};
use raft::machine::queue::command::{Delivery, Settlement, TopicInfo, TopicLimits};
use raft::shell;

use crate::commands::{Outcome, out, run};
use crate::fake_node::{Act, FakeNode, array, bulk, leader, line};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The topics `jobs` and `"\xff"`.
fn node() -> FakeNode {
    FakeNode::start(2, |request| match request {
        "RAFT LEADER" => leader(2, 7),
        "RAFT TOPIC CREATE jobs MAXMESSAGES 10000000 MAXBYTES 1073741824 MAXDELIVERIES 5"
        | "RAFT TOPIC CREATE jobs MAXMESSAGES 7 MAXBYTES 8 MAXDELIVERIES 0"
        | "RAFT TOPIC DELETE jobs"
        | "RAFT ACK jobs 4 99"
        | "RAFT NACK jobs 4 99"
        | "RAFT EXTEND jobs 4 99 1000" => line("+OK"),
        "RAFT TOPIC LIST 0" => array([array([line(":1"), bulk(b"jobs")])]),
        "RAFT TOPIC LIST 1" => array([array([line(":3"), bulk(b"\xff")])]),
        "RAFT TOPIC LIST 3" => array([]),
        "RAFT TOPIC INFO jobs" => info(line(":1200")),
        "RAFT TOPIC INFO empty" => info(line("$-1")),
        "RAFT TOPIC PURGE jobs" => line(":3"),
        "RAFT PUT jobs a b" => line(":4"),
        "RAFT PUT jobs c" => line("-FULL the topic is full"),
        "RAFT TAKE jobs 1" => array([bulk(b"a b\n")]),
        "RAFT TAKE jobs 9" => array([bulk(b"a b"), bulk(b"\xff")]),
        "RAFT TAKE empty 1" | "RAFT TAKE empty 9" | "RAFT RECEIVE empty MAX 1 LEASE 30000" => array([]),
        "RAFT RECEIVE jobs MAX 2 LEASE 1000" => array([delivery(4, b"a b", 1), delivery(15, b"\xff", 3)]),
        "RAFT ACK jobs 5 99" => line("-STALE the lease is over"),
        _ => line("-NOTOPIC there is no such topic"),
    })
}

fn info(oldest: Act) -> Act {
    let name = || bulk(b"name");
    let numbers = [line(":3"), line(":1"), line(":20"), oldest, line(":7"), line(":8"), line(":0")];
    array(numbers.into_iter().flat_map(|number| [name(), number]))
}

fn delivery(id: u64, message: &[u8], deliveries: u64) -> Act {
    array([line(&format!(":{id}")), bulk(message), line(&format!(":{deliveries}")), line(":99")])
}

#[test]
fn the_client_has_a_method_for_each() {
    let node = node();
    let mut client = Client::new([node.address()], TIMEOUT);
    client.create_topic(b"jobs", &TopicLimits::default()).unwrap();
    assert_eq!(client.topics(), Ok(vec!["jobs".into(), b"\xff".to_vec().into()]));
    let limits = TopicLimits { messages: 7, bytes: 8, deliveries: 0 };
    let info = TopicInfo { messages: 3, leased: 1, bytes: 20, oldest_ms: Some(1200), limits };
    assert_eq!(client.topic(b"jobs"), Ok(info));
    assert_eq!(client.put(b"jobs", b"a b"), Ok(4));
    assert_eq!(client.take(b"jobs", 9), Ok(vec!["a b".into(), b"\xff".to_vec().into()]));
    let first = Delivery { id: 4, message: "a b".into(), deliveries: 1, lease: 99 };
    assert_eq!(client.receive(b"jobs", 2, Duration::from_secs(1)).unwrap()[0], first);
    client.settle(b"jobs", 4, 99, &Settlement::Extend { lease_ms: 1000 }).unwrap();
    client.settle(b"jobs", 4, 99, &Settlement::Ack).unwrap();
    assert_eq!(client.settle(b"jobs", 5, 99, &Settlement::Ack), Err(Error::Stale("the lease is over".into())));
    assert_eq!(client.purge_topic(b"jobs"), Ok(3));
    client.delete_topic(b"jobs").unwrap();
    assert_eq!(client.put(b"none", b"x"), Err(Error::NoTopic("there is no such topic".into())));
    assert_eq!(node.stamps(), (1..=10).map(|number| (7, number)).collect::<Vec<_>>(), "each write has its number");
}

#[test]
fn a_node_that_answers_nonsense_is_no_panic() {
    for nonsense in [line(":1"), bulk(b"x"), array([line(":1")]), array([array([])]), line("+x"), line("$-1")] {
        let Act::Say(bytes) = nonsense else { unreachable!("all of them speak") };
        let node = FakeNode::start(2, move |request| match request {
            "RAFT LEADER" => leader(2, 7),
            _ => Act::Say(bytes.clone()),
        });
        let mut client = Client::new([node.address()], TIMEOUT);
        let words = [
            client.topics().map(drop),
            client.topic(b"t").map(drop),
            client.peek(b"t", 0, 1).map(drop),
            client.receive(b"t", 1, TIMEOUT).map(drop),
        ]
        .map(|result| result.map_err(|error| error.word()));
        assert_eq!(words, [Err("protocol"), Err("protocol"), Err("protocol"), Err("unknown_outcome")]);
    }
}

#[test]
fn text_is_what_scripts_rely_on() {
    let node = node();
    for (command, expected) in [
        ("topic create jobs", "OK\n"),
        ("topic create jobs messages 7 bytes 8 deliveries 0", "OK\n"),
        ("topic list", "jobs\n\"\\\\xff\"\n"),
        (
            "topic info jobs",
            "MESSAGES  LEASED  BYTES  OLDEST_MS  MAX_MESSAGES  MAX_BYTES  MAX_DELIVERIES\n\
             3         1       20     1200       7             8          0\n",
        ),
        ("topic purge jobs", "3\n"),
        ("topic delete jobs", "OK\n"),
        ("put jobs 'a b'", "4\n"),
        ("take jobs", "a b\n\n"),
        ("take empty", "(nil)\n"),
        ("take jobs 9", "\"a b\"\n\"\\\\xff\"\n"),
        ("take empty 9", ""),
        (
            "receive jobs 2 1000",
            "ID  LEASE  DELIVERIES  MESSAGE\n4   99     1           \"a b\"\n15  99     3           \"\\\\xff\"\n",
        ),
        ("receive empty", "ID  LEASE  DELIVERIES  MESSAGE\n"),
        ("ack jobs 4 99", "OK\n"),
        ("nack jobs 4 99", "OK\n"),
        ("extend jobs 4 99 1000", "OK\n"),
        ("length jobs", "3\n"),
    ] {
        assert_eq!(out(&[&node], command, false), expected, "{command}");
    }
}

#[test]
fn json_is_one_line_for_each_command() {
    let node = node();
    for (command, expected) in [
        ("topic create jobs", r#"{"ok":true}"#),
        ("topic list", r#"{"ok":true,"topics":[{"topic":"jobs"},{"topic_base64":"/w=="}]}"#),
        (
            "topic info jobs",
            concat!(
                r#"{"ok":true,"topic":"jobs","messages":3,"leased":1,"bytes":20,"oldest_ms":1200,"#,
                r#""max_messages":7,"max_bytes":8,"max_deliveries":0}"#
            ),
        ),
        (
            "topic info empty",
            concat!(
                r#"{"ok":true,"topic":"empty","messages":3,"leased":1,"bytes":20,"oldest_ms":null,"#,
                r#""max_messages":7,"max_bytes":8,"max_deliveries":0}"#
            ),
        ),
        ("topic purge jobs", r#"{"ok":true,"purged":3}"#),
        ("put jobs 'a b'", r#"{"ok":true,"id":4}"#),
        ("take jobs", "{\"ok\":true,\"messages\":[{\"message\":\"a b\\\n\"}]}"),
        ("take empty", r#"{"ok":true,"messages":[]}"#),
        ("take jobs 9", r#"{"ok":true,"messages":[{"message":"a b"},{"message_base64":"/w=="}]}"#),
        (
            "receive jobs 2 1000",
            concat!(
                r#"{"ok":true,"messages":[{"id":4,"message":"a b","deliveries":1,"lease":99},"#,
                r#"{"id":15,"message_base64":"/w==","deliveries":3,"lease":99}]}"#
            ),
        ),
        ("ack jobs 4 99", r#"{"ok":true}"#),
        ("length jobs", r#"{"ok":true,"length":3}"#),
    ] {
        assert_eq!(out(&[&node], command, true), format!("{expected}\n"), "{command}");
    }
    for (command, code, word) in [
        ("put jobs c", 1, "full"),
        ("ack jobs 5 99", 1, "stale"),
        ("length none", 1, "no_topic"),
        ("take none x", 2, "usage"),
    ] {
        let Outcome { code: found, out, .. } = run(&[&node], command, true, false);
        assert!(out.contains(&format!(r#""error":"{word}","definite":true"#)), "{command}: {out}");
        assert_eq!(found, code, "{command}");
    }
}

/// Ctrl-C is one for a whole process, and so is the watch that it ends: no other test may run one.
#[test]
fn a_watch_shows_what_comes_leaves_it_there_and_ends_when_it_is_interrupted() {
    let message = |id: u64, text: &[u8]| array([line(&format!(":{id}")), bulk(text)]);
    let mut peeks = 0;
    let node = FakeNode::start(2, move |request| {
        if request == "RAFT LEADER" {
            return leader(2, 7);
        }
        peeks += 1;
        match (peeks, request) {
            (1, "RAFT PEEK jobs AFTER 0 MAX 100") => {
                array([line(":1"), array([message(1, b"a b"), message(2, b"\xff")])])
            }
            (2, "RAFT PEEK jobs AFTER 2 MAX 100") => array([line(":1"), array([])]),
            // It was deleted and created again.
            (3, "RAFT PEEK jobs AFTER 2 MAX 100") => array([line(":4"), array([])]),
            (4, "RAFT PEEK jobs AFTER 0 MAX 100") => array([line(":4"), array([message(1, b"c")])]),
            (_, "RAFT PEEK jobs AFTER 1 MAX 100") => array([line(":4"), array([])]),
            (_, "RAFT PEEK none AFTER 0 MAX 100") => line("-NOTOPIC there is no such topic"),
            _ => line("-ERR unexpected"),
        }
    });
    let outcome = thread::scope(|scope| {
        let watch = scope.spawn(|| run(&[&node], "watch jobs\nnonsense", false, false));
        // What it asks for the fifth time it asks until it is interrupted.
        while node.asked().len() < 5 && !watch.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        let interrupted = shell::interrupt();
        let outcome = watch.join().unwrap();
        assert!(interrupted, "it ended by itself: {outcome:?}");
        outcome
    });
    assert_eq!(outcome.out, "1  \"a b\"\n2  \"\\\\xff\"\n1  c\n");
    assert!(outcome.err.starts_with("error: line 2: unknown command nonsense"), "{}", outcome.err);
    let Outcome { code, out, .. } = run(&[&node], "watch none", true, false);
    assert_eq!((code, out.contains(r#""error":"no_topic","definite":true"#)), (1, true), "{out}");
    assert!(!shell::interrupt(), "none runs any more");
    assert_eq!(Client::new([node.address()], TIMEOUT).peek(b"jobs", 1, 100), Ok(Peeked { topic: 4, messages: vec![] }));
}
