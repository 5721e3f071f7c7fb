//! T75 to T78: what networks do.

use super::{
    ELECTION_TIMEOUT_MS, answered_meanwhile, each, has_moved, leaders, look, mostly, quiet, taken, victim, with,
};
use raft::marks::Mark;
use raft::runtime::simulated::Scenario;
use raft::runtime::simulated::scenario::{FaultKind, Network, Target, Way};

/// Both ways.
fn between(left: &[u64], right: &[u64]) -> Vec<(u64, u64)> {
    left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)])).collect()
}

#[test]
fn t75_loss_duplicates_delay_and_storms() {
    let bad = |seed| {
        let mut scenario = quiet(seed, 3);
        let network = &mut scenario.network;
        (network.lost, network.twice, network.overtaken) = (50_000 * (seed % 7), 500_000, 300_000);
        network.jitter_us = 10_000 * (seed % 4);
        // It stays like this, so it takes a while until all of an election has arrived.
        scenario.settings.election_timeout_ms = 2 * ELECTION_TIMEOUT_MS;
        let clogged = FaultKind::Clog { links: vec![(1, 2), (2, 1)], for_ms: 400 };
        let scenario = with(scenario, 500, clogged);
        with(scenario, 1_000, FaultKind::Storm { copies: 5, for_ms: 200 })
    };
    let sum = mostly(14, bad, |report| report.doubled > 20);
    assert!(sum.lost > 100 && sum.answered > 100);
    taken(&sum, &[Mark::ForwardTwice, Mark::AnswersMerged]);
}

/// Every way to split five nodes in two, and each of them alone.
#[test]
fn t76_every_split() {
    let all = [1, 2, 3, 4, 5];
    let splits: Vec<u64> = (1_u64..31).filter(|set| set.count_ones() <= 2).collect();
    assert_eq!(splits.len(), 15);
    for (number, set) in splits.into_iter().enumerate() {
        let (few, most): (Vec<u64>, Vec<u64>) = all.iter().partition(|node| set >> (*node - 1) & 1 == 1);
        let scenario = |seed| {
            let timeouts = [4, 7, 12, 7, 30][number % 5];
            let mut scenario = quiet(seed + 100 * number as u64, 5);
            (scenario.clients, scenario.time_ms) = (2, 600 + (timeouts + 2) * ELECTION_TIMEOUT_MS);
            let links = between(&few, &most);
            with(scenario, 600, FaultKind::Cut { links, for_ms: timeouts * ELECTION_TIMEOUT_MS })
        };
        mostly(1, scenario, |report| {
            assert!(report.lost > 0);
            // Somebody leads, on the side of the majority, which goes on.
            let leader = leaders(report, 0)[1];
            assert!(leader.is_none_or(|(_, leader)| most.contains(&leader.0)), "on the other side: {leader:?}");
            leader.is_some() && answered_meanwhile(report) > 0
        });
    }
}

#[test]
fn t77_a_leader_that_hears_nobody_steps_down() {
    let deaf = |seed| {
        let fault = FaultKind::Isolate { target: Target::Leader, way: Way::In, for_ms: 800 };
        with(quiet(seed, 3), 600, fault)
    };
    let sum = each(12, deaf, |report| {
        assert!(report.lost > 0);
        assert!(has_moved(report), "another one leads");
        assert!(report.elections <= 6, "no storm of terms: {} elections", report.elections);
    });
    taken(&sum, &[Mark::StepDownNoQuorum]);
}

#[test]
fn t77_a_leader_that_nobody_hears_is_replaced() {
    let mute = |seed| {
        let fault = FaultKind::Isolate { target: Target::Leader, way: Way::Out, for_ms: 800 };
        with(quiet(seed, 3), 600, fault)
    };
    each(12, mute, |report| {
        assert!(report.lost > 0);
        assert!(has_moved(report), "another one leads");
        assert!(report.elections <= 6, "no storm of terms: {} elections", report.elections);
    });
}

#[test]
fn t77_a_follower_that_is_deaf_or_mute_disturbs_nobody() {
    let one_way = |seed| {
        let way = if seed % 2 == 0 { Way::In } else { Way::Out };
        with(quiet(seed, 3), 600, FaultKind::Isolate { target: Target::Follower, way, for_ms: 800 })
    };
    each(12, one_way, |report| {
        assert!(report.lost > 0);
        let [before, after] = leaders(report, 0);
        assert_eq!(before, after, "the leader stays, in its term");
        assert_ne!(Some(victim(report)), before.map(|(_, leader)| leader));
    });
}

