//! Rare paths are counted: what a simulation says of them.

use raft::marks::{Counts, Mark};
use raft::runtime::simulated::{Profile, Scenario, Wish, simulate};

/// A few thousand events: nodes that are killed, and whose machines lose power.
fn marks_of(profile: Profile, seed: u64) -> Counts {
    let scenario = Scenario::draw(seed, &Wish { profile, nodes: Some(3), time_ms: Some(2_000) });
    match simulate(&scenario, 0, None) {
        Ok(report) => report.marks,
        Err(wrong) => panic!("seed {seed}: {}", wrong.violation),
    }
}

#[test]
fn a_few_seeds_hit_marks_in_every_part_of_a_node_and_a_seed_the_same_ones_again() {
    let counts: Vec<Counts> = (0..8).map(|seed| marks_of(Profile::Crashes, seed)).collect();
    let hit = [
        // Elections, leaders, and what waits for the disk.
        Mark::PreVoteDeniedLeaderLives,
        Mark::ElectionUndecided,
        Mark::ReadsShareRound,
        Mark::AnswersMerged,
        // The log on the disk.
        Mark::SegmentRecycled,
        Mark::MarkWritten,
        // Requests.
        Mark::HeldWithoutLeader,
        Mark::ForwardRefused,
    ];
    for mark in hit {
        let hits = counts.iter().filter(|counts| counts.of(mark).hits > 0);
        assert!(hits.clone().count() > 0, "{} was not hit", mark.name());
        assert!(hits.into_iter().all(|counts| counts.of(mark).runs == 1), "{} was hit in one run each", mark.name());
    }
    // Nobody damages anything or fills a disk.
    for mark in [Mark::LogDamaged, Mark::DiskFullTold, Mark::OtherIncarnationRefused] {
        assert!(counts.iter().all(|counts| counts.of(mark).hits == 0), "{}", mark.name());
    }
    assert_eq!(marks_of(Profile::Crashes, 4), counts[4]);
}
