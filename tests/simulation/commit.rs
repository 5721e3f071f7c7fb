//! T17: what is committed stays, however quickly leaders follow one another.

use super::{Scenario, each, quiet, with};
use raft::runtime::simulated::scenario::{FaultKind, Target, Way};

/// Leaders are killed or cut off again and again, just after they were elected (Raft paper §5.4.2, figure 8).
fn leaders_come_and_go(seed: u64) -> Scenario {
    let mut scenario = quiet(seed, 5);
    scenario.time_ms = 4_000;
    scenario.clients = 3;
    (1..12).fold(scenario, |scenario, round| {
        let (target, for_ms) = (Target::Leader, 350 + 40 * (seed + round) % 300);
        let kind = match (seed + round) % 3 {
            0 => FaultKind::Kill { target, down_ms: for_ms },
            1 => FaultKind::Isolate { target, way: Way::Both, for_ms },
            _ => FaultKind::Isolate { target, way: Way::Out, for_ms },
        };
        with(scenario, 300 * round, kind)
    })
}

#[test]
fn t17_leaders_that_come_and_go_lose_nothing() {
    let sum = each(4, leaders_come_and_go, |report| {
        assert!(report.elections >= 3, "leaders changed: {}", report.elections);
        assert!(report.answered > 0);
    });
    assert!(sum.ends > 0 && sum.lost > 0);
}

#[test]
fn t17_on_a_network_that_loses_and_reorders() {
    let unreliable = |seed| {
        let mut scenario = leaders_come_and_go(seed);
        (scenario.network.lost, scenario.network.overtaken) = (100_000, 300_000);
        scenario
    };
    let sum = each(4, unreliable, |report| assert!(report.elections >= 2));
    assert!(sum.lost > 100, "messages were lost: {}", sum.lost);
}
