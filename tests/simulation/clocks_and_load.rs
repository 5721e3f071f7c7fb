//! T83 to T86 and T89: processes that stand still, clocks that are wrong, and more to do than can be done.

use super::{
    ELECTION_TIMEOUT_MS, answered_meanwhile, befallen, each, has_moved, is_nightly, look, mostly, passes, quiet,
    snapshots, taken, with,
};
use raft::marks::Mark;
use raft::runtime::simulated::scenario::{FaultKind, Target};

#[test]
fn t83_each_role_stands_still() {
    for (target, tenths) in [(Target::Leader, 5), (Target::Leader, 50), (Target::Follower, 10), (Target::Everyone, 30)]
    {
        let for_ms = tenths * ELECTION_TIMEOUT_MS / 10;
        let scenario = |seed| {
            let mut scenario = quiet(seed, 3);
            // Every other one stands still in the middle of a sync, more likely than not.
            (scenario.clients, scenario.disks.sync_us) = (3, [500, 15_000][seed as usize % 2]);
            with(scenario, 700, FaultKind::Pause { target, for_ms })
        };
        // Nobody may lead at that moment: a slow disk has made the leader step down.
        mostly(4, scenario, |report| {
            assert!(report.elections <= 5, "no storm of elections: {}", report.elections);
            let is_long = target == Target::Leader && tenths == 50;
            report.paused > 0 && (!is_long || has_moved(report) && answered_meanwhile(report) > 0)
        });
    }
}

#[test]
fn t83_a_pause_of_fifty_election_timeouts() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        scenario.time_ms = 6_500;
        with(scenario, 700, FaultKind::Pause { target: Target::Leader, for_ms: 50 * ELECTION_TIMEOUT_MS })
    };
    each(2, scenario, |report| assert!(report.paused > 0 && has_moved(report) && answered_meanwhile(report) > 20));
}

/// Nodes know no wall clock. What is worst for theirs: an hour is gone at once, as after a sleep that nobody noticed.
#[test]
fn t84_clocks_jump_and_are_slewed() {
    let scenario = |seed| {
        let target = [Target::Leader, Target::Follower, Target::Everyone][seed as usize % 3];
        let scenario = with(quiet(seed, 3), 600, FaultKind::ClockJumps { target, by_ms: 3_600_000 });
        with(scenario, 900, FaultKind::ClockRate { target, per_mille: 995 + 10 * (seed % 2) })
    };
    each(12, scenario, |report| {
        assert!(report.befallen.iter().all(|befallen| !befallen.nodes.is_empty()));
        assert!(report.elections <= 4, "no storm of elections: {}", report.elections);
    });
}

/// An hour and more is gone for a leader that goes on: for all nodes at once, sessions are over.
#[test]
fn t84_a_leader_that_slept_ends_sessions_for_all() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        (scenario.settings.check_quorum, scenario.clients, scenario.load.sessions) = (false, 3, 100);
        with(scenario, 700, FaultKind::ClockJumps { target: Target::Leader, by_ms: 3_600_000 + 1_500 })
    };
    let sum = each(6, scenario, |report| assert_eq!(befallen(report, 0).nodes.len(), 1));
    taken(&sum, &[Mark::SessionOver]);
}

#[test]
fn t85_clocks_at_half_and_at_twice_the_rate() {
    let scenario = |seed| {
        let rates = [500, 2_000, 1_000, 1_500, 800];
        (1..=3).fold(quiet(seed, 3), |scenario, node| {
            let per_mille = rates[((seed + node) % 5) as usize];
            with(scenario, 0, FaultKind::ClockRate { target: Target::Node(node), per_mille })
        })
    };
    each(10, scenario, |report| {
        assert_eq!(report.befallen.len(), 3);
        assert!(report.answered > 20, "there was a leader before clocks were right again: {}", report.answered);
    });
}

/// While the machine is busy, what turns would apply by themselves is queued behind what it does, and comes in order.
#[test]
fn what_is_brief_is_applied_at_once_unless_the_machine_is_busy() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        scenario.settings.applies_at_once = true;
        (scenario.clients, scenario.load.pause_us) = (4, 1_000);
        let target = if seed % 2 == 0 { Target::Leader } else { Target::Everyone };
        with(scenario, 500, FaultKind::Busy { target, for_ms: 300 })
    };
    let sum = each(4, scenario, |report| assert!(report.busy > 0, "the machine was busy"));
    taken(&sum, &[Mark::ApplyAtOnce]);
}

