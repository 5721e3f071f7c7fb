//! T29 to T46: crashes, and everything that disks do.

use super::{
    ELECTION_TIMEOUT_MS, Scenario, answered_meanwhile, befallen, each, has_moved, leaders, look, mostly, passes, quiet,
    seeds, snapshots, taken, victim, with,
};
use raft::consensus::NodeId;
use raft::marks::Mark;
use raft::runtime::simulated::Report;
use raft::runtime::simulated::scenario::{Fault, FaultKind, Loses, Rotten, Target, Way};

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
/// profile only every so manieth. The sum, and how many operations there are.
fn at_every_operation(every: usize, cuts: u64, scenario: impl Fn(u64) -> Scenario) -> (Report, u64) {
    let step = if seeds(1).end > 1 { 1 } else { every };
    let mut sum = Report::default();
    for after in (1..).step_by(step) {
        let report = passes(&scenario(after));
        if report.power_cuts < cuts {
            println!("{after} operations");
            return (sum, after);
        }
        sum.add(&report);
    }
    unreachable!("a simulation ends")
}

/// The first operations of a cluster's life, and of a life after a power loss.
fn dies_twice(nodes: u64, at_ms: u64, target: Target, after: u64) -> Scenario {
    let mut scenario = snapshots(quiet(after, nodes));
    (scenario.settings.segment_bytes, scenario.settings.snapshot_entries) = (4 << 10, 6);
    scenario.load.pause_us = 25_000;
    scenario.time_ms = 800;
    // The first one makes the start after it a recovery; the second comes when that has begun.
    let scenario = with(scenario, at_ms, power_loss(target, 0));
    with(scenario, at_ms + 20, power_loss(target, after))
}

#[test]
fn t30_a_power_loss_at_every_operation_of_a_first_start() {
    let first = |after| {
        let mut scenario = dies_twice(1, 250, Target::Node(1), after);
        scenario.faults = vec![Fault { at_ms: 0, kind: power_loss(Target::Node(1), after) }];
        scenario
    };
    let (sum, operations) = at_every_operation(3, 1, first);
    assert!(operations > 60, "{operations} operations");
    taken(&sum, &[Mark::FolderBegunAgain, Mark::SegmentRecycled]);
}

#[test]
fn t30_a_power_loss_at_every_operation_of_one_node() {
    let (sum, operations) = at_every_operation(3, 2, |after| dies_twice(1, 250, Target::Node(1), after));
    assert!(operations > 60, "recovery, rotation and snapshots were reached: {operations} operations");
    taken(&sum, &[Mark::SegmentRecycled, Mark::TornTailCut]);
    assert!(sum.restored > 0, "a snapshot was restored");
}

#[test]
fn t30_a_power_loss_at_every_operation_of_one_of_three() {
    let (sum, operations) = at_every_operation(9, 2, |after| dies_twice(3, 250, Target::Node(after % 3 + 1), after));
    assert!(operations > 40, "{operations} operations");
    assert!(sum.elections > sum.power_cuts / 4, "leaders lost power, too");
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
    let sum = each(8, scenario, |report| {
        assert!(report.power_cuts >= 2 && report.refused == 0);
        assert!(report.answered > 10);
    });
    taken(&sum, &[Mark::TornTailInRecycled, Mark::StaleBatchesLeft]);
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
    let sum = mostly(usual, scenario, |report| {
        assert_eq!(report.rotted, 1, "a bit has changed");
        assert!(report.unreadable <= 1);
        // The others go on.
        answered_meanwhile(report) > 0
    });
    let damaged =
        if matches!(file, Rotten::Identity | Rotten::Peers) { Mark::SmallFileDamaged } else { Mark::LogDamaged };
    taken(&sum, &[damaged]);
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

/// Names of files that were not synced are lost while segments rotate and snapshots take their place.
fn loses_names(seed: u64) -> Scenario {
    let mut scenario = snapshots(quiet(seed, 3));
    (scenario.settings.segment_bytes, scenario.settings.snapshot_entries, scenario.clients) = (4 << 10, 8, 3);
    scenario.load.value_bytes = 1_024;
    (1..6).fold(scenario, |scenario, round| {
        let target = [Target::Leader, Target::Everyone][(seed + round) as usize % 2];
        let fault = FaultKind::PowerLoss { target, after: seed * round, loses: Loses::Names, down_ms: 50 };
        with(scenario, 250 * round, fault)
    })
}

#[test]
fn t35_t36_names_are_lost_at_rotation() {
    let sum = each(6, loses_names, |report| assert!(report.power_cuts >= 3 && report.refused == 0));
    taken(&sum, &[Mark::SegmentRecycled, Mark::StaleBatchesLeft, Mark::TemporaryRemoved]);
}

/// A leader that is cut off writes what nobody else gets. That is cut off its log, and the power fails before or after.
#[test]
fn t37_a_tail_that_was_cut_off_never_comes_back() {
    let scenario = |seed| {
        let mut scenario = quiet(seed, 3);
        (scenario.clients, scenario.settings.check_quorum) = (4, false);
        let isolated = FaultKind::Isolate { target: Target::Leader, way: Way::Both, for_ms: 400 };
        let loses = [Loses::Some, Loses::Names, Loses::Sectors][seed as usize % 3];
        (1..=3).fold(with(scenario, 500, isolated), |scenario, node| {
            let fault = FaultKind::PowerLoss { target: Target::Node(node), after: 1 + seed, loses, down_ms: 50 };
            with(scenario, 905 + 40 * node, fault)
        })
    };
    let sum = each(12, scenario, |report| assert!(report.power_cuts >= 3 && report.refused == 0));
    taken(&sum, &[Mark::ConflictTruncated, Mark::TruncationReplayed]);
}

/// The power fails somewhere between a snapshot that is durable and the log's head that is gone.
#[test]
fn t38_no_gap_between_a_snapshot_and_the_log() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        (scenario.settings.segment_bytes, scenario.settings.snapshot_entries, scenario.clients) = (4 << 10, 5, 3);
        scenario.load.value_bytes = 1_024;
        (1..8).fold(scenario, |scenario, round| {
            with(scenario, 180 * round, power_loss(Target::Node((seed + round) % 3 + 1), 1 + 7 * seed + round))
        })
    };
    let sum = each(8, scenario, |report| {
        assert!(report.power_cuts >= 4 && report.refused == 0);
        assert!(report.restored >= 3, "logs began with a snapshot: {}", report.restored);
    });
    taken(&sum, &[Mark::SegmentRecycled, Mark::SnapshotUnfinishedRemoved]);
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
    each(16, scenario, |report| {
        assert!(report.disk_failures >= 1, "the node stopped for its disk");
        assert_eq!(report.refused, 0);
    });
}

