use std::path::PathBuf;

use super::super::options::{Latency, Spread};
use super::*;
use crate::gateway::maelstrom::Workload;

fn options(nodes: usize, seed: u64) -> Options {
    Options {
        workload: Workload::LinKv,
        program: PathBuf::new(),
        arguments: Vec::new(),
        nodes,
        rate: 100.0,
        time: Duration::from_secs(600),
        clients: 2 * nodes,
        latency: Latency { mean: Duration::ZERO, spread: Spread::Constant },
        loss: 0.0,
        nemeses: Nemesis::NAMES.iter().map(|(_, nemesis)| *nemesis).collect(),
        nemesis_interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rest: Duration::ZERO,
        keys: 8,
        seed,
    }
}

#[test]
fn a_seed_has_one_plan_and_faults_of_a_kind_follow_each_other() {
    let plans = [plan(&options(5, 7)), plan(&options(5, 7))];
    assert_eq!(plans[0], plans[1]);
    assert_ne!(plans[0], plan(&options(5, 8)));
    for (_, nemesis) in Nemesis::NAMES {
        let of: Vec<_> = plans[0].iter().filter(|planned| planned.fault.nemesis() == nemesis).collect();
        assert!((250..350).contains(&of.len()), "{} in 600 s, one in 2 s", of.len());
        for pair in of.windows(2) {
            assert!(pair[0].begin < pair[0].end && pair[0].end < pair[1].begin, "{pair:?}");
        }
        let broken: Duration = of.iter().map(|planned| planned.end - planned.begin).sum();
        assert!((270..330).contains(&broken.as_secs()), "{broken:?} of 600 s");
    }
    assert!(plans[0].iter().all(|planned| planned.end <= Duration::from_secs(600)));
}

#[test]
fn the_kinds_of_faults_do_not_change_each_other() {
    let all = plan(&options(5, 7));
    let mut kill = options(5, 7);
    kill.nemeses = BTreeSet::from([Nemesis::Kill]);
    let of_all: Vec<_> = all.into_iter().filter(|planned| planned.fault.nemesis() == Nemesis::Kill).collect();
    assert_eq!(plan(&kill), of_all);
}

#[test]
fn faults_are_of_every_shape_and_size() {
    for nodes in 1..=9 {
        let (mut shapes, mut killed, mut paused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for planned in plan(&options(nodes, 3)) {
            match &planned.fault {
                Fault::Partition { shape, ways } => {
                    assert!(
                        !ways.is_empty() && ways.iter().all(|(a, b)| a != b && *a < nodes && *b < nodes),
                        "{ways:?}"
                    );
                    let words = ["heard", "hears", "bridged", "ring"];
                    shapes.insert(words.into_iter().find(|word| shape.contains(word)).unwrap_or("parts"));
                }
                Fault::Kill(nodes) => drop(killed.insert(nodes.len())),
                Fault::Pause(nodes) => drop(paused.insert(nodes.len())),
            }
        }
        match nodes {
            1 => assert!(shapes.is_empty()),
            2 => assert_eq!(shapes, BTreeSet::from(["heard", "hears", "parts"])),
            3 => assert_eq!(shapes, BTreeSet::from(["bridged", "heard", "hears", "parts"])),
            _ => assert_eq!(shapes, BTreeSet::from(["bridged", "heard", "hears", "parts", "ring"]), "{nodes} nodes"),
        }
        assert!(killed.contains(&1) && killed.contains(&nodes), "{killed:?}");
        assert!(paused.contains(&1) && paused.iter().all(|count| *count <= nodes / 2 + 1), "{paused:?}");
    }
}

#[test]
fn in_a_ring_everybody_sees_a_majority_but_not_the_same() {
    for nodes in 4..=9 {
        let rings = plan(&options(nodes, 3)).into_iter().filter_map(|planned| match planned.fault {
            Fault::Partition { shape, ways } if shape.contains("ring") => Some(ways),
            _ => None,
        });
        let mut seen = 0;
        for ways in rings {
            seen += 1;
            let views: BTreeSet<Vec<usize>> =
                (0..nodes).map(|node| (0..nodes).filter(|other| !ways.contains(&(node, *other))).collect()).collect();
            assert!(views.iter().all(|view| view.len() > nodes / 2), "{nodes} nodes: {views:?}");
            assert!(
                views.len() == nodes && ways.iter().all(|(a, b)| ways.contains(&(*b, *a))),
                "{nodes} nodes: {views:?}"
            );
        }
        assert!(seen > 0);
    }
}
