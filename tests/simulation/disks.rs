//! T29 to T46: crashes, and everything that disks do.

use super::{Scenario, answered_meanwhile, befallen, each, has_moved, passes, quiet, seeds, snapshots, victim, with};
use raft::consensus::NodeId;
use raft::runtime::simulated::scenario::{FaultKind, Loses, Rotten, Target};

fn power_loss(target: Target, after: u64) -> FaultKind {
    FaultKind::PowerLoss { target, after, loses: Loses::Some, down_ms: 60 }
}

#[test]
fn t29_what_is_committed_survives_restarts() {
    let scenario = |seed| {
        let kill = |target| FaultKind::Kill { target, down_ms: 80 };
        let scenario = with(quiet(seed, 3), 500, kill(Target::Everyone));
        let scenario = with(scenario, 900, kill(Target::Leader));
        with(with(scenario, 1_200, kill(Target::Leader)), 1_201, kill(Target::Follower))
    };
    each(6, scenario, |report| {
        assert!(report.ends >= 5 && report.starts >= 8);
        assert!(befallen(report, 0).began.committed > 3, "there was something to keep");
    });
}

/// A power loss at every operation on the disk, one after the other, until a run has fewer than that. `every`: in the ordinary
/// profile only every so manieth, each time from another one on.
fn at_every_operation(every: u64, scenario: impl Fn(u64) -> Scenario) -> u64 {
    let step = if seeds(1).end > 1 { 1 } else { every };
    let mut after = 1;
    loop {
        let report = passes(&scenario(after));
        if report.power_cuts < 2 {
            return after;
        }
        after += step;
    }
}

/// The first operations of a cluster's life, and of a life after a power loss.
fn dies_twice(nodes: u64, at_ms: u64, target: Target, after: u64) -> Scenario {
    let mut scenario = snapshots(quiet(after, nodes));
    (scenario.settings.segment_bytes, scenario.settings.snapshot_entries) = (4 << 10, 6);
    scenario.load.pause_us = 40_000;
    scenario.time_ms = 700;
    // The first one makes the start after it a recovery; the second comes when that has begun.
    let scenario = with(scenario, at_ms, power_loss(target, 0));
    with(scenario, at_ms + 20, power_loss(target, after))
}

#[test]
fn t30_a_power_loss_at_every_operation_of_one_node() {
    let operations = at_every_operation(3, |after| dies_twice(1, 250, Target::Node(1), after));
    assert!(operations > 60, "recovery, rotation and snapshots were reached: {operations} operations");
}

#[test]
fn t30_a_power_loss_at_every_operation_of_one_of_three() {
    // Whoever leads at that time in a run without faults leads at that time in all of them.
    let operations = at_every_operation(13, |after| dies_twice(3, 250, Target::Node(after % 3 + 1), after));
    assert!(operations > 40, "{operations} operations");
}

#[test]
fn t31_power_losses_that_take_names_sectors_or_everything() {
    let scenario = |seed| {
        let loses = [Loses::Some, Loses::Names, Loses::Sectors, Loses::All][seed as usize % 4];
        let scenario = snapshots(quiet(seed, 3));
        (1..5).fold(scenario, |scenario, round| {
            let target = if round % 2 == 0 { Target::Everyone } else { Target::Leader };
            with(scenario, 300 * round, FaultKind::PowerLoss { target, after: 3 * (seed % 5), loses, down_ms: 50 })
        })
    };
    each(16, scenario, |report| {
        assert!(report.power_cuts >= 4, "{} power cuts", report.power_cuts);
        assert_eq!(report.refused, 0);
    });
}

/// T32, T34: the last write is torn, on segments that are used again.
#[test]
fn t32_t34_the_last_write_is_torn() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.settings.segment_bytes, scenario.clients) = (4 << 10, 3);
        scenario.load.value_bytes = 2_048;
        (1..6).fold(scenario, |scenario, round| {
            let fault = FaultKind::PowerLoss {
                target: Target::Leader,
                after: round + seed,
                loses: Loses::Sectors,
                down_ms: 50,
            };
            with(scenario, 230 * round, fault)
        })
    };
    each(8, scenario, |report| {
        assert!(report.power_cuts >= 2 && report.refused == 0);
        assert!(report.answered > 10);
    });
}

/// Bits flip in this file. Returns how often the node refused to start.
fn rots(file: Rotten, usual: u64) -> u64 {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        scenario.clients = 3;
        scenario.settings.segment_bytes = 4 << 10;
        let target = if seed % 2 == 0 { Target::Leader } else { Target::Follower };
        with(scenario, 700, FaultKind::BitRot { target, file, place: seed, down_ms: 300 })
    };
    let sum = each(usual, scenario, |report| {
        assert_eq!(report.rotted, 1, "a bit has changed");
        assert!(answered_meanwhile(report) > 0, "the others go on");
        assert!(report.unreadable <= 1);
    });
    assert_eq!(sum.rotted, seeds(usual).end);
    sum.unreadable
}

