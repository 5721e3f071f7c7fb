//! Each workload on our nodes: what clients saw may be, and they saw something.

use std::collections::HashMap;
use std::time::Duration;

use raft::gateway::maelstrom::Workload;
use raft::workbench::history::Outcome;
use raft::workbench::options::Nemesis::{Kill, Partition, Pause};
use raft::workbench::options::Spread;
use raft::workbench::report::Figures;
use raft::workbench::run::Run;

use super::support::{assert_valid, options};

/// How many requests of this type were answered.
fn answered(run: &Run, kind: &str) -> usize {
    let of_kind = run.history.iter().filter(|operation| operation.request["type"] == kind);
    of_kind.filter(|operation| matches!(operation.outcome, Outcome::Answered(_))).count()
}

#[track_caller]
fn assert_answered(run: &Run, kinds: &[&str]) {
    for kind in kinds {
        assert!(answered(run, kind) > 5, "{} of type {kind} were answered", answered(run, kind));
    }
    // What is refused is asked again.
    let mut served: HashMap<(usize, String), bool> = HashMap::new();
    for operation in run.history.iter().filter(|operation| operation.at_rest) {
        *served.entry((operation.node, operation.request.to_string())).or_default() |= operation.outcome.is_served();
    }
    assert!(!served.is_empty() && served.values().all(|is_served| *is_served), "not served in the end: {served:?}");
}

#[test]
fn lin_kv_with_all_faults() {
    let mut options = options(Workload::LinKv, 5, &[Partition, Kill, Pause]);
    // In so many faults at once there is not much that can be served.
    options.time *= 2;
    options.nemesis_interval *= 2;
    let run = assert_valid(&options);
    assert_answered(&run, &["read", "write", "cas"]);
}

#[test]
fn lin_kv_alone_and_killed() {
    let mut options = options(Workload::LinKv, 1, &[Partition, Kill]);
    // It takes a second until a node alone leads.
    (options.time, options.nemesis_interval) = (Duration::from_secs(5), Duration::from_secs(5));
    let run = assert_valid(&options);
    assert!(run.faults.iter().all(|fault| fault.fault.nemesis() == Kill), "one node cannot be parted from any other");
    assert_answered(&run, &["read", "write", "cas"]);
}

#[test]
fn lin_kv_over_a_slow_network_that_loses() {
    let mut options = options(Workload::LinKv, 3, &[]);
    options.latency.mean = Duration::from_millis(10);
    options.latency.spread = Spread::Exponential;
    options.loss = 0.02;
    options.rest = Duration::from_secs(1);
    let run = assert_valid(&options);
    assert!(run.traffic.lost > 0, "{:?}", run.traffic);
    let median = Figures::of(&run).latency.quantile(0.5);
    assert!(median > Duration::from_millis(10), "there and back takes 20 ms on average: {median:?}");
    let rest = run.rest.expect("messages at rest were counted");
    assert!(rest.idle_rate > 1.0 && rest.singles.iter().all(|(asked, _)| *asked > 0), "{rest:?}");
}

#[test]
fn txn_list_append_with_partitions_and_kills() {
    let run = assert_valid(&options(Workload::TxnListAppend, 5, &[Partition, Kill]));
    assert_answered(&run, &["txn"]);
}

#[test]
fn txn_rw_register_with_pauses() {
    let run = assert_valid(&options(Workload::TxnRwRegister, 3, &[Pause]));
    assert_answered(&run, &["txn"]);
}

#[test]
fn kafka_with_partitions_and_pauses() {
    let run = assert_valid(&options(Workload::Kafka, 3, &[Partition, Pause]));
    assert_answered(&run, &["send", "poll", "list_committed_offsets"]);
}

#[test]
fn broadcast_with_partitions() {
    let run = assert_valid(&options(Workload::Broadcast, 5, &[Partition]));
    assert_answered(&run, &["broadcast", "read"]);
}

#[test]
fn g_set_with_kills() {
    let run = assert_valid(&options(Workload::GSet, 3, &[Kill]));
    assert_answered(&run, &["add", "read"]);
}

#[test]
fn g_counter_with_kills_and_pauses() {
    let run = assert_valid(&options(Workload::GCounter, 3, &[Kill, Pause]));
    assert_answered(&run, &["add", "read"]);
}

#[test]
fn pn_counter_with_partitions() {
    let run = assert_valid(&options(Workload::PnCounter, 5, &[Partition]));
    assert_answered(&run, &["add", "read"]);
}

#[test]
fn what_a_node_answers_alone_is_always_available() {
    for workload in [Workload::Echo, Workload::UniqueIds] {
        let mut options = options(workload, 3, &[Partition]);
        (options.time, options.nemesis_interval) = (Duration::from_millis(1_200), Duration::from_millis(600));
        let run = assert_valid(&options);
        let figures = Figures::of(&run);
        assert_eq!(figures.answered, figures.asked, "{workload}");
    }
}
