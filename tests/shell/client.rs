//! The client against nodes that misbehave on purpose.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::fake_node::{Act, FakeNode, array, bulk, leader, line};
use raft::client::{Client, Error, NodeAddress, Reply};
use raft::consensus::NodeId;
use raft::machine::command::Value;

/// Never reached where things work.
const LONG: Duration = Duration::from_secs(20);
/// Waited for where they do not.
const SHORT: Duration = Duration::from_millis(400);

fn client(nodes: &[&FakeNode], timeout: Duration) -> Client {
    Client::new(nodes.iter().map(|node| node.address()), timeout)
}

/// A node that names node `id` as the leader and otherwise does as told.
fn naming(id: u64, mut act: impl FnMut(&str) -> Act + Send + 'static) -> impl FnMut(&str) -> Act + Send + 'static {
    move |request| if request == "RAFT LEADER" { leader(id, 1) } else { act(request) }
}

/// A follower of node `id` that must not be asked anything else.
fn follower(id: u64) -> impl FnMut(&str) -> Act + Send + 'static {
    naming(id, |_| line("-ERR you should have asked the leader"))
}

/// Acts so at first, and then so.
fn then(mut first: Vec<Act>, mut rest: impl FnMut(&str) -> Act + Send + 'static) -> impl FnMut(&str) -> Act + Send {
    first.reverse();
    move |request| first.pop().unwrap_or_else(|| rest(request))
}

fn ok(_: &str) -> Act {
    line("+OK")
}

fn one_at_revision_7(_: &str) -> Act {
    array([bulk(b"1"), line(":7")])
}

fn value() -> Value {
    Value { bytes: "1".into(), revision: 7 }
}

#[test]
fn the_leader_is_found_once_and_remembered() {
    let a = FakeNode::start(1, follower(2));
    let b = FakeNode::start(2, naming(2, ok));
    let mut client = client(&[&a, &b], LONG);
    client.set(b"x", b"1").unwrap();
    client.set(b"x", b"2").unwrap();
    assert_eq!(a.asked_for_leader() + b.asked_for_leader(), 1);
    assert_eq!((a.asked(), b.asked()), (vec![], vec!["SET x 1".to_owned(), "SET x 2".to_owned()]));
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
}

#[test]
fn nodes_that_are_down_or_know_no_leader_are_passed_over() {
    let mut a = FakeNode::start(1, ok);
    a.stop();
    let b = FakeNode::start(2, |_| line("-NOTREADY no leader yet"));
    let c = FakeNode::start(3, |_| line("HTTP/1.1 400 Bad Request"));
    let d = FakeNode::start(4, naming(4, ok));
    client(&[&a, &b, &c, &d], LONG).set(b"x", b"1").unwrap();
    assert_eq!(d.asked(), ["SET x 1"]);
}

#[test]
fn it_goes_on_when_the_leader_dies() {
    // For a while the followers believe that the dead one still leads.
    let a = FakeNode::start(1, then(vec![leader(2, 1), leader(2, 1), leader(2, 1)], follower(3)));
    let mut b = FakeNode::start(2, naming(2, ok));
    let c = FakeNode::start(3, then(vec![leader(2, 1), leader(2, 1)], naming(3, ok)));
    let mut client = client(&[&a, &b, &c], LONG);
    client.set(b"x", b"1").unwrap();
    b.stop();
    client.set(b"x", b"2").unwrap();
    assert_eq!((b.asked(), c.asked()), (vec!["SET x 1".to_owned()], vec!["SET x 2".to_owned()]));
}

#[test]
fn a_leader_that_came_back_gets_a_new_connection_not_a_doubtful_write() {
    let mut a = FakeNode::start(1, naming(1, ok));
    let mut client = client(&[&a], LONG);
    for round in 0..20 {
        client.set(b"x", b"1").unwrap_or_else(|error| panic!("round {round}: {error}"));
        a.restart();
    }
    assert_eq!(a.asked().len(), 20);
}

/// How a node fails to answer.
fn silent(how: u8) -> Act {
    match how {
        0 => Act::HangUp,
        1 => line("-UNKNOWN outcome unknown: leadership was lost"),
        2 => Act::Hang,
        _ => line("what?"),
    }
}

