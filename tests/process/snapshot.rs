//! Snapshots under real processes: the log stays small, and whoever is killed while a snapshot is made, sent or installed
//! ends with the same state as everybody else.

use std::path::Path;

use crate::support::cluster::{Cluster, label, rounds, wait_until};
use crate::support::random::Random;

const CALM: &str = "ElectionTimeout = 500\nHeartbeatInterval = 50\nSegmentBytes = 64 KiB\nSnapshotBytes = 64 KiB\n";

/// Sets `count` keys of `keys`, with values of so many bytes, a few hundred at a time, and returns when all is acknowledged.
/// What fails is set again.
fn write(cluster: &Cluster, through: u64, keys: u64, range: std::ops::Range<u64>, value_bytes: usize) {
    let mut connection = cluster.redis(through);
    let mut next = range.start;
    while next < range.end {
        let upto = range.end.min(next + 500);
        let mut pipe = redis::pipe();
        for number in next..upto {
            let key = format!("key{}", number % keys);
            pipe.set(key, format!("{number:0>value_bytes$}")).ignore();
        }
        match pipe.query::<()>(&mut connection) {
            Ok(()) => next = upto,
            Err(_) => connection = cluster.redis(through),
        }
    }
}

fn digest(cluster: &Cluster, id: u64) -> String {
    let state: String = redis::cmd("RAFT").arg("STATE").query(&mut cluster.redis(id)).expect("the node's state");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    format!("{} keys, {}", state["keys"], state["digest"])
}

fn assert_same_state(cluster: &Cluster) {
    cluster.wait_until_caught_up();
    let digests: Vec<String> = cluster.ids().into_iter().map(|id| digest(cluster, id)).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// Sizes of a node's files whose names end so.
fn sizes(cluster: &Cluster, id: u64, suffix: &str) -> Vec<u64> {
    let folder = cluster.ini().parent().unwrap_or(Path::new(".")).join("data").join(label(id));
    let files = std::fs::read_dir(folder).expect("a data folder");
    let files = files.filter_map(Result::ok).filter(|file| file.file_name().to_string_lossy().ends_with(suffix));
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).collect()
}

#[test]
fn the_log_stays_small_however_much_is_written() {
    let mut cluster = Cluster::with(3, CALM);
    let leader = cluster.wait_for_leader();
    let behind = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    write(&cluster, leader, 200, 0..100, 100);
    cluster.kill(behind);
    write(&cluster, leader, 200, 100..10_000, 100);
    cluster.spawn(behind);
    write(&cluster, leader, 200, 10_000..20_000, 100);
    assert_same_state(&cluster);
    assert!(cluster.log(behind).contains("goes on from the snapshot of entry"), "{}", cluster.log(behind));
    for id in cluster.ids() {
        let log: u64 = sizes(&cluster, id, ".wal").iter().sum();
        assert!(log < 1 << 20, "the log of node {id} has {log} bytes");
        wait_until("the older snapshots are gone", || (sizes(&cluster, id, ".snapshot").len() == 1).then_some(()));
        assert_eq!(sizes(&cluster, id, ".part"), [0; 0]);
    }
    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_for_leader();
    assert_same_state(&cluster);
    for id in cluster.ids() {
        assert!(cluster.log(id).contains("restored the state from the snapshot"), "{}", cluster.log(id));
    }
}

#[test]
fn whoever_is_killed_while_a_snapshot_is_made_ends_with_the_same_state() {
    let seed = 11;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut cluster = Cluster::with(3, CALM);
    for round in 0..rounds(5, 50) as u64 {
        let leader = cluster.wait_for_leader();
        let victim = 1 + random.next() % 3;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&cluster, leader, 400, 2000 * round..2000 * round + 1000, 200));
            writer.join().expect("all is written");
        });
        // While snapshots are being made of what was just written.
        std::thread::sleep(std::time::Duration::from_micros(random.next() % 5_000));
        cluster.kill(victim);
        let through = cluster.wait_for_leader();
        write(&cluster, through, 400, 2000 * round + 1000..2000 * round + 2000, 200);
        cluster.spawn(victim);
    }
    cluster.wait_for_leader();
    assert_same_state(&cluster);
}

#[test]
fn whoever_is_killed_while_a_snapshot_is_sent_gets_the_rest_of_it_later() {
    let mut cluster = Cluster::with(3, &format!("{CALM}SnapshotRateBytes = 1 MiB\n"));
    let leader = cluster.wait_for_leader();
    let behind = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    write(&cluster, leader, 4, 0..10, 100);
    cluster.kill(behind);
    // About three seconds of it; the log since is larger than it, so that nothing of the beginning is left.
    write(&cluster, leader, 3_000, 10..12_000, 1_000);
    for _ in 0..2 {
        cluster.spawn(behind);
        wait_until("a part has arrived", || {
            sizes(&cluster, behind, ".part").first().filter(|size| **size > 300_000).copied()
        });
        cluster.kill(behind);
    }
    let part = sizes(&cluster, behind, ".part");
    assert!(part[0] > 300_000, "{part:?}");
    cluster.spawn(behind);
    // Messages go their own way meanwhile.
    write(&cluster, leader, 3_000, 12_000..12_500, 100);
    assert_eq!(cluster.wait_for_leader(), leader, "the snapshot delayed no heartbeat");
    assert_same_state(&cluster);
    assert!(cluster.log(behind).contains("goes on from the snapshot of entry"), "{}", cluster.log(behind));
}
