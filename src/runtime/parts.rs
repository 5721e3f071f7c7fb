//! A node put together: what every runtime starts with, before anything drives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::NodeHandle;
use super::driver::{Driver, DriverConfig, Stages};
use super::stage::apply::ApplyStage;
use super::stage::loader::Loader;
use super::stage::queue;
use super::stage::snapshot::SnapshotStage;
use super::stage::storage::StorageStage;
use crate::config::{Config, Limits};
use crate::consensus::{ForcedStart, Index, Membership, NodeId, Remembered, Server, ServerConfig, SnapshotMeta};
use crate::machine::Machine;
use crate::marks::{Mark, mark, mark_if};
use crate::storage::snapshot::{SnapshotInfo, SnapshotStore};
use crate::storage::{Storage, StorageError};
use crate::transport::Transport;

/// What a node has to know about itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// The protocol's settings.
    pub server: ServerConfig,
    /// The members that a new cluster starts with.
    pub membership: Membership,
    /// The names of nodes, for people.
    pub labels: BTreeMap<NodeId, String>,
    /// A snapshot is due after so many bytes of log, or so many as the last one has, if those are more.
    pub snapshot_bytes: u64,
    /// It is also due after so many entries.
    pub snapshot_entries: u64,
    /// And so long after the first entry that the last one does not cover; `None`: never for its age.
    pub snapshot_age: Option<Duration>,
    /// How a scenario makes the node begin, whose storage has the term, the vote and the log of it already.
    pub start: Option<ForcedStart>,
}

impl NodeOptions {
    /// A node of a cluster of these voters, with the usual timing and limits.
    pub fn new(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Self {
        NodeOptions {
            server: ServerConfig::new(id, Duration::from_millis(150), Duration::from_millis(30)),
            membership: Membership::of_voters(voters),
            labels: BTreeMap::new(),
            snapshot_bytes: Limits::default().snapshot_bytes,
            snapshot_entries: Limits::default().snapshot_entries,
            snapshot_age: Limits::default().snapshot_age,
            start: None,
        }
    }

    /// The node with this id, as raft.ini has it.
    pub fn from_config(config: &Config, id: NodeId) -> Self {
        NodeOptions {
            server: ServerConfig {
                min_replication_interval: config.min_replication_interval,
                max_pending_bytes: config.limits.max_inflight_bytes,
                ..ServerConfig::new(id, config.election_timeout, config.heartbeat_interval)
            },
            membership: config.initial_membership(),
            labels: config.nodes.iter().map(|node| (node.id, node.label.clone())).collect(),
            snapshot_bytes: config.limits.snapshot_bytes,
            snapshot_entries: config.limits.snapshot_entries,
            snapshot_age: config.limits.snapshot_age,
            start: config.node(id).and_then(|node| config.forced_start(node)),
        }
    }
}

/// The driver, and the stages that it feeds. Whoever steps them, on threads or in turn, is a runtime.
pub struct Parts {
    /// The driver, whose clock stands at zero.
    pub driver: Driver,
    /// The storage stage.
    pub storage: StorageStage,
    /// The apply stage.
    pub apply: ApplyStage,
    /// The log loader.
    pub loader: Loader,
    /// The snapshot stage.
    pub snapshot: SnapshotStage,
}

impl Parts {
    /// Recovers what the storage remembers, and puts a node around it whose stages report to `handle`. The seed decides its
    /// election timeouts.
    ///
    /// # Errors
    /// The disk failed, or does not hold what was written.
    pub fn assemble(
        options: NodeOptions,
        mut storage: Box<dyn Storage>,
        mut machine: Box<dyn Machine>,
        mut transport: Box<dyn Transport>,
        handle: &NodeHandle,
        seed: u64,
    ) -> Result<Parts, StorageError> {
        let mut remembered = Remembered { membership: options.membership, ..Remembered::default() };
        let mut recovered = storage.recover(&mut |header| remembered.append(&header))?;
        remembered.hard_state = recovered.hard_state;
        remembered.base = recovered.base;
        let snapshots = storage.snapshots();
        recovered.snapshot = restore(&*snapshots, &remembered, &mut *machine)?;
        recovered.check()?;
        remembered.snapshot = recovered.snapshot.clone();
        transport.keep_snapshots_in(Arc::clone(&snapshots));
        let config = DriverConfig {
            labels: options.labels,
            election_timeout: options.server.election_timeout,
            heartbeat_interval: options.server.heartbeat_interval,
            start: options.start.clone(),
            max_inflight_bytes: options.server.max_pending_bytes,
            snapshot_bytes: options.snapshot_bytes,
            snapshot_entries: options.snapshot_entries,
            snapshot_age: options.snapshot_age,
        };
        let server = match &options.start {
            Some(start) => Server::forced(options.server, remembered, start, seed, Duration::ZERO),
            None => Server::new(options.server, remembered, seed, Duration::ZERO),
        };
        let (to_storage, storage_jobs) = queue();
        let (to_apply, apply_jobs) = queue();
        let (to_loader, loader_jobs) = queue();
        let (to_snapshot, snapshot_jobs) = queue();
        let reader = storage.reader();
        let (restored, log, store) = (recovered.snapshot.as_ref(), Arc::clone(&reader), Arc::clone(&snapshots));
        let apply = ApplyStage::new(machine, restored, log, store, apply_jobs, handle.clone());
        let loader = Loader::new(reader, loader_jobs, handle.clone());
        let storage = StorageStage::new(storage, storage_jobs, handle.clone());
        let snapshot = SnapshotStage::new(Arc::clone(&snapshots), snapshot_jobs, handle.clone());
        let stages = Stages { storage: to_storage, apply: to_apply, loader: to_loader, snapshot: to_snapshot };
        let mut driver = Driver::new(config, server, transport, stages, snapshots, Duration::ZERO);
        driver.count_in(Arc::clone(handle.metrics()));
        Ok(Parts { driver, storage, apply, loader, snapshot })
    }
}

/// Restores the newest snapshot that is intact and that the log knows, if there is one.
fn restore(
    snapshots: &dyn SnapshotStore,
    remembered: &Remembered,
    machine: &mut dyn Machine,
) -> Result<Option<SnapshotMeta>, StorageError> {
    let mut damage = None;
    for SnapshotInfo { meta, bytes } in snapshots.list().into_iter().rev() {
        if !remembered.knows(&meta) {
            mark(Mark::SnapshotNewerThanLog);
            continue;
        }
        match snapshots.verify(&meta) {
            Ok(()) => {
                let mut reader = snapshots.open(&meta)?;
                let restored = machine.restore(&mut *reader);
                restored.map_err(|error| {
                    let index = meta.index;
                    StorageError::Damaged(format!(
                        "cannot restore the state from the snapshot of entry {index}: {error}"
                    ))
                })?;
                mark_if(damage.is_some(), Mark::SnapshotOlderRestored);
                log::info!("restored the state from the snapshot of entry {} ({bytes} bytes)", meta.index);
                return Ok(Some(meta));
            }
            // The one before will do, if the log goes on from there.
            Err(error @ StorageError::Damaged(_)) => damage = damage.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match damage {
        Some(error) if remembered.base.0 > Index(0) => Err(error),
        _ => Ok(None),
    }
}