#[test]
fn a_write_without_an_answer_is_sent_again_as_it_was_and_unknown_in_the_end() {
    for how in 0..4 {
        let a = FakeNode::start(1, naming(2, move |_| silent(how)));
        let b = FakeNode::start(2, naming(2, move |_| silent(how)));
        let mut client = client(&[&a, &b], SHORT);
        type Write = fn(&mut Client) -> Result<(), Error>;
        let writes: [Write; 3] = [
            |client| client.set(b"x", b"1"),
            |client| client.cas(b"x", b"1", b"2"),
            |client| client.delete(&[b"x"]).map(|_| ()),
        ];
        let mut before = 0;
        for (number, write) in (1..).zip(writes) {
            let error = write(&mut client).unwrap_err();
            assert!(matches!(error, Error::Unknown(_)), "{error:?}");
            assert_eq!((error.word(), error.definite()), ("unknown_outcome", false));
            let stamps = b.stamps().split_off(before);
            assert!(stamps.len() > 1 && stamps.iter().all(|&stamp| stamp == (7, number)), "{how}: {stamps:?}");
            before += stamps.len();
        }
        assert_eq!(a.asked(), [""; 0]);
    }
}

#[test]
fn what_is_in_no_session_is_not_repeated() {
    for (how, timeout) in [(0, LONG), (1, LONG), (2, SHORT), (3, LONG)] {
        let a = FakeNode::start(1, naming(1, move |_| silent(how)));
        let mut client = client(&[&a], timeout);
        assert!(matches!(client.transfer(NodeId(1)), Err(Error::Unknown(_))));
        let mut only = client.only(NodeId(1)).unwrap();
        assert!(matches!(only.set(b"x", b"1"), Err(Error::Unknown(_))));
        assert_eq!(a.asked(), ["RAFT TRANSFER 1", "RAFT ONLY SET x 1"]);
        assert_eq!(a.stamps(), []);
    }
}

#[test]
fn a_reply_that_makes_no_sense_leaves_the_outcome_unknown() {
    let a = FakeNode::start(1, naming(1, |_| bulk(b"not a status")));
    assert!(matches!(client(&[&a], LONG).set(b"x", b"1"), Err(Error::Unknown(_))));
}

#[test]
fn the_answer_of_a_write_is_got_from_another_node() {
    for how in 0..4 {
        // It is asked for the leader, then to write, and lost.
        let a = FakeNode::start(1, then(vec![leader(1, 1), silent(how)], follower(2)));
        let b = FakeNode::start(2, naming(2, ok));
        let mut client = client(&[&a, &b], Duration::from_secs(2));
        client.set(b"x", b"1").unwrap();
        assert_eq!((a.asked(), b.asked()), (vec!["SET x 1".to_owned()], vec!["SET x 1".to_owned()]));
        assert_eq!((a.stamps(), b.stamps()), (vec![(7, 1)], vec![(7, 1)]));
    }
}

#[test]
fn the_first_outcome_is_the_outcome_whatever_it_is() {
    for (reply, error) in [
        ("-DIFFERENT it is 5", Error::Different("it is 5".into())),
        ("-FULL of it", Error::Full("of it".into())),
        ("-NOTOPIC there", Error::NoTopic("there".into())),
        ("-EXISTS already", Error::Exists("already".into())),
        ("-STALE lease", Error::Stale("lease".into())),
    ] {
        let a = FakeNode::start(1, naming(1, then(vec![Act::HangUp], move |_| line(reply))));
        let mut client = client(&[&a], LONG);
        assert!(error.definite());
        assert_eq!(client.set(b"x", b"1"), Err(error));
        assert_eq!(a.stamps(), [(7, 1); 2]);
    }
}

#[test]
fn once_in_doubt_no_refusal_makes_a_write_definite() {
    for reply in
        ["-NOTREADY no leader", "-OVERLOADED too much", "-ERR unknown subcommand 'DO' of 'raft'", "-NOSESSION 7"]
    {
        let a = FakeNode::start(1, naming(1, then(vec![Act::HangUp], move |_| line(reply))));
        let error = client(&[&a], SHORT).set(b"x", b"1").unwrap_err();
        assert_eq!((error.word(), error.definite()), ("unknown_outcome", false), "{reply}");
        assert!(a.asked().len() > 1, "{reply}");
    }
}

