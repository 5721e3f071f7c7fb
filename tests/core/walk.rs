//! Random walks: messages lost, doubled and overtaken, links cut, nodes crashed, disks held or full, while clients write and read.
//! The checker looks after every event. In the end all faults stop, and the cluster must recover (T2–T4, T17, T21, T28, I22).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use raft::consensus::{Event, Index, NodeId};

use crate::cluster::{Cluster, Detail, MAX_ELECTION_TIMEOUT};
use crate::dice::Dice;

/// How many walks: more with `RAFT_WALKS`, from another seed on with `RAFT_SEED`.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RAFT_SEED").unwrap_or(1);
    first..first + number("RAFT_WALKS").unwrap_or(400)
}

#[test]
fn random_walks_keep_every_invariant_and_end_well() {
    let mut commits = 0;
    for seed in seeds() {
        match catch_unwind(|| Walk::new(seed).walk()) {
            Ok(committed) => commits += committed,
            Err(panic) => {
                tell_the_end(seed);
                resume_unwind(panic);
            }
        }
    }
    println!("{} walks, {commits} commits", seeds().count());
    assert!(commits > 3 * seeds().count() as u64, "walks on which hardly anything is committed show nothing");
}

/// Walks once more, and prints the last that happened.
fn tell_the_end(seed: u64) {
    let mut walk = Walk::new(seed);
    walk.cluster.detail = Detail::Words;
    _ = catch_unwind(AssertUnwindSafe(|| walk.walk()));
    let story = &walk.cluster.story;
    let skipped = story.len().saturating_sub(100);
    eprintln!("{}", story.iter().skip(skipped).cloned().collect::<Vec<_>>().join("\n"));
    eprintln!("again with RAFT_SEED={seed} RAFT_WALKS=1");
}