#[test]
fn t40_a_full_disk_of_the_leader() {
    let scenario = |seed| {
        let mut scenario = snapshots(quiet(seed, 3));
        scenario.clients = 3;
        with(scenario, 500, FaultKind::DiskFull { target: Target::Leader, room: 256 * seed, for_ms: 800 })
    };
    let sum = each(8, scenario, |report| {
        assert!(report.full > 0, "the disk was full");
        assert!(answered_meanwhile(report) > 10, "others have led meanwhile");
        assert_eq!(report.ends, 0, "no node has stopped");
    });
    taken(&sum, &[Mark::DiskFullTold, Mark::DiskFullHandsOver, Mark::VoteDeniedDiskFull]);
}

#[test]
fn t42_a_disk_that_hangs_moves_leadership() {
    let scenario = |seed| {
        // Every other one hangs for as long as there are faults at all.
        let for_ms = [850, 5_000][seed as usize % 2];
        let scenario = with(quiet(seed, 3), 600, FaultKind::DiskHangs { target: Target::Leader, for_ms });
        // It steps down after one timeout, the others wait for up to two, and may divide their votes once.
        look(scenario, 600 + 6 * ELECTION_TIMEOUT_MS)
    };
    let sum = each(10, scenario, |report| {
        assert!(report.hung > 0, "something waited for the disk");
        let [before, soon] = [leaders(report, 0)[0], leaders(report, 1)[0]];
        assert!(soon > before, "another one leads soon: {before:?}, {soon:?}");
        assert!(has_moved(report), "another one leads");
        assert!(answered_meanwhile(report) > 0, "writes were acknowledged meanwhile");
    });
    taken(&sum, &[Mark::StepDownDiskHangs]);
}

