//! Nodes that keep nothing on disk: one that is started again has forgotten what it acknowledged, and must not help to forget
//! it everywhere.

use std::time::Duration;

use raft::client::Client;
use raft::consensus::NodeId;

use crate::support::cluster::{Cluster, wait_until};

const IN_MEMORY: &str = "StorageClass = InMemoryStorage\nElectionTimeout = 500\nHeartbeatInterval = 50\n";

fn abstains(client: &mut Client, id: u64) -> Option<bool> {
    client.status(NodeId(id)).ok().map(|status| status.abstains)
}

#[test]
pub fn a_node_that_kept_nothing_loses_no_acknowledged_write_and_counts_again() {
    let mut cluster = Cluster::with(3, IN_MEMORY);
    let leader = cluster.wait_for_leader();
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (forgetful, absent) = (others[0], others[1]);
    cluster.wait_until_caught_up();

    // The write is on the leader and on the node that is going to forget it. Then there is nobody else who could vote against a
    // leader that has never seen it.
    cluster.pause(absent);
    cluster.client().set(b"k", b"acknowledged").expect("a write that two of three have");
    cluster.kill(forgetful);
    cluster.spawn(forgetful);
    let mut client = cluster.client_with_timeout(Duration::from_secs(1));
    wait_until("it is told that it forgot", || (abstains(&mut client, forgetful) == Some(true)).then_some(()));
    cluster.pause(leader);
    cluster.resume(absent);
    wait_until("the other one asks for votes", || {
        let status = client.status(NodeId(absent)).ok()?;
        (status.leader.is_none() && status.role == raft::consensus::Role::PreCandidate).then_some(())
    });
    client.set(b"k", b"other").expect_err("nobody may lead who has not got the first write");
    assert_eq!(abstains(&mut client, forgetful), Some(true));

    // With the leader back, all is there, and the node that had forgotten counts: with the other one it is a majority.
    cluster.resume(leader);
    cluster.wait_for_leader();
    let mut client = cluster.client();
    let found = client.get(b"k").expect("a read").expect("the key is there");
    assert_eq!(&found.bytes[..], b"acknowledged");
    wait_until("it has caught up", || (abstains(&mut client, forgetful) == Some(false)).then_some(()));
    cluster.wait_until_caught_up();
    cluster.kill(leader);
    cluster.wait_for_leader();
    let found = client.get(b"k").expect("a read").expect("the key is there");
    assert_eq!(&found.bytes[..], b"acknowledged");
    client.set(b"k", b"later").expect("two of three are a majority");

    let log = cluster.log(forgetful);
    let told = log.lines().find(|line| line.contains("was started again: what it promised before is forgotten"));
    assert!(told.is_some_and(|line| line.contains("neither votes nor counts until it has caught up")), "{log}");
    assert!(log.contains("has caught up: it votes and counts again"), "{log}");
}

#[test]
fn nodes_that_keep_nothing_may_be_restarted_one_after_the_other() {
    let mut cluster = Cluster::with(3, IN_MEMORY);
    cluster.wait_for_leader();
    cluster.client().set(b"k", b"v").expect("a write");
    for id in [1, 2, 3, 1] {
        let times = |cluster: &Cluster| cluster.log(id).matches("it votes and counts again").count();
        let before = times(&cluster);
        cluster.kill(id);
        cluster.spawn(id);
        wait_until("it was told, and has caught up", || (times(&cluster) > before).then_some(()));
        assert_eq!(abstains(&mut cluster.client(), id), Some(false));
    }
    cluster.wait_for_leader();
    let found = cluster.client().get(b"k").expect("a read").expect("the key is there");
    assert_eq!(&found.bytes[..], b"v");

    // All at once there is nobody left who remembers: a new cluster.
    cluster.ids().into_iter().for_each(|id| cluster.kill(id));
    cluster.ids().into_iter().for_each(|id| cluster.spawn(id));
    cluster.wait_for_leader();
    assert!(cluster.client().get(b"k").expect("a read").is_none());
}
