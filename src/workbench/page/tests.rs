use std::path::PathBuf;

use serde_json::json;

use super::super::nemesis::{Fault, Happened};
use super::super::options::{Latency, Spread};
use super::super::verdict::{Anomaly, Verdict};
use super::*;
use crate::drawing::tests::assert_well_formed;
use crate::gateway::maelstrom::Workload;

fn options() -> Options {
    Options {
        workload: Workload::LinKv,
        program: PathBuf::new(),
        arguments: Vec::new(),
        nodes: 3,
        rate: 100.0,
        time: Duration::from_secs(10),
        clients: 6,
        latency: Latency { mean: Duration::ZERO, spread: Spread::Constant },
        loss: 0.0,
        nemeses: std::collections::BTreeSet::new(),
        nemesis_interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rest: Duration::ZERO,
        keys: 8,
        seed: 7,
    }
}

/// A run of so many operations, the last but one of which is part of an anomaly.
fn run(count: usize) -> Run {
    let operation = |number: usize| {
        let outcome = match number % 3 {
            0 => Outcome::Answered(json!({"type": "read_ok", "value": "<b>&\"\u{1}"})),
            1 => Outcome::Refused { code: 11, text: "no leader".into() },
            _ => Outcome::Unknown("no answer".into()),
        };
        let began = Duration::from_millis(number as u64);
        let (process, node) = (number as u64 % 6, number % 3);
        let request = json!({"type": "read", "key": number});
        Operation { process, node, request, outcome, began, ended: began + Duration::from_millis(4), at_rest: false }
    };
    let (began, ended) = (Duration::from_millis(10), Duration::from_millis(500));
    let faults = [
        Fault::Partition { shape: "n0 | n1 n2".into(), ways: vec![(0, 1)] },
        Fault::Kill(vec![1]),
        Fault::Pause(vec![0, 2]),
    ];
    let anomaly = Anomaly { name: "G1c", explanation: "a < b\nb < a".into(), operations: vec![count - 2] };
    Run {
        history: (0..count).map(operation).collect(),
        verdict: Verdict { anomalies: vec![anomaly], ..Verdict::default() },
        faults: faults.map(|fault| Happened { fault, began, ended, effect: 2 }).into(),
        load: (Duration::ZERO, Duration::from_secs(10)),
        ..Run::default()
    }
}

#[test]
fn a_page_is_well_formed_and_needs_nothing_else() {
    let html = page(&options(), &run(300), "raft workbench --bin 'a<b'");
    assert!(html.starts_with("<!DOCTYPE html>"));
    assert_well_formed(&html);
    assert!(!html.contains("http") && !html.contains("<script") && !html.contains("url("), "nothing from elsewhere");
    assert!(!html.contains("<b>") && !html.contains('\u{1}'), "what nodes say is escaped");
    for expected in
        ["lin-kv: INVALID", "G1c", "a &lt; b", "n0 | n1 n2", "class=\"kill\"", "class=\"pause\"", "class=\"partition\""]
    {
        assert!(html.contains(expected), "{expected}");
    }
    assert_eq!(html.matches("<circle").count(), 300);
    assert_eq!(html.matches(" marked\" x").count(), 1);
}

#[test]
fn a_page_of_a_run_without_anything_is_well_formed() {
    assert_well_formed(&page(&options(), &Run::default(), "raft workbench"));
}

#[test]
fn the_size_of_a_page_is_bounded_and_anomalies_are_always_there() {
    let html = page(&options(), &run(100_000), "raft workbench");
    assert!(html.len() < 10 << 20, "{} bytes", html.len());
    assert!(html.contains("One operation in 7 is shown"));
    let marked: Vec<_> = html.lines().filter(|line| line.contains(" marked\" x")).collect();
    assert!(matches!(&marked[..], [line] if line.contains("99998: process")), "{marked:?}");
}
