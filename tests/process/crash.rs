//! Five nodes that are killed, or lose their power, again and again while clients write. Nothing acknowledged is missing
//! afterwards, the logs agree, and every state after every crash is that of a replay from nothing: each entry was
//! applied exactly once (T30, T31, T43 on a real disk; I12, I13).

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use raft::consensus::{Index, NodeId};

use crate::support::cluster::{Cluster, rounds, wait_until};
use crate::support::disk::{self, Disk};
use crate::support::historian;
use crate::support::load::{Load, value_of};
use crate::support::logs::{self, Log};
use crate::support::random::Random;

const NODES: u64 = 5;
const WRITERS: usize = 4;
const SETTINGS: &str = "ElectionTimeout = 250\nHeartbeatInterval = 50\nSegmentBytes = 64 KiB\n";
const SNAPSHOTS: &str = "SnapshotBytes = 128 KiB\n";
/// This node makes no snapshots: its log is there from the first entry on, to be replayed. It does not crash
/// alone, lest it should be sent a snapshot.
const WITNESS: u64 = NODES;

/// A cluster under load, and what its nodes said of themselves after they had crashed.
struct Trial {
    /// Before the cluster, whose folder cannot be removed as long as they are mounted in it.
    disks: Vec<Disk>,
    cluster: Cluster,
    load: Load,
    seen: Vec<Seen>,
    random: Random,
}

/// The state of a node's machine.
#[derive(Debug)]
struct Seen {
    node: u64,
    applied: Index,
    digest: u64,
}

impl Trial {
    fn start(seed: u64, disks: bool) -> Trial {
        println!("seed {seed}");
        let cluster = Cluster::prepare(NODES as usize, &format!("{SETTINGS}{SNAPSHOTS}"));
        let ini = std::fs::read_to_string(cluster.ini()).expect("raft.ini");
        let witness = ini.replace(SNAPSHOTS, "SnapshotBytes = 1024 MiB\nSnapshotEntries = 1000000000\n");
        std::fs::write(witness_ini(&cluster), witness).expect("raft.ini of the witness");
        let ids = cluster.ids();
        let disk = |id: &u64| {
            let image = cluster.ini().with_file_name(format!("{id}.image"));
            Disk::make(&image, &cluster.data_folder(*id)).expect("a disk")
        };
        let disks = if disks { ids.iter().map(disk).collect() } else { Vec::new() };
        let load = Load::start(ids.iter().map(|id| cluster.client_address(*id)).collect(), WRITERS);
        let mut trial = Trial { disks, cluster, load, seen: Vec::new(), random: Random::new(seed) };
        trial.restart(&ids);
        trial
    }

    /// Starts nodes, and asks each for its state as soon as it answers. The witness comes first, so that the others are not
    /// ahead of it by more than their logs have.
    fn restart(&mut self, ids: &[u64]) {
        let (witness, others): (Vec<u64>, Vec<u64>) = ids.iter().partition(|id| **id == WITNESS);
        for (ini, ids) in [(witness_ini(&self.cluster), witness), (self.cluster.ini().to_owned(), others)] {
            ids.iter().for_each(|id| self.cluster.spawn_by(*id, historian::command(&ini, *id)));
            ids.iter().for_each(|id| self.look_at(*id));
        }
        self.cluster.wait_for_leader();
    }

    fn look_at(&mut self, node: u64) {
        let mut client = self.cluster.client_with_timeout(Duration::from_secs(1));
        let state = wait_until("the node shows its state", || {
            self.cluster.assert_all_run();
            client.state(NodeId(node)).ok()
        });
        let applied = Index(state["applied"].as_u64().expect("an index"));
        let digest = state["digest"].as_str().and_then(|digest| u64::from_str_radix(digest, 16).ok());
        self.seen.push(Seen { node, applied, digest: digest.expect("a digest") });
    }

    /// So many nodes: the witness only if it is all.
    fn victims(&mut self, count: usize) -> Vec<u64> {
        let mut ids = self.cluster.ids();
        if count < ids.len() {
            ids.retain(|id| *id != WITNESS);
        }
        while ids.len() > count {
            ids.swap_remove(self.random.below(ids.len() as u64) as usize);
        }
        ids
    }

