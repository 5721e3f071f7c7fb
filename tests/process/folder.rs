//! `raft check` on the folders of nodes that ran: fine however they ended.

use std::process::{Command, Output};

use crate::support::cluster::{Cluster, label};
use redis::Commands;

fn check(cluster: &Cluster, id: u64) -> Output {
    let folder = cluster.ini().with_file_name("data").join(label(id));
    Command::new(env!("CARGO_BIN_EXE_raft")).arg("check").arg(folder).output().expect("raft runs")
}

#[track_caller]
fn assert_fine(cluster: &Cluster, id: u64) {
    let output = check(cluster, id);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("fine") && !stderr.contains("warning"), "{stdout}{stderr}");
}

#[test]
fn the_folder_of_a_node_that_ran_is_fine_however_it_ended() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let mut node = cluster.redis(leader);
    let writer = std::thread::spawn(move || while node.set::<_, _, ()>("k", "v".repeat(5_000)).is_ok() {});
    for round in 0..5 {
        let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
        let refused = check(&cluster, follower);
        assert_eq!(refused.status.code(), Some(1), "round {round}: a node runs on it");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("a node runs on"));
        cluster.kill(follower);
        assert_fine(&cluster, follower);
        cluster.spawn(follower);
        cluster.wait_for_leader();
    }
    cluster.kill(leader);
    writer.join().expect("the writer ends with its connection");
    assert_fine(&cluster, leader);
    for id in cluster.running() {
        assert!(cluster.terminate(id).0.success());
        assert_fine(&cluster, id);
    }
}
