//! Elections at every size, over many seeds (T1, T3, T4).

use std::collections::BTreeSet;

use raft::consensus::{NodeId, Term};

use crate::cluster::{Cluster, MAX_ELECTION_TIMEOUT as E};
use crate::dice::Dice;

#[test]
fn every_size_elects_a_leader_and_keeps_it() {
    for voters in [1, 2, 3, 4, 5, 7] {
        for seed in 1..=5 {
            let mut cluster = Cluster::new(voters, 0, seed, |_| {});
            let elected = cluster.run_until(5 * E, |cluster| cluster.leader().is_some());
            assert!(elected, "{voters} voters, seed {seed}: no leader within 5 E");
            cluster.run(E);
            let leader = cluster.leader();
            let terms = |cluster: &Cluster| cluster.running().map(|server| server.term()).collect::<BTreeSet<_>>();
            let (before, commit) = (terms(&cluster), cluster.checker.last_committed());
            assert_eq!(before.len(), 1, "all agree on the term");
            cluster.run(100 * E);
            assert_eq!((cluster.leader(), terms(&cluster)), (leader, before), "{voters} voters, seed {seed}");
            assert_eq!(cluster.checker.last_committed(), commit, "idle, and yet the log grows");
        }
    }
}

#[test]
fn a_majority_of_seven_leads_in_every_round() {
    let mut cluster = Cluster::new(7, 0, 1, |_| {});
    let mut dice = Dice::new(1);
    for round in 0..10 {
        cluster.heal();
        let mut away = BTreeSet::new();
        while away.len() < 3 {
            away.insert(NodeId(1 + dice.below(7)));
        }
        let rest: Vec<_> = cluster.ids().into_iter().filter(|id| !away.contains(id)).collect();
        cluster.partition(&[away.iter().copied().collect(), rest.clone()]);
        let committed = cluster.checker.last_committed();
        cluster.run(5 * E);
        let leader = cluster.leader().filter(|leader| rest.contains(leader));
        let leader = leader.unwrap_or_else(|| panic!("round {round}: the majority has no leader"));
        cluster.propose(leader, &[format!("round{round}")], 10);
        cluster.run(E);
        assert!(cluster.checker.last_committed() > committed, "round {round}: nothing is committed");
    }
}

/// All nodes wake at the same time, and without pre-vote each one splits the vote.
#[test]
fn split_votes_end_soon() {
    for voters in [2, 3, 4, 6] {
        for seed in 1..=100 {
            let mut cluster = Cluster::new(voters, 0, seed, |config| config.pre_vote = false);
            let deadlines: BTreeSet<_> = cluster.running().map(|server| server.election_deadline()).collect();
            assert_eq!(deadlines.len() as u64, voters, "every node draws its own timeout");
            let elected = cluster.run_until(10 * E, |cluster| cluster.leader().is_some());
            assert!(elected, "{voters} voters, seed {seed}: no leader within 10 E");
        }
    }
}

/// Four of seven are there, and only one of them has all entries. Without pre-vote the others campaign in vain again and again, and
/// must not put it off by that.
#[test]
fn the_only_one_that_can_win_is_not_put_off_by_those_that_cannot() {
    for seed in 1..=100 {
        let mut cluster = Cluster::new(7, 0, seed, |config| config.pre_vote = false);
        for id in 1..=4 {
            cluster.begin_with(NodeId(id), Term(1), None, if id == 4 { &[1, 1] } else { &[1] });
        }
        (5..=7).for_each(|id| cluster.crash(NodeId(id)));
        let elected = cluster.run_until(4 * E, |cluster| cluster.leader() == Some(NodeId(4)));
        assert!(elected, "seed {seed}: no leader within 4 E");
    }
}