#[test]
fn a_session_that_has_ended_is_replaced_unless_the_write_may_have_been_in_it() {
    let a = FakeNode::start(1, naming(1, then(vec![line("+OK"), line("-NOSESSION any more")], ok)));
    let mut client = client(&[&a], LONG);
    client.set(b"x", b"1").unwrap();
    client.set(b"x", b"2").unwrap();
    client.set(b"x", b"3").unwrap();
    assert_eq!(a.stamps(), [(7, 1), (7, 2), (8, 1), (8, 2)]);

    let b = FakeNode::start(1, naming(1, then(vec![Act::HangUp, line("-NOSESSION any more")], ok)));
    let mut client = self::client(&[&b], LONG);
    assert!(matches!(client.set(b"x", b"1"), Err(Error::Unknown(_))));
    client.set(b"x", b"2").unwrap();
    assert_eq!(b.stamps(), [(7, 1), (7, 1), (8, 1)]);

    let c = FakeNode::start(1, naming(1, |_| line("-NOSESSION any more")));
    let error = self::client(&[&c], LONG).set(b"x", b"1").unwrap_err();
    assert_eq!((error.word(), error.definite()), ("no_session", true));
    assert_eq!(c.stamps(), [(7, 1), (8, 1)]);
}

#[test]
fn an_unknown_outcome_leaves_the_connection_open() {
    let a = FakeNode::start(1, then(vec![leader(1, 1), line("-UNKNOWN outcome unknown: timeout")], naming(1, ok)));
    let mut client = client(&[&a], LONG);
    client.set(b"x", b"1").unwrap();
    assert_eq!((a.accepted(), a.stamps()), (1, vec![(7, 1); 2]));
}

#[test]
fn a_write_that_had_no_effect_is_repeated() {
    let refusals = vec![line("-NOTREADY not the leader"), line("-OVERLOADED too much is waiting")];
    let a = FakeNode::start(1, naming(1, then(refusals, ok)));
    client(&[&a], LONG).set(b"x", b"1").unwrap();
    assert_eq!(a.asked(), ["SET x 1"; 3]);
}

#[test]
fn a_write_that_never_left_is_definite() {
    // Never read from: its buffers fill up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = NodeAddress {
        id: NodeId(1),
        label: "A".into(),
        host: "127.0.0.1".into(),
        client_port: listener.local_addr().unwrap().port(),
    };
    let mut client = Client::new([address], SHORT).only(NodeId(1)).unwrap();
    let error = client.set(b"x", &vec![0; 64 << 20]).unwrap_err();
    assert_eq!((error.word(), error.definite()), ("unreachable", true), "{error}");
}

#[test]
fn what_stays_wrong_is_reported_in_time() {
    for (reply, word) in [("-NOTREADY no leader", "not_ready"), ("-OVERLOADED too much", "overloaded")] {
        let a = FakeNode::start(1, naming(1, move |_| line(reply)));
        let error = client(&[&a], SHORT).set(b"x", b"1").unwrap_err();
        assert_eq!((error.word(), error.definite()), (word, true));
        assert!(a.asked().len() > 2, "{:?}", a.asked());
    }
    let mut a = FakeNode::start(1, ok);
    a.stop();
    let before = Instant::now();
    let error = client(&[&a], SHORT).set(b"x", b"1").unwrap_err();
    assert_eq!((error.word(), error.definite()), ("unreachable", true));
    assert!(error.to_string().contains("node 1 (A) at 127.0.0.1:"), "{error}");
    assert!(before.elapsed() < 10 * SHORT);
}

/// A cluster may say so for long; the patience with each attempt doubles, but there is an end to that.
#[test]
fn seventy_unknown_outcomes_are_no_panic() {
    let mut asked = 0;
    let a = FakeNode::start(
        1,
        naming(1, move |request| {
            asked += 1;
            if asked <= 70 { line("-UNKNOWN outcome unknown: leadership was lost") } else { ok(request) }
        }),
    );
    client(&[&a], Duration::MAX).set(b"x", b"1").unwrap();
    assert_eq!(a.stamps(), vec![(7, 1); 71], "the same command each time");
}

