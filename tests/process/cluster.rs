//! Five terminals, as processes: elections, kills, pauses and lost majorities over TCP.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, PATIENCE, rounds, wait_until};
use raft::client::{Client, Error};
use raft::consensus::NodeId;

/// The digest of a node's own state: equal where the states are equal.
fn digest_of(client: &mut Client, id: u64) -> String {
    let state = client.state(NodeId(id)).expect("a running node shows its state");
    state["digest"].as_str().expect("the state has a digest").to_owned()
}

/// Everything that is stored, after checking that all nodes have the same.
fn state_of_all(cluster: &Cluster) -> BTreeMap<String, String> {
    cluster.wait_until_caught_up();
    let mut client = cluster.client();
    let first = digest_of(&mut client, 1);
    for id in cluster.ids() {
        assert_eq!(digest_of(&mut client, id), first, "node {id}");
    }
    cluster.stored()
}

#[test]
fn five_nodes_elect_a_leader_and_each_of_them_serves() {
    let cluster = Cluster::start(5);
    let leader = cluster.wait_for_leader();
    for id in cluster.ids() {
        let mut node = cluster.redis(id);
        let key = format!("from-{id}");
        redis::cmd("SET").arg(&key).arg(id).exec(&mut node).expect("every node takes writes");
        let value: u64 = redis::cmd("GET").arg(&key).query(&mut node).expect("every node answers reads");
        assert_eq!(value, id);
    }
    assert_eq!(cluster.wait_for_leader(), leader, "nothing happened that could move leadership");
    assert_eq!(state_of_all(&cluster).len(), 5);
}

#[test]
fn one_and_two_and_four_nodes_work_too() {
    for nodes in [1, 2, 4] {
        let mut cluster = Cluster::start(nodes);
        cluster.wait_for_leader();
        cluster.client().set(b"k", b"v").expect("a write");
        for id in cluster.ids() {
            cluster.kill(id);
        }
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        let value = cluster.client().get(b"k").expect("a read").expect("the key is there");
        assert_eq!(&value.bytes[..], b"v", "{nodes} nodes, all killed and started again");
    }
}

#[test]
fn no_acknowledged_write_is_lost_while_the_leader_is_killed_again_and_again() {
    let writes = rounds(2_000, 20_000) as u64;
    let kills = rounds(5, 50) as u64;
    let mut cluster = Cluster::start(5);
    cluster.wait_for_leader();

    let acknowledged = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let mut client = cluster.client();
    let writer = || {
        let mut unknown = 0u64;
        for n in 0..writes {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // An unknown outcome may or may not be there; writing it again is harmless, the value is the same.
            loop {
                match client.set(format!("key-{n}").as_bytes(), n.to_string().as_bytes()) {
                    Ok(()) => break,
                    Err(error) if !error.definite() => unknown += 1,
                    Err(error) => panic!("write {n}: {error}"),
                }
            }
            acknowledged.store(n + 1, Ordering::Release);
        }
        unknown
    };

    let mut killed = 0;
    let unknown = std::thread::scope(|scope| {
        let writer = scope.spawn(writer);
        for kill in 1..=kills {
            let due = kill * writes / (kills + 1);
            wait_until("the writer gets on", || {
                (acknowledged.load(Ordering::Acquire) >= due || writer.is_finished()).then_some(())
            });
            let leader = cluster.wait_for_leader();
            cluster.kill(leader);
            killed += 1;
            let next = cluster.wait_for_leader();
            assert_ne!(next, leader);
            cluster.spawn(leader);
        }
        let patience = Instant::now() + PATIENCE * 2;
        while !writer.is_finished() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends well")
    });
    let acknowledged = acknowledged.load(Ordering::Acquire);
    assert_eq!((acknowledged, killed), (writes, kills), "all writes were made, all kills happened; {unknown} unknown");

    cluster.wait_for_leader();
    let state = state_of_all(&cluster);
    for n in 0..acknowledged {
        let value = state.get(&format!("key-{n}")).map(String::as_str);
        assert_eq!(value, Some(n.to_string().as_str()), "key-{n}");
    }
}

