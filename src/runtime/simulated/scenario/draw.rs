//! Draws a scenario from a seed.

use super::draw_faults::Faults;
use super::stories::{self, Story};
use super::{Disks, Network, Scenario, Settings, Workload};
use crate::runtime::simulated::dice::{Dice, MILLION};

/// Which faults a scenario may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Profile {
    /// Anything: each seed draws its own kinds of faults, and how often
    Swarm,
    /// Nothing
    Calm,
    /// Messages are lost, late, doubled and overtaken; links are cut and clogged, one way or both
    Network,
    /// Processes are killed, stopped and paused, machines lose power, clocks go wrong
    Crashes,
    /// Disks are slow, hang, fail, or are full
    Disks,
    /// As `network` and `crashes`, and one node's disk forgets: rot, wiped, or an older copy
    Damage,
}

/// What is drawn from, besides the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which faults.
    pub profile: Profile,
    /// How many nodes; drawn if `None`.
    pub nodes: Option<u64>,
    /// Simulated milliseconds; drawn if `None`.
    pub time_ms: Option<u64>,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64, wish: &Wish) -> Self {
        let dice = &mut Dice::new(seed, "scenario");
        let nodes = wish.nodes.unwrap_or(match dice.below(100) {
            0..5 => 1,
            5..10 => 2,
            10..60 => 3,
            60..70 => 4,
            70..95 => 5,
            _ => 7,
        });
        let time_ms = wish.time_ms.unwrap_or_else(|| dice.between(5_000, 15_000));
        let kinds = Kinds::draw(dice, wish.profile);
        let settings = Settings::draw(dice);
        let timeout_ms = settings.election_timeout_ms;
        let mut scenario = Scenario {
            seed,
            nodes,
            clients: dice.between(1, 10),
            time_ms,
            network: Network::draw(dice, &kinds, timeout_ms),
            disks: Disks { sync_us: dice.of_any_size(20, timeout_ms * 25), garbles: wish.profile != Profile::Calm },
            load: Workload::draw(dice, timeout_ms),
            faults: Faults { dice, kinds: &kinds, nodes, time_ms, timeout_ms }.draw(),
            settings,
        };
        if let Some(story) = Story::draw(dice, &kinds, nodes) {
            story.take_place(dice, &mut scenario);
        }
        if kinds.damage && nodes >= 3 {
            stories::damage(dice, &mut scenario);
        }
        scenario.faults.sort_by_key(|fault| fault.at_ms);
        // Drawn last: all else is as it was without this.
        scenario.settings.applies_at_once = dice.once_in(2);
        scenario
    }
}

impl Settings {
    fn draw(dice: &mut Dice) -> Self {
        let election_timeout_ms = dice.between(50, 300);
        Settings {
            election_timeout_ms,
            heartbeat_interval_ms: dice.between(election_timeout_ms / 10, election_timeout_ms / 2),
            min_replication_interval_ms: if dice.once_in(4) { dice.between(1, 10) } else { 0 },
            pre_vote: !dice.once_in(10),
            check_quorum: !dice.once_in(10),
            segment_bytes: dice.of_any_size(4 << 10, 64 << 10),
            snapshot_bytes: dice.of_any_size(4 << 10, 256 << 10),
            snapshot_entries: dice.of_any_size(8, 2_000),
            max_batch_bytes: dice.of_any_size(256, 64 << 10),
            max_inflight_requests: dice.of_any_size(1, 64),
            max_pending_bytes: dice.of_any_size(8 << 10, 4 << 20),
            chunk_bytes: dice.of_any_size(256, 16 << 10),
            maelstrom: false,
            applies_at_once: false,
        }
    }

    pub(super) fn snapshots_all_the_time(&mut self, entries: u64) {
        (self.snapshot_entries, self.snapshot_bytes) = (entries, 4 << 10);
    }
}

impl Network {
    fn draw(dice: &mut Dice, kinds: &Kinds, timeout_ms: u64) -> Self {
        let rate = |dice: &mut Dice, on: bool, most: u64| if on { dice.of_any_size(100, most) } else { 0 };
        Network {
            delay_us: dice.of_any_size(20, timeout_ms * 50),
            jitter_us: dice.of_any_size(20, timeout_ms * 25),
            lost: rate(dice, kinds.lost, MILLION / 5),
            twice: rate(dice, kinds.twice, MILLION / 3),
            overtaken: rate(dice, kinds.overtaken, MILLION / 3),
        }
    }
}

impl Workload {
    fn draw(dice: &mut Dice, timeout_ms: u64) -> Self {
        let (keys, value_bytes) = match dice.below(8) {
            // A state of several blocks.
            0 => (dice.between(30, 100), dice.of_any_size(2_048, 8_192)),
            _ => (dice.between(1, 10), dice.of_any_size(16, 4_096)),
        };
        Workload {
            keys,
            value_bytes,
            pause_us: dice.of_any_size(100, 50_000),
            depth: dice.between(1, 6),
            patience_ms: dice.between(timeout_ms, 12 * timeout_ms),
            reads: dice.between(10, 70),
            sessions: if dice.once_in(2) { dice.between(20, 100) } else { 0 },
            queue: if dice.once_in(4) { 0 } else { dice.between(20, 100) },
            numbers: if dice.once_in(2) { dice.between(10, 80) } else { 0 },
        }
    }
}

/// Which kinds of faults there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    pub lost: bool,
    pub twice: bool,
    pub overtaken: bool,
    pub cut: bool,
    pub clog: bool,
    pub kill: bool,
    pub power: bool,
    pub stop: bool,
    pub pause: bool,
    pub slow: bool,
    pub clock: bool,
    pub hang: bool,
    pub fail: bool,
    pub full: bool,
    pub transfer: bool,
    /// At most one node forgets.
    pub damage: bool,
}

impl Kinds {
    /// Each seed has kinds of its own: a tenth of them none, a tenth exactly one (Groce et al., "Swarm testing", 2012).
    fn draw(dice: &mut Dice, profile: Profile) -> Self {
        let mut kinds = Kinds::default();
        let (network, crashes, disks, damage) = match profile {
            Profile::Swarm => (true, true, true, dice.once_in(5)),
            Profile::Calm => return kinds,
            Profile::Network => (true, false, false, false),
            Profile::Crashes => (false, true, false, false),
            Profile::Disks => (false, false, true, false),
            Profile::Damage => (true, true, false, true),
        };
        let k = &mut kinds;
        let mut allowed: Vec<&mut bool> = Vec::new();
        if network {
            allowed.extend([&mut k.lost, &mut k.twice, &mut k.overtaken, &mut k.cut, &mut k.clog]);
        }
        if crashes {
            allowed.extend([
                &mut k.kill,
                &mut k.power,
                &mut k.stop,
                &mut k.pause,
                &mut k.slow,
                &mut k.clock,
                &mut k.transfer,
            ]);
        }
        if disks {
            allowed.extend([&mut k.hang, &mut k.fail, &mut k.full]);
        }
        match dice.below(10) {
            0 => {}
            1 => {
                let nth = dice.below(allowed.len() as u64) as usize;
                *allowed[nth] = true;
            }
            _ => allowed.into_iter().for_each(|kind| *kind = dice.once_in(2)),
        }
        kinds.damage = damage;
        kinds
    }
}
