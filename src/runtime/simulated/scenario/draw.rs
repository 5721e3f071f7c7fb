//! Draws a scenario from a seed.

use super::draw_faults::Faults;
use super::fault::{FaultKind, Rotten};
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
        let mut settings = Settings::draw(dice);
        let patience_ms = dice.between(settings.election_timeout_ms, 12 * settings.election_timeout_ms);
        // From dice of their own: so the rest of a seed's scenario is what it was before there were sessions.
        let of_sessions = &mut Dice::new(seed, "sessions");
        let sessions = if of_sessions.once_in(2) { of_sessions.between(20, 100) } else { 0 };
        let queue = if of_sessions.once_in(4) { 0 } else { of_sessions.between(20, 100) };
        let of_numbers = &mut Dice::new(seed, "numbers");
        let numbers = if of_numbers.once_in(2) { of_numbers.between(10, 80) } else { 0 };
        let is_calm = wish.profile == Profile::Calm;
        // Now and then a state of several blocks, so that a part of a snapshot that has arrived can be of use.
        let (keys, value_bytes) = match dice.below(8) {
            0 => (dice.between(30, 100), dice.of_any_size(2_048, 8_192)),
            _ => (dice.between(1, 10), dice.of_any_size(16, 4_096)),
        };
        let rate = |dice: &mut Dice, on: bool, most: u64| if on { dice.of_any_size(100, most) } else { 0 };
        let timeout_ms = settings.election_timeout_ms;
        let faults = Faults { dice, kinds: &kinds, nodes, time_ms, timeout_ms }.draw();
        let mut sync_us = dice.of_any_size(20, timeout_ms * 25);
        for fault in &faults {
            match fault.kind {
                // What it leaves in a log is to be overtaken by snapshots.
                FaultKind::Rush { .. } => settings.snapshots_all_the_time(dice.between(8, 64)),
                // There are two until the log, whose disk is slow, is durable as far as the newer one.
                FaultKind::BitRot { file: Rotten::Snapshot, .. } => {
                    settings.snapshots_all_the_time(dice.between(4, 16));
                    sync_us = timeout_ms * dice.between(50, 150);
                }
                _ => {}
            }
        }
        Scenario {
            seed,
            nodes,
            clients: dice.between(1, 10),
            time_ms,
            network: Network {
                delay_us: dice.of_any_size(20, settings.election_timeout_ms * 50),
                jitter_us: dice.of_any_size(20, settings.election_timeout_ms * 25),
                lost: rate(dice, kinds.lost, MILLION / 5),
                twice: rate(dice, kinds.twice, MILLION / 3),
                overtaken: rate(dice, kinds.overtaken, MILLION / 3),
            },
            disks: Disks { sync_us, garbles: !is_calm },
            load: Workload {
                keys,
                value_bytes,
                pause_us: dice.of_any_size(100, 50_000),
                depth: dice.between(1, 6),
                patience_ms,
                reads: dice.between(10, 70),
                sessions,
                queue,
                numbers,
            },
            faults,
            settings,
        }
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
        }
    }

    fn snapshots_all_the_time(&mut self, entries: u64) {
        (self.snapshot_entries, self.snapshot_bytes) = (entries, 4 << 10);
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