/// Requests do not arrive, or answers do not: clients give up, go elsewhere, and never learn what came of it; or all of it comes late.
#[test]
fn t77_clients_that_are_not_heard_or_hear_nothing() {
    for (way, held) in [(Way::In, false), (Way::Out, false), (Way::Both, false), (Way::In, true), (Way::Out, true)] {
        let one_way = |seed| {
            let mut scenario = quiet(seed, 3);
            (scenario.clients, scenario.load.sessions, scenario.load.patience_ms) = (6, 60, 150);
            with(scenario, 600, FaultKind::Unheard { target: Target::Leader, way, held, for_ms: 500 })
        };
        let sum = mostly(4, one_way, |report| {
            let [before, after] = leaders(report, 0);
            assert_eq!(before, after, "nodes hear each other, so the leader stays");
            // The other nodes answer.
            answered_meanwhile(report) > 20
        });
        assert!(sum.unheard > 0 && sum.given_up > 0, "{way:?}, {held}: {} unheard", sum.unheard);
        // Whoever has no answer sends a session's command again, and whatever took effect does so once.
        assert!(way == Way::In || sum.repeated > 0, "{way:?}, {held}");
    }
}

/// While these links are cut, one node comes to lead, and leads on. The numbers of the nodes are turned with the seed, so that
/// whoever leads is now here, now there.
fn topology(nodes: u64, links: &[(u64, u64)]) {
    let began = 500;
    let scenario = |seed| {
        let mut scenario = quiet(seed, nodes);
        (scenario.clients, scenario.time_ms) = (2, began + 22 * ELECTION_TIMEOUT_MS);
        let turned = |node: u64| (node + seed) % nodes + 1;
        let links = links.iter().flat_map(|&(a, b)| between(&[turned(a)], &[turned(b)])).collect();
        let cut = FaultKind::Cut { links, for_ms: 20 * ELECTION_TIMEOUT_MS };
        look(with(scenario, began, cut), began + 10 * ELECTION_TIMEOUT_MS)
    };
    let sum = each(nodes, scenario, |report| {
        let (half, end) = (leaders(report, 1)[0], leaders(report, 0)[1]);
        assert!(half.is_some() && half == end, "one node leads: {half:?}, {end:?}");
        assert!(answered_meanwhile(report) > 10, "and clients are answered");
    });
    // Between followers there is nothing to lose.
    assert!(sum.lost > 0);
}

/// One link of a triangle, as a switch once cut in Cloudflare's etcd: the leader may be at either end of it.
#[test]
fn t78_a_bridge_between_two() {
    topology(3, &[(1, 2)]);
}

#[test]
fn t78_a_bridge_between_pairs() {
    topology(5, &[(1, 3), (1, 4), (2, 3), (2, 4)]);
}

/// In a ring of five each hears two others, which is a majority with itself.
#[test]
fn t78_a_ring() {
    topology(5, &[(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)]);
}

/// In a chain those at the ends hear one other.
#[test]
fn t78_a_chain() {
    topology(5, &[(1, 3), (1, 4), (1, 5), (2, 4), (2, 5), (3, 5)]);
}

/// The leader is left with one link, to a node that hears everybody: it must step down, and be let go.
#[test]
fn t78_an_old_leader_behind_a_bridge() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 5);
        scenario.clients = 2;
        // Whoever leads is one of five: each in turn keeps one link.
        let old = seed % 5 + 1;
        let bridge = old % 5 + 1;
        let rest: Vec<u64> = (1..=5).filter(|node| *node != old && *node != bridge).collect();
        with(scenario, 600, FaultKind::Cut { links: between(&[old], &rest), for_ms: 800 })
    };
    let befell_leader = std::cell::Cell::new(0);
    each(10, scenario, |report| {
        assert!(leaders(report, 0)[1].is_some() && answered_meanwhile(report) > 0);
        befell_leader.set(befell_leader.get() + u64::from(has_moved(report)));
    });
    assert!(befell_leader.get() > 0, "a leader was behind the bridge");
}

/// A network as Maelstrom's: each message takes its own time, of this mean in ms, and overtakes others. For half a minute of
/// virtual time, with the timeouts of a node under Maelstrom.
fn slow(seed: u64, mean_ms: u64, adapts: bool) -> Scenario {
    let mut scenario = quiet(seed, 5);
    (scenario.clients, scenario.time_ms) = (4, 30_000);
    (scenario.settings.election_timeout_ms, scenario.settings.heartbeat_interval_ms) = (500, 100);
    scenario.settings.maelstrom = adapts;
    // Whoever is overtaken takes one way and four more.
    scenario.network = Network { delay_us: 0, jitter_us: mean_ms * 1_000 / 5, lost: 0, twice: 0, overtaken: 1_000_000 };
    (scenario.load.patience_ms, scenario.load.pause_us, scenario.load.depth) = (10_000, 10_000, 1);
    scenario
}

/// One election at the start, and another one if the leader is not among those that go on at the end.
#[test]
fn election_timeouts_adapt_to_a_slow_network() {
    for (mean_ms, answered_for_one_refused) in [(100, 50), (600, 8)] {
        let adapting = |seed| slow(seed, mean_ms, true);
        let sum = mostly(4, adapting, |report| report.elections <= 2);
        assert!(sum.answered > answered_for_one_refused * sum.refusals, "{mean_ms} ms: {sum:?}");
    }
    // As it would be otherwise, so that this shows something.
    let fixed = each(4, |seed| slow(seed, 600, false), |_| {});
    assert!(fixed.elections > 3 * 4 && fixed.answered < 8 * fixed.refusals, "600 ms: {fixed:?}");
}
