//! Scenarios in which a chosen fault befalls a chosen node at a chosen time, each with what must come of it besides the invariants
//! that every simulation checks. The numbers are those of the catalogue of tests; which is shown where: docs/TESTING.md.

mod clocks_and_load;
mod commit;
mod disks;
mod network;
mod sessions;
mod snapshots;

use std::cell::Cell;

use raft::consensus::{NodeId, Term};
use raft::marks::Mark;
use raft::runtime::simulated::report::Befallen;
use raft::runtime::simulated::scenario::{Disks, Fault, FaultKind, Network, Settings, Workload};
use raft::runtime::simulated::{Report, Scenario, simulate};

/// Milliseconds, as in all these scenarios.
const ELECTION_TIMEOUT_MS: u64 = 100;

/// Whether tests take their long form.
fn is_nightly() -> bool {
    std::env::var("RAFT_TEST_PROFILE").is_ok_and(|profile| profile == "nightly")
}

/// How many seeds a scenario is tried with.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..if is_nightly() { 100 * usual } else { usual }
}

/// A quiet cluster with one client, for a second, with segments, snapshots and batches that are small.
fn quiet(seed: u64, nodes: u64) -> Scenario {
    Scenario {
        seed,
        nodes,
        clients: 1,
        time_ms: 1_500,
        settings: Settings {
            election_timeout_ms: ELECTION_TIMEOUT_MS,
            heartbeat_interval_ms: 30,
            min_replication_interval_ms: 0,
            pre_vote: true,
            check_quorum: true,
            segment_bytes: 8 << 10,
            snapshot_bytes: 1 << 20,
            snapshot_entries: 1_000,
            max_batch_bytes: 4 << 10,
            max_inflight_requests: 8,
            max_pending_bytes: 256 << 10,
            chunk_bytes: 512,
            maelstrom: false,
            applies_at_once: false,
        },
        network: Network { delay_us: 500, jitter_us: 500, lost: 0, twice: 0, overtaken: 0 },
        disks: Disks { sync_us: 500, garbles: true },
        load: Workload {
            keys: 4,
            value_bytes: 256,
            pause_us: 20_000,
            depth: 2,
            patience_ms: 300,
            reads: 25,
            sessions: 0,
            queue: 0,
            numbers: 0,
        },
        faults: Vec::new(),
    }
}

/// Snapshots are taken all the time.
fn snapshots(mut scenario: Scenario) -> Scenario {
    scenario.settings.snapshot_entries = 10;
    scenario.settings.snapshot_bytes = 2 << 10;
    scenario
}

/// So much later, this goes wrong as well.
fn with(mut scenario: Scenario, at_ms: u64, kind: FaultKind) -> Scenario {
    scenario.faults.push(Fault { at_ms, kind });
    scenario
}

/// Runs a scenario, which has to pass every invariant and to recover.
fn passes(scenario: &Scenario) -> Report {
    match simulate(scenario, 0, None) {
        Ok(report) => report,
        Err(failed) => panic!(
            "seed {}: {} at {:?}\n{}",
            scenario.seed,
            failed.violation,
            failed.at,
            serde_json::to_string(scenario).unwrap_or_default()
        ),
    }
}

/// Runs a scenario with each of so many seeds, and looks at every report. Their sum. What a scenario makes of its seed, such as when
/// a fault comes, it makes of the usual ones only: `nightly` tries other dice, not faults that come ever later.
fn each(usual: u64, scenario: impl Fn(u64) -> Scenario, look: impl Fn(&Report)) -> Report {
    let mut sum = Report::default();
    for seed in seeds(usual) {
        let mut scenario = scenario(seed % usual);
        scenario.seed += seed - seed % usual;
        let report = passes(&scenario);
        println!("seed {seed}: {report:?}");
        look(&report);
        sum.add(&report);
    }
    sum
}

/// Likewise; and so it goes with nearly all of them, the usual ones among them. Of `nightly`'s one in ten may go otherwise: votes
/// are divided twice, or all clients are at the node that is cut off.
fn mostly(usual: u64, scenario: impl Fn(u64) -> Scenario, look: impl Fn(&Report) -> bool) -> Report {
    let (looks, misses) = (Cell::new(0), Cell::new(0));
    let sum = each(usual, scenario, |report| {
        let went = look(report);
        assert!(went || looks.get() >= usual, "it went otherwise");
        looks.set(looks.get() + 1);
        misses.set(misses.get() + u64::from(!went));
    });
    assert!(10 * misses.get() <= looks.get(), "{} of {} went otherwise", misses.get(), looks.get());
    sum
}

/// Looks at how things stand then: a fault that does nothing, whose number is that of the look.
fn look(scenario: Scenario, at_ms: u64) -> Scenario {
    with(scenario, at_ms, FaultKind::Clog { links: Vec::new(), for_ms: 0 })
}

/// Every one of these rare paths was taken.
fn taken(report: &Report, marks: &[Mark]) {
    for mark in marks {
        assert!(report.marks.of(*mark).hits > 0, "it never happened that {}", mark.name());
    }
}

/// What became of the fault with this number.
fn befallen(report: &Report, fault: usize) -> &Befallen {
    report.befallen.iter().find(|befallen| befallen.fault == fault).expect("the fault has come")
}

/// Whom the first fault befell.
fn victim(report: &Report) -> NodeId {
    befallen(report, 0).nodes[0]
}

/// Who led when the fault with this number came, and when it was over.
fn leaders(report: &Report, fault: usize) -> [Option<(Term, NodeId)>; 2] {
    let befallen = befallen(report, fault);
    [befallen.began.leader, befallen.ended.as_ref().expect("the fault is over").leader]
}

/// Requests that were answered while the first fault lasted.
fn answered_meanwhile(report: &Report) -> u64 {
    let first = befallen(report, 0);
    first.ended.as_ref().expect("the fault is over").answered - first.began.answered
}

/// Whether somebody else leads after the first fault than before.
fn has_moved(report: &Report) -> bool {
    let [before, after] = leaders(report, 0);
    before.is_some_and(|(term, node)| after.is_some_and(|(later, other)| later > term && other != node))
}
