//! The files in `scenarios`: each does what its comments say.

use std::collections::BTreeMap;

use raft::client::Client;
use raft::consensus::{NodeId, Role};
use raft::runtime::{LogLine, NodeStatus};

use crate::support::cluster::{Cluster, wait_until};

/// How every node is, once all of them answer.
fn status_of_all(client: &mut Client) -> Option<Vec<NodeStatus>> {
    client.status_of_all().into_iter().map(|(_, status)| status.ok()).collect()
}

/// Waits until all nodes are as they should be.
#[track_caller]
fn wait_for(cluster: &Cluster, what: &str, mut wanted: impl FnMut(&[NodeStatus]) -> bool) -> Vec<NodeStatus> {
    let mut client = cluster.client();
    wait_until(what, || {
        cluster.assert_all_run();
        status_of_all(&mut client).filter(|all| wanted(all))
    })
}

/// Waits until this node leads this term, and all others follow it.
#[track_caller]
fn wait_for_leader(cluster: &Cluster, leader: u64, term: u64) {
    let leader = NodeId(leader);
    wait_for(cluster, "all nodes follow the leader", |all| {
        all.iter().all(|node| {
            let role = if node.id == leader { Role::Leader } else { Role::Follower };
            (node.leader, node.term, node.role) == (Some(leader), term, role)
        })
    });
}

fn log_of(client: &mut Client, id: u64) -> Vec<LogLine> {
    client.log(NodeId(id), Some(1)).expect("a node shows its log")
}

/// The terms of a node's entries.
fn terms_of(client: &mut Client, id: u64) -> Vec<u64> {
    log_of(client, id).iter().map(|entry| entry.term).collect()
}

/// Waits until these nodes have logs of these terms.
#[track_caller]
fn wait_for_terms(cluster: &Cluster, ids: &[u64], terms: &[u64]) {
    let mut client = cluster.client();
    wait_until(&format!("the logs of {ids:?} have the terms {terms:?}"), || {
        ids.iter().all(|id| terms_of(&mut client, *id) == terms).then_some(())
    });
}

/// Waits until the whole log is committed and applied everywhere, and checks that all nodes have one log and one state.
#[track_caller]
fn wait_until_all_is_applied(cluster: &Cluster) {
    cluster.wait_until_caught_up();
    let mut client = cluster.client();
    let state = |client: &mut Client, id| client.state(NodeId(id)).expect("a node shows its state")["digest"].clone();
    let (log, digest) = (log_of(&mut client, 1), state(&mut client, 1));
    assert!(log.iter().all(|entry| entry.committed), "{log:?}");
    for id in cluster.ids() {
        assert_eq!(log_of(&mut client, id), log, "node {id}");
        assert_eq!(state(&mut client, id), digest, "node {id}");
    }
}

/// Checks that all nodes have put these messages on the topic, in this order, and nothing else.
#[track_caller]
fn assert_messages(cluster: &Cluster, expected: &[&str]) {
    let mut client = cluster.client();
    for id in cluster.ids() {
        let applied = client.status(NodeId(id)).expect("a node says how it is").applied;
        let entries = log_of(&mut client, id).into_iter().filter(|entry| entry.committed && entry.index <= applied);
        let message = |entry: LogLine| entry.text.strip_prefix("put ")?.strip_suffix(" on scenario").map(str::to_owned);
        assert_eq!(entries.filter_map(message).collect::<Vec<_>>(), expected, "node {id}");
    }
}

/// The leader, the first node, hears from each of the others three times more, and nothing is committed.
#[track_caller]
fn assert_nothing_commits(cluster: &Cluster) {
    // Of each peer: how often it was heard, and how long ago.
    let mut heard = BTreeMap::new();
    wait_for(cluster, "three heartbeats are answered by all", |all| {
        assert!(all.iter().all(|node| node.commit == 0 && node.applied == 0), "{all:?}");
        for peer in &all[0].peers {
            let (times, ms) = heard.entry(peer.id).or_insert((0, peer.heard_ms));
            *times += u32::from(peer.heard_ms < *ms);
            *ms = peer.heard_ms;
        }
        heard.len() + 1 == all.len() && heard.values().all(|(times, _)| *times >= 3)
    });
}