struct Walk {
    dice: Dice,
    cluster: Cluster,
    requests: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5]).unwrap_or(3);
        let learners = u64::from(dice.once_in(6));
        // Small limits, so that each of them is met.
        let (pre_vote, check_quorum) = (!dice.once_in(5), !dice.once_in(5));
        let (window, batch, pending) = (1 + dice.below(4), 74 * (1 + dice.below(4)), 74 * (5 + dice.below(50)));
        let interval = Duration::from_millis(dice.pick(&[0, 0, 0, 3]).unwrap_or(0));
        let mut cluster = Cluster::new(nodes, learners, seed, |config| {
            config.pre_vote = pre_vote;
            config.check_quorum = check_quorum;
            config.max_inflight_requests = window as usize;
            config.max_batch_bytes = batch;
            config.max_pending_bytes = pending;
            config.min_replication_interval = interval;
        });
        cluster.latency = Duration::from_micros(100 + dice.below(5000));
        for id in cluster.ids() {
            cluster.node_mut(id).disk.latency = Duration::from_micros(dice.pick(&[0, 100, 2000, 20_000]).unwrap_or(0));
        }
        Walk { dice, cluster, requests: 0 }
    }

    fn walk(&mut self) -> u64 {
        for _ in 0..250 {
            self.step();
        }
        self.recover();
        self.cluster.checker.last_committed().0
    }

    /// A node, half of the time one that leads.
    fn node(&mut self) -> NodeId {
        let leader = self.cluster.leader().filter(|_| self.dice.once_in(2));
        leader.unwrap_or_else(|| self.dice.pick(&self.cluster.ids()).unwrap_or_default())
    }

    fn names(&mut self, kind: &str) -> Vec<String> {
        let count = 1 + self.dice.below(4);
        self.requests += count;
        (0..count).map(|one| format!("{kind}{}", self.requests - one)).collect()
    }

    fn step(&mut self) {
        let node = self.node();
        let link = self.dice.pick(&self.cluster.busy_links());
        match self.dice.below(29) {
            0..=6 => {
                let time = Duration::from_millis(1 + self.dice.below(60));
                self.cluster.run(time);
            }
            7..=9 => {
                let names = self.names("w");
                self.cluster.propose(node, &names, 10);
            }
            10 | 11 => {
                let names = self.names("r");
                self.cluster.read(node, &names);
            }
            12 => {
                let to = self.dice.pick(&self.cluster.ids()).filter(|_| !self.dice.once_in(4));
                self.cluster.event(node, Event::Transfer { to });
            }
            13 => self.crash(node),
            14 | 15 => self.restart_one(),
            16 => self.partition(),
            17 => {
                let to = self.node();
                self.cluster.cut(node, to);
            }
            18 => self.cluster.heal(),
            19 if self.dice.once_in(2) => self.cluster.disk_full(node),
            19 => self.cluster.node_mut(node).disk.held = true,
            20 => self.release(node),
            21 => _ = self.cluster.finish_write(node),
            22 => {
                if let Some(deadline) =
                    self.cluster.node(node).server.as_ref().and_then(|server| server.election_deadline())
                {
                    self.cluster.now = self.cluster.now.max(deadline);
                    self.cluster.event(node, Event::Tick);
                }
            }
            23 => self.compact(node),
            24 => {
                let peer = self.node();
                self.cluster.event(node, Event::Unreachable { peer });
            }
            25 => self.wipe(node),
            _ => {
                if let Some((from, to)) = link {
                    match self.dice.below(4) {
                        0 => _ = self.cluster.drop_first(from, to),
                        1 => self.cluster.duplicate(from, to),
                        2 => self.cluster.delay(from, to),
                        _ => _ = self.cluster.deliver(from, to),
                    }
                }
            }
        }
    }

    fn crash(&mut self, node: NodeId) {
        if self.cluster.node(node).server.is_some() {
            self.cluster.crash(node);
        }
    }

    fn restart_one(&mut self) {
        let down: Vec<_> =
            self.cluster.ids().into_iter().filter(|&id| self.cluster.node(id).server.is_none()).collect();
        if let Some(node) = self.dice.pick(&down) {
            self.restart(node);
        }
    }

    /// A node that keeps nothing forgets again, what it has found out so far included.
    fn restart(&mut self, node: NodeId) {
        match self.cluster.node(node).forgetful {
            true => self.cluster.forget(node),
            false => self.cluster.restart(node),
        }
    }

    /// Wipes a disk now and then, but never those of half of the voters at a time.
    fn wipe(&mut self, node: NodeId) {
        let voters = &self.cluster.membership.voters;
        let (nodes, rejoins) = (&self.cluster.nodes, self.dice.once_in(4));
        let wiped = |id: &&NodeId| **id == node || nodes[*id].config.abstains || nodes[*id].forgetful;
        if 2 * voters.iter().filter(wiped).count() >= voters.len() || self.dice.once_in(2) {
            return;
        }
        match rejoins || nodes[&node].config.abstains {
            true => self.cluster.rejoin(node),
            false => self.cluster.forget(node),
        }
    }

    fn partition(&mut self) {
        let mut groups = [Vec::new(), Vec::new()];
        for id in self.cluster.ids() {
            groups[self.dice.below(2) as usize].push(id);
        }
        self.cluster.partition(&groups);
    }

    fn release(&mut self, node: NodeId) {
        self.cluster.disk_freed(node);
        while self.dice.below(4) > 0 && self.cluster.finish_write(node) {}
    }

    fn compact(&mut self, id: NodeId) {
        let node = self.cluster.node(id);
        let covered = node.disk.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        if node.server.is_some() && node.applied > covered.max(node.log.base()) {
            let (applied, base) = (node.applied, node.log.base());
            let keep = Index(applied.0 - self.dice.below(4).min(applied.0 - base.0));
            self.cluster.compact(id, applied, keep);
        }
    }

    /// All faults stop. Within 20 longest election timeouts there is a leader, it commits, and every node has it all.
    fn recover(&mut self) {
        self.cluster.heal();
        for id in self.cluster.ids() {
            self.cluster.disk_freed(id);
            self.cluster.node_mut(id).disk.latency = Duration::from_micros(100);
            if self.cluster.node(id).server.is_none() {
                self.restart(id);
            }
        }
        let cluster = &mut self.cluster;
        let end = cluster.now + 20 * MAX_ELECTION_TIMEOUT;
        for attempt in 0.. {
            assert!(cluster.now < end, "no leader, or no commit, in time: {}", describe(cluster));
            cluster.run(MAX_ELECTION_TIMEOUT / 4);
            if let Some(leader) = cluster.leader() {
                cluster.propose(leader, &[format!("last{attempt}")], 10);
                let name = format!("last{attempt}");
                if cluster.run_until((cluster.now + MAX_ELECTION_TIMEOUT).min(end), |cluster| {
                    cluster.answers.contains_key(&name)
                }) && cluster.answers[&name] == "done"
                {
                    break;
                }
            }
        }
        let same = |cluster: &Cluster| {
            let all = cluster.checker.last_committed();
            cluster.running().all(|server| server.commit() == all && server.last_index() == all)
        };
        assert!(cluster.run_until(end, same), "the nodes do not converge: {}", describe(cluster));
        let machines: Vec<_> = cluster.nodes.values().map(|node| &node.machine).collect();
        assert!(machines.windows(2).all(|pair| pair[0] == pair[1]), "the state machines differ");
    }
}

fn describe(cluster: &Cluster) -> String {
    let lines = cluster.running().map(|server| format!("\n{}: {:?}", server.id(), server.status()));
    lines.collect()
}