#[test]
fn answers_that_say_no_are_answers() {
    for (reply, error) in [
        ("-ERR no such thing", Error::Refused("no such thing".into())),
        ("-MISSING no such key", Error::Missing("no such key".into())),
        ("-DIFFERENT it is 5", Error::Different("it is 5".into())),
        ("-WRONGTYPE of value", Error::Refused("WRONGTYPE of value".into())),
    ] {
        let a = FakeNode::start(1, naming(1, move |_| line(reply)));
        let mut client = client(&[&a], LONG);
        assert!(error.definite());
        assert_eq!(client.cas(b"x", b"1", b"2"), Err(error));
        assert_eq!(a.asked(), ["RAFT CAS x 1 2"]);
    }
}

#[test]
fn a_read_is_repeated_whatever_happens() {
    for act in [0, 1, 2, 3] {
        let act = move |_: &str| match act {
            0 => Act::HangUp,
            1 => line("-UNKNOWN outcome unknown: leadership was lost"),
            2 => Act::Hang,
            _ => line("-NOTREADY not the leader"),
        };
        let a = FakeNode::start(1, then(vec![leader(1, 1), act("")], follower(2)));
        let b = FakeNode::start(2, naming(2, one_at_revision_7));
        let mut client = client(&[&a, &b], Duration::from_secs(2));
        assert_eq!(client.get(b"x"), Ok(Some(value())));
        assert_eq!((a.asked(), b.asked()), (vec!["RAFT GET x".to_owned()], vec!["RAFT GET x".to_owned()]));
    }
}

#[test]
fn a_late_reply_is_not_taken_for_the_next_one() {
    let mut replies = vec![array([bulk(b"new"), line(":9")]), Act::Hang];
    let a = FakeNode::start(1, move |_| replies.pop().unwrap());
    let mut only = client(&[&a], SHORT).only(NodeId(1)).unwrap();
    assert!(matches!(only.get(b"x"), Err(Error::Timeout(_))));
    assert_eq!(only.get(b"x"), Ok(Some(Value { bytes: "new".into(), revision: 9 })));
    assert_eq!(a.accepted(), 2);
}

#[test]
fn a_leader_that_only_we_cannot_reach_is_reached_through_another_node() {
    let a = FakeNode::start(1, naming(2, ok));
    let mut b = FakeNode::start(2, ok);
    b.stop();
    let mut client = client(&[&a, &b], LONG);
    client.set(b"x", b"1").unwrap();
    client.set(b"x", b"2").unwrap();
    assert_eq!(a.asked(), ["SET x 1", "SET x 2"]);
}

#[test]
fn a_leader_that_raft_ini_does_not_know_is_reached_through_another_node() {
    let a = FakeNode::start(1, naming(9, ok));
    client(&[&a], LONG).set(b"x", b"1").unwrap();
}

#[test]
fn the_leader_itself_says_that_it_leads() {
    let a = FakeNode::start(1, follower(2));
    let b = FakeNode::start(2, |_| leader(2, 5));
    let found = client(&[&a, &b], LONG).leader().unwrap();
    assert_eq!((found.id, found.label.as_str(), found.term), (NodeId(2), "B", 5));

    let a = FakeNode::start(1, |_| line("-NOTREADY no leader"));
    assert_eq!(client(&[&a], SHORT).leader().unwrap_err().word(), "not_ready");
}

#[test]
fn only_asks_one_node_once() {
    let a = FakeNode::start(1, ok);
    let b = FakeNode::start(2, |_| line("-NOTREADY not the leader"));
    let client = client(&[&a, &b], LONG);
    let mut only = client.only(NodeId(2)).unwrap();
    assert_eq!(only.get(b"x").unwrap_err().word(), "not_ready");
    assert_eq!((a.asked(), b.asked()), (vec![], vec!["RAFT ONLY RAFT GET x".to_owned()]));
    let Err(error) = client.only(NodeId(3)) else { panic!("there is no node 3") };
    assert_eq!(error, Error::Usage("no node 3: raft.ini has 1 (A), 2 (B)".into()));
}

