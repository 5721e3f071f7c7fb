//! What a simulation is made of, all of it: drawn from a seed, or read from a file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dice::{Dice, MILLION};

/// Everything that decides how a simulation goes. The same scenario always goes the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Decides everything that the rest leaves open: delays, losses, what clients ask, what a power loss leaves.
    pub seed: u64,
    /// Nodes, numbered from 1.
    pub nodes: u64,
    /// Clients.
    pub clients: u64,
    /// Simulated milliseconds with faults. After that comes the time to recover.
    pub time_ms: u64,
    /// How nodes are set up.
    pub settings: Settings,
    /// How messages travel when nothing else is the matter.
    pub network: Network,
    /// How long the disks take, and how badly they lose power.
    pub disks: Disks,
    /// What clients do.
    pub load: Workload,
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
}

/// How nodes are set up: small limits, so that logs rotate, snapshots are taken and sent, and requests are refused, all the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Milliseconds.
    pub election_timeout_ms: u64,
    /// Milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds.
    pub min_replication_interval_ms: u64,
    /// Ask before campaigning.
    pub pre_vote: bool,
    /// Leaders step down that hear from no quorum.
    pub check_quorum: bool,
    /// Size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// A snapshot is due after so many bytes of log.
    pub snapshot_bytes: u64,
    /// A snapshot is due after so many entries.
    pub snapshot_entries: u64,
    /// Most bytes of entries in one request.
    pub max_batch_bytes: u64,
    /// Most requests with entries under way to one peer.
    pub max_inflight_requests: u64,
    /// Most bytes accepted and not applied, and most of recent entries in memory.
    pub max_pending_bytes: u64,
    /// Bytes in one part of a snapshot that is sent.
    pub chunk_bytes: u64,
    /// As under Maelstrom: election timeouts adapt, and nodes know that messages overtake each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maelstrom: bool,
}

/// How messages travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The shortest way, in microseconds.
    pub delay_us: u64,
    /// What is added to it on average, in microseconds, exponentially distributed.
    pub jitter_us: u64,
    /// So many in a million messages are lost.
    pub lost: u64,
    /// So many in a million arrive twice.
    pub twice: u64,
    /// So many in a million are overtaken by later ones.
    pub overtaken: u64,
}

/// How the disks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disks {
    /// What a sync takes on average, in microseconds.
    pub sync_us: u64,
    /// A power loss may leave sectors that are neither old nor new.
    pub garbles: bool,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// How many keys there are.
    pub keys: u64,
    /// Most bytes of a value.
    pub value_bytes: u64,
    /// Average pause between an answer and the next request, in microseconds.
    pub pause_us: u64,
    /// Most requests of one client that are under way.
    pub depth: u64,
    /// A client waits so many milliseconds for an answer.
    pub patience_ms: u64,
    /// So many of a hundred requests are reads.
    pub reads: u64,
    /// So many of a hundred writes come in a session, where they are sent again until they are answered.
    #[serde(default)]
    pub sessions: u64,
    /// So many of a hundred writes in sessions are for the queue.
    #[serde(default)]
    pub queue: u64,
    /// So many of a hundred other writes, and of reads, are of numbers and lists.
    #[serde(default)]
    pub numbers: u64,
}

/// Something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// Whom a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node with this number.
    Node(u64),
    /// Whoever leads then.
    Leader,
    /// The first node that runs then and does not lead.
    Follower,
    /// All nodes.
    Everyone,
}

/// Which way something is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It neither hears nor is heard.
    Both,
    /// It hears the others, and is not heard.
    Out,
    /// It is heard, and does not hear the others.
    In,
}

/// What a power loss takes of what was not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loses {
    /// Some of it.
    #[default]
    Some,
    /// Some or all names of files, and no bytes.
    Names,
    /// Some or all sectors, and no names.
    Sectors,
    /// All of it.
    All,
}

