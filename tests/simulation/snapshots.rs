//! T47 to T54: snapshots, where logs were compacted.

use super::{
    ELECTION_TIMEOUT_MS, Scenario, answered_meanwhile, befallen, each, leaders, mostly, quiet, snapshots, taken, with,
};
use raft::marks::Mark;
use raft::runtime::simulated::scenario::{FaultKind, Loses, Rotten, Target, Way};

/// A follower is away until the leader's log no longer has what it lacks.
fn lags(seed: u64, nodes: u64) -> Scenario {
    let mut scenario = snapshots(quiet(seed, nodes));
    scenario.clients = 3;
    scenario.settings.max_pending_bytes = 32 << 10;
    with(scenario, 500, FaultKind::Isolate { target: Target::Follower, way: Way::Both, for_ms: 700 })
}

#[test]
fn t47_the_log_stays_short_under_sustained_writes() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 4;
        scenario.settings.segment_bytes = 4 << 10;
        with(scenario, 1_000, FaultKind::Kill { target: Target::Follower, down_ms: 50 })
    };
    each(4, scenario, |report| {
        assert!(report.committed > 100, "there was something to compact: {}", report.committed);
        assert!(report.log_bytes <= 8 * (4 << 10), "{} bytes of log", report.log_bytes);
        assert!(report.restored > 0, "the restart used a snapshot");
    });
}

#[test]
fn t48_a_follower_that_lags_gets_a_snapshot_and_then_the_log() {
    each(
        6,
        |seed| lags(seed, 3),
        |report| {
            assert!(report.received > 0, "it got a snapshot");
            assert!(answered_meanwhile(report) > 10, "the others went on without it");
            assert!(report.transfers <= 30, "it is not sent for ever: {}", report.transfers);
        },
    );
}

#[test]
fn t48_on_a_network_that_loses_messages() {
    let lossy = |seed| {
        let mut scenario = lags(seed, 3);
        scenario.network.lost = 100_000;
        scenario
    };
    let sum = each(4, lossy, |report| assert!(report.lost > 0));
    assert!(sum.received > 0);
}

#[test]
fn t48_a_follower_that_comes_back_with_nothing_gets_a_snapshot() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        with(scenario, 800, FaultKind::Wipe { target: Target::Node(seed % 3 + 1), down_ms: 100 })
    };
    let sum = each(6, scenario, |_| {});
    assert!(sum.refused > 0 && sum.received > 0, "{} refused, {} received", sum.refused, sum.received);
}

#[test]
fn t48_a_follower_that_crashed_gets_a_snapshot_and_then_the_log() {
    let scenario = |seed| {
        let mut scenario = lags(seed, 3);
        scenario.faults[0].kind = FaultKind::Kill { target: Target::Follower, down_ms: 700 };
        scenario
    };
    each(3, scenario, |report| assert!(report.received > 0 && report.restored > 0 && report.transfers <= 10));
}

/// Its log gets ahead of its state machine, which is busy. Then it stands still until the leader has compacted what it lacks, and the
/// snapshot replaces the log before the machine has read from it what it was to apply.
#[test]
fn t48_a_snapshot_replaces_what_a_busy_machine_has_not_applied() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.clients, scenario.load.pause_us, scenario.load.value_bytes) = (6, 5_000, 1_024);
        scenario.settings.max_pending_bytes = 8 << 10;
        let target = Target::Follower;
        let scenario = with(scenario, 400, FaultKind::Busy { target, for_ms: 10 * ELECTION_TIMEOUT_MS });
        with(scenario, 550, FaultKind::Pause { target, for_ms: 3 * ELECTION_TIMEOUT_MS })
    };
    let sum = each(2, scenario, |report| {
        assert_eq!(befallen(report, 0).nodes, befallen(report, 1).nodes);
        assert!(report.busy > 0 && report.paused > 0);
    });
    taken(&sum, &[Mark::ApplyReadsLog, Mark::ApplyLogReplaced]);
}