#[test]
pub fn nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once_under_load() {
    let mut cluster = Cluster::with(5, "ElectionTimeout = 300\nHeartbeatInterval = 50\n");
    let acknowledged = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let mut client = cluster.client_with_timeout(Duration::from_secs(1));
            let (acknowledged, stop) = (&acknowledged, &stop);
            scope.spawn(move || {
                for n in 0.. {
                    let key = format!("{writer}-{n}");
                    if stop.load(Ordering::Relaxed) {
                        break;
                    } else if client.set(key.as_bytes(), key.as_bytes()).is_ok() {
                        acknowledged.lock().expect("no writer panicked").push(key);
                    }
                }
            });
        }
        for round in 1..=rounds(4, 30) {
            wait_until("the writers get on", || {
                (acknowledged.lock().expect("no writer panicked").len() >= 100 * round).then_some(())
            });
            cluster.ids().into_iter().for_each(|id| cluster.kill(id));
            cluster.ids().into_iter().for_each(|id| cluster.spawn(id));
        }
        stop.store(true, Ordering::Relaxed);
    });
    cluster.wait_for_leader();
    let state = state_of_all(&cluster);
    for key in acknowledged.into_inner().expect("no writer panicked") {
        assert_eq!(state.get(&key), Some(&key));
    }
}

#[test]
fn a_paused_leader_serves_no_stale_read_when_it_wakes() {
    let cluster = Cluster::start(3);
    for round in 0..rounds(5, 50) {
        let old = cluster.wait_for_leader();
        let mut at_old = cluster.redis(old);
        redis::cmd("SET").arg("k").arg(format!("{round}-old")).exec(&mut at_old).expect("a write");
        cluster.pause(old);
        let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != old).collect();
        let mut at_new = cluster.redis(others[0]);
        wait_until("the others elect a leader and write", || {
            redis::cmd("SET").arg("k").arg(format!("{round}-new")).exec(&mut at_new).ok()
        });
        // The request waits in the old leader's socket: the first thing it does when it wakes is to answer it.
        std::thread::scope(|scope| {
            let read = scope.spawn(|| redis::cmd("GET").arg("k").query::<String>(&mut at_old));
            std::thread::sleep(Duration::from_millis(20));
            cluster.resume(old);
            match read.join().expect("the reader ends well") {
                Ok(value) => assert_eq!(value, format!("{round}-new")),
                Err(error) => assert_eq!(error.code(), Some("NOTREADY"), "{error}"),
            }
        });
        let new = cluster.wait_for_leader();
        assert!(cluster.log(new).contains("is leader of term"), "the pause did cost the old leader its place");
    }
}

#[test]
fn a_minority_acknowledges_nothing() {
    let mut cluster = Cluster::start(5);
    let leader = cluster.wait_for_leader();
    let mut at_leader = cluster.redis(leader);
    redis::cmd("SET").arg("before").arg(1).exec(&mut at_leader).expect("a write");
    let victims: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).take(3).collect();
    for &id in &victims {
        cluster.kill(id);
    }
    for id in cluster.running() {
        let mut node = cluster.redis(id);
        for attempt in 0..3 {
            let set = redis::cmd("SET").arg("after").arg(attempt).exec(&mut node).expect_err("no majority, no write");
            assert!(matches!(set.code(), Some("NOTREADY" | "UNKNOWN")), "node {id}: {set}");
            let get = redis::cmd("GET").arg("before").exec(&mut node).expect_err("no majority, no read");
            assert_eq!(get.code(), Some("NOTREADY"), "node {id}: {get}");
        }
    }
    cluster.spawn(victims[0]);
    cluster.wait_for_leader();
    let value = cluster.client().get(b"before").expect("a majority answers").expect("the key is there");
    assert_eq!(&value.bytes[..], b"1");
}

#[test]
pub fn leadership_moves_in_well_under_a_second_when_the_leader_is_killed() {
    let kills = rounds(20, 50);
    let mut cluster = Cluster::with(5, "");
    let mut took = Vec::new();
    for _ in 0..kills {
        let leader = cluster.wait_for_leader();
        let mut client = cluster.client();
        client.set(b"k", b"v").expect("a write");
        let survivor = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
        let mut survivor = cluster.redis(survivor);
        let began = Instant::now();
        cluster.kill(leader);
        wait_until("another leader serves", || redis::cmd("SET").arg("k").arg("w").exec(&mut survivor).ok());
        took.push(began.elapsed());
        cluster.spawn(leader);
        cluster.wait_for_leader();
        cluster.wait_until_caught_up();
    }
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("fail-over of {kills} kills: median {median:?}, worst {worst:?}");
    assert!(median < Duration::from_millis(500), "median {median:?} of {took:?}");
    assert!(worst < Duration::from_secs(1), "worst {worst:?} of {took:?}");
}

