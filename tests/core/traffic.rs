//! What goes over the links: nothing twice, nothing without need, and few rounds to find where logs agree (T14, T23).

use std::time::Duration;

use raft::consensus::{NodeId, Term};

use crate::cluster::{Cluster, Detail, MAX_ELECTION_TIMEOUT as E, Traffic};

const LEADER: NodeId = NodeId(1);

fn elect_first(cluster: &mut Cluster) {
    cluster.now = cluster.server(LEADER).election_deadline().expect("it does not lead yet");
    cluster.event(LEADER, raft::consensus::Event::Tick);
    cluster.stabilize();
    assert_eq!(cluster.leader(), Some(LEADER));
}

fn sent(cluster: &Cluster, to: u64) -> Traffic {
    cluster.traffic.get(&(LEADER, NodeId(to))).copied().unwrap_or_default()
}

#[test]
fn each_entry_crosses_each_link_once() {
    const COUNT: u64 = 10;
    const SIZE: u64 = 5000;
    let mut cluster = Cluster::new(3, 0, 1, |_| {});
    elect_first(&mut cluster);
    cluster.traffic.clear();
    for entry in 0..COUNT {
        cluster.propose(LEADER, &[format!("entry{entry}")], SIZE as u32);
        cluster.run(Duration::from_millis(1));
    }
    cluster.run(Duration::from_millis(10));
    assert_eq!(cluster.server(LEADER).commit().0, 1 + COUNT);
    for peer in [2, 3] {
        let traffic = sent(&cluster, peer);
        assert_eq!((traffic.entries, traffic.bytes), (COUNT, COUNT * SIZE), "to node {peer}");
        assert!(traffic.messages <= COUNT + 4, "{traffic:?} to node {peer}");
    }

    cluster.traffic.clear();
    cluster.run(Duration::from_secs(1));
    for (link, traffic) in &cluster.traffic {
        assert!(traffic.messages <= 51, "a heartbeat each 20 ms and no more, but {traffic:?} on {link:?}");
        assert_eq!(traffic.entries, 0);
    }
    assert_eq!(cluster.traffic.len(), 4, "only the leader talks, and is answered");
}

/// What is proposed at once travels at once, in as few requests as the limits allow.
#[test]
fn a_batch_is_one_request() {
    let mut cluster = Cluster::new(3, 0, 1, |_| {});
    elect_first(&mut cluster);
    cluster.traffic.clear();
    let names: Vec<_> = (0..100).map(|entry| format!("entry{entry}")).collect();
    cluster.propose(LEADER, &names, 10);
    cluster.stabilize();
    assert_eq!((sent(&cluster, 2).messages, sent(&cluster, 2).entries), (1, 100));
}

/// Two leaders that nobody else heard wrote 10,000 entries each, in so many terms.
#[test]
fn logs_that_differ_in_long_runs_agree_after_few_rounds() {
    for runs in [1u64, 2, 50] {
        let length = 10_000 / runs;
        let log = |first: u64| -> Vec<u64> {
            let terms = (0..runs).flat_map(|run| (0..length).map(move |_| first + 2 * run));
            std::iter::once(1).chain(terms).collect()
        };
        let mut cluster = Cluster::new(3, 0, 1, |_| {});
        let last = Term(2 * runs + 1);
        cluster.begin_with(NodeId(1), last, None, &log(3));
        cluster.begin_with(NodeId(2), last, None, &log(3));
        cluster.begin_with(NodeId(3), last, None, &log(2));
        elect_first(&mut cluster);
        cluster.detail = Detail::Nothing;
        let same = |cluster: &Cluster| cluster.running().all(|server| server.commit().0 == 10_002);
        assert!(cluster.run_until(cluster.now + E, same), "{runs} terms: not equal in time");
        let rejections = cluster.traffic[&(NodeId(3), LEADER)].rejections;
        assert!(rejections <= runs + 1, "{runs} terms take {rejections} rounds");
        // Each probe carries a batch, which is lost if the probe fails.
        let batches = (sent(&cluster, 3).bytes + 64 * sent(&cluster, 3).entries) / (256 << 10);
        assert!(batches <= rejections + 4, "{runs} terms take {batches} batches");
    }
}
