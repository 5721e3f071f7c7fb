//! Commands that are sent again in a client session: one effect and one answer, whatever happened in between.

use std::io::Write;
use std::net::TcpStream;

use redis::Value;

use crate::support::cluster::{Cluster, wait_until};

/// Small enough for snapshots to come by.
const SETTINGS: &str = "ElectionTimeout = 500\nHeartbeatInterval = 50\nSnapshotEntries = 200\n";

fn open_session(cluster: &Cluster, id: u64) -> u64 {
    redis::cmd("RAFT").arg("SESSION").query(&mut cluster.redis(id)).expect("a session")
}

fn words(session: u64, sequence: u64, command: &str) -> redis::Cmd {
    let mut cmd = redis::cmd("RAFT");
    cmd.arg("DO").arg(session).arg(sequence);
    for word in command.split(' ') {
        cmd.arg(word);
    }
    cmd
}

/// What a node answers; an error as its text.
fn run(node: &mut redis::Connection, cmd: &redis::Cmd) -> Result<Value, String> {
    cmd.query(node).map_err(|error| error.to_string())
}

/// Commands of every kind, and what they were answered.
struct Told {
    session: u64,
    answers: Vec<(&'static str, Result<Value, String>)>,
}

impl Told {
    /// Runs them for the first time.
    fn first(cluster: &Cluster, id: u64) -> Told {
        let session = open_session(cluster, id);
        let commands = [
            "SET a 1",
            "SET a 2 GET",
            "RAFT CAS a 1 3",
            "RAFT CAS a 2 3",
            "GET a",
            "RAFT GET a",
            "EXISTS a b",
            "RAFT TOPIC CREATE jobs",
            "RAFT TOPIC CREATE jobs",
            "RAFT PUT jobs one",
            "RAFT PUT jobs two",
            "RAFT PUT jobs three",
            "RAFT PUT jobs four",
            "RAFT TAKE jobs",
            "RAFT RECEIVE jobs MAX 2 LEASE 3600000",
            "RAFT ACK jobs 2 1",
            "RAFT LENGTH jobs",
            "RAFT TAKE nothing",
            "SET b 1",
            "DEL b",
        ];
        let mut node = cluster.redis(id);
        let answers = (1..).zip(commands).map(|(sequence, command)| {
            let answer = run(&mut node, &words(session, sequence, command));
            (command, answer)
        });
        Told { session, answers: answers.collect() }
    }

    /// Sends them again, to every running node, each time on a new connection.
    #[track_caller]
    fn again(&self, cluster: &Cluster) {
        for id in cluster.running() {
            let mut node = cluster.redis(id);
            for (sequence, (command, answer)) in (1..).zip(&self.answers) {
                assert_eq!(run(&mut node, &words(self.session, sequence, command)), *answer, "{command} at node {id}");
            }
            let length: u64 = redis::cmd("RAFT").arg("LENGTH").arg("jobs").query(&mut node).expect("a length");
            assert_eq!(length, 3, "two are leased, one is ready");
            let values: Vec<Option<String>> =
                ["a", "b"].map(|key| redis::cmd("GET").arg(key).query(&mut node).expect("a value")).into();
            assert_eq!(values, [Some("3".to_owned()), None]);
        }
    }
}

#[test]
fn a_command_sent_again_has_its_first_answer_whatever_happened_in_between() {
    let mut cluster = Cluster::with(3, SETTINGS);
    let first = cluster.wait_for_leader();
    let told = Told::first(&cluster, 1 + first % 3);
    let [succeeded, failed] = [true, false].map(|ok| told.answers.iter().filter(|(_, it)| it.is_ok() == ok).count());
    assert_eq!((succeeded, failed), (16, 4), "{:?}", told.answers);
    told.again(&cluster);

    cluster.kill(first);
    let second = cluster.wait_for_leader();
    assert_ne!(second, first);
    told.again(&cluster);

    cluster.spawn(first);
    cluster.kill_at_once(&cluster.ids());
    cluster.ids().into_iter().for_each(|id| cluster.spawn(id));
    cluster.wait_for_leader();
    told.again(&cluster);

    // Enough for every node to make a snapshot, which the sessions are part of.
    let mut node = cluster.redis(1);
    for n in 0..500 {
        redis::cmd("SET").arg("c").arg(n).exec(&mut node).expect("SET");
    }
    for id in cluster.ids() {
        let files = || std::fs::read_dir(cluster.data_folder(id)).expect("a data folder").filter_map(Result::ok);
        let is_snapshot = |name: String| name.ends_with(".snapshot");
        wait_until("each node has a snapshot", || {
            files().any(|file| is_snapshot(file.file_name().to_string_lossy().into_owned())).then_some(())
        });
    }
    cluster.kill_at_once(&cluster.ids());
    cluster.ids().into_iter().for_each(|id| cluster.spawn(id));
    cluster.wait_for_leader();
    told.again(&cluster);
    for id in cluster.ids() {
        assert!(cluster.log(id).contains("restored the state from the snapshot"), "node {id} began with its log");
    }
    crate::snapshot::assert_same_state(&cluster);
}

#[test]
fn a_command_whose_leader_dies_before_it_can_answer_takes_effect_once() {
    let mut cluster = Cluster::with(3, SETTINGS);
    cluster.client().create_topic(b"jobs", &raft::machine::queue::command::TopicLimits::default()).expect("a topic");
    for round in 1..=3 {
        let leader = cluster.wait_for_leader();
        let session = open_session(&cluster, leader);
        let followers: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
        followers.iter().for_each(|&id| cluster.pause(id));
        let mut client = cluster.client();
        let status = client.status(raft::consensus::NodeId(leader)).expect("the leader answers");
        let mut stream = TcpStream::connect(cluster.client_address(leader)).expect("a connection");
        let put = words(session, 1, "RAFT PUT jobs x");
        stream.write_all(&put.get_packed_command()).expect("the request is sent");
        let (index, commit) = wait_until("it is in the leader's log", || {
            let now = client.status(raft::consensus::NodeId(leader)).ok()?;
            (now.last > status.last).then_some((now.last, now.commit))
        });
        assert!(commit < index, "nobody else has it, so it is not committed");
        cluster.kill(leader);
        followers.iter().for_each(|&id| cluster.resume(id));
        let next = cluster.wait_for_leader();
        assert_ne!(next, leader);
        let expected = Ok(Value::Int(round));
        assert_eq!(run(&mut cluster.redis(next), &put), expected, "whether or not it has reached the others");
        cluster.spawn(leader);
        cluster.wait_for_leader();
        cluster.wait_until_caught_up();
        assert_eq!(run(&mut cluster.redis(leader), &put), expected);
        let topic = client.topic(b"jobs").expect("the topic");
        assert_eq!(topic.messages, round as u64, "it took effect once");
    }
}
