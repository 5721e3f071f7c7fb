//! A simulated machine: its disk, its clock, and the process of a node that may run on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::disk::SimulatedDisk;
use super::observed::{Notes, ObservedMachine, ObservedStorage};
use super::scenario::Scenario;
use super::transport::{Outbox, SimulatedTransport};
use crate::consensus::{Membership, NodeId, ServerConfig};
use crate::machine::Composite;
use crate::runtime::driver::Driver;
use crate::runtime::parts::{NodeOptions, Parts};
use crate::runtime::stage::loader::Loader;
use crate::runtime::stage::snapshot::SnapshotStage;
use crate::runtime::stage::storage::StorageStage;
use crate::runtime::stage::{SharedApply, Stage, Step};
use crate::runtime::{ClientRequest, Inboxes, Input, NodeHandle};
use crate::storage::snapshot::SnapshotStore;
use crate::storage::{FileStorage, Lineage, OpenOptions, Start, Storage, StorageError, cluster_id};
use crate::transport::lives::PeerLives;
use crate::transport::transfer::Receiving;

/// Where every node has its data, on its own disk.
pub const FOLDER: &str = "/data";

/// A machine.
pub struct Host {
    /// The node that runs here.
    pub id: NodeId,
    /// Its disk.
    pub disk: SimulatedDisk,
    /// The node's process, while it runs.
    pub process: Option<Process>,
    /// Counts processes: what was planned for an earlier one is void.
    pub epoch: u64,
    /// How fast its clock runs, in thousandths.
    pub clock_per_mille: u64,
    /// Until when the process stands still.
    pub paused_until: Duration,
    /// Everything takes so many times as long, until then.
    pub slow: (u64, Duration),
    /// Until when the state machine is busy with what it did last.
    pub machine_busy_until: Duration,
    /// Until when no operation on the disk returns.
    pub disk_hangs_until: Duration,
    /// The node may stop by itself or refuse to start, and why: a fault that it must not survive.
    pub may_end: Option<&'static str>,
    /// It has lost what it promised: it can only come back as a node that abstains.
    pub must_rejoin: bool,
    /// It once did: it neither votes nor counts.
    pub abstains: bool,
}

/// A running node.
pub struct Process {
    /// The driver.
    pub driver: Driver,
    storage: StorageStage,
    apply: Arc<SharedApply>,
    loader: Loader,
    snapshot: SnapshotStage,
    /// What each stage is about.
    pub stages: [StageState; 4],
    /// The way into it.
    pub handle: NodeHandle,
    inboxes: Inboxes,
    /// What the next turn will get.
    pub inputs: Vec<Input>,
    /// Likewise, from clients.
    pub requests: Vec<ClientRequest>,
    /// A turn is planned for this time.
    pub turn_at: Option<Duration>,
    /// The deadline whose tick was given last.
    pub ticked: Option<Duration>,
    /// When it began, in virtual time, and by its own clock: the clock's rate may change.
    clock: (Duration, Duration),
    per_mille: u64,
    /// What it wants sent.
    pub outbox: Outbox,
    /// Whom it admits.
    pub lives: PeerLives,
    /// How it introduces itself.
    pub lineage: Lineage,
    /// It neither votes nor counts.
    pub abstains: bool,
    /// Takes snapshots in.
    pub receiving: Receiving,
    /// Where its snapshots are.
    pub store: Arc<dyn SnapshotStore>,
}

/// One of the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    /// The storage stage.
    Storage,
    /// The apply stage.
    Apply,
    /// The log loader.
    Loader,
    /// The snapshot stage.
    Snapshot,
}

/// What a stage is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageState {
    /// It waits for something to do.
    Idle,
    /// It will take a step then.
    Planned(Duration),
    /// Likewise, and not earlier whatever comes in.
    Blocked(Duration),
    /// It is in the middle of a step.
    Working,
    /// It has ended.
    Ended,
}

impl StageKind {
    /// All of them.
    pub const ALL: [StageKind; 4] = [StageKind::Storage, StageKind::Apply, StageKind::Loader, StageKind::Snapshot];
}