/// The machines, commit and applied indexes, and logs of all nodes are compared at every step, so a state that goes back fails.
#[test]
fn t49_a_stale_snapshot_replaces_nothing() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        (1..8).fold(scenario, |scenario, round| {
            let target = if round % 2 == 0 { Target::Follower } else { Target::Node((seed + round) % 3 + 1) };
            with(scenario, 400 + 120 * round, FaultKind::OldSnapshot { target })
        })
    };
    let sum = each(4, scenario, |report| {
        assert!(report.stale_snapshots > 0, "one came late");
        let [before, after] = [leaders(report, 0)[0], leaders(report, 6)[1]];
        assert!(before.is_some() && before == after, "nobody notices: {before:?}, {after:?}");
    });
    taken(&sum, &[Mark::SnapshotStale, Mark::OfferedAlready]);
}

/// A leader that is cut off has entries that conflict with the snapshot that it gets; the power fails in the middle of it.
#[test]
fn t50_a_snapshot_above_a_conflicting_log() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 4;
        scenario.settings.check_quorum = false;
        scenario.time_ms = 2_000;
        let scenario = with(scenario, 500, FaultKind::Isolate { target: Target::Leader, way: Way::Both, for_ms: 700 });
        let (target, after) = (Target::Follower, 1 + 3 * seed);
        (0..3).fold(scenario, |scenario, round| {
            let fault = FaultKind::PowerLoss { target, after, loses: Loses::Some, down_ms: 50 };
            with(scenario, 1_205 + 200 * round, fault)
        })
    };
    let sum = mostly(5, scenario, |report| report.power_cuts > 0 && report.received > 0);
    taken(&sum, &[Mark::ProposalCovered, Mark::InstallReplayed]);
}

/// A follower catches up entry by entry, and stands still when a snapshot is on its way that is ahead of it: then it has entries and the
/// snapshot in one turn, and nothing of these entries may be written after it.
#[test]
fn t50_a_snapshot_replaces_entries_that_came_right_before_it() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        (scenario.clients, scenario.load.pause_us, scenario.load.value_bytes) = (6, 2_000, 64);
        let settings = &mut scenario.settings;
        // There are snapshots all the time, and yet much of the log is kept.
        (settings.snapshot_entries, settings.snapshot_bytes, settings.chunk_bytes) = (16, 256 << 10, 16 << 10);
        (settings.max_batch_bytes, settings.max_inflight_requests) = (512, 4);
        scenario.network.delay_us = 4_000;
        let target = Target::Follower;
        let scenario = with(scenario, 500, FaultKind::Pause { target, for_ms: 3 * ELECTION_TIMEOUT_MS });
        (0..6).fold(scenario, |scenario, round| {
            let at_ms = 810 + 32 * round + seed;
            with(
                with(scenario, at_ms, FaultKind::OldSnapshot { target }),
                at_ms + 8,
                FaultKind::Pause { target, for_ms: 8 },
            )
        })
    };
    let sum = each(4, scenario, |report| assert!(report.paused > 0 && report.transfers > 0));
    taken(&sum, &[Mark::JobReplaced, Mark::SnapshotOvertookWrite]);
}

/// A leader that was cut off has more entries than the others have committed when it is back, and they begin after its last.
#[test]
fn t50_a_snapshot_replaces_a_log_that_reaches_further() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        let cut = FaultKind::Isolate { target: Target::Leader, way: Way::Both, for_ms: 5 * ELECTION_TIMEOUT_MS };
        let rush = FaultKind::Rush { target: Target::Leader, requests: 300 };
        with(with(scenario, 700, cut), 701, rush)
    };
    let sum = mostly(12, scenario, |report| {
        assert_eq!(befallen(report, 0).nodes, befallen(report, 1).nodes);
        // Something of what it was asked could not be answered.
        report.given_up + report.unknown > 0
    });
    taken(&sum, &[Mark::SnapshotReplacedLonger]);
}

#[test]
fn t51_a_transfer_over_a_bad_network_between_nodes_that_end() {
    let scenario = |seed| {
        let mut scenario = lags(seed, 3);
        let network = &mut scenario.network;
        (network.lost, network.twice, network.overtaken) = (150_000, 200_000, 200_000);
        (scenario.settings.chunk_bytes, scenario.time_ms) = (256, 2_000);
        let target = if seed % 2 == 0 { Target::Leader } else { Target::Follower };
        with(scenario, 1_210 + 5 * seed, FaultKind::Kill { target, down_ms: 60 })
    };
    let sum = mostly(8, scenario, |report| report.lost > 0 && report.ends > 0);
    assert!(sum.transfers > sum.received && sum.received > 0, "{} of {}", sum.received, sum.transfers);
    taken(&sum, &[Mark::SendingFailed, Mark::SendingAlready]);
}