#[test]
fn t33_a_bit_of_an_old_segment_changes() {
    assert!(rots(Rotten::Segment, 12) >= 8, "the node refuses to start");
}

/// After a clean stop even the last batch is known to be whole.
#[test]
fn t33_a_bit_of_the_newest_segment_changes_after_a_clean_stop() {
    assert!(rots(Rotten::Newest, 12) >= 8, "the node refuses to start");
}

#[test]
fn t33_a_bit_of_the_identity_changes() {
    assert!(rots(Rotten::Identity, 6) >= 5, "the node refuses to start");
}

#[test]
fn t33_a_bit_of_what_is_known_of_peers_changes() {
    assert!(rots(Rotten::Peers, 6) >= 1, "the node refuses to start");
}

/// T35, T36, T37, T38: names that were not synced are lost while segments rotate, tails are cut off and heads are compacted.
#[test]
fn t35_t36_t37_t38_names_are_lost_at_rotation_truncation_and_compaction() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.settings.segment_bytes, scenario.settings.snapshot_entries, scenario.clients) = (4 << 10, 8, 3);
        scenario.load.value_bytes = 1_024;
        (1..6).fold(scenario, |scenario, round| {
            // Leaders that lose power leave tails that are cut off later.
            let target = if (seed + round) % 2 == 0 { Target::Leader } else { Target::Everyone };
            with(
                scenario,
                250 * round,
                FaultKind::PowerLoss { target, after: seed * round, loses: Loses::Names, down_ms: 50 },
            )
        })
    };
    let sum = each(12, scenario, |report| {
        assert!(report.power_cuts >= 3 && report.refused == 0);
    });
    assert!(sum.restored > 0, "logs were compacted");
    assert!(sum.elections > 12, "leaders changed");
}

/// T39, T41: the first error of an input or output operation ends the node, whether the next would succeed or not; a write that
/// fails has written its first half.
#[test]
fn t39_t41_an_error_of_the_disk_ends_the_node() {
    let scenario = |seed| {
        let target = if seed % 2 == 0 { Target::Leader } else { Target::Follower };
        let fault = FaultKind::DiskFails { target, after: seed, once: seed % 3 != 0, down_ms: 50 };
        with(snapshots(quiet(seed, 3)), 600, fault)
    };
    each(24, scenario, |report| {
        assert!(report.disk_failures >= 1, "the node stopped for its disk");
        assert_eq!(report.refused, 0);
    });
}

#[test]
fn t40_a_full_disk_of_the_leader() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        with(scenario, 500, FaultKind::DiskFull { target: Target::Leader, room: 512 * seed, for_ms: 800 })
    };
    let sum = each(8, scenario, |report| assert!(report.answered > 10));
    assert!(sum.full > 0, "disks were full");
}

#[test]
fn t42_a_disk_that_hangs_moves_leadership() {
    let scenario = |seed| with(quiet(seed, 3), 600, FaultKind::DiskHangs { target: Target::Leader, for_ms: 850 });
    each(10, scenario, |report| {
        assert!(report.hung > 0, "something waited for the disk");
        assert!(has_moved(report), "another one leads");
        assert!(answered_meanwhile(report) > 0, "writes were acknowledged meanwhile");
    });
}

#[test]
fn t42_a_follower_whose_disk_hangs_holds_up_nobody() {
    let scenario = |seed| with(quiet(seed, 3), 600, FaultKind::DiskHangs { target: Target::Follower, for_ms: 800 });
    each(8, scenario, |report| {
        let hang = befallen(report, 0);
        assert!(report.hung > 0, "something waited for the disk");
        assert_eq!(hang.began.leader, hang.ended.as_ref().and_then(|ended| ended.leader), "the leader stays");
        assert!(answered_meanwhile(report) > 10);
    });
}

#[test]
fn t42_short_hangs_move_nothing() {
    let scenario = |seed| {
        (0..4).fold(quiet(seed, 3), |scenario, round| {
            with(scenario, 500 + 200 * round, FaultKind::DiskHangs { target: Target::Leader, for_ms: 50 })
        })
    };
    each(8, scenario, |report| {
        assert!(report.hung > 0, "something waited for the disk");
        assert_eq!(report.befallen[0].began.leader, report.befallen[3].began.leader, "the leader stays");
    });
}