impl Host {
    /// A new machine with an empty disk.
    pub fn new(id: NodeId) -> Self {
        Host {
            id,
            disk: SimulatedDisk::new(),
            process: None,
            epoch: 0,
            clock_per_mille: 1000,
            paused_until: Duration::ZERO,
            slow: (1, Duration::ZERO),
            machine_busy_until: Duration::ZERO,
            disk_hangs_until: Duration::ZERO,
            may_end: None,
            must_rejoin: false,
            abstains: false,
        }
    }

    /// What takes so long usually takes this long now.
    pub fn stretched(&self, usual: Duration, now: Duration) -> Duration {
        let (times, until) = self.slow;
        if until > now { usual * times as u32 } else { usual }
    }

    /// From now on its clock runs at another rate.
    pub fn set_clock_rate(&mut self, per_mille: u64, now: Duration) {
        self.clock_per_mille = per_mille;
        self.process.iter_mut().for_each(|process| process.set_clock_rate(per_mille, now));
    }

    /// The running process's clock is ahead by so much from now on.
    pub fn jump(&mut self, by: Duration, now: Duration) {
        self.process.iter_mut().for_each(|process| process.jump(by, now));
    }

    /// Opens the node's folder, as a process does that starts, with random numbers for an incarnation and a nonce.
    pub fn open(&self, scenario: &Scenario, numbers: [u64; 2]) -> Result<FileStorage, StorageError> {
        let voters = Membership::of_voters((1..=scenario.nodes).map(NodeId));
        let options = OpenOptions {
            folder: FOLDER.into(),
            cluster_id: cluster_id("simulated", &voters),
            node: self.id,
            membership: voters,
            segment_bytes: scenario.settings.segment_bytes,
            rejoin: self.must_rejoin,
        };
        FileStorage::open_with(&options, Arc::new(self.disk.clone()), numbers)
    }

    /// Starts the node, with random numbers for an incarnation, a nonce and its election timeouts.
    pub fn start(
        &mut self,
        scenario: &Scenario,
        notes: &Notes,
        [incarnation, nonce, seed]: [u64; 3],
        now: Duration,
    ) -> Result<(), StorageError> {
        let voters = Membership::of_voters((1..=scenario.nodes).map(NodeId));
        let settings = &scenario.settings;
        let mut storage = self.open(scenario, [incarnation, nonce])?;
        let (abstains, peers, lineage) = (storage.abstains(), storage.take_peers(), storage.lineage().clone());
        let store = storage.snapshots();
        let (handle, inboxes) = NodeHandle::new();
        let outbox = Outbox::default();
        let options = NodeOptions {
            start: None,
            server: ServerConfig {
                min_replication_interval: Duration::from_millis(settings.min_replication_interval_ms),
                max_batch_bytes: settings.max_batch_bytes,
                max_inflight_requests: settings.max_inflight_requests as usize,
                max_pending_bytes: settings.max_pending_bytes,
                max_inflight_bytes: settings.max_pending_bytes,
                pre_vote: settings.pre_vote,
                check_quorum: settings.check_quorum,
                abstains,
                adapts: settings.maelstrom,
                ..ServerConfig::new(
                    self.id,
                    scenario.election_timeout(),
                    Duration::from_millis(settings.heartbeat_interval_ms),
                )
            },
            membership: voters,
            labels: BTreeMap::new(),
            snapshot_bytes: settings.snapshot_bytes,
            snapshot_entries: settings.snapshot_entries,
            snapshot_age: None,
        };
        let parts = Parts::assemble(
            options,
            Box::new(ObservedStorage::new(Box::new(storage), notes.clone())),
            Box::new(ObservedMachine::new(Box::new(Composite::default()), notes.clone())),
            Box::new(SimulatedTransport::new(lineage.start.life, !settings.maelstrom, outbox.clone())),
            &handle,
            seed,
        )?;
        let Parts { driver, storage, apply, loader, snapshot } = parts;
        self.must_rejoin = false;
        self.abstains |= abstains;
        self.process = Some(Process {
            driver,
            storage,
            apply: SharedApply::new(apply),
            loader,
            snapshot,
            stages: [StageState::Idle; 4],
            inboxes,
            inputs: Vec::new(),
            requests: Vec::new(),
            turn_at: None,
            ticked: None,
            clock: (now, Duration::ZERO),
            per_mille: self.clock_per_mille,
            outbox,
            lives: PeerLives::new(peers),
            lineage,
            abstains,
            receiving: Receiving::new(store.clone(), handle.clone()),
            handle,
            store,
        });
        Ok(())
    }

