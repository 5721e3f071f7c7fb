//! Sessions and the queue while nodes end, links break, and leadership moves. Whether a command took effect once, and was answered
//! the same each time (I19), and whether every message is in one place, in order (I20), is checked in every simulation; here are
//! the faults that make it hard.

use raft::runtime::simulated::scenario::{FaultKind, Target, Way};

use super::*;

/// Every client does everything in a session, so many of a hundred writes are for the queue.
fn in_sessions(seed: u64, queue: u64) -> Scenario {
    let mut scenario = quiet(seed, 3);
    scenario.clients = 4;
    scenario.time_ms = 4_000;
    scenario.load.pause_us = 5_000;
    // Shorter than an election: whatever is under way then is sent again.
    scenario.load.patience_ms = 60;
    (scenario.load.reads, scenario.load.sessions, scenario.load.queue) = (10, 100, queue);
    scenario
}

#[test]
fn t70_a_command_that_is_sent_again_takes_effect_once_with_the_same_answer() {
    let everything = |seed| {
        let scenario = with(in_sessions(seed, 0), 500, FaultKind::Kill { target: Target::Leader, down_ms: 300 });
        let scenario = with(scenario, 1_500, FaultKind::Transfer);
        // From snapshots, and from the log alone.
        let scenario = if seed % 2 == 0 { snapshots(scenario) } else { scenario };
        with(scenario, 2_500, FaultKind::Kill { target: Target::Everyone, down_ms: 200 })
    };
    let sum = each(6, everything, |report| {
        assert_eq!(report.crashes, 4);
        assert!(report.repeated > 0, "commands were sent again");
    });
    assert!(sum.snapshots > 0);
    taken(&sum, &[Mark::SessionAnsweredAgain, Mark::TransferDone]);
}

#[test]
fn t71_what_a_client_does_not_know_it_asks_again() {
    let scenario = |seed| {
        let isolated = FaultKind::Isolate { target: Target::Leader, way: Way::Both, for_ms: 400 };
        (1..8).fold(in_sessions(seed, 0), |scenario, round| with(scenario, 450 * round, isolated.clone()))
    };
    let sum = each(4, scenario, |report| {
        assert!(report.given_up + report.unknown > 0, "clients did not know");
        assert!(report.repeated > 0, "and asked again");
    });
    taken(&sum, &[Mark::SessionAnsweredAgain]);
}

#[test]
fn t72_a_session_ends_for_all_at_once_when_it_is_not_used() {
    let scenario = |seed| {
        let mut scenario = snapshots(in_sessions(seed, 50));
        // Now and then a client rests for longer than a session lasts.
        scenario.time_ms = 12 * 3_600_000;
        scenario.load.pause_us = 2_400_000_000;
        (scenario.settings.election_timeout_ms, scenario.settings.heartbeat_interval_ms) = (200_000, 80_000);
        (scenario.load.patience_ms, scenario.load.reads) = (400_000, 0);
        let kill = FaultKind::Kill { target: Target::Leader, down_ms: 900_000 };
        (1..5).fold(scenario, |scenario, round| with(scenario, 8_000_000 * round, kill.clone()))
    };
    let sum = each(4, scenario, |report| assert!(report.crashes > 0));
    taken(&sum, &[Mark::SessionOver]);
}

#[test]
fn t98_a_message_is_put_once_through_failovers_restarts_and_snapshots() {
    let scenario = |seed| {
        let kill = FaultKind::Kill { target: Target::Leader, down_ms: 150 };
        (1..8).fold(snapshots(in_sessions(seed, 100)), |scenario, round| with(scenario, 450 * round, kill.clone()))
    };
    let sum = each(4, scenario, |report| {
        assert!(report.crashes >= 5 && report.repeated > 0, "{report:?}");
    });
    taken(&sum, &[Mark::SessionAnsweredAgain]);
}

#[test]
fn t99_producers_and_consumers_while_links_break_and_nodes_end() {
    let scenario = |seed| {
        let mut scenario = snapshots(in_sessions(seed, 100));
        scenario.clients = 8;
        let isolated = FaultKind::Isolate { target: Target::Leader, way: Way::Both, for_ms: 300 };
        let kill = FaultKind::Kill { target: Target::Follower, down_ms: 300 };
        (1..5).fold(scenario, |scenario, round| {
            with(with(scenario, 800 * round, isolated.clone()), 800 * round + 400, kill.clone())
        })
    };
    let sum = each(4, scenario, |report| assert!(report.crashes > 0 && report.lost > 0));
    taken(&sum, &[Mark::LeaseExpired, Mark::MessageDied, Mark::TopicFull]);
}

#[test]
fn t100_leases_end_though_nobody_writes_and_leadership_moves() {
    let scenario = |seed| {
        let mut scenario = in_sessions(seed, 100);
        // Two that lease and then rest for long: only time gives their messages back.
        (scenario.clients, scenario.load.pause_us, scenario.time_ms) = (2, 400_000, 20_000);
        let kill = FaultKind::Kill { target: Target::Leader, down_ms: 300 };
        (1..9).fold(scenario, |scenario, round| with(scenario, 2_000 * round, kill.clone()))
    };
    let sum = each(4, scenario, |report| assert!(report.crashes >= 5));
    taken(&sum, &[Mark::TickWritten, Mark::LeaseExpired]);
}