#[test]
pub fn a_stopping_leader_hands_over_and_is_gone_within_two_seconds() {
    let mut cluster = Cluster::start(3);
    for _ in 0..rounds(3, 20) {
        let leader = cluster.wait_for_leader();
        let (status, took) = cluster.terminate(leader);
        assert!(status.success(), "{status}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        let log = cluster.log(leader);
        assert!(log.contains("hands leadership over"), "it says what it waits for: {log}");
        let next = cluster.wait_for_leader();
        assert!(cluster.log(next).contains("the leader hands over"), "node {next} was handed leadership");
        cluster.spawn(leader);
        cluster.wait_for_leader();
    }
}

#[test]
fn a_transfer_moves_leadership_to_the_node_that_was_named() {
    let cluster = Cluster::start(3);
    for _ in 0..rounds(3, 20) {
        let leader = cluster.wait_for_leader();
        let target = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
        cluster.client().transfer(NodeId(target)).expect("the transfer succeeds");
        assert_eq!(cluster.wait_for_leader(), target);
    }
}

#[test]
pub fn pipelines_keep_their_order_through_leader_and_follower() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let follower = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
    for id in [leader, follower] {
        let mut node = cluster.redis(id);
        let mut pipeline = redis::pipe();
        for n in 0..1_000u64 {
            pipeline.cmd("SET").arg("counter").arg(n).ignore();
            pipeline.cmd("GET").arg("counter");
            if n % 3 == 0 {
                pipeline.cmd("DEL").arg("counter").ignore();
                pipeline.cmd("EXISTS").arg("counter");
            }
        }
        let answers: Vec<u64> = pipeline.query(&mut node).expect("the pipeline is answered");
        let expected: Vec<u64> = (0..1_000).flat_map(|n| if n % 3 == 0 { vec![n, 0] } else { vec![n] }).collect();
        assert_eq!(answers, expected, "node {id}");
    }
}

#[test]
fn a_restarted_node_catches_up_and_a_cut_tail_is_no_obstacle() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let mut client = cluster.client();
    let victim = cluster.ids().into_iter().find(|&id| id != leader).expect("there are others");
    client.set(b"a", b"1").expect("a write");
    cluster.kill(victim);
    for n in 0..500 {
        client.set(format!("k{n}").as_bytes(), &[b'x'; 1_000]).expect("a write");
    }
    cluster.spawn(victim);
    assert_eq!(state_of_all(&cluster).len(), 501);
}

#[test]
fn two_processes_cannot_share_a_data_folder() {
    let mut cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_raft"))
        .args(["-c", cluster.ini().to_str().expect("UTF-8"), "-n", "1"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("raft runs");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("data/A") || stderr.contains("address"), "it names what is taken: {stderr}");
    cluster.client().set(b"k", b"v").expect("the first goes on");
    cluster.kill(1);
}

#[test]
fn unknown_outcomes_are_reported_as_unknown() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
    let mut at_leader = cluster.redis(leader);
    redis::cmd("SET").arg("k").arg("old").exec(&mut at_leader).expect("a write");
    for &id in &others {
        cluster.pause(id);
    }
    // The leader does not know yet that it is alone: it appends, and must not say that this failed.
    let error = redis::cmd("SET").arg("k").arg("new").exec(&mut at_leader).expect_err("no majority");
    assert_eq!(error.code(), Some("UNKNOWN"), "{error}");
    for &id in &others {
        cluster.resume(id);
    }
    cluster.wait_for_leader();
    let value = cluster.client().get(b"k").expect("a read").expect("the key is there");
    assert!(matches!(&value.bytes[..], b"old" | b"new"));
    let error = cluster.client().cas(b"k", b"neither", b"x").expect_err("the value differs");
    assert!(matches!(error, Error::Different(_)) && error.definite(), "{error}");
}