    /// Whether this folder durably knows that start of a peer: then it will refuse whatever is older.
    pub fn knows(&self, peer: NodeId, start: Start) -> bool {
        crate::storage::PeerMemory::load(Arc::new(self.disk.files()), Path::new(FOLDER))
            .is_ok_and(|memory| memory.latest(peer) == Some(start))
    }
}

impl Process {
    /// The node's own time.
    pub fn local(&self, now: Duration) -> Duration {
        let (since, shown) = self.clock;
        shown + (now - since).mul_f64(self.per_mille as f64 / 1000.0)
    }

    /// When its clock will show this time.
    pub fn global(&self, local: Duration) -> Duration {
        let (since, shown) = self.clock;
        since + local.saturating_sub(shown).mul_f64(1000.0 / self.per_mille as f64) + Duration::from_nanos(2)
    }

    /// From now on its clock runs at another rate.
    pub fn set_clock_rate(&mut self, per_mille: u64, now: Duration) {
        self.clock = (now, self.local(now));
        self.per_mille = per_mille;
    }

    /// Its clock is ahead by so much from now on.
    pub fn jump(&mut self, by: Duration, now: Duration) {
        self.clock = (now, self.local(now) + by);
    }

    /// When the driver wants its next turn even if nothing comes in, in virtual time.
    pub fn next_deadline(&self) -> Option<Duration> {
        let clocks = [self.driver.election_deadline(), self.driver.heartbeat_deadline()];
        let clock = clocks.into_iter().flatten().min().filter(|at| self.ticked != Some(*at));
        [clock, self.driver.next_turn()].into_iter().flatten().min().map(|local| self.global(local))
    }

    /// Whether one of the clocks fires at this local time; each deadline fires once.
    pub fn ticks(&mut self, local: Duration) -> bool {
        let clocks = [self.driver.election_deadline(), self.driver.heartbeat_deadline()];
        let due = clocks.into_iter().flatten().min().filter(|at| *at <= local && self.ticked != Some(*at));
        self.ticked = due.or(self.ticked);
        due.is_some()
    }

    /// A turn of the driver, which may apply what is brief by itself if it is allowed to and the stage is not in a step.
    pub fn turn(&mut self, local: Duration, inputs: Vec<Input>, requests: Vec<ClientRequest>, may_apply: bool) {
        let can_apply = may_apply && self.stages[StageKind::Apply as usize] != StageState::Working;
        self.driver.apply_at_once(if can_apply { Arc::downgrade(&self.apply) } else { Weak::new() });
        self.driver.turn(local, inputs, requests);
    }

    /// Whether this stage has something to do.
    pub fn has_work(&self, stage: StageKind) -> bool {
        match stage {
            StageKind::Storage => !self.storage.jobs().is_empty(),
            StageKind::Apply => self.apply.has_jobs(),
            StageKind::Loader => !self.loader.jobs().is_empty(),
            StageKind::Snapshot => !self.snapshot.jobs().is_empty(),
        }
    }

    /// Lets a stage do a step.
    pub fn step(&mut self, stage: StageKind) -> Step {
        match stage {
            StageKind::Storage => self.storage.step(),
            StageKind::Apply => self.apply.step(),
            StageKind::Loader => self.loader.step(),
            StageKind::Snapshot => self.snapshot.step(),
        }
    }

    /// Ends as a process does that was asked to: everybody has an answer, and the storage is closed. Whether it was.
    pub fn close(self) -> bool {
        let Process { driver, mut storage, requests, .. } = self;
        // Why it has ended is known.
        let _ = driver.shut_down(requests);
        loop {
            match storage.step() {
                Step::Ended => return true,
                Step::Blocked(_) => return false,
                _ => {}
            }
        }
    }

    /// Takes what was delivered to the node since the last time.
    pub fn delivered(&mut self) -> Vec<Input> {
        let news = self.inboxes.take_news();
        news.chain(self.inboxes.internal.try_iter()).collect()
    }
}