    /// Lets the writers go on until some more writes are acknowledged, and a moment longer.
    fn write(&mut self, at_least: usize) {
        self.load.wait_for(at_least);
        std::thread::sleep(Duration::from_micros(self.random.below(20_000)));
    }

    /// The logs of nodes that do not run, each of which must be intact and agree with the others.
    #[track_caller]
    fn check_logs(&self, ids: &[u64]) -> Vec<Log> {
        let logs: Vec<Log> = ids.iter().map(|id| logs::read(&self.cluster.data_folder(*id))).collect();
        for (number, log) in logs.iter().enumerate() {
            logs[..number].iter().for_each(|other| log.assert_matches(other));
        }
        logs
    }

    /// Checks that nothing acknowledged is missing, that the logs are the same, and what every node said of its state.
    fn conclude(mut self) {
        let acknowledged = self.load.stop();
        let ids = self.cluster.ids();
        self.cluster.wait_until_caught_up();
        ids.iter().for_each(|id| self.look_at(*id));
        let stored = self.cluster.stored();
        let lost: Vec<&String> = acknowledged.iter().filter(|key| stored.get(*key) != Some(&value_of(key))).collect();
        assert!(lost.is_empty(), "of {} acknowledged writes {lost:?} are lost", acknowledged.len());
        stored.iter().for_each(|(key, value)| assert_eq!(*value, value_of(key), "nobody wrote this to {key}"));

        self.cluster.kill_at_once(&ids);
        let logs = self.check_logs(&ids);
        logs.iter().for_each(|log| assert_eq!(log.last(), logs[0].last(), "all have caught up"));
        let digests = logs.last().expect("the witness is the last").replay();
        for Seen { node, applied, digest } in &self.seen {
            let expected = digests.get(applied);
            assert_eq!(Some(digest), expected, "node {node} at entry {applied}: not the state that a replay comes to");
        }
        let restored = |id: &&u64| self.cluster.log(**id).contains("restored the state from the snapshot");
        let restored = ids.iter().filter(restored).count();
        assert!(restored > 0, "snapshots are part of what is tested");
        println!(
            "{} writes acknowledged, {} stored, {} states compared; {restored} nodes went on from snapshots",
            acknowledged.len(),
            stored.len(),
            self.seen.len()
        );
    }
}

impl Drop for Trial {
    /// Nobody is to write below a disk that is unmounted.
    fn drop(&mut self) {
        self.cluster.kill_at_once(&self.cluster.running());
    }
}

fn witness_ini(cluster: &Cluster) -> PathBuf {
    cluster.ini().with_file_name("witness.ini")
}

#[test]
fn five_nodes_killed_at_once_thirty_times_lose_nothing_and_apply_everything_once() {
    let mut trial = Trial::start(3, false);
    let all = trial.cluster.ids();
    for _ in 0..rounds(30, 300) {
        trial.write(50);
        trial.cluster.kill_at_once(&all);
        trial.check_logs(&all);
        trial.restart(&all);
    }
    trial.conclude();
}

#[test]
fn nodes_that_lose_their_power_lose_nothing_else() {
    if let Some(reason) = disk::unavailable() {
        // Past the test runner, which keeps what tests print to itself.
        let _ = writeln!(std::io::stderr(), "skipped: real power cuts: {reason}");
        return;
    }
    let mut trial = Trial::start(4, true);
    let (mut cuts, mut lost) = (0, 0);
    for round in 0..rounds(3, 50) {
        // One, a majority, all.
        let victims = trial.victims([1, 3, NODES as usize][round % 3]);
        trial.write(300);
        let disks: Vec<&Disk> = victims.iter().map(|id| &trial.disks[*id as usize - 1]).collect();
        disk::cut(&disks);
        // What a node says now must be true, too.
        std::thread::sleep(Duration::from_micros(trial.random.below(50_000)));
        trial.cluster.kill_at_once(&victims);
        if victims.len() == 1 {
            trial.load.wait_for(30);
        }
        disks.iter().for_each(|disk| disk.remount());
        cuts += disks.len();
        lost += disks.iter().filter(|disk| disk.lost_what_was_not_synced()).count();
        trial.check_logs(&victims);
        trial.restart(&victims);
    }
    println!("{cuts} disks were cut, {lost} of them lost what was not synced");
    assert!(lost > 0, "a power cut that loses nothing shows nothing");
    trial.conclude();
}