/// What rots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotten {
    /// Any file but the newest segment of the log. What is at its very end after a crash, nobody can tell from a write that was
    /// interrupted.
    #[default]
    Any,
    /// An older segment of the log.
    Segment,
    /// The newest segment of the log, up to its last batch, after a clean stop: then all of it is known to be whole.
    Newest,
    /// A snapshot.
    Snapshot,
    /// Who the node is.
    Identity,
    /// Whom it knows.
    Peers,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum FaultKind {
    /// Nothing gets from the first of each pair to the second for so long.
    Cut {
        /// From whom to whom.
        links: Vec<(u64, u64)>,
        /// Milliseconds.
        for_ms: u64,
    },
    /// A node is cut off from all others for so long.
    Isolate {
        /// Whom.
        target: Target,
        /// Which way.
        way: Way,
        /// Milliseconds.
        for_ms: u64,
    },
    /// Every message arrives so many times more.
    Storm {
        /// How many times.
        copies: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// What is sent from one to the other arrives only after this time.
    Clog {
        /// From whom to whom.
        links: Vec<(u64, u64)>,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The process is killed. What it has written stays.
    Kill {
        /// Whom.
        target: Target,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The machine loses power, at once or at its nth operation on the disk from now.
    PowerLoss {
        /// Whom.
        target: Target,
        /// After so many operations on the disk; 0: at once.
        after: u64,
        /// What is gone.
        #[serde(default)]
        loses: Loses,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is asked to stop, and starts again.
    Stop {
        /// Whom.
        target: Target,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The process stands still.
    Pause {
        /// Whom.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
    },
    /// Everything takes so many times as long.
    Slow {
        /// Whom.
        target: Target,
        /// How many times.
        times: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The clock gains or loses, from now on.
    ClockRate {
        /// Whom.
        target: Target,
        /// Thousandths: 1000 is right.
        per_mille: u64,
    },
    /// The clock is ahead from one moment to the next, as after a sleep that nobody noticed.
    ClockJumps {
        /// Whose.
        target: Target,
        /// Milliseconds.
        by_ms: u64,
    },
    /// A write or sync that has begun does not return for so long.
    DiskHangs {
        /// Whose.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The nth operation on the disk from now fails, and all later ones. The node has to stop, and starts again.
    DiskFails {
        /// Whose.
        target: Target,
        /// After so many operations.
        after: u64,
        /// The later ones succeed.
        #[serde(default)]
        once: bool,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The disk has room for so many more bytes.
    DiskFull {
        /// Whose.
        target: Target,
        /// Bytes.
        room: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The node is killed, and a byte of a file changes while it is down.
    BitRot {
        /// Whose.
        target: Target,
        /// Of which file.
        #[serde(default)]
        file: Rotten,
        /// Decides which.
        place: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is killed, and comes back with an empty disk.
    Wipe {
        /// Whose.
        target: Target,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is killed, and comes back with what its disk was at the last such copy.
    OldCopy {
        /// Whose.
        target: Target,
        /// The copy is taken so many milliseconds before.
        age_ms: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// The node is killed, and comes back with a copy of another node's disk.
    OtherDisk {
        /// Whose.
        target: Target,
        /// The other node.
        of: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// Syncs do nothing and succeed for so long. Then the machine loses power, and everything since the lies began: what is broken
    /// after that is not the nodes' fault.
    SyncsLie {
        /// Whose.
        target: Target,
        /// Milliseconds.
        for_ms: u64,
        /// It starts again after so many milliseconds.
        down_ms: u64,
    },
    /// A second process is started on the folder of one that runs.
    SecondProcess {
        /// Whose.
        target: Target,
    },
    /// Clients and a node do not hear each other for so long.
    Unheard {
        /// Whom.
        target: Target,
        /// Which way.
        way: Way,
        /// Nothing is lost: it arrives when that time is over.
        #[serde(default)]
        held: bool,
        /// Milliseconds.
        for_ms: u64,
    },
    /// A client goes to the node and sends it so many requests at once.
    Rush {
        /// Whom.
        target: Target,
        /// How many.
        requests: u64,
    },
    /// The leader is asked to hand leadership over.
    Transfer,
    /// The leader sends the oldest snapshot that it has, whatever the receiver needs.
    OldSnapshot {
        /// To whom.
        target: Target,
    },
}

impl FaultKind {
    /// Whom it befalls, if there is one.
    pub fn target(&self) -> Option<Target> {
        match self {
            FaultKind::Cut { .. } | FaultKind::Clog { .. } | FaultKind::Storm { .. } => None,
            FaultKind::Transfer => Some(Target::Leader),
            FaultKind::Isolate { target, .. }
            | FaultKind::Unheard { target, .. }
            | FaultKind::Kill { target, .. }
            | FaultKind::PowerLoss { target, .. }
            | FaultKind::Stop { target, .. }
            | FaultKind::Pause { target, .. }
            | FaultKind::Slow { target, .. }
            | FaultKind::ClockRate { target, .. }
            | FaultKind::ClockJumps { target, .. }
            | FaultKind::DiskHangs { target, .. }
            | FaultKind::DiskFails { target, .. }
            | FaultKind::DiskFull { target, .. }
            | FaultKind::BitRot { target, .. }
            | FaultKind::Wipe { target, .. }
            | FaultKind::OldCopy { target, .. }
            | FaultKind::OtherDisk { target, .. }
            | FaultKind::SyncsLie { target, .. }
            | FaultKind::SecondProcess { target }
            | FaultKind::Rush { target, .. }
            | FaultKind::OldSnapshot { target } => Some(*target),
        }
    }

    /// How long it lasts, in milliseconds: until what was cut off, slow or down need not be so any more.
    pub fn lasts_ms(&self) -> u64 {
        match self {
            FaultKind::Transfer
            | FaultKind::ClockRate { .. }
            | FaultKind::ClockJumps { .. }
            | FaultKind::SecondProcess { .. }
            | FaultKind::Rush { .. }
            | FaultKind::OldSnapshot { .. } => 0,
            FaultKind::Cut { for_ms, .. }
            | FaultKind::Isolate { for_ms, .. }
            | FaultKind::Unheard { for_ms, .. }
            | FaultKind::Storm { for_ms, .. }
            | FaultKind::Clog { for_ms, .. }
            | FaultKind::Pause { for_ms, .. }
            | FaultKind::Slow { for_ms, .. }
            | FaultKind::DiskHangs { for_ms, .. }
            | FaultKind::DiskFull { for_ms, .. } => *for_ms,
            FaultKind::SyncsLie { for_ms, down_ms, .. } => for_ms.saturating_add(*down_ms),
            FaultKind::Kill { down_ms, .. }
            | FaultKind::PowerLoss { down_ms, .. }
            | FaultKind::Stop { down_ms, .. }
            | FaultKind::DiskFails { down_ms, .. }
            | FaultKind::BitRot { down_ms, .. }
            | FaultKind::Wipe { down_ms, .. }
            | FaultKind::OldCopy { down_ms, .. }
            | FaultKind::OtherDisk { down_ms, .. } => *down_ms,
        }
    }
}

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

    /// How long nothing but time is needed for an election.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.election_timeout_ms)
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
struct Kinds {
    lost: bool,
    twice: bool,
    overtaken: bool,
    cut: bool,
    clog: bool,
    kill: bool,
    power: bool,
    stop: bool,
    pause: bool,
    slow: bool,
    clock: bool,
    hang: bool,
    fail: bool,
    full: bool,
    transfer: bool,
    /// At most one node forgets.
    damage: bool,
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

/// Makes a fault of one kind.
type Make<'a> = fn(&mut Faults<'a>) -> FaultKind;

struct Faults<'a> {
    dice: &'a mut Dice,
    kinds: &'a Kinds,
    nodes: u64,
    time_ms: u64,
    timeout_ms: u64,
}

impl<'a> Faults<'a> {
    fn draw(mut self) -> Vec<Fault> {
        let mut makers: Vec<Make<'a>> = Vec::new();
        let kinds = self.kinds;
        let all: [(bool, Make<'a>); 17] = [
            (kinds.cut, Self::cut),
            (kinds.cut, Self::isolate),
            (kinds.cut, |faults| faults.unheard(false)),
            (kinds.clog, |faults| faults.unheard(true)),
            (kinds.twice, Self::storm),
            (kinds.clog, Self::clog),
            (kinds.kill, Self::kill),
            (kinds.power, Self::power_loss),
            (kinds.stop, Self::stop),
            (kinds.pause, Self::pause),
            (kinds.slow, Self::slow),
            (kinds.clock, Self::clock_rate),
            (kinds.hang, Self::hang),
            (kinds.fail, Self::fail),
            (kinds.full, Self::full),
            (kinds.transfer, |_| FaultKind::Transfer),
            (kinds.transfer, |faults| FaultKind::OldSnapshot { target: faults.target() }),
        ];
        makers.extend(all.iter().filter(|(on, _)| *on).map(|(_, make)| *make));
        let mut faults = Vec::new();
        if !makers.is_empty() {
            // From a fault in every few seconds to one in every election timeout.
            let mean_ms = self.dice.of_any_size(self.timeout_ms, 4_000);
            // Now and then before the nodes are started for the first time.
            let mut at_ms = if self.dice.once_in(8) { 0 } else { self.dice.below(2 * mean_ms) };
            while at_ms < self.time_ms {
                let make = *self.dice.pick(&makers);
                faults.push(Fault { at_ms, kind: make(&mut self) });
                at_ms += self.dice.below(2 * mean_ms) + 1;
            }
        }
        if kinds.cut && self.nodes >= 3 && self.dice.once_in(3) {
            faults.extend(self.left_behind());
        }
        if kinds.damage && self.nodes >= 3 {
            let at_ms = self.dice.between(self.time_ms / 4, self.time_ms * 3 / 4);
            faults.push(Fault { at_ms, kind: self.damage(at_ms) });
        }
        faults.sort_by_key(|fault| fault.at_ms);
        faults
    }

    fn target(&mut self) -> Target {
        match self.dice.below(20) {
            0..10 => Target::Leader,
            10 => Target::Everyone,
            _ => Target::Node(self.dice.between(1, self.nodes)),
        }
    }

    /// Around the election timeout, often shorter, at times much longer.
    fn a_while(&mut self) -> u64 {
        let timeout_ms = self.timeout_ms;
        self.dice.of_any_size(timeout_ms / 10, 16 * timeout_ms)
    }

    /// A bridge, a ring, a majority and a minority, one alone; one way or both ways.
    fn links(&mut self) -> Vec<(u64, u64)> {
        let mut nodes: Vec<u64> = (1..=self.nodes).collect();
        self.dice.shuffle(&mut nodes);
        let apart = |a: &[u64], b: &[u64]| -> Vec<(u64, u64)> {
            a.iter().flat_map(|&from| b.iter().map(move |&to| (from, to))).collect()
        };
        let one_way = match self.dice.below(5) {
            0 => apart(&nodes[..1], &nodes[1..]),
            1 => {
                let (few, rest) = nodes.split_at(nodes.len() / 2);
                apart(few, rest)
            }
            // All but the bridge are on one side of it.
            2 if nodes.len() > 2 => {
                let (left, right) = nodes[1..].split_at((nodes.len() - 1) / 2);
                apart(left, right)
            }
            // In a ring each hears its neighbours only.
            3 => {
                let count = nodes.len();
                let far = |a: usize, b: usize| a.abs_diff(b) > 1 && a.abs_diff(b) != count - 1;
                (0..count)
                    .flat_map(|a| (0..a).map(move |b| (a, b)))
                    .filter(|&(a, b)| far(a, b))
                    .map(|(a, b)| (nodes[a], nodes[b]))
                    .collect()
            }
            _ => {
                let all = apart(&nodes, &nodes).into_iter().filter(|(from, to)| from != to).collect::<Vec<_>>();
                self.dice.some(&all)
            }
        };
        let back = one_way.iter().map(|&(from, to)| (to, from));
        let mut links: Vec<(u64, u64)> =
            if self.dice.once_in(3) { one_way } else { one_way.iter().copied().chain(back).collect() };
        links.sort_unstable();
        links.dedup();
        links
    }

    fn cut(&mut self) -> FaultKind {
        FaultKind::Cut { links: self.links(), for_ms: self.a_while() }
    }

    fn isolate(&mut self) -> FaultKind {
        let (target, way) = (self.target(), *self.dice.pick(&[Way::Both, Way::Out, Way::In]));
        FaultKind::Isolate { target, way, for_ms: self.a_while() }
    }

    fn unheard(&mut self, held: bool) -> FaultKind {
        let (target, way) = (self.target(), *self.dice.pick(&[Way::Both, Way::Out, Way::In]));
        FaultKind::Unheard { target, way, held, for_ms: self.a_while() }
    }

    /// A leader is cut off with more in its log than the others will have committed when it is back.
    fn left_behind(&mut self) -> [Fault; 2] {
        let at_ms = self.dice.between(self.time_ms / 8, self.time_ms * 7 / 8);
        let for_ms = self.timeout_ms * self.dice.between(2, 8);
        let cut = FaultKind::Isolate { target: Target::Leader, way: Way::Both, for_ms };
        let rush = FaultKind::Rush { target: Target::Leader, requests: self.dice.of_any_size(16, 512) };
        [Fault { at_ms, kind: cut }, Fault { at_ms: at_ms + 1, kind: rush }]
    }

    fn storm(&mut self) -> FaultKind {
        FaultKind::Storm { copies: self.dice.between(1, 5), for_ms: self.a_while() }
    }

    fn clog(&mut self) -> FaultKind {
        FaultKind::Clog { links: self.links(), for_ms: self.a_while() }
    }

    fn kill(&mut self) -> FaultKind {
        FaultKind::Kill { target: self.target(), down_ms: self.a_while() }
    }

    fn power_loss(&mut self) -> FaultKind {
        let after = if self.dice.once_in(2) { 0 } else { self.dice.between(1, 40) };
        let loses = *self.dice.pick(&[Loses::Some, Loses::Some, Loses::Names, Loses::Sectors, Loses::All]);
        FaultKind::PowerLoss { target: self.target(), after, loses, down_ms: self.a_while() }
    }

    fn stop(&mut self) -> FaultKind {
        if self.dice.once_in(4) {
            return FaultKind::SecondProcess { target: self.target() };
        }
        FaultKind::Stop { target: self.target(), down_ms: self.a_while() }
    }

    fn pause(&mut self) -> FaultKind {
        FaultKind::Pause { target: self.target(), for_ms: self.a_while() }
    }

    fn slow(&mut self) -> FaultKind {
        FaultKind::Slow { target: self.target(), times: self.dice.of_any_size(2, 200), for_ms: self.a_while() }
    }

    fn clock_rate(&mut self) -> FaultKind {
        if self.dice.once_in(4) {
            return FaultKind::ClockJumps { target: self.target(), by_ms: self.dice.of_any_size(1, 3_600_000) };
        }
        FaultKind::ClockRate {
            target: self.target(),
            per_mille: *self.dice.pick(&[500, 800, 950, 1000, 1050, 1500, 3000]),
        }
    }

    fn hang(&mut self) -> FaultKind {
        FaultKind::DiskHangs { target: self.target(), for_ms: self.a_while() }
    }

    fn fail(&mut self) -> FaultKind {
        let (target, after, once) = (self.target(), self.dice.below(40), self.dice.once_in(2));
        FaultKind::DiskFails { target, after, once, down_ms: self.a_while() }
    }

    fn full(&mut self) -> FaultKind {
        FaultKind::DiskFull { target: self.target(), room: self.dice.of_any_size(1, 64 << 10), for_ms: self.a_while() }
    }

    fn damage(&mut self, at_ms: u64) -> FaultKind {
        let node = self.dice.between(1, self.nodes);
        let (target, down_ms) = (Target::Node(node), self.a_while());
        let kinds = [Rotten::Any, Rotten::Segment, Rotten::Newest, Rotten::Snapshot, Rotten::Identity, Rotten::Peers];
        match self.dice.below(12) {
            0..4 => FaultKind::BitRot { target, file: *self.dice.pick(&kinds), place: self.dice.number(), down_ms },
            4..7 => FaultKind::Wipe { target, down_ms },
            7 => FaultKind::OtherDisk { target, of: node % self.nodes + 1, down_ms },
            8 => FaultKind::SyncsLie { target, for_ms: self.a_while(), down_ms },
            _ => FaultKind::OldCopy { target, age_ms: self.dice.between(1, at_ms), down_ms },
        }
    }
}