/// What a node said of itself when it began.
#[track_caller]
fn assert_began(cluster: &Cluster, id: u64, role: &str, term: u64) {
    let log = cluster.log(id);
    assert!(log.contains(&format!("node {id} begins as {role} in term {term} ")), "{log}");
}

/// `send 1 set colour blue`: one entry, without one that opens a session before it.
fn set_at_first_node(cluster: &Cluster) {
    cluster.client().only(NodeId(1)).and_then(|mut first| first.set(b"colour", b"blue")).expect("a write");
}

#[test]
fn force_candidate_step_down() {
    let cluster = Cluster::of_scenario("force-candidate-step-down");
    wait_for_leader(&cluster, 1, 6);
    for (id, term) in [(4, 6), (5, 5)] {
        assert_began(&cluster, id, "candidate", term);
        let log = cluster.log(id);
        assert!(log.contains("follows node 1 (A) in term 6") && !log.contains("is leader"), "{log}");
    }
    assert_eq!(cluster.wait_for_leader(), 1);
}

#[test]
fn follower_missing_entries() {
    let cluster = Cluster::of_scenario("follower-missing-entries");
    wait_for_leader(&cluster, 1, 3);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 2, 2, 3]);
    wait_until_all_is_applied(&cluster);
    wait_for_leader(&cluster, 1, 3);
    assert_messages(&cluster, &["1.1", "2.1", "3.2", "4.2", "5.3"]);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 2, 2, 3]);
}

#[test]
fn follower_extra_entries() {
    let cluster = Cluster::of_scenario("follower-extra-entries");
    wait_for_leader(&cluster, 1, 6);
    wait_for(&cluster, "the leader knows that all have the five", |all| {
        all[0].peers.iter().all(|peer| peer.matched == 5)
    });
    assert_nothing_commits(&cluster);
    wait_for_terms(&cluster, &[2], &[1, 1, 1, 4, 4, 5, 5]);
    wait_for_terms(&cluster, &[1, 3], &[1, 1, 1, 4, 4]);
    set_at_first_node(&cluster);
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 1, 4, 4, 6]);
    assert_messages(&cluster, &["1.1", "2.1", "3.1", "4.4", "5.4"]);
}

#[test]
fn missing_and_extra_entries() {
    let cluster = Cluster::of_scenario("missing-and-extra-entries");
    wait_for_leader(&cluster, 1, 8);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
    assert_nothing_commits(&cluster);
    set_at_first_node(&cluster);
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]);
}

#[test]
fn append_entries_idempotent() {
    let cluster = Cluster::of_scenario("append-entries-idempotent");
    wait_for_leader(&cluster, 1, 3);
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 2, 3, 3]);
    cluster.client().transfer(NodeId(2)).expect("B takes over");
    wait_for_leader(&cluster, 2, 4);
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 2, 3, 3, 4]);
    assert_messages(&cluster, &["1.1", "2.1", "3.2", "4.3", "5.3"]);
}

#[test]
fn stale_candidate_gets_no_vote() {
    let cluster = Cluster::of_scenario("stale-candidate-gets-no-vote");
    let leader = cluster.wait_for_leader();
    assert_ne!(leader, 1, "an empty log wins nothing");
    assert_began(&cluster, 1, "candidate", 20);
    assert!(!cluster.log(1).contains("is leader"), "{}", cluster.log(1));
    let term = cluster.client().status(NodeId(leader)).expect("the leader answers").term;
    assert!(term > 20, "{term}");
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 1, 2, term]);
    assert_messages(&cluster, &["1.1", "2.1", "3.2"]);
}

#[test]
fn commit_of_earlier_term() {
    let cluster = Cluster::of_scenario("commit-of-earlier-term");
    wait_for_leader(&cluster, 1, 4);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 2, 2]);
    assert_nothing_commits(&cluster);
    set_at_first_node(&cluster);
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 2, 2, 4]);
    assert_messages(&cluster, &["1.1", "2.2", "3.2"]);
    wait_for_leader(&cluster, 1, 4);
}

