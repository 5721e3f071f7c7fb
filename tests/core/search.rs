//! Is there always somebody who can win? Every combination of terms, logs and settings, while pre-vote and check-quorum are
//! being switched on node by node (T10, T96; B23–B25).

use raft::consensus::{NodeId, Role, Term};

use crate::cluster::{Cluster, MAX_ELECTION_TIMEOUT as E};

/// What a node may be like: its term and the length of its log, from 1 to 3, and whether pre-vote and check-quorum are on.
#[derive(Clone, Copy, Debug)]
struct Kind {
    term: u64,
    last: usize,
    pre_vote: bool,
    check_quorum: bool,
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for term in 1..=3 {
        for last in 1..=3 {
            for (pre_vote, check_quorum) in [(true, true), (true, false), (false, true), (false, false)] {
                kinds.push(Kind { term, last, pre_vote, check_quorum });
            }
        }
    }
    kinds
}

/// Every way to give `count` nodes a kind each, in no particular order.
fn combinations(kinds: &[Kind], count: usize) -> Vec<Vec<Kind>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, &kind) in kinds.iter().enumerate() {
        for mut rest in combinations(&kinds[at..], count - 1) {
            rest.push(kind);
            all.push(rest);
        }
    }
    all
}

/// In a cluster of `voters` nodes, of which all but `alive` are down.
fn search(voters: u64, alive: usize) -> usize {
    let cases = combinations(&kinds(), alive);
    for (seed, case) in (1..).zip(&cases) {
        let mut cluster = Cluster::new(voters, 0, seed, |_| {});
        for (id, kind) in (1..).map(NodeId).zip(case) {
            let config = &mut cluster.node_mut(id).config;
            (config.pre_vote, config.check_quorum) = (kind.pre_vote, kind.check_quorum);
            cluster.begin_with(id, Term(kind.term), None, &[1, 1, 1][..kind.last]);
        }
        for down in (alive as u64 + 1..=voters).map(NodeId) {
            cluster.crash(down);
        }
        let is_led = |cluster: &Cluster| {
            let committed = cluster.checker.last_committed();
            committed.0 > 0 && cluster.running().all(|server| server.commit() == committed)
        };
        assert!(cluster.run_until(20 * E, is_led), "no leader in 20 E among {voters}: {case:?}");
        let leader = cluster.leader();
        assert_eq!(cluster.running().filter(|server| server.role() == Role::Leader).count(), 1, "{case:?}");
        cluster.run(2 * E);
        assert_eq!(cluster.leader(), leader, "the leader does not last: {case:?}");
    }
    cases.len()
}

/// The hardest case is that of a bare majority. `RAFT_SEARCH=all` adds those of more nodes, and takes minutes.
#[test]
fn somebody_can_always_win() {
    let cases = match std::env::var("RAFT_SEARCH").as_deref() {
        Ok("all") => [(2, 2), (3, 2), (3, 3), (4, 3), (4, 4), (5, 3), (5, 4), (5, 5), (6, 4)].as_slice(),
        _ => &[(2, 2), (3, 2), (3, 3)],
    };
    for &(voters, alive) in cases {
        println!("{alive} of {voters}: {} cases", search(voters, alive));
    }
}