/// Nobody writes while a large snapshot travels to a node that is killed meanwhile: the same one is offered again.
#[test]
fn t51_a_transfer_goes_on_from_what_has_arrived() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.clients, scenario.load.pause_us, scenario.settings.snapshot_entries) = (4, 4_000, 40);
        (scenario.load.keys, scenario.load.value_bytes) = (60, 32 << 10);
        (scenario.settings.max_pending_bytes, scenario.settings.max_batch_bytes) = (1 << 20, 64 << 10);
        (scenario.settings.chunk_bytes, scenario.network.delay_us) = (1_024, 3_000);
        scenario.time_ms = 2_500;
        let target = Target::Node(seed % 3 + 1);
        let scenario = with(scenario, 400, FaultKind::Kill { target, down_ms: 400 });
        let unheard = FaultKind::Unheard { target: Target::Everyone, way: Way::Both, held: false, for_ms: 1_700 };
        let scenario = with(scenario, 790, unheard);
        with(scenario, 1_050 + 40 * seed, FaultKind::Kill { target, down_ms: 50 })
    };
    let sum = mostly(2, scenario, |report| report.crashes > 0 && report.transfers > 0);
    taken(&sum, &[Mark::SendingFailed, Mark::SnapshotResumed]);
}

#[test]
fn t52_snapshots_are_taken_while_others_travel() {
    let scenario = |seed| {
        let mut scenario = lags(seed, 3);
        (scenario.settings.snapshot_entries, scenario.settings.chunk_bytes) = (8, 256);
        scenario.load.pause_us = 8_000;
        scenario.network.delay_us = 4_000;
        with(scenario, 1_250, FaultKind::OldSnapshot { target: Target::Follower })
    };
    // Clients are answered meanwhile.
    mostly(5, scenario, |report| report.transfers >= 1 && report.received >= 1 && answered_meanwhile(report) > 10);
}

/// What a snapshot has is compared with what everyone else has at that entry. Everyone restarts twice after many of them.
#[test]
fn t53_a_snapshot_has_everything() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        let kill = FaultKind::Kill { target: Target::Everyone, down_ms: 50 };
        with(with(scenario, 700, kill.clone()), 1_200, kill)
    };
    each(4, scenario, |report| assert!(report.restored >= 6, "everyone restored one, twice: {}", report.restored));
}

#[test]
fn t54_power_fails_while_snapshots_are_written() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.settings.snapshot_entries = 8;
        scenario.clients = 2;
        (1..5).fold(scenario, |scenario, round| {
            let loses = [Loses::Names, Loses::Sectors, Loses::All, Loses::Some][(seed + round) as usize % 4];
            let target = Target::Node((seed + round) % 3 + 1);
            with(scenario, 250 * round, FaultKind::PowerLoss { target, after: 10 + seed, loses, down_ms: 40 })
        })
    };
    let sum = each(10, scenario, |report| assert!(report.power_cuts >= 2));
    assert_eq!(sum.refused, 0);
    assert!(sum.restored > 0);
    taken(&sum, &[Mark::SnapshotUnfinishedRemoved]);
}

#[test]
fn t54_a_snapshot_that_rots_is_never_trusted() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 2;
        let fault = FaultKind::BitRot { target: Target::Leader, file: Rotten::Snapshot, place: seed, down_ms: 100 };
        with(scenario, 900, fault)
    };
    let sum = each(10, scenario, |report| {
        assert_eq!(report.rotted, 1);
        assert!(befallen(report, 0).began.committed > 10);
    });
    assert!(sum.unreadable > 0, "nodes noticed at their start: {}", sum.unreadable);
}

/// Until the log, whose disk is slow, is durable as far as the newest snapshot, there is the one before, and the log from there on.
#[test]
fn t54_an_older_snapshot_will_do_if_the_log_goes_on_from_there() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.clients, scenario.settings.snapshot_entries, scenario.disks.sync_us) = (2, 4, 15_000);
        let target = Target::Node(seed % 3 + 1);
        with(scenario, 900, FaultKind::BitRot { target, file: Rotten::Snapshot, place: seed, down_ms: 50 })
    };
    let sum = each(16, scenario, |report| assert_eq!(report.rotted, 1));
    taken(&sum, &[Mark::SnapshotOlderRestored]);
}