#[test]
fn nodes_go_by_id_and_label() {
    let client = client(&[&FakeNode::start(1, ok), &FakeNode::start(2, ok)], SHORT);
    assert_eq!(client.find("2").unwrap().label, "B");
    assert_eq!(client.find("A").unwrap().id, NodeId(1));
    assert_eq!(client.find("C"), Err(Error::Usage("no node C: raft.ini has 1 (A), 2 (B)".into())));
}

#[test]
fn a_status_of_all_waits_for_nobody() {
    const STATUS: &[u8] = br#"{"id":1,"label":"A","role":"Leader","term":3,"leader":1,"last":9,"commit":8,"applied":8,
        "peers":[{"id":2,"matched":8,"progress":"replicate","heard_ms":4}]}"#;
    let a = FakeNode::start(1, |_| bulk(STATUS));
    let b = FakeNode::start(2, |_| Act::Hang);
    let mut c = FakeNode::start(3, ok);
    c.stop();
    let d = FakeNode::start(4, |_| bulk(b"{}"));
    let answers = client(&[&a, &b, &c, &d], SHORT).status_of_all();
    let [(first, Ok(status)), (_, Err(hangs)), (_, Err(down)), (_, Err(strange))] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!((first.id, status.term, status.peers.len()), (NodeId(1), 3, 1));
    assert_eq!((hangs.word(), down.word(), strange.word()), ("timeout", "unreachable", "protocol"));
}

#[test]
fn lists_and_counts() {
    let a = FakeNode::start(
        1,
        naming(1, |request| match request {
            "EXISTS a b a" => line(":3"),
            "DEL a b" => line(":2"),
            "RAFT LIST u" => array([array([bulk(b"ua"), bulk(b"\xff"), line(":4")])]),
            "RAFT LIST u ua" => array([]),
            "RAFT GET none" => line("$-1"),
            "RAFT LIST odd" => array([array([bulk(b"ua"), bulk(b"1")])]),
            _ => line("+what"),
        }),
    );
    let mut client = client(&[&a], LONG);
    assert_eq!(client.exists(&[b"a", b"b", b"a"]), Ok(3));
    assert_eq!(client.delete(&[b"a", b"b"]), Ok(2));
    let item = ("ua".into(), Value { bytes: b"\xff".to_vec().into(), revision: 4 });
    assert_eq!(client.list(b"u", None), Ok(vec![item]));
    assert_eq!(client.list(b"u", Some(b"ua")), Ok(vec![]));
    assert_eq!(client.get(b"none"), Ok(None));
    assert_eq!(client.list(b"odd", None).unwrap_err().word(), "protocol");
    assert_eq!(client.get(b"odd").unwrap_err().word(), "protocol");
}

#[test]
fn a_pipeline_keeps_its_order() {
    let a = FakeNode::start(1, |request| match request.strip_prefix("ECHO ") {
        Some(text) => bulk(text.as_bytes()),
        None => line("-ERR no"),
    });
    let texts: Vec<_> = (0..20_000).map(|number: u32| number.to_string()).collect();
    let mut requests: Vec<_> = texts.iter().map(|text| vec![&b"ECHO"[..], text.as_bytes()]).collect();
    requests.push(vec![b"NO"]);
    let mut results = client(&[&a], LONG).pipeline(NodeId(1), &requests).unwrap();
    assert_eq!(results.pop(), Some(Err(Error::Refused("no".into()))));
    let expected: Vec<_> = texts.into_iter().map(|text| Ok(Reply::Bulk(text.into()))).collect();
    assert_eq!(results, expected);
}

#[test]
fn a_pipeline_that_breaks_is_unknown_as_far_as_it_was_sent() {
    let a = FakeNode::start(1, then(vec![line("+OK")], |_| Act::HangUp));
    let big = vec![0; 40 << 10];
    let mut client = client(&[&a], LONG);
    // The first two fit into one go, the third does not.
    let results = client.pipeline(NodeId(1), &[vec![b"SET"], vec![b"SET", &big], vec![b"SET", &big]]).unwrap();
    let words: Vec<_> = results.iter().map(|result| result.as_ref().map_err(Error::word)).collect();
    assert_eq!(words, [Ok(&Reply::Simple("OK".into())), Err("unknown_outcome"), Err("unreachable")]);
    assert_eq!(a.asked().len(), 2);
}
