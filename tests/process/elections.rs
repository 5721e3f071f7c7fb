//! Who leads: one node at a time, as long as a majority runs, and nobody without one.

use std::time::{Duration, Instant};

use raft::client::Client;
use raft::consensus::{NodeId, Role};
use raft::runtime::NodeStatus;

use crate::support::cluster::{Cluster, wait_until};

/// How the running nodes are, once all of them answer.
fn status_of_running(cluster: &Cluster, client: &mut Client) -> Vec<NodeStatus> {
    let running = cluster.running();
    wait_until("all running nodes answer", || {
        running.iter().map(|id| client.status(NodeId(*id)).ok()).collect::<Option<Vec<_>>>()
    })
}

/// Waits for a leader whom all running nodes follow, and checks that there is no other.
#[track_caller]
fn the_one_leader(cluster: &Cluster) -> NodeStatus {
    let leader = cluster.wait_for_leader();
    let all = status_of_running(cluster, &mut cluster.client());
    let leads = |node: &&NodeStatus| node.role == Role::Leader;
    let leaders: Vec<_> = all.iter().filter(leads).collect();
    assert_eq!(leaders.iter().map(|node| node.id).collect::<Vec<_>>(), [NodeId(leader)], "{all:?}");
    for node in all.iter().filter(|node| !leads(node)) {
        assert_eq!((node.role, node.term, node.leader), (Role::Follower, leaders[0].term, Some(NodeId(leader))));
    }
    leaders[0].clone()
}

/// Checks that these keys are stored, and nothing else, and that every running node has the same state, leader or not.
#[track_caller]
fn assert_all_have(cluster: &Cluster, keys: &[String]) {
    cluster.wait_until_caught_up();
    assert_eq!(cluster.stored().into_keys().collect::<Vec<_>>(), keys);
    let mut client = cluster.client();
    let mut state = |id| client.state(NodeId(id)).expect("a running node shows its state");
    let running = cluster.running();
    let first = state(running[0]);
    for id in running {
        assert_eq!(state(id)["digest"], first["digest"], "node {id}");
    }
}

fn write(cluster: &Cluster, keys: &mut Vec<String>) {
    let key = format!("k{}", keys.len());
    cluster.client().set(key.as_bytes(), b"v").expect("a majority takes a write");
    keys.push(key);
}

#[test]
fn five_nodes_have_one_leader_who_stays() {
    let cluster = Cluster::start(5);
    let leader = the_one_leader(&cluster);
    // Three election timeouts, in which its heartbeats must keep everybody else quiet.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        let now = the_one_leader(&cluster);
        assert_eq!((now.id, now.term), (leader.id, leader.term));
    }
}

#[test]
pub fn leaders_are_killed_until_three_of_five_are_left_and_come_back() {
    let mut cluster = Cluster::start(5);
    let mut keys = Vec::new();
    let mut killed = Vec::new();
    let mut leader = the_one_leader(&cluster);
    write(&cluster, &mut keys);
    for _ in 0..2 {
        cluster.kill(leader.id.0);
        killed.push(leader.id.0);
        let next = the_one_leader(&cluster);
        assert!(next.id != leader.id && next.term > leader.term, "{next:?} after {leader:?}");
        leader = next;
        write(&cluster, &mut keys);
        assert_all_have(&cluster, &keys);
    }
    assert_eq!(cluster.running().len(), 3);
    for id in killed {
        cluster.spawn(id);
        let now = the_one_leader(&cluster);
        assert_eq!((now.id, now.term), (leader.id, leader.term), "node {id} came back and disturbed nobody");
        write(&cluster, &mut keys);
        assert_all_have(&cluster, &keys);
    }
    assert_eq!(cluster.running().len(), 5);
}

#[test]
fn a_lone_node_of_five_campaigns_for_ever_and_acknowledges_nothing() {
    let mut cluster = Cluster::prepare(5, "ElectionTimeout = 200\nHeartbeatInterval = 50\n");
    cluster.spawn(1);
    let mut client = cluster.client_with_timeout(Duration::from_secs(1));
    let is_candidate = |role| matches!(role, Role::Candidate | Role::PreCandidate);
    wait_until("it runs for election", || client.status(NodeId(1)).ok().filter(|status| is_candidate(status.role)));
    let mut node = cluster.redis(1);
    for attempt in 0..5 {
        // Each takes two election timeouts, so elections end undecided meanwhile, and others begin.
        let set = redis::cmd("SET").arg("k").arg(attempt).exec(&mut node).expect_err("no majority, no write");
        assert_eq!(set.code(), Some("NOTREADY"), "{set}");
        let get = redis::cmd("GET").arg("k").exec(&mut node).expect_err("no majority, no read");
        assert_eq!(get.code(), Some("NOTREADY"), "{get}");
        let status = client.status(NodeId(1)).expect("it says how it is");
        assert!(is_candidate(status.role) && status.leader.is_none(), "{status:?}");
        assert_eq!((status.last, status.commit), (0, 0), "it has appended nothing");
    }
    // It has not given up: with two others there is a leader.
    cluster.spawn(2);
    cluster.spawn(3);
    the_one_leader(&cluster);
    assert!(cluster.client().get(b"k").expect("a majority answers").is_none(), "what was refused never took effect");
}

#[test]
fn two_of_five_that_are_left_lead_nobody_and_acknowledge_nothing() {
    let mut cluster = Cluster::start(5);
    let leader = the_one_leader(&cluster).id.0;
    let mut keys = Vec::new();
    write(&cluster, &mut keys);
    cluster.wait_until_caught_up();
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    cluster.kill_at_once(&[leader, followers[0], followers[1]]);
    let mut client = cluster.client();
    wait_until("both run for election", || {
        let all = status_of_running(&cluster, &mut client);
        all.iter().all(|node| matches!(node.role, Role::Candidate | Role::PreCandidate)).then_some(())
    });
    let error = client.set(b"other", b"v").expect_err("no majority, no write");
    assert!(error.to_string().contains("no leader"), "{error}");
    cluster.spawn(followers[0]);
    the_one_leader(&cluster);
    assert_all_have(&cluster, &keys);
}