/// Far more is asked than machines that are slow can do, for ten minutes under `nightly`; then they are quick again.
#[test]
fn t86_too_much_load_is_refused_and_leaves_nothing_behind() {
    let (seeds, for_ms) = if is_nightly() { (0..3, 600_000) } else { (0..1, 700) };
    for seed in seeds {
        let mut scenario = quiet(seed, 3);
        scenario.clients = 6;
        scenario.settings.max_pending_bytes = 32 << 10;
        scenario.load.value_bytes = 4_096;
        (scenario.load.depth, scenario.load.pause_us, scenario.load.patience_ms) = (12, 8_000, 150);
        let over_ms = 800 + for_ms;
        scenario.time_ms = over_ms + 1_500;
        let slow = FaultKind::Slow { target: Target::Everyone, times: 100, for_ms };
        // 0 slow; what was usual before is looked at from 1 on, and what is again from 2 to 3, within a second.
        let scenario = look(look(look(with(scenario, 800, slow), 300), over_ms + 500), over_ms + 1_300);
        let report = passes(&scenario);
        println!("seed {seed}: {report:?}");
        taken(&report, &[Mark::ProposalsOverloaded, Mark::ClientOverloaded]);
        let (slow, later) = (befallen(&report, 0), befallen(&report, 2));
        let healed = slow.ended.as_ref().expect("it is over").answered;
        assert!(later.began.answered > healed + 50, "as many are answered as before");
        let at = |fault: usize| befallen(&report, fault).began.waits;
        let p99 = |from: usize, to: usize| at(to).percentile(99, &at(from)).expect("somebody was answered");
        let (before, meanwhile, after) = (p99(1, 0), p99(0, 2), p99(2, 3));
        assert!(meanwhile >= 4 * before, "it was too much: {before:?}, then {meanwhile:?}");
        assert!(after <= 2 * before, "99 of 100 wait no longer than before: {before:?}, {meanwhile:?}, {after:?}");
    }
}

/// A follower at half the speed, for an hour under `nightly`, otherwise for some seconds: what the leader keeps stays within
/// bounds, which every simulation checks, and in the end it has caught up.
#[test]
fn t89_a_follower_at_half_the_speed() {
    let for_ms = if is_nightly() { 3_600_000 } else { 8_000 };
    let mut scenario = snapshots(quiet(1, 3));
    (scenario.clients, scenario.load.pause_us, scenario.time_ms) = (4, 20_000, for_ms + 1_000);
    (scenario.settings.snapshot_entries, scenario.disks.sync_us) = (200, 4_000);
    let report = passes(&with(scenario, 500, FaultKind::Slow { target: Target::Follower, times: 2, for_ms }));
    println!("{report:?}");
    assert!(report.answered > for_ms / 50, "clients went on: {}", report.answered);
    assert!(report.transfers <= 2 + for_ms / 10_000, "no perpetual loop of snapshots: {}", report.transfers);
}

/// It has to be sent snapshots, since the leader does not keep for it all that it lacks, and must catch up in the end.
#[test]
fn t89_one_slow_follower_under_load() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.clients, scenario.load.pause_us, scenario.load.value_bytes) = (6, 4_000, 1_024);
        (scenario.settings.snapshot_entries, scenario.settings.max_pending_bytes) = (40, 32 << 10);
        // More than a few entries: or else a snapshot is outdated when it has arrived, and the next one follows at once.
        scenario.settings.snapshot_bytes = 8 << 10;
        with(scenario, 500, FaultKind::Slow { target: Target::Follower, times: 400, for_ms: 900 })
    };
    let sum = each(3, scenario, |report| {
        assert!(answered_meanwhile(report) > 100, "the others are not held up");
        assert!(report.transfers < 30, "no perpetual loop of snapshots: {}", report.transfers);
    });
    assert!(sum.received > 0, "it lagged further than the log");
    taken(&sum, &[Mark::TailEvicted, Mark::LogKeptForPeer]);
}