#[test]
fn a_read_is_answered_with_all_that_is_committed_for_it() {
    let cluster = Cluster::of_scenario("commit-of-earlier-term");
    wait_for_leader(&cluster, 1, 4);
    wait_for_terms(&cluster, &[1, 2, 3], &[1, 2, 2]);
    assert_nothing_commits(&cluster);
    assert!(cluster.client().get(b"colour").expect("a read").is_none());
    wait_until_all_is_applied(&cluster);
    assert_messages(&cluster, &["1.1", "2.2", "3.2"]);
    let log = log_of(&mut cluster.client(), 1);
    assert_eq!(log.last().map(|entry| (entry.term, entry.kind.as_str())), Some((4, "noop")), "{log:?}");
    assert_eq!(log.len(), 4);
}

#[test]
fn figure_7() {
    let cluster = Cluster::of_scenario("figure-7");
    wait_for_leader(&cluster, 1, 8);
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let (c, d) = ([&leader[..], &[6]].concat(), [&leader[..], &[7, 7]].concat());
    wait_for_terms(&cluster, &[1, 2, 3, 6, 7], &leader);
    wait_for(&cluster, "the leader knows that all have its log", |all| {
        all[0].peers.iter().all(|peer| peer.matched == 10)
    });
    wait_for_terms(&cluster, &[4], &c);
    wait_for_terms(&cluster, &[5], &d);
    assert_nothing_commits(&cluster);
    set_at_first_node(&cluster);
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &cluster.ids(), &[&leader[..], &[8]].concat());
    wait_for_leader(&cluster, 1, 8);
}

#[test]
fn figure_8() {
    let cluster = Cluster::of_scenario("figure-8");
    assert_eq!(cluster.wait_for_leader(), 5);
    // Later than 5 if a vote was lost on a connection that was not up yet.
    let term = cluster.client().status(NodeId(5)).expect("the leader answers").term;
    assert!(term >= 5, "{term}");
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &cluster.ids(), &[1, 3, term]);
    assert_messages(&cluster, &["1.1", "2.3"]);
}

#[test]
fn figure_8_committed() {
    let cluster = Cluster::of_scenario("figure-8-committed");
    let leader = cluster.wait_for_leader();
    assert!([1, 2, 3].contains(&leader), "{leader} has not got the entry of term 4");
    assert_began(&cluster, 5, "candidate", 5);
    let term = cluster.client().status(NodeId(leader)).expect("the leader answers").term;
    assert!(term > 5, "{term}");
    wait_until_all_is_applied(&cluster);
    wait_for_terms(&cluster, &cluster.ids(), &[1, 2, 4, term]);
    assert_messages(&cluster, &["1.1", "2.2", "3.4"]);
}

#[test]
fn a_node_that_is_started_again_forces_nothing_on_those_who_remember_it() {
    let mut cluster = Cluster::of_scenario("commit-of-earlier-term");
    wait_for_leader(&cluster, 1, 4);
    cluster.client().set(b"colour", b"blue").expect("a write");
    cluster.wait_until_caught_up();
    cluster.kill(1);
    let next = cluster.wait_for_leader();
    cluster.client().set(b"colour", b"green").expect("a write");
    cluster.spawn(1);
    wait_until("it is told that it forgot, and catches up", || {
        cluster.log(1).contains("it votes and counts again").then_some(())
    });
    assert_eq!(cluster.wait_for_leader(), next);
    wait_until_all_is_applied(&cluster);
    assert_messages(&cluster, &["1.1", "2.2", "3.2"]);
    assert_eq!(cluster.log(1).matches("is leader of term").count(), 1, "{}", cluster.log(1));
}

#[test]
fn without_one_of_the_others_a_scenario_begins_all_the_same() {
    let mut cluster = Cluster::prepare_scenario("commit-of-earlier-term");
    cluster.spawn(1);
    cluster.spawn(2);
    let began = std::time::Instant::now();
    assert_eq!(cluster.wait_for_leader(), 1);
    assert!(began.elapsed() > std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(cluster.log(1).contains("begins without node 3 (C), to which it is not connected"), "{}", cluster.log(1));
    wait_for_terms(&cluster, &[1, 2], &[1, 2, 2]);
}
