//! Stories: faults that follow each other, with the settings and the load that they take to lead anywhere. Drawn one by one,
//! they hardly ever meet.

use super::Scenario;
use super::draw::Kinds;
use super::draw_faults::a_while;
use super::fault::{Fault, FaultKind, Rotten, Target, Way};
use crate::runtime::simulated::dice::Dice;

/// After so long without use a session is over.
pub(super) const HOUR_MS: u64 = 60 * 60 * 1000;

/// One of them.
#[derive(Clone, Copy)]
pub(super) enum Story {
    /// A leader is cut off with more in its log than the others will have committed when it is back.
    LeftBehind,
    /// A node gets a large snapshot, and ends again and again while it arrives. No other is made meanwhile: clients are not heard.
    Interrupted,
    /// A node catches up, entry by entry, when a snapshot reaches it that is ahead of it; it stands still for a moment, and has
    /// both to do at once.
    Overtaken,
    /// A node's log gets ahead of its state machine, which is busy; then the node stands still for longer than the leader keeps
    /// what it lacks, and all of that happens again.
    Busy,
    /// A disk is full, and the node on it is asked to stop.
    Full,
    /// The leader finds that more than an hour is gone, and nobody else has led meanwhile.
    Overslept,
}

impl Story {
    /// A story that can be told with these faults, every other time that there is one.
    pub fn draw(dice: &mut Dice, kinds: &Kinds, nodes: u64) -> Option<Self> {
        let others_go_on = nodes >= 3;
        let all = [
            (others_go_on && kinds.cut, Story::LeftBehind),
            (others_go_on && kinds.kill && (kinds.cut || kinds.clog), Story::Interrupted),
            (others_go_on && kinds.pause, Story::Overtaken),
            (others_go_on && kinds.slow, Story::Busy),
            (kinds.full && kinds.stop, Story::Full),
            (kinds.clock, Story::Overslept),
        ];
        let able: Vec<Story> = all.into_iter().filter(|(is_able, _)| *is_able).map(|(_, story)| story).collect();
        let is_told = !able.is_empty() && dice.once_in(2);
        is_told.then(|| *dice.pick(&able))
    }

    /// Makes it part of the scenario.
    pub fn take_place(self, dice: &mut Dice, scenario: &mut Scenario) {
        match self {
            Story::LeftBehind => left_behind(dice, scenario),
            Story::Interrupted => interrupted(dice, scenario),
            Story::Overtaken => overtaken(dice, scenario),
            Story::Busy => busy(dice, scenario),
            Story::Full => full(dice, scenario),
            Story::Overslept => overslept(dice, scenario),
        }
    }
}

impl Scenario {
    fn add(&mut self, at_ms: u64, kind: FaultKind) {
        self.faults.push(Fault { at_ms, kind });
    }

    /// A moment between these eighths of the time with faults.
    fn moment(&self, dice: &mut Dice, first: u64, last: u64) -> u64 {
        dice.between(self.time_ms * first / 8, self.time_ms * last / 8)
    }
}

fn left_behind(dice: &mut Dice, scenario: &mut Scenario) {
    let (at_ms, target) = (scenario.moment(dice, 1, 7), Target::Leader);
    let for_ms = scenario.settings.election_timeout_ms * dice.between(2, 8);
    scenario.add(at_ms, FaultKind::Isolate { target, way: Way::Both, for_ms });
    scenario.add(at_ms + 1, FaultKind::Rush { target, requests: dice.of_any_size(16, 512) });
    // Snapshots are to overtake what it has in its log.
    scenario.settings.snapshots_all_the_time(dice.between(8, 64));
}

fn interrupted(dice: &mut Dice, scenario: &mut Scenario) {
    let timeout_ms = scenario.settings.election_timeout_ms;
    // Of several blocks, and long on its way.
    (scenario.load.keys, scenario.load.value_bytes) = (dice.between(40, 80), dice.between(16 << 10, 32 << 10));
    (scenario.load.pause_us, scenario.load.numbers) = (dice.of_any_size(100, 4_000), 0);
    scenario.settings.snapshots_all_the_time(dice.between(16, 64));
    (scenario.settings.max_pending_bytes, scenario.settings.max_batch_bytes) = (1 << 20, 64 << 10);
    scenario.settings.chunk_bytes = dice.between(512, 2_048);
    scenario.network.delay_us = timeout_ms * dice.between(10, 50);

    let target = Target::Node(dice.between(1, scenario.nodes));
    let back_ms = scenario.moment(dice, 2, 4);
    scenario.add(back_ms / 2, FaultKind::Kill { target, down_ms: back_ms / 2 });
    let for_ms = (scenario.time_ms - back_ms).min(20 * timeout_ms);
    scenario.add(back_ms, FaultKind::Unheard { target: Target::Everyone, way: Way::Both, held: false, for_ms });
    let mut at_ms = back_ms;
    for _ in 0..dice.between(1, 3) {
        at_ms += dice.between(timeout_ms / 2, 3 * timeout_ms);
        scenario.add(at_ms, FaultKind::Kill { target, down_ms: dice.between(1, timeout_ms) });
    }
}

