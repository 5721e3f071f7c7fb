use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::super::options::{Latency, Spread};
use super::*;

/// Answers `init` and then does what the lines say: `go` sends a `ping` to the other node, and who gets one tells the client.
const NODE: &str = r#"
me=$1 other=$2
read -r init
echo "{\"src\":\"$me\",\"dest\":\"c0\",\"body\":{\"type\":\"init_ok\",\"in_reply_to\":1}}"
while read -r line; do
  case $line in
    *'"go"'*) echo "{\"src\":\"$me\",\"dest\":\"$other\",\"body\":{\"type\":\"ping\"}}" ;;
    *'"ping"'*) echo "{\"src\":\"$me\",\"dest\":\"c1\",\"body\":{\"type\":\"ping_ok\",\"in_reply_to\":7}}" ;;
    *'"say"'*) echo "$SAY" ;;
    *'"end"'*) echo 'out of luck' >&2; exit 3 ;;
  esac
done
"#;

/// Two nodes, initialised, and a client.
struct Fixture {
    router: Router,
    events: Receiver<Event>,
    folder: PathBuf,
}

impl Fixture {
    fn start(latency: Duration, loss: f64) -> Fixture {
        Fixture::of(NODE, latency, loss)
    }

    fn of(script: &str, latency: Duration, loss: f64) -> Fixture {
        let random = getrandom::u64().unwrap();
        let folder = std::env::temp_dir().join(format!("raft-router-{random:x}"));
        let launch = |me: usize| Launch {
            program: "/bin/sh".into(),
            arguments: ["-c", script, "node", &format!("n{me}"), &format!("n{}", 1 - me)].map(str::to_owned).to_vec(),
            data: folder.clone(),
            log: folder.join(format!("n{me}.log")),
        };
        let latency = Latency { mean: latency, spread: Spread::Constant };
        let (sender, events) = unbounded();
        let network = Network::new(2, latency, loss, 7);
        let router = Router::new(vec![launch(0), launch(1)], network, false, sender).unwrap();
        (0..2).for_each(|node| router.start(node).unwrap());
        (0..2).for_each(|node| router.init(node));
        assert_eq!(router.client(), 1);
        Fixture { router, events, folder }
    }