#[test]
fn t42_a_follower_whose_disk_hangs_holds_up_nobody() {
    let scenario = |seed| with(quiet(seed, 3), 600, FaultKind::DiskHangs { target: Target::Follower, for_ms: 800 });
    each(8, scenario, |report| {
        let [before, after] = leaders(report, 0);
        assert!(report.hung > 0, "something waited for the disk");
        assert_eq!(before, after, "the leader stays");
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
        assert_eq!(leaders(report, 0)[0], leaders(report, 3)[1], "the leader stays");
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
    mostly(3, scenario, |report| {
        assert_eq!(report.ends, 30);
        let led = |fault: usize| befallen(report, fault).began.leader.map(|(term, _)| term);
        // Each time there was a leader, in a later term.
        (1..10).all(|round| led(round) < led(round + 1))
    });
}

/// A node whose disk is not its own any more, in one way or another.
fn comes_back(refused: Mark, fault: impl Fn(u64, Target) -> FaultKind) {
    let scenario = |seed| {
        let target = Target::Node(seed % 3 + 1);
        // It is started anew first: the copy is of an earlier start, and everybody knows the later one.
        let scenario = with(quiet(seed, 3), 500, FaultKind::Kill { target, down_ms: 50 });
        with(scenario, 1_000, fault(seed, target))
    };
    let sum = each(6, scenario, |report| {
        assert_eq!((report.skipped, &*befallen(report, 1).nodes), (0, &[victim(report)][..]), "the fault came");
        assert_eq!(report.refused, 1, "it is refused, and comes back as one that abstains");
        let [before, after] = leaders(report, 1);
        assert!(before == after || before.is_some_and(|(_, node)| node == victim(report)), "the others go on");
    });
    taken(&sum, &[refused, Mark::FolderRejoined, Mark::PeerAbstains]);
}

#[test]
fn t45_an_empty_disk_is_refused() {
    comes_back(Mark::OtherIncarnationRefused, |_, target| FaultKind::Wipe { target, down_ms: 50 });
}

#[test]
fn t45_an_older_copy_is_refused() {
    comes_back(Mark::OtherProcessRefused, |_, target| FaultKind::OldCopy { target, age_ms: 600, down_ms: 50 });
}

/// It has been started twice since, so the copy's next start is one that everybody knows to be over.
#[test]
fn t45_a_copy_from_before_two_starts_is_refused_by_its_number() {
    let scenario = |seed| {
        let target = Target::Node(seed % 3 + 1);
        let kill = || FaultKind::Kill { target, down_ms: 50 };
        let scenario = with(with(quiet(seed, 3), 500, kill()), 700, kill());
        with(scenario, 1_000, FaultKind::OldCopy { target, age_ms: 600, down_ms: 50 })
    };
    let sum = each(4, scenario, |report| assert_eq!((report.skipped, report.refused), (0, 1), "the fault came"));
    taken(&sum, &[Mark::OlderBootRefused, Mark::FolderRejoined]);
}

/// Its starts count up while it reaches nobody, until it looks later than what the others know of it; and none of these processes
/// lives long enough to be told.
#[test]
fn t45_an_older_copy_is_refused_however_often_it_was_started_alone() {
    let scenario = |seed| {
        let target = Target::Node(seed % 3 + 1);
        let kill = || FaultKind::Kill { target, down_ms: 20 };
        let scenario = with(Scenario { time_ms: 2_500, ..quiet(seed, 3) }, 500, kill());
        let scenario = with(scenario, 1_000, FaultKind::Isolate { target, way: Way::Both, for_ms: 400 });
        let scenario = with(scenario, 1_010, FaultKind::OldCopy { target, age_ms: 600, down_ms: 20 });
        (0..=seed % 4).fold(scenario, |scenario, again| with(scenario, 1_100 + 50 * again, kill()))
    };
    let sum = each(8, scenario, |report| {
        let kills = report.befallen.len() as u64 - 3;
        assert_eq!((report.skipped, &*befallen(report, 2).nodes), (0, &[victim(report)][..]), "the fault came");
        assert_eq!((report.refused, report.unreadable), (1, 0), "it is refused by its peers, in its last start");
        // All begin; one is killed; the copy starts, is killed so many times, is refused, and rejoins.
        assert_eq!(report.starts, 3 + 1 + 1 + kills + 1);
    });
    taken(&sum, &[Mark::OtherProcessRefused, Mark::FolderRejoined, Mark::PeerAbstains]);
}

#[test]
fn t45_another_nodes_disk_is_refused() {
    comes_back(Mark::FolderRejoined, |seed, target| FaultKind::OtherDisk {
        target,
        of: (seed + 1) % 3 + 1,
        down_ms: 50,
    });
}

/// Nobody can tell a tail that the disk has lost from one that never was. One such disk is not a majority.
#[test]
fn t45_syncs_of_one_disk_lie() {
    let scenario = |seed| {
        let fault = FaultKind::SyncsLie { target: Target::Leader, for_ms: 200 + 50 * seed, down_ms: 50 };
        with(quiet(seed, 3), 500, fault)
    };
    each(10, scenario, |report| {
        assert!(report.lied > 0 && report.power_cuts == 1);
        assert!(answered_meanwhile(report) > 0);
    });
}

/// What all have lost is lost. That it is noticed here shows that the invariants look; that nothing panics is demanded even so.
#[test]
fn t45_syncs_of_all_disks_lie() {
    let scenario = |seed| {
        let fault = FaultKind::SyncsLie { target: Target::Everyone, for_ms: 200 + 50 * seed, down_ms: 50 };
        with(quiet(seed, 3), 500, fault)
    };
    each(6, scenario, |report| assert!(report.lied > 0 && report.power_cuts == 3 && report.excused == 1));
}

#[test]
fn t46_a_second_process_is_refused_and_changes_nothing() {
    let scenario = |seed| {
        let scenario = with(quiet(seed, 3), 500, FaultKind::SecondProcess { target: Target::Everyone });
        with(scenario, 1_000, FaultKind::SecondProcess { target: Target::Leader })
    };
    each(6, scenario, |report| {
        assert_eq!(report.locked_out, 4);
        let [before, after] = [leaders(report, 0)[0], leaders(report, 1)[1]];
        assert!(before.is_some() && before == after, "nobody notices: {before:?}, {after:?}");
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