/// Machines are compared at every entry that they apply, and writes that took effect twice would not pass.
#[test]
fn t43_commands_take_effect_once_across_crashes() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        (1..7).fold(scenario, |scenario, round| {
            with(scenario, 200 * round, power_loss(Target::Node((seed + round) % 3 + 1), 1 + (seed + round) % 9))
        })
    };
    each(8, scenario, |report| assert!(report.power_cuts >= 4 && report.operations > 10));
}

#[test]
fn t44_everyone_is_killed_again_and_again() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        scenario.time_ms = 5_000;
        let slow = FaultKind::Slow { target: Target::Node(seed % 3 + 1), times: 50, for_ms: 3_000 };
        (1..=10).fold(with(scenario, 400, slow), |scenario, round| {
            with(scenario, 450 * round, FaultKind::Kill { target: Target::Everyone, down_ms: 50 })
        })
    };
    each(3, scenario, |report| {
        assert_eq!(report.ends, 30);
        let led = |fault: usize| befallen(report, fault).began.leader.map(|(term, _)| term);
        assert!((1..10).all(|round| led(round) < led(round + 1)), "each time there was a leader, in a later term");
    });
}

/// A node whose disk is not its own any more, in one way or another.
fn comes_back(usual: u64, fault: impl Fn(u64, Target) -> FaultKind) -> u64 {
    let scenario = |seed| {
        let target = Target::Node(seed % 3 + 1);
        // It is started anew first: the copy is of an earlier start, and everybody knows the later one.
        let scenario = with(quiet(seed, 3), 500, FaultKind::Kill { target, down_ms: 50 });
        with(scenario, 1_000, fault(seed, target))
    };
    let sum = each(usual, scenario, |report| {
        assert_eq!(report.befallen[1].nodes, [victim(report)]);
        assert!(report.refused <= 1 && report.answered > 10);
        let (before, after) = (&report.befallen[1].began, report.befallen[1].ended.as_ref().expect("it is over"));
        assert!(before.leader.map(|(_, node)| node) == Some(victim(report)) || before.leader == after.leader);
    });
    assert_eq!(sum.skipped, 0, "the faults came");
    sum.refused
}

#[test]
fn t45_an_empty_disk_is_refused() {
    assert_eq!(comes_back(6, |_, target| FaultKind::Wipe { target, down_ms: 50 }), seeds(6).end);
}

#[test]
fn t45_an_older_copy_is_refused() {
    assert_eq!(comes_back(6, |_, target| FaultKind::OldCopy { target, age_ms: 600, down_ms: 50 }), seeds(6).end);
}

#[test]
fn t45_another_nodes_disk_is_refused() {
    let fault = |seed, target| FaultKind::OtherDisk { target, of: (seed + 1) % 3 + 1, down_ms: 50 };
    assert_eq!(comes_back(6, fault), seeds(6).end);
}

/// Nobody can tell a tail that the disk has lost from one that never was. What is demanded: nothing panics, and the damage is
/// noticed wherever nodes disagree.
#[test]
fn t45_syncs_that_lie_end_no_simulation_badly() {
    let scenario = |seed| {
        let fault = FaultKind::SyncsLie { target: Target::Leader, for_ms: 200 + 50 * seed, down_ms: 50 };
        with(quiet(seed, 3), 500, fault)
    };
    each(10, scenario, |report| assert!(report.lied > 0 && report.power_cuts == 1));
}

#[test]
fn t46_a_second_process_is_refused_and_changes_nothing() {
    let scenario = |seed| {
        let scenario = with(quiet(seed, 3), 500, FaultKind::SecondProcess { target: Target::Everyone });
        with(scenario, 1_000, FaultKind::SecondProcess { target: Target::Leader })
    };
    each(6, scenario, |report| {
        assert_eq!(report.locked_out, 4);
        assert_eq!(report.elections, 1, "nobody notices");
        assert_eq!(befallen(report, 0).nodes, [NodeId(1), NodeId(2), NodeId(3)]);
    });
}

/// What a node recovers is compared with what it had written and synced, entry by entry, at each of these starts.
#[test]
fn t46_recovery_finds_what_was_written() {
    let scenario = |seed| {
        (1..6).fold(snapshots(quiet(seed, 3)), |scenario, round| {
            let target = Target::Node((seed + round) % 3 + 1);
            let kind = if round % 2 == 0 {
                FaultKind::Stop { target, down_ms: 50 }
            } else {
                FaultKind::Kill { target, down_ms: 50 }
            };
            with(scenario, 200 * round, kind)
        })
    };
    each(6, scenario, |report| assert_eq!((report.starts, report.refused), (8, 0)));
}