    fn ready(self) -> Fixture {
        let mut ready = [self.event(), self.event()].map(|event| match event {
            Event::Ready { node } => node,
            other => panic!("{other:?}"),
        });
        ready.sort_unstable();
        assert_eq!(ready, [0, 1]);
        self
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(10)).expect("something happens")
    }

    fn tell(&self, node: usize, what: &str) {
        self.router.request(1, node, &json!({"type": what, "msg_id": 7}));
    }

    /// Lets n0 send so many messages to n1: how many arrive, and when the first one has.
    fn pings(&self, count: usize) -> (usize, Duration) {
        let (began, mut first, mut arrived) = (Instant::now(), Duration::MAX, 0);
        (0..count).for_each(|_| self.tell(0, "go"));
        while let Ok(event) = self.events.recv_timeout(Duration::from_millis(500)) {
            assert!(
                matches!(&event, Event::Answer { process: 1, in_reply_to: 7, body, .. } if body["type"] == "ping_ok"),
                "{event:?}"
            );
            (arrived, first) = (arrived + 1, first.min(began.elapsed()));
        }
        (arrived, first)
    }

    fn trouble(&self) -> String {
        match self.event() {
            Event::Trouble(why) => why,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.router.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn messages_take_as_long_as_they_should() {
    assert_eq!(Fixture::start(Duration::ZERO, 0.0).ready().pings(50).0, 50);
    let (arrived, first) = Fixture::start(Duration::from_millis(80), 0.0).ready().pings(50);
    assert_eq!(arrived, 50);
    assert!(first >= Duration::from_millis(80), "{first:?}");
}

#[test]
fn messages_are_lost_as_often_as_they_should() {
    let fixture = Fixture::start(Duration::ZERO, 0.5).ready();
    let (arrived, _) = fixture.pings(200);
    assert!((60..140).contains(&arrived), "{arrived} of 200 arrived");
    let traffic = fixture.router.network().traffic();
    assert_eq!((traffic.between_nodes, traffic.lost), (200, 200 - arrived as u64));
}

#[test]
fn a_cut_way_carries_nothing_and_clients_are_never_cut_off() {
    let fixture = Fixture::start(Duration::from_millis(100), 0.0).ready();
    fixture.router.network().cut(&[(0, 1)]);
    assert_eq!(fixture.pings(10).0, 0, "the requests arrived, and no message from node to node did");
    assert_eq!(fixture.router.network().traffic().cut, 10);
    fixture.router.network().cut(&[]);
    assert_eq!(fixture.pings(10).0, 10);
    // What is under way when the way is cut is lost as well.
    fixture.tell(0, "go");
    while fixture.router.network().between_nodes() < 21 {
        thread::yield_now();
    }
    fixture.router.network().cut(&[(0, 1)]);
    assert!(fixture.events.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn a_line_that_is_no_message_is_reported_with_its_node() {
    for (line, why) in [
        ("Listening on port 80", "is no message"),
        (r#"{"src":"n0","dest":"c1","body":{"type":"x","in_reply_to":1}}"#, "says that n0 wrote it"),
        (r#"{"src":"n1","dest":"c9","body":{"type":"x","in_reply_to":1}}"#, "is for c9, whom there is not"),
        (r#"{"src":"n1","dest":"n2","body":{"type":"x"}}"#, "is for n2, whom there is not"),
        (r#"{"src":"n1","dest":"c1","body":{"type":"x"}}"#, "has no `in_reply_to`"),
        (r#"{"src":"n1","dest":"c1","body":{"kind":"x"}}"#, "`body` that is none"),
    ] {
        let script = NODE.replace("$SAY", &line.replace('"', r#"\""#));
        let fixture = Fixture::of(&script, Duration::ZERO, 0.0).ready();
        fixture.tell(1, "say");
        let trouble = fixture.trouble();
        let shown = trouble.contains(why) && trouble.starts_with("n1 ");
        assert!(shown && trouble.contains(&line[..8].replace('"', r#"\""#)), "{trouble}");
    }
}

#[test]
fn a_node_says_nothing_before_init() {
    let launch = Launch {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), "echo '{\"src\":\"n0\",\"dest\":\"n0\",\"body\":{\"type\":\"x\"}}'; cat".into()],
        data: std::env::temp_dir(),
        log: std::env::temp_dir().join(format!("raft-router-{:x}.log", getrandom::u64().unwrap())),
    };
    let (sender, events) = unbounded();
    let network = Network::new(1, Latency { mean: Duration::ZERO, spread: Spread::Constant }, 0.0, 7);
    let router = Router::new(vec![launch.clone()], network, false, sender).unwrap();
    router.start(0).unwrap();
    let event = events.recv_timeout(Duration::from_secs(10));
    assert!(matches!(&event, Ok(Event::Trouble(why)) if why.contains("before init")), "{event:?}");
    let _ = fs::remove_file(launch.log);
}

#[test]
fn a_node_that_ends_by_itself_is_reported_with_its_last_words() {
    let fixture = Fixture::start(Duration::ZERO, 0.0).ready();
    fixture.tell(1, "end");
    let trouble = fixture.trouble();
    assert!(trouble.contains("n1 has ended by itself (exit status: 3)"), "{trouble}");
    assert!(trouble.contains("out of luck"), "{trouble}");
}

#[test]
fn a_killed_node_is_no_trouble_and_lives_again() {
    let fixture = Fixture::start(Duration::ZERO, 0.0).ready();
    assert!(fixture.router.nodes()[1].kill());
    assert!(!fixture.router.nodes()[1].kill(), "it does not run");
    assert_eq!(fixture.pings(5).0, 0);
    fixture.router.start(1).unwrap();
    assert_eq!(fixture.pings(5).0, 0, "it does not hear anything before init");
    fixture.router.init(1);
    assert!(matches!(fixture.event(), Event::Ready { node: 1 }));
    assert_eq!(fixture.pings(5).0, 5);
}

#[test]
fn a_paused_node_gets_everything_when_it_goes_on() {
    let fixture = Fixture::start(Duration::ZERO, 0.0).ready();
    assert!(fixture.router.nodes()[1].pause());
    assert_eq!(fixture.pings(20).0, 0);
    // More than its standard input holds: nobody waits for it.
    let long = "x".repeat(1 << 16);
    (0..8).for_each(|_| fixture.router.request(1, 1, &json!({"type": "read", "msg_id": 7, "long": long})));
    assert!(fixture.router.nodes()[1].resume());
    assert_eq!(fixture.pings(5).0, 25);
}

#[test]
fn what_too_many_wait_before_is_lost_and_counted() {
    let fixture = Fixture::start(Duration::ZERO, 0.0).ready();
    assert!(fixture.router.nodes()[1].pause());
    let long = json!({"type": "read", "msg_id": 7, "long": "x".repeat(1 << 20)});
    (0..64).for_each(|_| fixture.router.request(1, 1, &long));
    assert_eq!(fixture.router.network().traffic().unread, 0);
    (0..10).for_each(|_| fixture.router.request(1, 1, &long));
    let unread = fixture.router.network().traffic().unread;
    assert!((7..=10).contains(&unread), "{unread} of 74 are lost, and 64 MiB are waiting");
    assert!(fixture.router.nodes()[1].kill());
    fixture.router.request(1, 1, &long);
    assert_eq!(fixture.router.network().traffic().unread, unread, "nobody is there who could read");
}

#[test]
fn nodes_of_a_square_neighbour_those_beside_them() {
    let names: Vec<_> = (0..5).map(|node| format!("n{node}")).collect();
    let expected =
        json!({"n0": ["n1", "n3"], "n1": ["n0", "n2", "n4"], "n2": ["n1"], "n3": ["n0", "n4"], "n4": ["n1", "n3"]});
    assert_eq!(grid(&names), expected);
}
