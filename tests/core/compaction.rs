//! A snapshot makes room in the log, but only for what the state machine has applied.

use raft::consensus::{Event, Index, LogTime, NodeId, SnapshotMeta, Term};

use crate::cluster::Cluster;

#[test]
fn nothing_goes_from_the_log_before_it_is_applied() {
    let mut cluster = Cluster::new(3, 0, 1, |_| {});
    let node = NodeId(1);
    cluster.begin_with(node, Term(1), None, &[1, 1, 1]);
    let membership = cluster.membership.clone();
    let snapshot = SnapshotMeta { index: Index(3), term: Term(1), time: LogTime(0), membership };
    cluster.event(node, Event::SnapshotTaken { snapshot, keep_from: Index(4) });
    assert_eq!(cluster.server(node).status().first, Index(1), "nothing is applied yet");
}