fn overtaken(dice: &mut Dice, scenario: &mut Scenario) {
    // Much of the log is kept, although there are snapshots all the time: so it gets entries, a few at a time.
    (scenario.settings.snapshot_entries, scenario.settings.snapshot_bytes) = (dice.between(8, 32), 256 << 10);
    (scenario.settings.max_batch_bytes, scenario.settings.max_inflight_requests) =
        (dice.between(256, 1_024), dice.between(2, 8));
    (scenario.settings.chunk_bytes, scenario.settings.max_pending_bytes) = (16 << 10, 1 << 20);
    (scenario.load.value_bytes, scenario.load.pause_us) = (dice.between(16, 128), dice.of_any_size(512, 4_000));
    scenario.load.keys = dice.between(1, 10);
    let way_ms = dice.between(2, 6);
    (scenario.network.delay_us, scenario.network.jitter_us) = (way_ms * 1_000, 200);

    let target = Target::Follower;
    let away_ms = scenario.settings.election_timeout_ms * dice.between(2, 4);
    let mut at_ms = scenario.moment(dice, 2, 4);
    scenario.add(at_ms, FaultKind::Pause { target, for_ms: away_ms });
    at_ms += away_ms + dice.below(scenario.settings.heartbeat_interval_ms);
    for _ in 0..8 {
        scenario.add(at_ms, FaultKind::OldSnapshot { target });
        // Offered and answered, the snapshot is on its way.
        scenario.add(at_ms + 2 * way_ms, FaultKind::Pause { target, for_ms: 2 * way_ms });
        at_ms += way_ms * dice.between(6, 10);
    }
}

fn busy(dice: &mut Dice, scenario: &mut Scenario) {
    let timeout_ms = scenario.settings.election_timeout_ms;
    scenario.settings.snapshots_all_the_time(dice.between(4, 24));
    // What is not applied yet is soon too much to be kept in memory.
    scenario.settings.max_pending_bytes = 8 << 10;
    (scenario.load.value_bytes, scenario.load.pause_us) = (dice.between(256, 2_048), dice.of_any_size(512, 8_000));

    let (target, mut at_ms) = (Target::Follower, scenario.moment(dice, 1, 4));
    for _ in 0..dice.between(1, 3) {
        scenario.add(at_ms, FaultKind::Busy { target, for_ms: timeout_ms * dice.between(6, 12) });
        at_ms += timeout_ms * dice.between(1, 2);
        let for_ms = timeout_ms * dice.between(2, 4);
        scenario.add(at_ms, FaultKind::Pause { target, for_ms });
        at_ms += for_ms + timeout_ms;
    }
}

fn full(dice: &mut Dice, scenario: &mut Scenario) {
    let (at_ms, timeout_ms) = (scenario.moment(dice, 1, 7), scenario.settings.election_timeout_ms);
    let node = Target::Node(dice.between(1, scenario.nodes));
    let target = *dice.pick(&[Target::Leader, Target::Everyone, node]);
    let for_ms = timeout_ms * dice.between(4, 12);
    scenario.add(at_ms, FaultKind::DiskFull { target, room: dice.of_any_size(1, 4_096), for_ms });
    let stopped_ms = at_ms + dice.between(timeout_ms / 4, for_ms);
    scenario.add(stopped_ms, FaultKind::Stop { target, down_ms: a_while(dice, timeout_ms) });
}

fn overslept(dice: &mut Dice, scenario: &mut Scenario) {
    scenario.settings.check_quorum = false;
    scenario.load.sessions = dice.between(50, 100);
    for _ in 0..dice.between(1, 2) {
        let by_ms = dice.between(HOUR_MS, 3 * HOUR_MS) + scenario.time_ms;
        scenario.add(scenario.moment(dice, 2, 6), FaultKind::ClockJumps { target: Target::Leader, by_ms });
    }
}

/// The disk of one node, and of one alone, forgets something, once.
pub(super) fn damage(dice: &mut Dice, scenario: &mut Scenario) {
    let timeout_ms = scenario.settings.election_timeout_ms;
    let node = dice.between(1, scenario.nodes);
    let (target, at_ms, down_ms) = (Target::Node(node), scenario.moment(dice, 2, 6), a_while(dice, timeout_ms));
    let kind = match dice.below(12) {
        0..4 => {
            let snapshots = [Rotten::Snapshot; 2];
            let others = [Rotten::Any, Rotten::Segment, Rotten::Newest, Rotten::Identity, Rotten::Peers];
            let kinds = [&snapshots[..], &others].concat();
            let file = *dice.pick(&kinds);
            if file == Rotten::Snapshot {
                // There are two until the log, whose disk is slow, is durable as far as the newer one.
                scenario.settings.snapshots_all_the_time(dice.between(4, 16));
                scenario.disks.sync_us = timeout_ms * dice.between(50, 150);
            }
            FaultKind::BitRot { target, file, place: dice.number(), down_ms }
        }
        4..7 => FaultKind::Wipe { target, down_ms },
        7 => FaultKind::OtherDisk { target, of: node % scenario.nodes + 1, down_ms },
        8 => FaultKind::SyncsLie { target, for_ms: a_while(dice, timeout_ms), down_ms },
        _ => {
            let age_ms = dice.below(at_ms) + 1;
            started_again(dice, scenario, target, at_ms.saturating_sub(age_ms), at_ms);
            FaultKind::OldCopy { target, age_ms, down_ms }
        }
    };
    scenario.add(at_ms, kind);
}

/// The node starts a few times in between: what was copied before that is of an earlier start.
fn started_again(dice: &mut Dice, scenario: &mut Scenario, target: Target, from_ms: u64, to_ms: u64) {
    let starts = dice.between(1, 3);
    let each_ms = (to_ms - from_ms) / (starts + 1);
    for start in 0..starts {
        let at_ms = from_ms + each_ms * start + 1 + dice.below(each_ms / 2);
        scenario.add(at_ms, FaultKind::Kill { target, down_ms: dice.below(each_ms / 4) });
    }
}
