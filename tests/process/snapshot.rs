//! Snapshots under real processes: the log stays small, and whoever is killed while a snapshot is made, sent or installed
//! ends with the same state as everybody else.

use std::fs::{DirEntry, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, PATIENCE, rounds, wait_until};

/// Ends the names of snapshots that are being written.
const UNFINISHED: &str = ".snapshot.tmp";

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

/// A node's state. Of all nodes, once everything is applied everywhere: a leader is one before it has applied its log.
fn digest(cluster: &Cluster, id: u64) -> String {
    cluster.wait_until_caught_up();
    let state: String = redis::cmd("RAFT").arg("STATE").query(&mut cluster.redis(id)).expect("the node's state");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    format!("{} keys, {}", state["keys"], state["digest"])
}

pub fn assert_same_state(cluster: &Cluster) {
    let digests: Vec<String> = cluster.ids().into_iter().map(|id| digest(cluster, id)).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// Sizes of a node's files whose names end so.
fn sizes(cluster: &Cluster, id: u64, suffix: &str) -> Vec<u64> {
    let files = std::fs::read_dir(cluster.data_folder(id)).expect("a data folder");
    let files = files.filter_map(Result::ok).filter(|file| file.file_name().to_string_lossy().ends_with(suffix));
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).collect()
}

/// The snapshot that a node is writing. One that it removes is named likewise, but older than the newest.
fn unfinished(cluster: &Cluster, id: u64) -> Option<PathBuf> {
    let newest = snapshots(cluster, id).pop();
    let files = std::fs::read_dir(cluster.data_folder(id)).expect("a data folder").filter_map(Result::ok);
    let mut paths = files.map(|file| file.path()).filter(|path| path.to_string_lossy().ends_with(UNFINISHED));
    paths.find(|path| newest.as_ref().is_none_or(|newest| path > newest))
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
    let mut cluster = Cluster::with(3, CALM);
    let keys = 13_000;
    let mut next = 0;
    for round in 0..rounds(3, 30) as u64 {
        let victim = 1 + round % 3;
        cluster.wait_for_leader();
        let through = cluster.ids().into_iter().find(|id| *id != victim).expect("another");
        // A snapshot of all keys has 13 MiB, which go to the disk in pieces.
        let under_way =
            || unfinished(&cluster, victim).filter(|path| path.metadata().is_ok_and(|it| it.len() > 1 << 20));
        let deadline = Instant::now() + PATIENCE;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (cluster, stop, next) = (&cluster, &stop, &mut next);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    write(cluster, through, keys, *next..*next + 500, 1_000);
                    *next += 500;
                }
            });
            // Paused, so that what is seen stays so until the end.
            loop {
                while under_way().is_none() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_micros(200));
                }
                cluster.pause(victim);
                if under_way().is_some() || Instant::now() >= deadline {
                    break;
                }
                cluster.resume(victim);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let left = under_way().expect("a snapshot is half there");
        cluster.kill(victim);
        assert!(left.exists(), "killed while it was made");
        let through = cluster.wait_for_leader();
        write(&cluster, through, keys, next..next + 500, 1_000);
        next += 500;
        cluster.spawn(victim);
        cluster.wait_for_leader();
        assert!(!left.exists(), "what is not whole goes at the start");
        cluster.wait_until_caught_up();
    }
    assert_same_state(&cluster);
}

/// Flips a byte of a file, in place, as far from its end.
fn flip(path: &Path, from_end: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let offset = file.metadata().expect("a size").len() - from_end;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("the byte is changed");
}

/// The node's complete snapshots, the newest last.
fn snapshots(cluster: &Cluster, id: u64) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cluster.data_folder(id)).expect("a data folder");
    let mut paths: Vec<PathBuf> = files.filter_map(Result::ok).map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "snapshot"));
    paths.sort();
    paths
}

/// What `raft check` says of a node that does not run, and whether it is content.
fn check(cluster: &Cluster, id: u64) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
    let output = command.arg("check").arg(cluster.data_folder(id)).output().expect("raft check runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_node_starts_from_the_previous_snapshot_if_the_newest_is_damaged_and_from_none_that_does_not_suffice() {
    let settings = "ElectionTimeout = 500\nSegmentBytes = 4 KiB\nSnapshotBytes = 64 KiB\nSnapshotEntries = 20\n";
    let mut cluster = Cluster::with(1, settings);
    cluster.wait_for_leader();
    write(&cluster, 1, 50, 0..1_000, 100);
    // The last of those writes: were it an earlier one, the next would be too far from it for the log to reach back.
    let index_of = |path: &Path| -> Option<u64> { path.file_name()?.to_str()?.get(..20)?.parse().ok() };
    let previous = wait_until("one snapshot is left", || {
        let mut left = snapshots(&cluster, 1);
        left.pop().filter(|last| left.is_empty() && index_of(last).is_some_and(|index| index > 980))
    });
    let bytes = std::fs::read(&previous).expect("the snapshot");
    let mut number = 1_000;
    let newest = wait_until("the next takes its place", || {
        write(&cluster, 1, 50, number..number + 1, 100);
        number += 1;
        snapshots(&cluster, 1).into_iter().find(|path| *path != previous)
    });
    wait_until("the log is durable, and the previous one goes", || (!previous.exists()).then_some(()));
    let state = digest(&cluster, 1);
    cluster.kill(1);
    assert_eq!(snapshots(&cluster, 1), std::slice::from_ref(&newest));

    // A crash before the previous one went, and then the newest rots.
    std::fs::write(&previous, bytes).expect("the previous one is there again");
    flip(&newest, 1_000);
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let (fine, said) = check(&cluster, 1);
    assert!(!fine && said.contains(&name(&newest)) && said.contains("is damaged at offset"), "{said}");
    assert!(!said.contains(&format!("{} is damaged", name(&previous))), "{said}");
    cluster.spawn(1);
    cluster.wait_for_leader();
    assert_eq!(digest(&cluster, 1), state, "nothing is missing");
    let log = cluster.log(1);
    assert!(log.contains(&format!("{} is damaged at offset", name(&newest))), "{log}");
    let index: u64 = name(&previous)[..20].parse().expect("an index");
    assert!(log.contains(&format!("restored the state from the snapshot of entry {index} ")), "{log}");

    // The next one takes the place of both, and all is well again.
    write(&cluster, 1, 50, number..number + 200, 100);
    wait_until("the damaged one is gone", || (!newest.exists()).then_some(()));
    cluster.terminate(1);
    let (fine, said) = check(&cluster, 1);
    assert!(fine, "{said}");

    // None is left, and the log does not reach back to the beginning.
    snapshots(&cluster, 1).iter().for_each(|path| flip(path, 1_000));
    let only = snapshots(&cluster, 1).pop().expect("the newest");
    let (fine, said) = check(&cluster, 1);
    assert!(!fine && said.contains(&name(&only)), "{said}");
    cluster.spawn(1);
    assert!(!cluster.await_end(1).success(), "it does not start on less than it had");
    let log = cluster.log(1);
    let last = log.lines().last().unwrap_or_default();
    for words in [&*name(&only), "is damaged at offset", "expected", "found", "put back a copy"] {
        assert!(last.contains(words), "{words:?} is missing: {last}");
    }
}

#[test]
fn a_snapshot_that_rots_while_it_is_sent_is_never_taken_and_the_leader_makes_another() {
    let mut cluster = Cluster::with(3, &format!("{CALM}SnapshotRateBytes = 1 MiB\n"));
    let leader = cluster.wait_for_leader();
    let behind = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    write(&cluster, leader, 4, 0..10, 100);
    cluster.kill(behind);
    write(&cluster, leader, 2_000, 10..8_000, 1_000);
    let name = loop {
        cluster.spawn(behind);
        let part = wait_until("a part has arrived", || {
            let files = std::fs::read_dir(cluster.data_folder(behind)).expect("a data folder").filter_map(Result::ok);
            let large = |file: &DirEntry| file.metadata().is_ok_and(|it| it.len() > 300_000);
            let name = |file: DirEntry| Some(file.file_name().to_str()?.strip_suffix(".part")?.to_owned());
            files.filter(large).find_map(name)
        });
        if cluster.data_folder(leader).join(&part).exists() {
            break part;
        }
        // The leader has made a newer one meanwhile: it sends that next time.
        cluster.kill(behind);
        // What is left of the older one must not be taken for it. It may have become whole just before.
        let _ = std::fs::remove_file(cluster.data_folder(behind).join(format!("{part}.part")));
    };
    flip(&cluster.data_folder(leader).join(&name), 10_000);
    cluster.wait_until_caught_up();
    assert_same_state(&cluster);
    let (sent, received) = (cluster.log(leader), cluster.log(behind));
    assert!(sent.contains(&format!("{name} is damaged at offset")), "the leader says so: {sent}");
    assert!(sent.contains("makes a new one"), "{sent}");
    assert!(received.contains("cannot take a snapshot from"), "what arrived was checked: {received}");
    assert!(received.contains("goes on from the snapshot of entry"), "{received}");
    assert_eq!(sizes(&cluster, behind, ".part"), [0; 0]);
    assert_eq!(cluster.wait_for_leader(), leader);
}

#[test]
pub fn whoever_is_killed_while_a_snapshot_is_sent_gets_the_rest_of_it_later() {
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
